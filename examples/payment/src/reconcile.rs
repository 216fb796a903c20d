//! Finding out what became of payments whose outcome nobody knows.
//!
//! The rules, so that nothing is charged twice and nothing charged is called failed:
//!
//! 1. Every attempt was on the disk, with its reference, before the first byte left.
//! 2. An `unknown` payment had been approved and may have been sent: the same reference is sent again. The
//!    gateway answers with its record, or charges now, which is what the customer asked for.
//! 3. An `authorising` one was left by a crash, perhaps before it was judged. The gateway is asked first.
//!    If it has nothing on record, the policy is asked again; what it approves becomes `unknown` on the disk
//!    before a byte leaves, and goes the way of rule 2. A request that is still alive after all, behind a
//!    disk that stalls or a clock that jumps, can then no longer call it failed or rejected.
//! 4. What the policy rejects is not sent. It is called rejected only once the gateway has had nothing on
//!    record for [`ABSENCE_PROOF`]: the process that could have sent it is dead, and a charge that was
//!    under way would be on record by then.
//! 5. Past [`KEY_WINDOW_MS`] nothing is sent again, only looked up: a gateway may have forgotten the reference.
//! 6. While the gateway does not answer nothing is concluded, however long it takes.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use gemba::policy::{BoxPolicy, Policy};
use gemba::time::Timestamp;

use crate::charge::Order;
use crate::clock::{Clock, unix_ms_now};
use crate::facts::{FactBook, Facts};
use crate::gateway_client::{GatewayAnswer, GatewayClient, GatewayError};
use crate::payment::{Payment, PaymentId, State};
use crate::store::{Store, StoreError, Unresolved};
use gemba::DatabaseError;

/// How long the gateway must have had nothing on record before nothing can be under way.
pub const ABSENCE_PROOF: Duration = Duration::from_secs(60);

/// How long after its beginning a payment may be sent again, in milliseconds.
pub const KEY_WINDOW_MS: i64 = 24 * 3_600 * 1_000;

/// How long to wait for the gateway; longer than a customer would.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long to wait between two looks at the record.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Payments read at once, and asked about at once.
const PAGE_MAX: usize = 256;
const TOGETHER_MAX: usize = 16;

/// The wait after the first failure; it doubles with each further one.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Failures remembered. Beyond it all are forgotten, which costs some early retries and nothing else.
const NOTES_MAX: usize = 10_000;

/// Resolves unknown outcomes.
#[derive(Debug)]
pub struct Reconciler {
    store: Store,
    gateway: GatewayClient,
    policy: BoxPolicy<Order, Facts>,
    facts: Arc<FactBook>,
    clock: Clock,
    /// Where the next look at the record begins.
    place: i64,
    notes: HashMap<PaymentId, Note>,
}

/// What is remembered of a payment that could not be resolved.
#[derive(Debug, Clone, Copy, Default)]
struct Note {
    failures: u32,
    due: Timestamp,
    absent_since: Option<Timestamp>,
}

/// What came of an attempt to resolve a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Its outcome is recorded, by us or by somebody faster.
    Resolved,
    /// Not yet.
    Open,
    /// Not yet; the gateway has nothing on record, and nothing will be sent.
    Absent,
}

impl Reconciler {
    /// A reconciler that judges by `policy` what was not judged before a crash.
    pub fn new(
        store: Store,
        gateway: GatewayClient,
        policy: BoxPolicy<Order, Facts>,
        facts: Arc<FactBook>,
        clock: Clock,
    ) -> Self {
        Self { store, gateway, policy, facts, clock, place: 0, notes: HashMap::new() }
    }

    /// Resolves what there is until `shutdown` resolves.
    ///
    /// # Cancel safety
    ///
    /// A payment that is being resolved stays unresolved, and is taken up again after the next start.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let looks = async {
            loop {
                let now = self.clock.now();
                if let Err(error) = self.look(now).await {
                    tracing::warn!(error = %crate::chain(&error), "reconciling waits for the store");
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown => {}
            () = looks => {}
        }
    }

    /// Tries every payment that is due on the next page of the record.
    async fn look(&mut self, now: Timestamp) -> Result<(), DatabaseError> {
        let page = self.store.unresolved(self.place, PAGE_MAX).await?;
        self.place = if page.len() < PAGE_MAX { 0 } else { page.last().map_or(0, |last| last.seq) };
        let this = &*self;
        let due = page.into_iter().map(|Unresolved { payment, .. }| payment).filter_map(|payment| {
            let note = this.notes.get(&payment.id).copied().unwrap_or_default();
            (note.due <= now).then_some((payment, note))
        });
        let tried: Vec<_> = stream::iter(due)
            .map(|(payment, note)| async move { (payment.id, note, this.resolve(&payment, note, now).await) })
            .buffer_unordered(TOGETHER_MAX)
            .collect()
            .await;
        for (id, note, progress) in tried {
            self.take_note(id, note, &progress, now);
        }
        Ok(())
    }

