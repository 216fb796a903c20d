//! The manager: everything put together, until SIGTERM. What it started runs on, and the next one adopts it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gemba::http::HttpLimits;
use gemba::supervision::Backoff;
use gemba::{
    ChildSpec, LogRules, Node, Probe, ProcessHandle, ProcessSpec, Shutdown, Stop, Supervisor, TaskContext,
    Token, process, server, task,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::adapter;
use crate::adapter::remote::Remote;
use crate::api::{self, Office};
use crate::conductor::{Conductor, Parts, Reach};
use crate::config::ConfigOptions;
use crate::fleet::{Fleet, Region, Service};
use crate::forgotten::forgotten;
use crate::host::{self, HostError};
use crate::plant;
use crate::queue::Queue;
use crate::reload;
use crate::scheduler::{self, Scheduler};
use crate::store::Store;
use crate::view::ServiceView;

/// How often processes may end within a minute before their supervisor does: a bad version ends again and again, and
/// is taken back long before; what stays is no reason to stop the others.
const CRASHES_MAX: u32 = 1_000;

/// Within which time they are counted.
const CRASH_PERIOD: Duration = Duration::from_secs(60);

/// How long the manager may take to stop: requests to it in flight; what it manages runs on.
const STOP_MAX: Duration = Duration::from_secs(15);

/// How long a splitter may finish the requests in flight, when it is to end.
const SPLITTER_STOP_MAX: Duration = Duration::from_secs(12);

/// Manages the fleet until the process is asked to stop.
pub async fn run(options: ConfigOptions, fleet: Fleet) -> Result<(), HostError> {
    // From here on SIGHUP does not end the process; who listens to it is the child `reload`.
    let _hangup = signal(SignalKind::hangup())?;
    let token =
        std::env::var("GEMBA_TOKEN").map_or_else(|_| Ok(Token::generate()), |text| Token::new(&text))?;
    let store = open(&fleet).await?;
    let listener = host::bind(&fleet.listen).await?.into_std()?;
    let address = listener.local_addr()?;
    let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(5));

    let mut splitters =
        Supervisor::one_for_one("splitters").intensity(CRASHES_MAX, CRASH_PERIOD).backoff(backoff);
    let mut handles = Vec::new();
    for (service, region) in regions(&fleet) {
        if let Some(addresses) = region.splitter() {
            let (child, handle) = splitter(&fleet, service, region, addresses)?;
            splitters = splitters.child(child);
            handles.push(handle);
        }
    }
    let mut adapters = Supervisor::one_for_one("adapters").intensity(10, CRASH_PERIOD);
    let mut remotes: BTreeMap<&str, BTreeMap<String, Remote>> = BTreeMap::new();
    for (service, region) in regions(&fleet) {
        if let Some((remote, lanes)) = adapter::remote(service, region) {
            adapters = adapters.child(lanes);
            remotes.entry(service.name.as_str()).or_default().insert(region.name.to_string(), remote);
        }
    }
    let instances = Supervisor::dynamic("instances").intensity(CRASHES_MAX, CRASH_PERIOD).backoff(backoff);
    let mut conductors = Supervisor::one_for_one("conductors").intensity(10, CRASH_PERIOD);
    let (sender, newest) = watch::channel(Arc::new(fleet.clone()));
    let mut services = BTreeMap::new();
    for service in fleet.services.values() {
        let (sender, view) = watch::channel(ServiceView::default());
        let parts = Parts {
            service: service.clone(),
            fleet: newest.clone(),
            home: fleet.state.join("instances").join(service.name.as_str()),
            store: store.clone(),
            supervisor: instances.handle(),
            client: host::client(None),
            remotes: remotes.remove(service.name.as_str()).unwrap_or_default(),
            view: Arc::new(sender),
        };
        let spec = server(service.name.as_str(), move || Conductor::new(parts.clone()));
        let conductor = spec.address();
        services.insert(service.name.to_string(), Reach { conductor, view });
        conductors = conductors.child(spec);
    }
    let node = Node::builder("deployment").stop_limit(STOP_MAX);
    let (queue, waiting) = watch::channel(Queue::default());
    let (close, closed) = watch::channel(false);
    let parts = scheduler::Parts {
        fleet: newest.clone(),
        services: services.clone(),
        store: store.clone(),
        view: Arc::new(queue),
        closed: Arc::new(close),
    };
    let reload = reload::child(reload::Parts {
        options,
        fleet: sender,
        services: services.clone(),
        queue: waiting.clone(),
    });
    let scheduler = server("queue", move || Scheduler::new(parts.clone()));
    let (plant, line) = plant::plant(node.system(), scheduler.address())?;
    let office = Arc::new(Office {
        system: node.system().clone(),
        fleet: newest,
        services,
        line,
        scheduler: scheduler.address(),
        queue: waiting,
        closed,
        store: store.clone(),
        splitters: handles,
    });
    let node = node
        .inspect_with(fleet.inspect.0, token)
        .inspect_hosts(fleet.inspect_hosts.clone())
        .child(splitters)
        .child(instances)
        .child(adapters)
        .child(conductors)
        .child(scheduler)
        .child(reload)
        .child(plant)
        .child(http(listener, office))
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

/// The record, of which the fleet leaves out nothing that runs.
async fn open(fleet: &Fleet) -> Result<Store, HostError> {
    let database = |source| HostError::Database { file: fleet.database.clone(), source };
    let store = Store::open(&fleet.database).map_err(database)?;
    let forgotten = forgotten(fleet, &store.load_all().await.map_err(database)?);
    if forgotten.is_empty() { Ok(store) } else { Err(HostError::Forgotten(forgotten)) }
}

fn regions(fleet: &Fleet) -> impl Iterator<Item = (&Service, &Region)> {
    fleet.services.values().flat_map(|service| service.regions.iter().map(move |region| (service, region)))
}

/// The splitter of a region: this program under another name, which outlives the manager.
fn splitter(
    fleet: &Fleet,
    service: &Service,
    region: &Region,
    (listen, admin): (SocketAddr, SocketAddr),
) -> Result<(ChildSpec, ProcessHandle), HostError> {
    let name = format!("{}.{}", service.name, region.name);
    let home = fleet.state.join("splitters").join(&name);
    let program = std::env::current_exe()?;
    // One of another build is replaced, while it serves.
    let build = build(&program, listen, admin)?;
    let spec = ProcessSpec::builder(program)
        .args(["splitter".to_owned(), "--listen".to_owned(), listen.to_string()])
        .args(["--admin".to_owned(), admin.to_string()])
        // Within its own directory: the path of a socket has room for 107 bytes only.
        .args(["--handover", "handover"])
        .directory(&home)
        .args(["--build", build.as_str()])
        .probe(Probe::Http(admin, format!("/health?build={build}").into()))
        .stop_within(SPLITTER_STOP_MAX)
        .log(LogRules::default())
        .survives(home)
        .hands_over()
        .build()
        .expect("its times are constants, and its arguments have no zeros");
    let child = process(&name, spec);
    let handle = child.handle();
    Ok((child.into(), handle))
}

/// What a splitter is made of: the program by the size and the time of its file, and what it is told.
fn build(program: &std::path::Path, listen: SocketAddr, admin: SocketAddr) -> std::io::Result<String> {
    let file = std::fs::metadata(program)?;
    let changed = file.modified()?.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let text = format!("{} {} {changed} {listen} {admin}", program.display(), file.len());
    Ok(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes())))
}

/// The longest request, one that ends everything, is silent until all has ended: longer than its client waits. What is
/// open when the manager stops is answered, or cut off, before its task is killed.
const HTTP: HttpLimits = HttpLimits {
    connections: 256,
    head: Duration::from_secs(10),
    silence: Duration::from_secs(180),
    drain: Duration::from_secs(8),
};

/// Takes requests. It is the last to start and the first to stop.
fn http(listener: std::net::TcpListener, office: Arc<Office>) -> ChildSpec {
    let listener = Arc::new(listener);
    let body = move |ctx: TaskContext| {
        let (listener, office) = (listener.clone(), office.clone());
        async move {
            let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
            gemba::http::serve(listener, api::router(office), HTTP, ctx.stopped()).await;
            Ok::<(), Stop>(())
        }
    };
    task("http", body).shutdown(Shutdown::Within(host::DRAIN_MAX)).into()
}
