//! The gateway's own record: every call counted, every charge appended, on the disk before the answer.

use std::path::Path;

use gemba::{Database, DatabaseError};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::dials::{Dials, Fate};
use super::wire::{ChargeCall, ChargeEntry, ChargePage, Outcome, Summary};
use crate::clock::unix_ms_now;

/// `reference` is deliberately not unique: the record must be able to show a double charge, or it could
/// not prove that there is none.
const SCHEMA: &str = "
    CREATE TABLE charge (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        reference TEXT NOT NULL,
        amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
        currency TEXT NOT NULL,
        token TEXT NOT NULL,
        outcome TEXT NOT NULL CHECK (outcome IN ('charged', 'declined')),
        decline_code TEXT,
        at_unix_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX charge_reference ON charge (reference);
    CREATE TABLE attempts (reference TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

const COLUMNS: &str = "id, reference, amount_minor, currency, outcome, decline_code, at_unix_ms";

/// How a call for a charge ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Charged {
    /// This call made the entry; `silent` if it must not be answered.
    Now { entry: ChargeEntry, silent: bool },
    /// An earlier call made it.
    Before(ChargeEntry),
    /// Nothing was done, by the dials.
    Error,
    /// The reference belongs to another charge; nothing was done.
    ReferenceReused,
}

/// Writes and reads the record.
#[derive(Debug, Clone)]
pub(crate) struct Record(Database);

impl Record {
    /// Opens the record, making the file if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let (database, ()) = Database::open(path, SCHEMA, |_| Ok(()))?;
        Ok(Self(database))
    }

    /// Charges once per reference; returns when the entry is on the disk.
    pub(crate) async fn charge(&self, call: ChargeCall, dials: Dials) -> Result<Charged, DatabaseError> {
        self.0.write(move |connection| charge(connection, &call, &dials)).await
    }

    /// The entry of a reference.
    pub(crate) async fn lookup(&self, reference: String) -> Result<Option<ChargeEntry>, DatabaseError> {
        self.0.read(move |connection| Ok(find(connection, &reference)?.map(|(entry, _)| entry))).await
    }

    /// Up to `limit` entries after an id.
    pub(crate) async fn page(&self, after: i64, limit: usize) -> Result<ChargePage, DatabaseError> {
        self.0
            .read(move |connection| {
                let sql = format!("SELECT {COLUMNS} FROM charge WHERE id > ?1 ORDER BY id LIMIT ?2");
                let mut statement = connection.prepare_cached(&sql)?;
                let rows = statement.query_map(params![after, limit.cast_signed()], entry_of)?;
                let charges = rows.collect::<rusqlite::Result<Vec<_>>>()?;
                let next = charges.last().map(|entry| entry.id).filter(|_| charges.len() == limit);
                Ok(ChargePage { charges, next })
            })
            .await
    }

    /// The record in four numbers.
    pub(crate) async fn summary(&self) -> Result<Summary, DatabaseError> {
        self.0
            .read(|connection| {
                let sql = "SELECT count(*) FILTER (WHERE outcome = 'charged'),
                        count(DISTINCT reference) FILTER (WHERE outcome = 'charged'),
                        count(*) FILTER (WHERE outcome = 'declined'),
                        (SELECT coalesce(sum(count), 0) FROM attempts) FROM charge";
                connection.query_row(sql, [], |row| {
                    Ok(Summary {
                        charges: row.get(0)?,
                        references: row.get(1)?,
                        declined: row.get(2)?,
                        attempts: row.get(3)?,
                    })
                })
            })
            .await
    }

    /// Returns when the record can no longer be written; the process must end.
    pub(crate) async fn stopped(&self) {
        self.0.stopped().await;
    }
}

fn charge(connection: &Connection, call: &ChargeCall, dials: &Dials) -> rusqlite::Result<Charged> {
    let attempt: i64 = connection
        .prepare_cached(
            "INSERT INTO attempts VALUES (?1, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count",
        )?
        .query_row([&call.reference], |row| row.get(0))?;
    if let Some((entry, token)) = find(connection, &call.reference)? {
        let same = entry.amount_minor == call.amount_minor
            && entry.currency == call.currency
            && token == call.token.reveal();
        return Ok(if same { Charged::Before(entry) } else { Charged::ReferenceReused });
    }
    Ok(match dials.fate(&call.reference, attempt, call.token.reveal()) {
        Fate::Error => Charged::Error,
        Fate::Decline(code) => Charged::Now { entry: append(connection, call, Some(code))?, silent: false },
        Fate::Charge => Charged::Now { entry: append(connection, call, None)?, silent: false },
        Fate::ChargeThenSilence => Charged::Now { entry: append(connection, call, None)?, silent: true },
    })
}

