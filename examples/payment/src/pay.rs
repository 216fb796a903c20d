//! One payment from request to answer, read from top to bottom.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tracing::Instrument;

use crate::answer::Answer;
use crate::asked::Asked;
use crate::charge::{ChargeOutcome, Charges, Order};
use crate::clock::Clock;
use crate::facts::FactBook;
use crate::gateway_client::GatewayAnswer;
use crate::idempotency::{Fingerprint, Key};
use crate::payment::{Payment, PaymentId, location};
use crate::plant::PAYMENT_DEADLINE_MS_MAX;
use crate::problem::{Kind, Problem, RECORD_WAIT_MAX};
use crate::request::PaymentRequest;
use crate::store::{Begun, Store, StoreError};

/// Payments in flight at most. The line refuses long before; this bounds what waits in front of it.
pub const IN_FLIGHT_MAX: u32 = 2_048;

/// How long a request waits for the outcome of its payment once that has begun: as long as the line may take at most,
/// and for the record after that.
const OUTCOME_WAIT_MAX: Duration =
    Duration::from_millis(PAYMENT_DEADLINE_MS_MAX as u64).saturating_add(RECORD_WAIT_MAX);

/// When to ask again for a payment that is being worked on, or that found no place.
const SOON: Duration = Duration::from_secs(1);

/// What payments are taken with.
#[derive(Debug)]
pub struct Service {
    store: Store,
    facts: Arc<FactBook>,
    charges: Charges,
    clock: Clock,
    places: Arc<Semaphore>,
}

/// An answer, and whether it was given before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// Whether an earlier request with the same key led to it.
    pub replayed: bool,
}

impl Service {
    /// A service over these parts.
    pub fn new(store: Store, facts: Arc<FactBook>, charges: Charges, clock: Clock) -> Self {
        Self { store, facts, charges, clock, places: Arc::new(Semaphore::new(IN_FLIGHT_MAX as usize)) }
    }

