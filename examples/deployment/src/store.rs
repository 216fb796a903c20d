//! The record: how each service stands, what waits, every delivery that is over, and each step with its reason.

use std::collections::BTreeMap;
use std::path::Path;

use gemba::{Database, DatabaseError};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::delivery::{Delivery, Outcome};
use crate::policy::DeploymentRequest;
use crate::queue::Waiting;

const SCHEMA: &str = "
    CREATE TABLE service (
        name TEXT PRIMARY KEY,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE delivery (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        service TEXT NOT NULL,
        from_version TEXT,
        to_version TEXT NOT NULL,
        begun_unix_ms INTEGER NOT NULL,
        ended_unix_ms INTEGER,
        is_begun INTEGER NOT NULL,
        succeeded INTEGER,
        why TEXT
    ) STRICT;
    CREATE INDEX delivery_service ON delivery (service, seq);

    CREATE TABLE step (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        delivery TEXT NOT NULL REFERENCES delivery (id),
        unix_ms INTEGER NOT NULL,
        what TEXT NOT NULL
    ) STRICT;
    CREATE INDEX step_delivery ON step (delivery, seq);

    CREATE TABLE waiting (
        place INTEGER PRIMARY KEY,
        delivery TEXT NOT NULL UNIQUE REFERENCES delivery (id),
        waiting TEXT NOT NULL
    ) STRICT;
";

/// Deliveries that a history tells at most.
const HISTORY_MAX: u32 = 100;

/// How a service stands, as it is on the disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// The version that has everything when no delivery goes on.
    pub stable: Option<String>,
    /// The delivery that goes on.
    pub delivery: Option<Delivery>,
    /// The port of each instance that was started and has not ended.
    pub instances: BTreeMap<String, u16>,
}

/// A delivery of the past or present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Its id.
    pub id: String,
    /// What ran before.
    pub from: Option<String>,
    /// What was to run.
    pub to: String,
    /// When it began, in milliseconds since 1970; until then, when it was asked for.
    pub begun_unix_ms: u64,
    /// Whether it began: one that waits has not, and may never.
    pub is_begun: bool,
    /// When it ended.
    pub ended_unix_ms: Option<u64>,
    /// How.
    pub succeeded: Option<bool>,
    /// Why it was taken back, or not begun.
    pub why: Option<String>,
    /// Each step, with its time.
    pub steps: Vec<(u64, String)>,
}

/// What an id stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The service.
    pub service: String,
    /// What was to run.
    pub version: String,
    /// Whether it was begun.
    pub is_begun: bool,
}

impl Found {
    /// Why this id cannot stand for such a delivery; nothing if it is the same one.
    pub fn conflict(&self, id: &str, service: &str, version: &str) -> Option<String> {
        let is_same = (self.service.as_str(), self.version.as_str()) == (service, version);
        (!is_same)
            .then(|| format!("{id} is a delivery of {} {}; take another id", self.service, self.version))
    }
}

/// The record. Clones share it.
#[derive(Debug, Clone)]
pub struct Store(Database);

