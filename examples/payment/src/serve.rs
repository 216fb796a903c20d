//! The service as a process: its parts put together, run, and stopped in order.

use std::sync::Arc;

use gemba::{ChildSpec, Node, Shutdown, Stop, TaskContext, Token, task};
use tokio::signal::unix::{SignalKind, signal};

use crate::api;
use crate::charge::Charges;
use crate::clock::{Clock, unix_ms_now};
use crate::config::{ConfigOptions, PaymentConfig};
use crate::confirm;
use crate::facts::{Attempt, FactBook, Rules};
use crate::fraud;
use crate::gateway_client::GatewayClient;
use crate::host::{self, HostError};
use crate::measures::Measures;
use crate::pay::Service;
use crate::plant::{self, Lines};
use crate::reconcile::Reconciler;
use crate::reload;
use crate::store::{Past, Store};
use gemba::DatabaseError;

/// Payments of the past the fact book is filled with at the start, however long ago they were: they are what
/// customers usually pay.
const HISTORY_MIN: usize = 50_000;

/// The most of them if the windows of the limits hold more: of two minutes at 2 000 a second, in about 30 MB.
const HISTORY_MAX: usize = 250_000;

/// Runs the service until the process is asked to stop.
///
/// Prints where it listens, where its inspector does, and the token that changes through the inspector need:
/// `GEMBA_TOKEN` from the environment, or one made up for this start.
///
/// # Errors
///
/// [`HostError`] if an address, the file or the gateway cannot be used, or the service did not stop in order.
pub async fn run(options: ConfigOptions, config: PaymentConfig) -> Result<(), HostError> {
    // From here on SIGHUP does not end the process; who listens to it is the child `reload`.
    let _hangup = signal(SignalKind::hangup())?;
    let clock = Clock::start();
    let database = |source| HostError::Database { file: config.database.clone(), source };
    let gateway = GatewayClient::new(&config.gateway)?;
    let token =
        std::env::var("GEMBA_TOKEN").map_or_else(|_| Ok(Token::generate()), |text| Token::new(&text))?;
    let store = Store::open(&config.database).map_err(database)?;
    let facts = fact_book(&store, config.rules(), clock).await.map_err(database)?;
    let listener = host::bind(&config.listen).await?.into_std()?;
    let address = listener.local_addr()?;

    let mut node = Node::builder("payment").stop_limit(host::STOP_MAX);
    if let Some(routes) = config.alerts.routes() {
        node = node.alerts(routes);
    }
    let measures = Measures::of(node.system());
    let store = store.measured(measures.clone());
    let policy = fraud::policy();
    let (plant, lines) = plant::plant(node.system(), policy, gateway.clone(), &store, &config.plant)?;
    let (inspect, hosts) = (config.inspect.0, config.inspect_hosts.clone());
    let reload = reload::child(options, config, plant.regulator(), facts.clone());
    let service =
        Arc::new(Service::new(store.clone(), facts.clone(), Charges::new(lines.payment.clone()), clock));
    let node = node
        .child(plant)
        .inspect_with(inspect, token)
        .inspect_hosts(hosts)
        .child(reload)
        .child(reconciler(store.clone(), gateway, facts, clock))
        .child(confirmations(store.clone(), lines))
        .child(http(listener, service, measures))
        .start()
        .await?;

    let inspector = node.inspector().map_or_else(String::new, |(address, token)| {
        format!("inspector on http://{address}\ntoken {}\n", token.reveal())
    });
    host::say(&format!("listening on http://{address}\n{inspector}"));
    tokio::select! {
        ended = node.run_until_signal() => Ok(ended?),
        () = store.stopped() => Err(HostError::GivenUp),
    }
}

/// Takes requests. It is the last to start and the first to stop: what it has accepted finds everything
/// else still running.
fn http(listener: std::net::TcpListener, service: Arc<Service>, measures: Measures) -> ChildSpec {
    let listener = Arc::new(listener);
    let body = move |ctx: TaskContext| {
        measures.begin();
        let (listener, service) = (listener.clone(), service.clone());
        async move {
            let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
            gemba::http::serve(listener, api::router(service.clone()), host::HTTP, ctx.stopped()).await;
            service.drained().await;
            Ok::<(), Stop>(())
        }
    };
    task("http", body).shutdown(Shutdown::Within(host::DRAIN_MAX)).into()
}

/// Finds out what became of payments whose outcome nobody knows.
fn reconciler(store: Store, gateway: GatewayClient, facts: Arc<FactBook>, clock: Clock) -> ChildSpec {
    let body = move |ctx: TaskContext| {
        let policy = fraud::policy();
        let reconciler = Reconciler::new(store.clone(), gateway.clone(), policy, facts.clone(), clock);
        async move {
            reconciler.run(ctx.stopped()).await;
            Ok::<(), Stop>(())
        }
    };
    task("reconciler", body).into()
}

/// Sends confirmations from the outbox through their lines.
fn confirmations(store: Store, lines: Lines) -> ChildSpec {
    let body = move |ctx: TaskContext| {
        let (store, lines) = (store.clone(), lines.clone());
        async move {
            confirm::run(store, lines, ctx.stopped()).await;
            Ok::<(), Stop>(())
        }
    };
    task("confirmations", body).into()
}

/// A book that knows the past: a crash must not give anyone a fresh start.
async fn fact_book(store: &Store, rules: Rules, clock: Clock) -> Result<Arc<FactBook>, DatabaseError> {
    let window_s = rules.limits.window_s();
    let since = unix_ms_now() - i64::from(window_s) * 1_000;
    let past = store.past(since, HISTORY_MIN, HISTORY_MAX).await?;
    let oldest = past.last().map_or(i64::MAX, |payment| payment.created_unix_ms);
    if past.len() == HISTORY_MAX && since <= oldest {
        let known_s = (unix_ms_now() - oldest) / 1_000;
        tracing::warn!(
            limit = HISTORY_MAX,
            known_s,
            window_s,
            "customers are not known as far back as [fraud] looks"
        );
    }
    let facts = FactBook::new(rules);
    for past in past.into_iter().rev() {
        let at = clock.moment_of(past.created_unix_ms);
        let Past { payment, customer, country, money, captured, .. } = past;
        facts.recall(&customer, Attempt { payment, currency: money.currency(), country, at });
        if captured {
            facts.paid(&customer, money, at);
        }
    }
    Ok(Arc::new(facts))
}