fn append(
    connection: &Connection,
    call: &ChargeCall,
    decline_code: Option<&str>,
) -> rusqlite::Result<ChargeEntry> {
    let outcome = if decline_code.is_some() { Outcome::Declined } else { Outcome::Charged };
    let sql = format!(
        "INSERT INTO charge (reference, amount_minor, currency, token, outcome, decline_code, at_unix_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING {COLUMNS}"
    );
    let token = call.token.reveal();
    connection.prepare_cached(&sql)?.query_row(
        params![
            call.reference,
            call.amount_minor,
            call.currency,
            token,
            outcome.word(),
            decline_code,
            unix_ms_now()
        ],
        entry_of,
    )
}

/// The first entry of a reference, with its token.
fn find(connection: &Connection, reference: &str) -> rusqlite::Result<Option<(ChargeEntry, String)>> {
    let sql = format!("SELECT {COLUMNS}, token FROM charge WHERE reference = ?1 ORDER BY id LIMIT 1");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([reference], |row| Ok((entry_of(row)?, row.get("token")?))).optional()
}

fn entry_of(row: &Row<'_>) -> rusqlite::Result<ChargeEntry> {
    let outcome: String = row.get("outcome")?;
    Ok(ChargeEntry {
        id: row.get("id")?,
        reference: row.get("reference")?,
        amount_minor: row.get("amount_minor")?,
        currency: row.get("currency")?,
        outcome: if outcome == Outcome::Charged.word() { Outcome::Charged } else { Outcome::Declined },
        decline_code: row.get("decline_code")?,
        at_unix_ms: row.get("at_unix_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::Token;

    fn call(reference: &str, token: &str) -> ChargeCall {
        ChargeCall {
            reference: reference.into(),
            amount_minor: 100,
            currency: "EUR".into(),
            token: Token::new(token),
        }
    }

    #[tokio::test]
    async fn a_reference_is_charged_once_however_often_it_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        let record = Record::open(&directory.path().join("gateway.db")).unwrap();
        let calls = (0..50).map(|n| record.charge(call(&format!("r{}", n % 5), "tok_ok"), Dials::default()));
        let answers = futures_util::future::join_all(calls).await;
        let made = answers.iter().filter(|answer| matches!(answer, Ok(Charged::Now { .. }))).count();
        assert_eq!(made, 5);
        let summary = Summary { charges: 5, references: 5, declined: 0, attempts: 50 };
        assert_eq!(record.summary().await.unwrap(), summary);
    }

    #[tokio::test]
    async fn a_reference_belongs_to_one_amount_and_one_card() {
        let directory = tempfile::tempdir().unwrap();
        let record = Record::open(&directory.path().join("gateway.db")).unwrap();
        record.charge(call("r", "tok_ok"), Dials::default()).await.unwrap();
        for other in [
            ChargeCall { amount_minor: 101, ..call("r", "tok_ok") },
            ChargeCall { currency: "USD".into(), ..call("r", "tok_ok") },
            call("r", "tok_slow"),
        ] {
            assert_eq!(record.charge(other, Dials::default()).await.unwrap(), Charged::ReferenceReused);
        }
        assert_eq!(record.summary().await.unwrap().charges, 1);
    }

    #[tokio::test]
    async fn silence_follows_a_charge_and_a_replay_is_answered() {
        let directory = tempfile::tempdir().unwrap();
        let record = Record::open(&directory.path().join("gateway.db")).unwrap();
        let call = call("r", "tok_timeout_after_charge");
        let first = record.charge(call.clone(), Dials::default()).await.unwrap();
        let Charged::Now { entry, silent: true } = first else { panic!("{first:?}") };
        assert_eq!(record.charge(call, Dials::default()).await.unwrap(), Charged::Before(entry.clone()));
        assert_eq!(record.lookup("r".into()).await.unwrap(), Some(entry));
        assert_eq!(record.lookup("s".into()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_error_charges_nothing_and_a_decline_is_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let record = Record::open(&directory.path().join("gateway.db")).unwrap();
        let failing = Dials { error_rate: 1.0, ..Dials::default() };
        assert_eq!(record.charge(call("r", "tok_ok"), failing).await.unwrap(), Charged::Error);
        let declining = Dials { decline_rate: 1.0, ..Dials::default() };
        let declined = record.charge(call("r", "tok_ok"), declining).await.unwrap();
        let Charged::Now { entry, silent: false } = declined else { panic!("{declined:?}") };
        assert_eq!((entry.outcome, entry.decline_code.as_deref()), (Outcome::Declined, Some("do_not_honor")));
        assert_eq!(
            record.charge(call("r", "tok_ok"), Dials::default()).await.unwrap(),
            Charged::Before(entry)
        );
    }

    #[tokio::test]
    async fn a_page_ends_where_the_next_begins() {
        let directory = tempfile::tempdir().unwrap();
        let record = Record::open(&directory.path().join("gateway.db")).unwrap();
        for n in 0..5 {
            record.charge(call(&n.to_string(), "tok_ok"), Dials::default()).await.unwrap();
        }
        let (mut after, mut seen) = (Some(0), Vec::new());
        while let Some(id) = after {
            let page = record.page(id, 2).await.unwrap();
            seen.extend(page.charges.into_iter().map(|entry| entry.reference));
            after = page.next;
        }
        assert_eq!(seen, ["0", "1", "2", "3", "4"]);
    }
}