impl Store {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let (database, ()) = Database::open(path, SCHEMA, |_| Ok(()))?;
        Ok(Self(database))
    }

    /// Returns when nothing can be written any more.
    pub async fn stopped(&self) {
        self.0.stopped().await;
    }

    /// How a service stands.
    pub async fn load(&self, service: &str) -> Result<ServiceRecord, DatabaseError> {
        let service = service.to_owned();
        self.0.read(move |connection| record(connection, &service)).await
    }

    /// How every service stands that there ever was.
    pub async fn load_all(&self) -> Result<Vec<(String, ServiceRecord)>, DatabaseError> {
        let query = |connection: &Connection| {
            let mut query = connection.prepare_cached("SELECT name, record FROM service ORDER BY name")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let texts = self.0.read(query).await?;
        let read = |text: String| serde_json::from_str(&text).expect("it was written by this program");
        Ok(texts.into_iter().map(|(name, text)| (name, read(text))).collect())
    }

    /// Writes down how a service stands, with what just happened to its delivery.
    pub async fn save(
        &self,
        service: &str,
        record: &ServiceRecord,
        step: Option<(Delivery, u64, String)>,
    ) -> Result<(), DatabaseError> {
        let (service, text) = (service.to_owned(), text_of(record));
        let write = move |connection: &Connection| {
            put(connection, &service, &text)?;
            if let Some((delivery, unix_ms, what)) = &step {
                note(connection, delivery, *unix_ms, what)?;
            }
            Ok(())
        };
        self.0.write(write).await
    }

    /// The same for the first step of a delivery, unless that has ended before it began: tells whether it has begun.
    /// Of an end and a beginning at once, the one that is written first counts.
    pub async fn begin(
        &self,
        service: &str,
        record: &ServiceRecord,
        (delivery, unix_ms, what): (Delivery, u64, String),
    ) -> Result<bool, DatabaseError> {
        let (service, text) = (service.to_owned(), text_of(record));
        let write = move |connection: &Connection| {
            let query = "SELECT ended_unix_ms IS NOT NULL FROM delivery WHERE id = ?1";
            let has_ended = connection
                .prepare_cached(query)?
                .query_row([&delivery.id], |row| row.get::<_, bool>(0))
                .optional()?;
            if has_ended == Some(true) {
                return Ok(false);
            }
            put(connection, &service, &text)?;
            note(connection, &delivery, unix_ms, &what)?;
            Ok(true)
        };
        self.0.write(write).await
    }

    /// The service and version of the delivery that has, or had, this id, and whether it was begun.
    pub async fn find(&self, id: &str) -> Result<Option<Found>, DatabaseError> {
        let id = id.to_owned();
        let query = "SELECT service, to_version, is_begun FROM delivery WHERE id = ?1";
        let found = move |connection: &Connection| {
            let row = |row: &rusqlite::Row<'_>| {
                Ok(Found { service: row.get(0)?, version: row.get(1)?, is_begun: row.get(2)? })
            };
            connection.prepare_cached(query)?.query_row([id], row).optional()
        };
        self.0.read(found).await
    }

    /// Writes down one that waits, and that it supersedes another one; tells whether it does: one that has begun
    /// meanwhile waits no more.
    pub async fn join(
        &self,
        waiting: &Waiting,
        superseded: Option<(DeploymentRequest, String)>,
    ) -> Result<bool, DatabaseError> {
        let text = serde_json::to_string(waiting).expect("a request is plain data with text keys");
        let waiting = waiting.clone();
        let write = move |connection: &Connection| {
            let Waiting { request, asked_unix_ms, place, .. } = &waiting;
            let is_superseded = match &superseded {
                Some((old, why)) => {
                    let what = format!("{} not begun: {why}", old.version);
                    end_waiting(connection, &old.id, *asked_unix_ms, why, &what)?
                }
                None => false,
            };
            connection
                .prepare_cached(
                    "INSERT INTO delivery (id, service, to_version, begun_unix_ms, is_begun) VALUES (?1, ?2, ?3, ?4, 0)",
                )?
                .execute(params![request.id, request.service, request.version, asked_unix_ms])?;
            connection
                .prepare_cached("INSERT INTO waiting VALUES (?1, ?2, ?3)")?
                .execute(params![place, request.id, text])?;
            Ok(is_superseded)
        };
        self.0.write(write).await
    }

    /// All that wait.
    pub async fn waiting(&self) -> Result<Vec<Waiting>, DatabaseError> {
        let query = |connection: &Connection| {
            let mut query = connection.prepare_cached("SELECT waiting FROM waiting ORDER BY place")?;
            let rows = query.query_map([], |row| row.get::<_, String>(0))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let texts = self.0.read(query).await?;
        let read = |text: String| serde_json::from_str(&text).expect("it was written by this program");
        Ok(texts.into_iter().map(read).collect())
    }

    /// Writes down that one that waits will not be begun; tells whether it is so: nothing is written of one that has
    /// begun.
    pub async fn end_waiting(
        &self,
        id: &str,
        unix_ms: u64,
        why: &str,
        what: &str,
    ) -> Result<bool, DatabaseError> {
        let (id, why, what) = (id.to_owned(), why.to_owned(), what.to_owned());
        self.0.write(move |connection| end_waiting(connection, &id, unix_ms, &why, &what)).await
    }

    /// Writes down a step of one that waits.
    pub async fn step(&self, id: &str, unix_ms: u64, what: &str) -> Result<(), DatabaseError> {
        let (id, what) = (id.to_owned(), what.to_owned());
        self.0.write(move |connection| step(connection, &id, unix_ms, &what)).await
    }

    /// Deliveries of a service, the last first.
    pub async fn history(&self, service: &str) -> Result<Vec<Past>, DatabaseError> {
        let service = service.to_owned();
        self.0.read(move |connection| history(connection, &service, HISTORY_MAX)).await
    }
}