    fn take_note(
        &mut self,
        id: PaymentId,
        note: Note,
        progress: &Result<Progress, StoreError>,
        now: Timestamp,
    ) {
        let progress = match progress {
            Ok(progress) => *progress,
            Err(StoreError::Overtaken { .. }) => Progress::Resolved,
            Err(StoreError::Database(_)) => Progress::Open,
        };
        if progress == Progress::Resolved {
            self.notes.remove(&id);
            return;
        }
        if self.notes.len() == NOTES_MAX {
            self.notes.clear();
        }
        let absent_since = (progress == Progress::Absent).then(|| note.absent_since.unwrap_or(now));
        let failures = note.failures.saturating_add(1);
        self.notes.insert(id, Note { failures, due: now + wait_after(failures), absent_since });
    }

    async fn resolve(&self, payment: &Payment, note: Note, now: Timestamp) -> Result<Progress, StoreError> {
        let order = Order::of(payment);
        // A payment from the future means that the clock was set back: then its age is not known.
        let may_send = (0..KEY_WINDOW_MS).contains(&(unix_ms_now() - payment.created_unix_ms));
        if payment.state == State::Unknown && may_send {
            return self.send_again(payment, &order).await;
        }
        match self.gateway.lookup(&order).await {
            Ok(Some(answer)) => self.finish(payment, answer).await,
            Ok(None) if payment.state == State::Authorising => {
                self.judge_again(payment, &order, note, may_send, now).await
            }
            Ok(None) | Err(_) => Ok(Progress::Open),
        }
    }

    /// The gateway knows nothing of a payment that a crash may have kept from being judged.
    async fn judge_again(
        &self,
        payment: &Payment,
        order: &Order,
        note: Note,
        may_send: bool,
        now: Timestamp,
    ) -> Result<Progress, StoreError> {
        let facts = self.facts.gather(order, self.clock.moment_of(payment.created_unix_ms));
        match self.policy.decide(order, &facts) {
            Ok(()) if may_send => {
                self.store.mark_unknown(payment, "left behind, and taken over".into()).await?;
                Ok(Progress::Open)
            }
            Ok(()) => Ok(Progress::Open),
            Err(rejection) => {
                if note.absent_since.is_some_and(|since| ABSENCE_PROOF <= now.since(since)) {
                    self.store.reject(payment, rejection).await?;
                    Ok(Progress::Resolved)
                } else {
                    Ok(Progress::Absent)
                }
            }
        }
    }

    async fn send_again(&self, payment: &Payment, order: &Order) -> Result<Progress, StoreError> {
        match self.gateway.charge(order, ANSWER_WAIT_MAX, None).await {
            Ok(answer) => self.finish(payment, answer).await,
            Err(GatewayError::Unknown { .. } | GatewayError::NotSent { .. }) => Ok(Progress::Open),
        }
    }

    async fn finish(&self, payment: &Payment, answer: GatewayAnswer) -> Result<Progress, StoreError> {
        let charged = matches!(answer, GatewayAnswer::Charged { .. });
        self.store.finish(payment, answer).await?;
        if charged {
            self.facts.paid(&payment.customer, payment.money, self.clock.now());
        }
        tracing::info!(payment = %payment.id, "unknown outcome resolved");
        Ok(Progress::Resolved)
    }
}