    /// The record, for those who only look.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Takes a payment and answers.
    ///
    /// # Errors
    ///
    /// A [`Problem`] when no payment came of it, or when its outcome could not be recorded; the caller may
    /// send the request again with the same key. So it is when the record is not reached in time: before the payment
    /// has begun the store is unavailable, afterwards the request is in progress, and either is true.
    ///
    /// # Cancel safety
    ///
    /// The work goes on in a task of its own, and keeps its place, when the caller hangs up or is sent away.
    pub async fn take(
        self: Arc<Self>,
        key: Key,
        fingerprint: Fingerprint,
        request: PaymentRequest,
        asked: Asked,
    ) -> Result<Reply, Problem> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| full())?;
        let (begun, has_begun) = oneshot::channel();
        let work = async move { self.pay(key, fingerprint, request, (asked, place), begun).await };
        let work = tokio::spawn(work.in_current_span());
        // Work that ends without having begun has its answer.
        let begun = timeout(RECORD_WAIT_MAX, has_begun).await.map_err(|_| Problem::stalled())?.ok();
        let ended = timeout(OUTCOME_WAIT_MAX, work).await;
        let ended =
            ended.map_err(|_| begun.map_or_else(in_progress, |id| in_progress().about(location(id))))?;
        ended.unwrap_or_else(|_| {
            Err(Problem::new(Kind::Internal, "send the request again with the same Idempotency-Key"))
        })
    }

    /// Returns when nothing is in flight, and lets nothing in afterwards.
    pub async fn drained(&self) {
        if let Ok(places) = self.places.acquire_many(IN_FLIGHT_MAX).await {
            places.forget();
        }
    }

    async fn pay(
        &self,
        key: Key,
        fingerprint: Fingerprint,
        request: PaymentRequest,
        (asked, _place): (Asked, OwnedSemaphorePermit),
        begun: oneshot::Sender<PaymentId>,
    ) -> Result<Reply, Problem> {
        let payment = match self.store.begin(key, fingerprint, request).await? {
            Begun::Started(payment) => payment,
            Begun::Replay(answer) => return Ok(Reply { answer, replayed: true }),
            Begun::InProgress => return Err(in_progress()),
            Begun::KeyReuse => return Err(reused()),
        };
        // Whoever asked may have gone; the payment goes on.
        let _ = begun.send(payment.id);
        let store = self.store.asked(asked);
        let order = Order::of(&payment);
        let attempted_at = self.clock.now();
        let facts = self.facts.gather(&order, attempted_at);
        match self.charges.submit(order, facts, asked.trace()).await {
            ChargeOutcome::Captured { charge } => {
                let recorded = store.finish(&payment, GatewayAnswer::Charged { charge }).await;
                // Otherwise the reconciler records it, and takes note.
                if recorded.is_ok() {
                    self.facts.paid(&payment.customer, payment.money, self.clock.now());
                }
                self.reply(&payment, recorded).await
            }
            ChargeOutcome::Declined { code } => {
                let recorded = store.finish(&payment, GatewayAnswer::Declined { code }).await;
                self.reply(&payment, recorded).await
            }
            ChargeOutcome::Rejected(rejection) => {
                let recorded = store.reject(&payment, rejection).await;
                self.reply(&payment, recorded).await
            }
            ChargeOutcome::Unknown { why } => {
                let recorded = store.mark_unknown(&payment, why).await;
                self.reply(&payment, recorded).await
            }
            ChargeOutcome::Refused { why, retry_after } => {
                // Recorded as failed before the refusal is sent: nothing may be left to reconcile.
                // What was refused is no attempt: a customer who comes back as told must not run into a limit.
                self.facts.forget(&payment.customer, payment.id, attempted_at);
                match store.abandon(&payment, why.clone()).await {
                    Ok(()) => Err(refused(&why, retry_after)),
                    // The reconciler has taken it over, so the key stays with it.
                    Err(error) => self.reply(&payment, Err(error)).await,
                }
            }
        }
    }

    async fn reply(&self, payment: &Payment, recorded: Result<Answer, StoreError>) -> Result<Reply, Problem> {
        match recorded {
            Ok(answer) => Ok(Reply { answer, replayed: false }),
            // The reconciler was faster, so its answer is the one that stands.
            Err(StoreError::Overtaken { .. }) => match self.store.answer(payment.key.clone()).await? {
                Some(answer) => Ok(Reply { answer, replayed: false }),
                None => Err(in_progress()),
            },
            Err(error @ StoreError::Database(_)) => Err(unrecorded(payment, error)),
        }
    }
}

/// The outcome is not on the disk, so it is not told; the reconciler will find it out again.
fn unrecorded(payment: &Payment, error: StoreError) -> Problem {
    match error {
        StoreError::Database(error) => Problem::from(error).about(payment.location()),
        StoreError::Overtaken { .. } => in_progress().about(payment.location()),
    }
}

fn full() -> Problem {
    let detail = format!("{IN_FLIGHT_MAX} payments are in flight; nothing was charged, try again");
    Problem::new(Kind::Overloaded, detail).retry_after(SOON)
}

fn in_progress() -> Problem {
    let detail = "a request with this Idempotency-Key is being worked on; ask again for its answer";
    Problem::new(Kind::InProgress, detail).retry_after(SOON)
}

fn reused() -> Problem {
    let detail = "use a new key for a new payment, or send the first request again unchanged";
    Problem::new(Kind::IdempotencyKeyReuse, detail)
}