fn text_of(record: &ServiceRecord) -> String {
    serde_json::to_string(record).expect("a record is plain data with text keys")
}

fn put(connection: &Connection, service: &str, record: &str) -> rusqlite::Result<()> {
    let query = "INSERT INTO service VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET record = ?2";
    connection.prepare_cached(query)?.execute([service, record])?;
    Ok(())
}

fn note(connection: &Connection, delivery: &Delivery, unix_ms: u64, what: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO delivery (id, service, from_version, to_version, begun_unix_ms, is_begun)
             VALUES (?1, ?2, ?3, ?4, ?5, 1)
             ON CONFLICT (id) DO UPDATE
             SET from_version = coalesce(?3, from_version), begun_unix_ms = ?5, is_begun = 1",
        )?
        .execute(params![
            delivery.id,
            delivery.service,
            delivery.from,
            delivery.to,
            delivery.begun_unix_ms
        ])?;
    // What is begun waits no more: both are true at once.
    connection.prepare_cached("DELETE FROM waiting WHERE delivery = ?1")?.execute([&delivery.id])?;
    step(connection, &delivery.id, unix_ms, what)?;
    let (succeeded, why) = match &delivery.outcome {
        Outcome::Running => return Ok(()),
        Outcome::Succeeded => (true, None),
        Outcome::RolledBack { why } => (false, Some(why)),
    };
    connection
        .prepare_cached("UPDATE delivery SET ended_unix_ms = ?2, succeeded = ?3, why = ?4 WHERE id = ?1")?
        .execute(params![delivery.id, unix_ms, succeeded, why])?;
    Ok(())
}

fn step(connection: &Connection, delivery: &str, unix_ms: u64, what: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO step (delivery, unix_ms, what) VALUES (?1, ?2, ?3)")?
        .execute(params![delivery, unix_ms, what])?;
    Ok(())
}

fn end_waiting(
    connection: &Connection,
    id: &str,
    unix_ms: u64,
    why: &str,
    what: &str,
) -> rusqlite::Result<bool> {
    connection.prepare_cached("DELETE FROM waiting WHERE delivery = ?1")?.execute([id])?;
    let changed = connection
        .prepare_cached(
            "UPDATE delivery SET ended_unix_ms = ?2, succeeded = 0, why = ?3
             WHERE id = ?1 AND is_begun = 0 AND ended_unix_ms IS NULL",
        )?
        .execute(params![id, unix_ms, why])?;
    if 0 < changed {
        step(connection, id, unix_ms, what)?;
    }
    Ok(0 < changed)
}

/// How a service stands.
pub(crate) fn record(connection: &Connection, service: &str) -> rusqlite::Result<ServiceRecord> {
    let query = "SELECT record FROM service WHERE name = ?1";
    let text: Option<String> =
        connection.prepare_cached(query)?.query_row([service], |row| row.get(0)).optional()?;
    Ok(text.map_or_else(ServiceRecord::default, |text| {
        serde_json::from_str(&text).expect("the record was written by this program")
    }))
}

