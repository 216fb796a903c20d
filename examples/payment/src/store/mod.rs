//! The service's record: every function returns when its transaction is on the disk.

use std::path::Path;
use std::sync::Arc;

use gemba::policy::Rejection;
use gemba::{Database, DatabaseError};
use rusqlite::{Connection, params};
use serde_json::json;

use crate::answer::Answer;
use crate::asked::Asked;
use crate::clock::unix_ms_now;
use crate::confirm::Confirmation;
use crate::country::Country;
use crate::gateway_client::GatewayAnswer;
use crate::idempotency::{Fingerprint, Key};
use crate::measures::Measures;
use crate::money::Money;
use crate::payment::{Payment, PaymentId, State};
use crate::request::PaymentRequest;

mod begin;
mod rows;
mod schema;
mod step;

pub use begin::Begun;
use step::Step;

/// Age at which a payment that is still authorising has been let go by whoever began it: far above what
/// a request may take, so that nobody still works on it.
pub(crate) const ABANDONED_AFTER_MS: i64 = 30_000;

/// Why a payment did not move.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The record cannot be read or written; nothing was changed.
    #[error("the record is out of reach")]
    Database(#[from] DatabaseError),
    /// Somebody else moved the payment, or it may not move there.
    #[error("payment {payment} is {} by now; read it again", state.word())]
    Overtaken {
        /// The payment.
        payment: PaymentId,
        /// Where it stands.
        state: State,
    },
}

/// A payment nobody knows the outcome of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// Its place in the record, to go on from.
    pub seq: i64,
    /// The payment.
    pub payment: Payment,
}

/// What a payment of before says about its customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// The payment.
    pub payment: PaymentId,
    /// Who pays.
    pub customer: Arc<str>,
    /// Where the customer was, if the caller said.
    pub country: Option<Country>,
    /// How much.
    pub money: Money,
    /// Whether it was charged.
    pub captured: bool,
    /// When it began, in milliseconds since 1970.
    pub created_unix_ms: i64,
}

/// The record. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
    /// The last payment begun before this process opened the record.
    inherited: i64,
    measures: Measures,
    asked: Option<Asked>,
}