fn wait_after(failures: u32) -> Duration {
    RETRY_MIN.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Lists, Rules};
    use crate::gateway::Dials;
    use crate::gateway::tests::TestGateway;
    use crate::request::PaymentRequest;
    use crate::store::tests::{open, reopen, request, started, state_of};

    fn reconciler(store: Store, gateway: GatewayClient) -> Reconciler {
        let lists = Lists { blacklisted: ["banned".to_owned()].into(), ..Lists::default() };
        let facts = Arc::new(FactBook::new(Rules { lists, ..Rules::default() }));
        Reconciler::new(store, gateway, crate::fraud::policy(), facts, Clock::start())
    }

    /// A payment a crash left behind, and the record as the next process finds it.
    async fn left_behind(request: PaymentRequest) -> (tempfile::TempDir, Store, Payment) {
        let (directory, store) = open();
        let payment = started(&store, "k", request).await;
        drop(store);
        let store = reopen(&directory);
        (directory, store, payment)
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[tokio::test]
    async fn an_unknown_outcome_is_found_out_without_a_second_charge() {
        let gateway = TestGateway::start(Dials::default()).await;
        let (_directory, store) = open();
        let charged = started(&store, "a", request("c", "tok_ok")).await;
        gateway.client.charge(&Order::of(&charged), ANSWER_WAIT_MAX, None).await.unwrap();
        let lost = started(&store, "b", request("c", "tok_ok")).await;
        let declined = started(&store, "c", request("c", "tok_declined")).await;
        for payment in [&charged, &lost, &declined] {
            store.mark_unknown(payment, "no answer".into()).await.unwrap();
        }
        reconciler(store.clone(), gateway.client.clone()).look(at(1)).await.unwrap();
        assert_eq!(state_of(&store, &charged).await, State::Captured);
        assert_eq!(state_of(&store, &lost).await, State::Captured);
        assert_eq!(state_of(&store, &declined).await, State::Declined);
        let summary = gateway.summary().await;
        assert_eq!((summary.charges, summary.references), (2, 2));
    }

    #[tokio::test]
    async fn what_a_crash_left_is_settled_by_the_gateways_record_or_charged_now() {
        for sent_before in [true, false] {
            let gateway = TestGateway::start(Dials::default()).await;
            let (_directory, store, payment) = left_behind(request("c", "tok_ok")).await;
            if sent_before {
                gateway.client.charge(&Order::of(&payment), ANSWER_WAIT_MAX, None).await.unwrap();
            }
            let mut reconciler = reconciler(store.clone(), gateway.client.clone());
            reconciler.look(at(1)).await.unwrap();
            if !sent_before {
                assert_eq!(gateway.summary().await.attempts, 0, "claimed on the disk before it is sent");
                assert_eq!(state_of(&store, &payment).await, State::Unknown);
                reconciler.look(at(2)).await.unwrap();
            }
            assert_eq!(state_of(&store, &payment).await, State::Captured);
            let summary = gateway.summary().await;
            assert_eq!((summary.charges, summary.attempts), (1, 1), "sent before: {sent_before}");
        }
    }

    #[tokio::test]
    async fn a_request_that_was_taken_for_dead_cannot_give_its_key_back() {
        let gateway = TestGateway::start(Dials::default()).await;
        let (_directory, store, payment) = left_behind(request("c", "tok_ok")).await;
        let mut reconciler = reconciler(store.clone(), gateway.client.clone());
        reconciler.look(at(1)).await.unwrap();
        // The request comes back to life with the word that nothing was sent.
        let late = store.abandon(&payment, "the gateway cannot be reached".into()).await;
        assert!(matches!(late, Err(StoreError::Overtaken { .. })), "{late:?}");
        reconciler.look(at(2)).await.unwrap();
        assert_eq!(state_of(&store, &payment).await, State::Captured);
        assert_eq!(gateway.summary().await.charges, 1);
    }

    #[tokio::test]
    async fn what_was_never_judged_is_judged_before_it_is_sent() {
        let gateway = TestGateway::start(Dials::default()).await;
        let (_directory, store, payment) = left_behind(request("banned", "tok_ok")).await;
        let mut reconciler = reconciler(store.clone(), gateway.client.clone());
        for secs in [1, 30, 60] {
            reconciler.look(at(secs)).await.unwrap();
            assert_eq!(state_of(&store, &payment).await, State::Authorising, "after {secs} s");
        }
        reconciler.look(at(61)).await.unwrap();
        assert_eq!(state_of(&store, &payment).await, State::RejectedByPolicy);
        assert_eq!(gateway.summary().await.attempts, 0);
    }

    #[tokio::test]
    async fn a_charge_that_surfaces_late_is_never_called_rejected() {
        let gateway = TestGateway::start(Dials::default()).await;
        let (_directory, store, payment) = left_behind(request("banned", "tok_ok")).await;
        let mut reconciler = reconciler(store.clone(), gateway.client.clone());
        reconciler.look(at(1)).await.unwrap();
        gateway.client.charge(&Order::of(&payment), ANSWER_WAIT_MAX, None).await.unwrap();
        reconciler.look(at(61)).await.unwrap();
        assert_eq!(state_of(&store, &payment).await, State::Captured);
    }

    #[tokio::test]
    async fn nothing_is_concluded_while_the_gateway_is_silent_and_each_wait_is_longer() {
        let nowhere = GatewayClient::new("http://127.0.0.1:9").unwrap();
        let (_directory, store, payment) = left_behind(request("banned", "tok_ok")).await;
        let mut reconciler = reconciler(store.clone(), nowhere);
        for (secs, failures) in [(1, 1), (1, 1), (2, 2), (100, 3), (1_000, 4)] {
            reconciler.look(at(secs)).await.unwrap();
            assert_eq!(reconciler.notes[&payment.id].failures, failures, "after {secs} s");
            assert_eq!(state_of(&store, &payment).await, State::Authorising);
        }
        for (failures, wait) in
            [(1, RETRY_MIN), (2, RETRY_MIN * 2), (8, RETRY_MIN * 128), (9, RETRY_MAX), (99, RETRY_MAX)]
        {
            assert_eq!(wait_after(failures), wait);
        }
    }

    #[tokio::test]
    async fn past_the_key_window_nothing_is_sent_again() {
        let gateway = TestGateway::start(Dials::default()).await;
        let (_directory, store, payment) = left_behind(request("c", "tok_ok")).await;
        let reconciler = reconciler(store.clone(), gateway.client.clone());
        for state in [State::Authorising, State::Unknown] {
            let old = Payment { created_unix_ms: unix_ms_now() - KEY_WINDOW_MS, state, ..payment.clone() };
            let progress = reconciler.resolve(&old, Note::default(), at(1)).await.unwrap();
            assert_eq!(progress, Progress::Open, "{state:?}");
        }
        assert_eq!(gateway.summary().await.attempts, 0);
    }
}
