//! The record: how each service stands, every delivery that is over, and each step with its reason.

use std::collections::BTreeMap;
use std::path::Path;

use gemba::{Database, DatabaseError};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::delivery::{Delivery, Outcome};

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
    /// When it began, in milliseconds since 1970.
    pub begun_unix_ms: u64,
    /// When it ended.
    pub ended_unix_ms: Option<u64>,
    /// How.
    pub succeeded: Option<bool>,
    /// Why it was taken back.
    pub why: Option<String>,
    /// Each step, with its time.
    pub steps: Vec<(u64, String)>,
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

    /// Writes down how a service stands, with what just happened to its delivery.
    pub async fn save(
        &self,
        service: &str,
        record: &ServiceRecord,
        step: Option<(Delivery, u64, String)>,
    ) -> Result<(), DatabaseError> {
        let text = serde_json::to_string(record).expect("a record is plain data with text keys");
        let service = service.to_owned();
        let write = move |connection: &Connection| {
            connection
                .prepare_cached(
                    "INSERT INTO service VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET record = ?2",
                )?
                .execute(params![service, text])?;
            if let Some((delivery, unix_ms, what)) = &step {
                note(connection, delivery, *unix_ms, what)?;
            }
            Ok(())
        };
        self.0.write(write).await
    }

    /// Deliveries of a service, the last first.
    pub async fn history(&self, service: &str) -> Result<Vec<Past>, DatabaseError> {
        let service = service.to_owned();
        self.0.read(move |connection| history(connection, &service, HISTORY_MAX)).await
    }
}

fn note(connection: &Connection, delivery: &Delivery, unix_ms: u64, what: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO delivery (id, service, from_version, to_version, begun_unix_ms) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![delivery.id, delivery.service, delivery.from, delivery.to, delivery.begun_unix_ms])?;
    connection
        .prepare_cached("INSERT INTO step (delivery, unix_ms, what) VALUES (?1, ?2, ?3)")?
        .execute(params![delivery.id, unix_ms, what])?;
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
        "SELECT id, from_version, to_version, begun_unix_ms, ended_unix_ms, succeeded, why FROM delivery
         WHERE service = ?1 ORDER BY seq DESC LIMIT ?2",
    )?;
    let rows = query.query_map(params![service, most], |row| {
        Ok(Past {
            id: row.get(0)?,
            from: row.get(1)?,
            to: row.get(2)?,
            begun_unix_ms: row.get(3)?,
            ended_unix_ms: row.get(4)?,
            succeeded: row.get(5)?,
            why: row.get(6)?,
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
    }
}