impl Store {
    /// Opens the record, making the file if there is none.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`] if the file cannot be used.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let (database, inherited) = Database::open(path, schema::SCHEMA, |connection| {
            schema::add_country(connection)?;
            connection.query_row("SELECT coalesce(max(seq), 0) FROM payment", [], |row| row.get(0))
        })?;
        Ok(Self { database, inherited, measures: Measures::default(), asked: None })
    }

    /// The same record, which counts every step of a payment.
    pub fn measured(self, measures: Measures) -> Self {
        Self { measures, ..self }
    }

    /// The same record, written for one request: the trail and the answer name its trace.
    pub fn asked(&self, asked: Asked) -> Self {
        Self { asked: Some(asked), ..self.clone() }
    }

    /// Records the key and the payment, or says what the key was used for.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`]; nothing was recorded.
    ///
    /// # Cancel safety
    ///
    /// The payment may be recorded though nobody hears of it; the reconciler finds it then.
    pub async fn begin(
        &self,
        key: Key,
        fingerprint: Fingerprint,
        request: PaymentRequest,
    ) -> Result<Begun, DatabaseError> {
        self.database.write(move |connection| begin::begin(connection, &key, fingerprint, request)).await
    }

    /// Records what the gateway said, the answer to the request, and what is to be confirmed.
    pub async fn finish(&self, payment: &Payment, answer: GatewayAnswer) -> Result<Answer, StoreError> {
        let step = match answer {
            GatewayAnswer::Charged { charge } => Step::Captured { charge },
            GatewayAnswer::Declined { code } => Step::Declined { code },
        };
        self.answered(payment, step).await
    }

    /// Records that a policy rejected, and the answer to the request.
    pub async fn reject(&self, payment: &Payment, rejection: Rejection) -> Result<Answer, StoreError> {
        self.answered(payment, Step::Rejected(rejection)).await
    }

    /// Records that the gateway may have charged, and the answer to the request.
    pub async fn mark_unknown(&self, payment: &Payment, why: Arc<str>) -> Result<Answer, StoreError> {
        self.answered(payment, Step::Unknown { why }).await
    }

    /// Records that nothing was sent, and gives the key back.
    pub async fn abandon(&self, payment: &Payment, why: Arc<str>) -> Result<(), StoreError> {
        self.step(payment, Step::Abandoned { why }).await.map(|_| ())
    }

    async fn answered(&self, payment: &Payment, step: Step) -> Result<Answer, StoreError> {
        Ok(self.step(payment, step).await?.expect("only an abandoned payment has no answer"))
    }

    async fn step(&self, payment: &Payment, step: Step) -> Result<Option<Answer>, StoreError> {
        let (from, asked) = (payment.clone(), self.asked);
        let (state, rejection) = (step.state(), step.rejection().cloned());
        let take = move |connection: &Connection| step::take(connection, &from, &step, asked.as_ref());
        let taken = self.database.write(take).await?;
        let answer = taken.map_err(|state| StoreError::Overtaken { payment: payment.id, state })?;
        // What is counted is on the disk.
        self.measures.moved(state, payment.money, rejection.as_ref());
        Ok(answer)
    }

    /// The answer stored under a key, if there is one yet.
    pub async fn answer(&self, key: Arc<str>) -> Result<Option<Answer>, DatabaseError> {
        let used = self.database.read(move |connection| begin::used(connection, &key)).await?;
        Ok(used.and_then(|(_, answer)| answer))
    }

    /// One payment.
    pub async fn payment(&self, id: PaymentId) -> Result<Option<Payment>, DatabaseError> {
        let found =
            self.database.read(move |connection| rows::payments(connection, "id = ?1", [id.to_string()], 1));
        Ok(found.await?.pop())
    }

    /// Up to `limit` payments of a customer, oldest first, after one of them; `None` if that one is not
    /// the customer's.
    pub async fn payments_of(
        &self,
        customer: String,
        after: Option<PaymentId>,
        limit: usize,
    ) -> Result<Option<Vec<Payment>>, DatabaseError> {
        self.database.read(move |connection| page(connection, &customer, after, limit)).await
    }

    /// Up to `limit` payments whose outcome nobody knows and nobody is working on, after a place in the
    /// record: unknown ones, those this process inherited, and those whose request has long ended.
    pub async fn unresolved(&self, after: i64, limit: usize) -> Result<Vec<Unresolved>, DatabaseError> {
        let (inherited, stale) = (self.inherited, unix_ms_now() - ABANDONED_AFTER_MS);
        self.database
            .read(move |connection| {
                let sql = format!(
                    "SELECT {} FROM payment
                     WHERE state IN ('authorising', 'unknown') AND ?1 < seq
                         AND (state = 'unknown' OR seq <= ?2 OR updated_unix_ms < ?3)
                     ORDER BY seq",
                    rows::PAYMENT_COLUMNS
                );
                connection
                    .prepare_cached(&sql)?
                    .query_map(params![after, inherited, stale], |row| {
                        Ok(Unresolved { seq: row.get("seq")?, payment: rows::payment_of(row)? })
                    })?
                    .filter_map(rows::readable)
                    .take(limit)
                    .collect()
            })
            .await
    }

    /// The past a judgement may need, newest first: the payments begun since `since_unix_ms`, the last `least`
    /// whenever they began, and no more than `most`.
    ///
    /// Failed ones are no part of it: they were refused before anything was sent, and were taken back at the time.
    pub async fn past(
        &self,
        since_unix_ms: i64,
        least: usize,
        most: usize,
    ) -> Result<Vec<Past>, DatabaseError> {
        self.database
            .read(move |connection| {
                // The table lies in the order of seq, and what is not looked at is not read.
                let sql = format!(
                    "SELECT {} FROM payment WHERE state <> 'failed' ORDER BY seq DESC",
                    rows::PAST_COLUMNS
                );
                let mut statement = connection.prepare_cached(&sql)?;
                let mut past = Vec::new();
                for payment in statement.query_map([], rows::past_of)?.filter_map(rows::readable).take(most) {
                    let payment = payment?;
                    if least <= past.len() && payment.created_unix_ms < since_unix_ms {
                        break;
                    }
                    past.push(payment);
                }
                Ok(past)
            })
            .await
    }

    /// Up to `limit` confirmations that were not delivered, oldest first: of captured payments, or of all
    /// others. They go different ways, and one that is blocked must not hold up the other.
    pub async fn next_outbox(
        &self,
        captured: bool,
        limit: usize,
    ) -> Result<Vec<Confirmation>, DatabaseError> {
        self.database
            .read(move |connection| {
                let sql = "SELECT seq, payment, kind, body FROM outbox
                           WHERE done_unix_ms IS NULL AND (kind = 'captured') = ?1 ORDER BY seq LIMIT ?2";
                connection
                    .prepare_cached(sql)?
                    .query_map(params![captured, limit.cast_signed()], |row| {
                        Ok(Confirmation {
                            seq: row.get(0)?,
                            payment: row.get(1)?,
                            kind: row.get(2)?,
                            body: row.get(3)?,
                        })
                    })?
                    .collect()
            })
            .await
    }

    /// Records that a confirmation was delivered; a second time changes nothing.
    pub async fn outbox_done(&self, confirmation: &Confirmation) -> Result<(), DatabaseError> {
        let (seq, payment, kind) =
            (confirmation.seq, confirmation.payment.clone(), confirmation.kind.clone());
        self.database
            .write(move |connection| {
                let now = unix_ms_now();
                let sql = "UPDATE outbox SET done_unix_ms = ?2 WHERE seq = ?1 AND done_unix_ms IS NULL";
                if connection.prepare_cached(sql)?.execute(params![seq, now])? == 1 {
                    rows::audit(connection, payment, now, "confirmed", &json!({ "kind": kind }))?;
                }
                Ok(())
            })
            .await
    }

    /// Returns when the record can no longer be written; the process must end.
    pub async fn stopped(&self) {
        self.database.stopped().await;
    }
}