/// Deliveries of a service, the last first.
pub(crate) fn history(connection: &Connection, service: &str, most: u32) -> rusqlite::Result<Vec<Past>> {
    let mut query = connection.prepare_cached(
        "SELECT id, from_version, to_version, begun_unix_ms, is_begun, ended_unix_ms, succeeded, why FROM delivery
         WHERE service = ?1 ORDER BY seq DESC LIMIT ?2",
    )?;
    let rows = query.query_map(params![service, most], |row| {
        Ok(Past {
            id: row.get(0)?,
            from: row.get(1)?,
            to: row.get(2)?,
            begun_unix_ms: row.get(3)?,
            is_begun: row.get(4)?,
            ended_unix_ms: row.get(5)?,
            succeeded: row.get(6)?,
            why: row.get(7)?,
            steps: Vec::new(),
        })
    })?;
    let mut found = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut steps =
        connection.prepare_cached("SELECT unix_ms, what FROM step WHERE delivery = ?1 ORDER BY seq")?;
    for past in &mut found {
        let rows = steps.query_map([&past.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        past.steps = rows.collect::<rusqlite::Result<_>>()?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Care;
    use crate::policy::Strategy;
    use crate::queue::Queue;

    #[tokio::test]
    async fn what_was_written_is_read_after_a_restart_with_every_step() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deployment.db");
        let regions = ["us-west".to_owned()];
        let mut delivery =
            Delivery::begin("7", "api", (Some("v1"), "v2"), regions, Care::default().rules().unwrap(), 5);
        let store = Store::open(&file).unwrap();
        assert_eq!(store.load("api").await.unwrap(), ServiceRecord::default());
        let mut record = ServiceRecord { stable: Some("v1".to_owned()), ..ServiceRecord::default() };
        record.delivery = Some(delivery.clone());
        store.save("api", &record, Some((delivery.clone(), 5, "asked for".to_owned()))).await.unwrap();
        let step = delivery.abort().unwrap();
        // As when everything ends: there is nothing to go back to any more, and there was.
        delivery.from = None;
        record.delivery = None;
        store.save("api", &record, Some((delivery, 9, step.what))).await.unwrap();
        drop(store);

        let store = Store::open(&file).unwrap();
        assert_eq!(store.load("api").await.unwrap(), record);
        let history = store.history("api").await.unwrap();
        let steps = [(5, "asked for".to_owned()), (9, "v2 back to 0 %: taken back by hand".to_owned())];
        assert_eq!(history[0].steps, steps);
        assert_eq!((history[0].ended_unix_ms, history[0].succeeded), (Some(9), Some(false)));
        assert_eq!(history[0].why.as_deref(), Some("taken back by hand"));
        assert_eq!(history[0].from.as_deref(), Some("v1"));
    }

    #[tokio::test]
    async fn what_waits_is_there_after_a_restart_until_it_begins_or_ends() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deployment.db");
        let request = |service: &str, version: &str| DeploymentRequest {
            id: format!("{service}-{version}"),
            service: service.to_owned(),
            version: version.to_owned(),
            regions: vec!["us-west".to_owned()],
            strategy: Strategy::Canary,
        };
        let store = Store::open(&file).unwrap();
        let mut queue = Queue::default();
        for (service, version, asked) in [("a", "v2", 1), ("b", "v2", 2), ("a", "v3", 3), ("c", "v2", 4)] {
            let (waiting, superseded) = queue.join(request(service, version), false, asked);
            let superseded = superseded.map(|old| (old.request, "superseded by v3".to_owned()));
            store.join(&waiting, superseded).await.unwrap();
        }
        store.step("a-v3", 4, "v3 waits").await.unwrap();
        store.end_waiting("b-v2", 5, "taken out", "v2 not begun: taken out").await.unwrap();
        queue.leave("b-v2").unwrap();
        drop(store);

        let store = Store::open(&file).unwrap();
        assert_eq!(Queue::of(store.waiting().await.unwrap()), queue);
        let found = store.find("a-v3").await.unwrap().unwrap();
        assert_eq!((found.service.as_str(), found.version.as_str(), found.is_begun), ("a", "v3", false));
        assert_eq!(found.conflict("a-v3", "a", "v3"), None);
        for (service, version) in [("a", "v2"), ("b", "v3")] {
            let why = found.conflict("a-v3", service, version);
            assert_eq!(why.as_deref(), Some("a-v3 is a delivery of a v3; take another id"));
        }
        assert_eq!(store.find("a-v9").await.unwrap(), None);
        let rules = Care::default().rules().unwrap();
        let delivery = Delivery::begin("a-v3", "a", (Some("v1"), "v3"), ["us-west".to_owned()], rules, 9);
        let record = ServiceRecord { delivery: Some(delivery.clone()), ..ServiceRecord::default() };
        store.save("a", &record, Some((delivery, 9, "v3 is to follow v1".to_owned()))).await.unwrap();
        assert!(store.find("a-v3").await.unwrap().unwrap().is_begun);
        let waiting: Vec<_> = store.waiting().await.unwrap().into_iter().map(|one| one.request.id).collect();
        assert_eq!(waiting, ["c-v2"], "in the same write");
        let [begun, superseded] = &store.history("a").await.unwrap()[..] else { panic!("two of a") };
        assert_eq!((begun.begun_unix_ms, begun.from.as_deref(), begun.is_begun), (9, Some("v1"), true));
        let steps = [(4, "v3 waits".to_owned()), (9, "v3 is to follow v1".to_owned())];
        assert_eq!(begun.steps, steps);
        assert_eq!((superseded.is_begun, superseded.succeeded), (false, Some(false)));
        assert_eq!(superseded.why.as_deref(), Some("superseded by v3"));
    }
    #[tokio::test]
    async fn of_an_end_and_a_beginning_at_once_the_first_counts() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("deployment.db")).unwrap();
        let request = |id: &str| DeploymentRequest {
            id: id.to_owned(),
            service: "api".to_owned(),
            version: "v2".to_owned(),
            regions: vec!["us-west".to_owned()],
            strategy: Strategy::Canary,
        };
        let begun = |id: &str| {
            let rules = Care::default().rules().unwrap();
            let delivery = Delivery::begin(id, "api", (Some("v1"), "v2"), ["us-west".to_owned()], rules, 5);
            ServiceRecord { delivery: Some(delivery), ..ServiceRecord::default() }
        };
        let first = |record: &ServiceRecord| (record.delivery.clone().unwrap(), 5, "begun".to_owned());
        let mut queue = Queue::default();
        store.join(&queue.join(request("1"), false, 1).0, None).await.unwrap();
        assert!(store.end_waiting("1", 4, "taken out", "v2 not begun: taken out").await.unwrap());
        let late = begun("1");
        assert!(
            !store.begin("api", &late, first(&late)).await.unwrap(),
            "somebody was told that it does not"
        );
        assert_eq!(store.load("api").await.unwrap(), ServiceRecord::default());

        queue = Queue::default();
        store.join(&queue.join(request("2"), false, 1).0, None).await.unwrap();
        let record = begun("2");
        assert!(store.begin("api", &record, first(&record)).await.unwrap());
        assert!(!store.end_waiting("2", 6, "too late", "v2 not begun: too late").await.unwrap());
        // It is in the queue of somebody who has not seen yet that it began.
        let (waiting, superseded) = queue.join(request("3"), false, 7);
        let superseded = superseded.map(|old| (old.request, "superseded".to_owned()));
        assert!(!store.join(&waiting, superseded).await.unwrap());
        assert_eq!(store.load("api").await.unwrap(), record);
        let history = store.history("api").await.unwrap();
        let [_, begun, ended] = &history[..] else { panic!("three: {history:?}") };
        assert_eq!((begun.is_begun, begun.ended_unix_ms, begun.steps.len()), (true, None, 1), "{begun:?}");
        assert_eq!(
            (ended.is_begun, ended.ended_unix_ms, ended.steps.len()),
            (false, Some(4), 1),
            "{ended:?}"
        );
    }
}