fn refused(why: &str, retry_after: Duration) -> Problem {
    let detail = format!("{why}; nothing was charged, and the same Idempotency-Key may be used again");
    Problem::new(Kind::Refused, detail).retry_after(retry_after)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use axum::response::IntoResponse;
    use gemba::Node;

    use super::*;
    use crate::charge::tests::{charging, order};
    use crate::facts::{Lists, Rules};
    use crate::gateway::Dials;
    use crate::gateway::tests::TestGateway;
    use crate::gateway_client::GatewayClient;
    use crate::measures::{Measures, VIOLATIONS};
    use crate::payment::State;
    use crate::store::tests::{execute, hold, open, request};

    async fn service(store: Store, gateway: GatewayClient) -> (Node, Arc<Service>) {
        let lists = Lists { blacklisted: ["banned".to_owned()].into(), ..Lists::default() };
        let (node, charges) = charging(gateway, &store).await;
        let facts = Arc::new(FactBook::new(Rules { lists, ..Rules::default() }));
        (node, Arc::new(Service::new(store, facts, charges, Clock::start())))
    }

    async fn take(service: &Arc<Service>, key: &str, request: PaymentRequest) -> Result<Reply, Problem> {
        let fingerprint = Fingerprint::of("POST", "/v1/payments", &request);
        let asked = Asked::begin(&HeaderMap::new(), &tracing::Span::none());
        service.clone().take(Key::parse(key).unwrap(), fingerprint, request, asked).await
    }

    async fn states_of(service: &Service, customer: &str) -> Vec<State> {
        let page = service.store().payments_of(customer.into(), None, 100).await.unwrap();
        page.unwrap().iter().map(|payment| payment.state).collect()
    }

    #[tokio::test]
    async fn a_replay_is_the_same_answer_and_no_second_charge() {
        let gateway = TestGateway::start(Dials::default()).await;
        let (_directory, store) = open();
        let (_node, service) = service(store, gateway.client.clone()).await;
        let first = take(&service, "k", request("c", "tok_ok")).await.unwrap();
        assert_eq!((first.answer.status, first.replayed), (201, false));
        let second = take(&service, "k", request("c", "tok_ok")).await.unwrap();
        assert_eq!(second, Reply { answer: first.answer, replayed: true });
        assert_eq!(
            take(&service, "k", request("d", "tok_ok")).await.unwrap_err().kind(),
            Kind::IdempotencyKeyReuse
        );
        assert_eq!(gateway.summary().await.attempts, 1);
    }

    #[tokio::test]
    async fn what_is_recorded_is_counted_once_with_its_amount_and_its_reasons() {
        let gateway = TestGateway::start(Dials::default()).await;
        let (_directory, store) = open();
        let (node, _) = charging(gateway.client.clone(), &store).await;
        let measures = Measures::of(node.system());
        measures.begin();
        let (_other, service) = service(store.measured(measures), gateway.client.clone()).await;
        for (key, customer, token) in [
            ("a", "c", "tok_ok"),
            // A replay is no payment.
            ("a", "c", "tok_ok"),
            ("b", "d", "tok_ok"),
            ("c", "c", "tok_declined"),
            ("d", "banned", "tok_ok"),
        ] {
            take(&service, key, request(customer, token)).await.unwrap();
        }
        let page = node.metrics();
        let money = request("c", "tok_ok").money;
        for line in [
            "payment_payments_total{state=\"captured\"} 2".to_owned(),
            "payment_payments_total{state=\"declined\"} 1".to_owned(),
            "payment_payments_total{state=\"rejected_by_policy\"} 1".to_owned(),
            "payment_payments_total{state=\"unknown\"} 0".to_owned(),
            "payment_violations_total{rule=\"blacklist\"} 1".to_owned(),
            format!("# HELP payment_violations_total {}", VIOLATIONS.help),
            format!(
                "payment_captured_minor_units_total{{currency=\"{}\"}} {}",
                money.currency().code(),
                2 * money.minor()
            ),
        ] {
            assert!(page.lines().any(|shown| shown == line), "no {line} in\n{page}");
        }
    }

    #[tokio::test]
    async fn a_rejection_or_a_refusal_leaves_nothing_to_reconcile() {
        // Nothing listens there.
        let nowhere = GatewayClient::new("http://127.0.0.1:9").unwrap();
        let (_directory, store) = open();
        let (_node, service) = service(store, nowhere).await;
        let rejected = take(&service, "a", request("banned", "tok_ok")).await.unwrap();
        assert_eq!(rejected.answer.status, 422);
        assert_eq!(states_of(&service, "banned").await, [State::RejectedByPolicy]);
        for _ in 0..7 {
            // The key is free again each time, so it is refused and not replayed; and however often the
            // customer comes back as told, that is no velocity.
            assert_eq!(take(&service, "b", request("c", "tok_ok")).await.unwrap_err().kind(), Kind::Refused);
        }
        assert_eq!(states_of(&service, "c").await, [State::Failed; 7]);
        assert_eq!(service.store().unresolved(0, 10).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_record_that_stalls_is_told_in_time_and_the_payment_goes_on() {
        let gateway = TestGateway::start(Dials::default()).await;
        let (_directory, store) = open();
        let (_node, service) = service(store.clone(), gateway.client.clone()).await;
        let held = hold(&store).await;
        tokio::time::pause();
        let stalled = take(&service, "k", request("c", "tok_ok")).await.unwrap_err();
        tokio::time::resume();
        assert_eq!(stalled.kind(), Kind::StoreUnavailable);
        assert_eq!(stalled.into_response().headers()["retry-after"], "1");
        drop(held);
        service.drained().await;
        assert_eq!(states_of(&service, "c").await, [State::Captured], "it kept its place");
    }

    #[tokio::test]
    async fn an_outcome_that_is_not_recorded_in_time_is_in_progress() {
        // Long enough for the record to be held while the gateway works.
        let gateway = TestGateway::start(Dials { latency_ms_p50: 1_500, ..Dials::default() }).await;
        let (_directory, store) = open();
        let (_node, service) = service(store.clone(), gateway.client.clone()).await;
        let taken = tokio::spawn({
            let service = service.clone();
            async move { take(&service, "k", request("c", "tok_ok")).await }
        });
        while states_of(&service, "c").await.is_empty() {}
        let held = hold(&store).await;
        tokio::time::pause();
        let waiting = taken.await.unwrap().unwrap_err();
        tokio::time::resume();
        assert_eq!(waiting.kind(), Kind::InProgress);
        let begun = service.store().payments_of("c".into(), None, 1).await.unwrap().unwrap();
        assert_eq!(waiting.to_json()["instance"], begun[0].location());
        assert_eq!(waiting.into_response().headers()["retry-after"], "1");
        drop(held);
        service.drained().await;
        assert_ne!(states_of(&service, "c").await, [State::Authorising], "it went on");
    }

    #[tokio::test]
    async fn what_could_not_be_recorded_makes_no_habit() {
        let gateway = TestGateway::start(Dials::default()).await;
        let (_directory, store) = open();
        let broken =
            "CREATE TRIGGER broken BEFORE UPDATE ON payment BEGIN SELECT RAISE(ABORT, 'broken'); END";
        execute(&store, broken).await;
        let (_node, service) = service(store, gateway.client.clone()).await;
        for key in ["a", "b", "c"] {
            let unrecorded = take(&service, key, request("c", "tok_ok")).await.unwrap_err();
            assert_eq!(unrecorded.kind(), Kind::StoreUnavailable);
        }
        assert_eq!(gateway.summary().await.charges, 3);
        let facts = service.facts.gather(&order("c", 1, "EUR"), service.clock.now());
        assert_eq!((facts.attempts, facts.median_minor), (4, None), "the reconciler will take note of them");
    }

    #[tokio::test]
    async fn the_sixth_attempt_within_a_minute_is_rejected() {
        let gateway = TestGateway::start(Dials::default()).await;
        let (_directory, store) = open();
        let (_node, service) = service(store, gateway.client.clone()).await;
        let mut statuses = Vec::new();
        for n in 0..7 {
            statuses
                .push(take(&service, &format!("k{n}"), request("c", "tok_ok")).await.unwrap().answer.status);
        }
        assert_eq!(statuses, [201, 201, 201, 201, 201, 422, 422]);
        assert_eq!(gateway.summary().await.charges, 5);
    }

    #[tokio::test]
    async fn a_payment_is_finished_though_its_caller_hung_up() {
        let gateway = TestGateway::start(Dials { latency_ms_p50: 50, ..Dials::default() }).await;
        let (_directory, store) = open();
        let (_node, service) = service(store, gateway.client.clone()).await;
        let mut caller = Box::pin(take(&service, "k", request("c", "tok_ok")));
        tokio::select! {
            biased;
            early = &mut caller => panic!("answered within the gateway's delay: {early:?}"),
            () = tokio::task::yield_now() => drop(caller),
        }
        service.drained().await;
        assert_eq!(states_of(&service, "c").await, [State::Captured]);
        // Drained is for ever.
        assert_eq!(take(&service, "l", request("c", "tok_ok")).await.unwrap_err().kind(), Kind::Overloaded);
    }
}