fn page(
    connection: &Connection,
    customer: &str,
    after: Option<PaymentId>,
    limit: usize,
) -> rusqlite::Result<Option<Vec<Payment>>> {
    let start = match after {
        None => 0,
        Some(id) => {
            let sql = "SELECT seq FROM payment WHERE id = ?1 AND customer = ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![id.to_string(), customer])?;
            match rows.next()? {
                Some(row) => row.get(0)?,
                None => return Ok(None),
            }
        }
    };
    let condition = "customer = ?1 AND ?2 < seq ORDER BY seq";
    rows::payments(connection, condition, params![customer, start], limit).map(Some)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::charge::tests::money;
    use crate::payment::Token;

    pub(crate) fn request(customer: &str, token: &str) -> PaymentRequest {
        PaymentRequest {
            money: money(1999, "EUR"),
            customer: customer.into(),
            token: Token::new(token),
            merchant: None,
            country: None,
            metadata: [("order".to_owned(), "17".to_owned())].into(),
        }
    }

    pub(crate) fn open() -> (TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = reopen(&directory);
        (directory, store)
    }

    /// The store as a process finds it that starts after a crash.
    pub(crate) fn reopen(directory: &TempDir) -> Store {
        Store::open(&directory.path().join("payment.db")).unwrap()
    }

    #[tokio::test]
    async fn a_country_is_kept_also_in_a_file_of_before_there_were_countries() {
        let (directory, store) = open();
        let old = started(&store, "a", request("c", "tok_ok")).await;
        drop(store);
        let file = Connection::open(directory.path().join("payment.db")).unwrap();
        file.execute_batch("ALTER TABLE payment DROP COLUMN country").unwrap();
        drop(file);
        let store = reopen(&directory);
        let country = Country::from_code("DE");
        let new = started(&store, "b", PaymentRequest { country, ..request("c", "tok_ok") }).await;
        let kept = |payment: &Payment| {
            let (store, id) = (store.clone(), payment.id);
            async move { store.payment(id).await.unwrap().unwrap().country }
        };
        assert_eq!((kept(&old).await, kept(&new).await), (None, country));
    }

    async fn begun(store: &Store, key: &str, request: PaymentRequest) -> Begun {
        let fingerprint = Fingerprint::of("POST", "/v1/payments", &request);
        store.begin(Key::parse(key).unwrap(), fingerprint, request).await.unwrap()
    }

    pub(crate) async fn started(store: &Store, key: &str, request: PaymentRequest) -> Payment {
        match begun(store, key, request).await {
            Begun::Started(payment) => *payment,
            other @ (Begun::Replay(_) | Begun::InProgress | Begun::KeyReuse) => panic!("{other:?}"),
        }
    }

    /// A payment that stands in no store.
    pub(crate) fn payment() -> Payment {
        begin::new_payment(&Key::parse("k").unwrap(), request("c", "tok_ok"))
    }

    pub(crate) async fn state_of(store: &Store, payment: &Payment) -> State {
        store.payment(payment.id).await.unwrap().unwrap().state
    }

    pub(crate) async fn trail(store: &Store, payment: &Payment) -> Vec<String> {
        let id = payment.id.to_string();
        let query = move |connection: &Connection| {
            let mut statement =
                connection.prepare("SELECT event FROM audit WHERE payment = ?1 ORDER BY seq")?;
            statement.query_map([id], |row| row.get(0))?.collect()
        };
        store.database.read(query).await.unwrap()
    }

    /// Has the record write nothing more until what it gives is dropped: a disk that stalls.
    pub(crate) async fn hold(store: &Store) -> std::sync::mpsc::Sender<()> {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let wait = move |_: &Connection| {
            let _ = held.recv();
            Ok(())
        };
        // What was written before has its answer; and this is made even if nobody waits for it.
        execute(store, "").await;
        let _ = tokio::time::timeout(Duration::ZERO, store.database.write(wait)).await;
        release
    }

    /// Changes the record as nothing of the service would.
    pub(crate) async fn execute(store: &Store, sql: &'static str) {
        store.database.write(move |connection| connection.execute_batch(sql)).await.unwrap();
    }

    async fn count(store: &Store, table: &'static str) -> i64 {
        let query =
            move |c: &Connection| c.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
        store.database.read(query).await.unwrap()
    }

    const CHARGED: GatewayAnswer = GatewayAnswer::Charged { charge: 7 };

    #[tokio::test]
    async fn a_key_begins_one_payment_however_many_ask_at_once() {
        let (_directory, store) = open();
        let all =
            futures_util::future::join_all((0..20).map(|_| begun(&store, "k", request("c", "tok_ok")))).await;
        assert_eq!(all.iter().filter(|begun| matches!(begun, Begun::Started(_))).count(), 1);
        assert_eq!(all.iter().filter(|begun| **begun == Begun::InProgress).count(), 19);
        assert_eq!(count(&store, "payment").await, 1);
    }

    #[tokio::test]
    async fn a_key_replays_its_answer_and_refuses_another_request() {
        let (_directory, store) = open();
        let payment = started(&store, "k", request("c", "tok_ok")).await;
        assert_eq!(begun(&store, "k", request("d", "tok_ok")).await, Begun::KeyReuse);
        let answer = store.finish(&payment, CHARGED).await.unwrap();
        assert_eq!(answer.status, 201);
        assert_eq!(begun(&store, "k", request("c", "tok_ok")).await, Begun::Replay(answer.clone()));
        assert_eq!(begun(&store, "k", request("d", "tok_ok")).await, Begun::KeyReuse);
        assert_eq!(store.answer("k".into()).await.unwrap(), Some(answer));
        assert_eq!(trail(&store, &payment).await, ["created", "authorising", "captured"]);
    }

    #[tokio::test]
    async fn a_refusal_before_anything_was_sent_gives_the_key_back() {
        let (_directory, store) = open();
        let payment = started(&store, "k", request("c", "tok_ok")).await;
        store.abandon(&payment, "the line is full".into()).await.unwrap();
        assert_eq!(state_of(&store, &payment).await, State::Failed);
        assert_eq!(trail(&store, &payment).await, ["created", "authorising", "failed"]);
        started(&store, "k", request("somebody else", "tok_ok")).await;
    }

    #[tokio::test]
    async fn an_outcome_replaces_unknown_in_the_answer_too() {
        let (_directory, store) = open();
        let payment = started(&store, "k", request("c", "tok_ok")).await;
        let processing = store.mark_unknown(&payment, "no answer".into()).await.unwrap();
        assert_eq!(processing.status, 202);
        assert_eq!(begun(&store, "k", request("c", "tok_ok")).await, Begun::Replay(processing));
        let unknown = store.payment(payment.id).await.unwrap().unwrap();
        let captured = store.finish(&unknown, CHARGED).await.unwrap();
        assert_eq!(captured.status, 201);
        assert_eq!(begun(&store, "k", request("c", "tok_ok")).await, Begun::Replay(captured));
    }

    #[tokio::test]
    async fn a_step_from_an_old_version_is_not_taken() {
        let (_directory, store) = open();
        let payment = started(&store, "k", request("c", "tok_ok")).await;
        store.mark_unknown(&payment, "no answer".into()).await.unwrap();
        let late = store.finish(&payment, CHARGED).await;
        assert!(matches!(late, Err(StoreError::Overtaken { state: State::Unknown, .. })), "{late:?}");
        let unknown = store.payment(payment.id).await.unwrap().unwrap();
        let sent = store.abandon(&unknown, "given up".into()).await;
        assert!(matches!(sent, Err(StoreError::Overtaken { state: State::Unknown, .. })), "{sent:?}");
        assert_eq!(count(&store, "outbox").await, 0);
        assert_eq!(trail(&store, &payment).await, ["created", "authorising", "unknown"]);
    }

    #[tokio::test]
    async fn what_a_crash_left_is_unresolved_and_what_is_worked_on_is_not() {
        let (directory, store) = open();
        let left = started(&store, "a", request("c", "tok_ok")).await;
        assert_eq!(store.unresolved(0, 10).await.unwrap(), []);
        drop(store);
        let store = reopen(&directory);
        started(&store, "b", request("c", "tok_ok")).await;
        let unknown = started(&store, "c", request("c", "tok_ok")).await;
        store.mark_unknown(&unknown, "no answer".into()).await.unwrap();
        let found = store.unresolved(0, 10).await.unwrap();
        assert_eq!(found.iter().map(|u| u.payment.id).collect::<Vec<_>>(), [left.id, unknown.id]);
        assert_eq!(store.unresolved(found[0].seq, 10).await.unwrap()[0].payment.id, unknown.id);
        assert_eq!(store.unresolved(found[1].seq, 10).await.unwrap(), []);
    }

    #[tokio::test]
    async fn the_past_is_what_was_not_refused_of_a_time_and_a_number() {
        let (_directory, store) = open();
        let mut kept = Vec::new();
        for key in ["a", "b"] {
            let payment = started(&store, key, request("c", "tok_ok")).await;
            store.finish(&payment, CHARGED).await.unwrap();
            kept.insert(0, payment);
            for _ in 0..2 {
                let refused = started(&store, "refused", request("d", "tok_ok")).await;
                store.abandon(&refused, "the line is full".into()).await.unwrap();
            }
        }
        let [newer, older] = &*kept else { unreachable!() };
        for (since, least, most, expected) in [
            (i64::MAX, 2, 9, vec![newer.id, older.id]),
            (i64::MAX, 1, 9, vec![newer.id]),
            (i64::MAX, 0, 9, vec![]),
            (older.created_unix_ms, 0, 9, vec![newer.id, older.id]),
            (older.created_unix_ms, 2, 1, vec![newer.id]),
        ] {
            let past = store.past(since, least, most).await.unwrap();
            assert!(past.iter().all(|payment| payment.captured), "{past:?}");
            let ids: Vec<_> = past.iter().map(|payment| payment.payment).collect();
            assert_eq!(ids, expected, "since {since}, {least} to {most}");
        }
    }

    #[tokio::test]
    async fn pages_hold_one_customer_in_order() {
        let (_directory, store) = open();
        let mut mine = Vec::new();
        for n in 0..5 {
            mine.push(started(&store, &format!("mine{n}"), request("c", "tok_ok")).await.id);
            started(&store, &format!("other{n}"), request("d", "tok_ok")).await;
        }
        let page = async |customer: &str, after| {
            let page = store.payments_of(customer.into(), after, 2).await.unwrap();
            page.map(|payments| payments.iter().map(|payment| payment.id).collect::<Vec<_>>())
        };
        assert_eq!(page("c", None).await.unwrap(), mine[..2]);
        assert_eq!(page("c", Some(mine[1])).await.unwrap(), mine[2..4]);
        assert_eq!(page("c", Some(mine[3])).await.unwrap(), mine[4..]);
        assert_eq!(page("d", Some(mine[0])).await, None);
    }

    #[tokio::test]
    async fn what_cannot_be_read_hides_nothing_behind_it() {
        let (_directory, store) = open();
        let mut ids = Vec::new();
        for key in ["a", "b", "c"] {
            let payment = started(&store, key, request("c", "tok_ok")).await;
            store.mark_unknown(&payment, "no answer".into()).await.unwrap();
            ids.push(payment.id);
        }
        let first = ids[0].to_string();
        let spoil = move |connection: &Connection| {
            connection.execute("UPDATE payment SET currency = 'XXX' WHERE id = ?1", [first])
        };
        assert_eq!(store.database.write(spoil).await.unwrap(), 1);
        // A page that is full says that there may be more.
        let page = store.payments_of("c".into(), None, 2).await.unwrap().unwrap();
        assert_eq!(page.iter().map(|payment| payment.id).collect::<Vec<_>>(), ids[1..]);
        let look = store.unresolved(0, 2).await.unwrap();
        assert_eq!(look.iter().map(|unresolved| unresolved.payment.id).collect::<Vec<_>>(), ids[1..]);
        assert_eq!(store.unresolved(0, 1).await.unwrap()[0].payment.id, ids[1]);
    }

    #[tokio::test]
    async fn an_outcome_is_confirmed_once_in_the_trail() {
        let (_directory, store) = open();
        let payment = started(&store, "k", request("c", "tok_ok")).await;
        store.finish(&payment, CHARGED).await.unwrap();
        let confirmation = store.next_outbox(true, 10).await.unwrap().pop().unwrap();
        assert_eq!((&*confirmation.kind, &*confirmation.payment), ("captured", &*payment.id.to_string()));
        store.outbox_done(&confirmation).await.unwrap();
        store.outbox_done(&confirmation).await.unwrap();
        assert_eq!(store.next_outbox(true, 10).await.unwrap(), []);
        assert_eq!(trail(&store, &payment).await.iter().filter(|event| *event == "confirmed").count(), 1);
    }

    #[tokio::test]
    async fn a_full_disk_leaves_nothing_half_done() {
        let (_directory, store) = open();
        let set_room = async |pages: i64| {
            let limit = store.database.write(move |connection| {
                connection.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))
            });
            limit.await.unwrap()
        };
        let full = set_room(1).await;
        let mut begun_count = 0;
        // The pages that are in use have some room left; each attempt either fits as a whole or not at all.
        let refused = loop {
            let request = request(&format!("c{begun_count}"), "tok_ok");
            let fingerprint = Fingerprint::of("POST", "/v1/payments", &request);
            let key = Key::parse(&format!("k{begun_count}")).unwrap();
            match store.begin(key, fingerprint, request).await {
                Ok(_) => begun_count += 1,
                Err(error) => break error,
            }
            assert!(begun_count < 1_000, "{full} pages never fill up");
        };
        assert!(matches!(refused, DatabaseError::Unavailable(_)), "{refused:?}");
        for (table, rows) in [("payment", 1), ("idempotency", 1), ("audit", 2)] {
            assert_eq!(count(&store, table).await, begun_count * rows, "{table}");
        }
        set_room(1_000_000).await;
        started(&store, "after", request("c", "tok_ok")).await;
    }

    #[tokio::test]
    async fn the_trail_can_neither_be_rewritten_nor_cut() {
        let (_directory, store) = open();
        started(&store, "k", request("c", "tok_ok")).await;
        for sql in ["UPDATE audit SET event = 'captured'", "DELETE FROM audit"] {
            assert!(store.database.write(|connection| connection.execute(sql, [])).await.is_err(), "{sql}");
        }
        assert_eq!(count(&store, "audit").await, 2);
    }
}
