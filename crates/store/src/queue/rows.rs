//! The rows of a queue's file, and every statement on them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gemba_core::admission::Tier;
use gemba_core::kanban::{CardId, KanbanError, LeaseId};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// How long the key of a card that is done keeps a second card of that key away.
const KEYS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How many cards a life of the queue reads at one go.
pub(super) const PAGE: usize = 1_000;

/// How many bits of a lease count deliveries; those above them count lives of the queue.
const EPOCH_SHIFT: u32 = 40;

/// `lease` is what a worker's own end of a card is checked against: a worker that comes back too late finds
/// another one, and changes nothing.
pub(super) const SCHEMA: &str = "
    CREATE TABLE card (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        payload BLOB NOT NULL,
        key TEXT UNIQUE,
        tier INTEGER NOT NULL,
        cost INTEGER NOT NULL,
        arrived_unix_ms INTEGER NOT NULL,
        deliveries INTEGER NOT NULL DEFAULT 0,
        lease INTEGER NOT NULL DEFAULT 0,
        dead INTEGER NOT NULL DEFAULT 0,
        error TEXT
    ) STRICT;
    CREATE INDEX card_dead ON card (id) WHERE dead = 1;
    CREATE TABLE done_key (
        key TEXT PRIMARY KEY,
        card INTEGER NOT NULL,
        done_unix_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX done_key_age ON done_key (done_unix_ms);
    CREATE TABLE board (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        cards INTEGER NOT NULL,
        epoch INTEGER NOT NULL
    ) STRICT;
    INSERT INTO board VALUES (1, 0, 0);
";

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The card.
    pub card: CardId,
    /// Whether there was a card of this key already, which this is.
    pub was_there: bool,
}

/// A card that was delivered as often as it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadCard {
    /// Which.
    pub card: CardId,
    /// Its content, as JSON.
    pub payload: Vec<u8>,
    /// How often it was delivered.
    pub deliveries: u32,
    /// Why it failed last.
    pub error: String,
    /// When it came, in milliseconds since 1970.
    pub arrived_unix_ms: u64,
}

/// A card to come.
pub(super) struct NewRow {
    pub payload: Vec<u8>,
    pub key: Option<String>,
    pub tier: Tier,
    pub cost: u32,
}

/// A card as it is on the disk, without its content.
pub(super) struct Kept {
    pub id: CardId,
    pub tier: Tier,
    pub cost: u32,
    pub arrived_unix_ms: u64,
    pub deliveries: u32,
    pub lease: LeaseId,
    pub is_dead: bool,
}

/// What is written between two rounds of deliveries.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// It goes to a worker, who needs its content.
    Deliver { card: CardId, lease: LeaseId, deliveries: u32 },
    /// It came back.
    Return { card: CardId, error: Option<String> },
    /// It came back, and nobody had worked on it.
    PutBack { card: CardId, why: String },
    /// It came back for the last time.
    Die { card: CardId, deliveries: u32, error: Option<String> },
    /// It has all its deliveries again.
    Redrive { card: CardId },
    /// It is given up.
    Discard { card: CardId },
}

/// What a change found: the content to deliver, or that the card is gone.
#[derive(Debug)]
pub(super) enum Found {
    Payload(Vec<u8>),
    Row,
    Gone,
}

pub(super) fn unix_ms_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Counts a life of the queue, and gives the first lease of this one.
pub(super) fn next_epoch(connection: &Connection) -> rusqlite::Result<LeaseId> {
    let sql = "UPDATE board SET epoch = epoch + 1 RETURNING epoch";
    let epoch: u64 = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(LeaseId(epoch << EPOCH_SHIFT))
}

/// Keeps a card, or finds the one that has its key.
pub(super) fn insert(
    connection: &Connection,
    row: &NewRow,
    cards_max: u64,
) -> rusqlite::Result<Result<Appended, KanbanError>> {
    let now = unix_ms_now();
    if let Some(key) = &row.key {
        let kept = now.saturating_sub(KEYS_KEPT.as_millis() as u64);
        connection.prepare_cached("DELETE FROM done_key WHERE done_unix_ms < ?1")?.execute([kept])?;
        let sql = "SELECT id FROM card WHERE key = ?1 UNION ALL SELECT card FROM done_key WHERE key = ?1";
        let known = connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?;
        if let Some(id) = known {
            return Ok(Ok(Appended { card: CardId(id), was_there: true }));
        }
    }
    let sql = "UPDATE board SET cards = cards + 1 WHERE cards < ?1";
    if connection.prepare_cached(sql)?.execute([cards_max])? == 0 {
        let sql = "SELECT cards, (SELECT count(*) FROM card WHERE dead = 1) FROM board";
        let (cards, dead) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        return Ok(Err(KanbanError::Full { cards, dead }));
    }
    let sql = "INSERT INTO card (payload, key, tier, cost, arrived_unix_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![row.payload, row.key, row.tier as u8, row.cost, now];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(Ok(Appended { card: CardId(connection.last_insert_rowid().cast_unsigned()), was_there: false }))
}

/// Takes a card that is done off the queue, if the lease is the one it was delivered under.
pub(super) fn finish(connection: &Connection, card: CardId, lease: LeaseId) -> rusqlite::Result<bool> {
    let sql = "INSERT INTO done_key SELECT key, id, ?3 FROM card
        WHERE id = ?1 AND lease = ?2 AND dead = 0 AND key IS NOT NULL";
    connection.prepare_cached(sql)?.execute(params![card.0, lease.0, unix_ms_now()])?;
    let sql = "DELETE FROM card WHERE id = ?1 AND lease = ?2 AND dead = 0";
    let was_held = connection.prepare_cached(sql)?.execute([card.0, lease.0])? == 1;
    if was_held {
        one_less(connection)?;
    }
    Ok(was_held)
}

/// The cards after a card, in their order.
pub(super) fn cards(connection: &Connection, after: CardId) -> rusqlite::Result<Vec<Kept>> {
    let sql = format!(
        "SELECT id, tier, cost, arrived_unix_ms, deliveries, lease, dead FROM card
         WHERE id > ?1 ORDER BY id LIMIT {PAGE}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map([after.0], kept)?.collect()
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let tier: usize = row.get(1)?;
    Ok(Kept {
        id: CardId(row.get(0)?),
        tier: Tier::ALL.get(tier).copied().unwrap_or_default(),
        cost: row.get(2)?,
        arrived_unix_ms: row.get(3)?,
        deliveries: row.get(4)?,
        lease: LeaseId(row.get(5)?),
        is_dead: row.get(6)?,
    })
}

/// Makes changes together.
pub(super) fn change(connection: &Connection, changes: &[Change]) -> rusqlite::Result<Vec<Found>> {
    changes.iter().map(|change| one(connection, change)).collect()
}

fn one(connection: &Connection, change: &Change) -> rusqlite::Result<Found> {
    let found = |rows: usize| if rows == 0 { Found::Gone } else { Found::Row };
    Ok(match change {
        Change::Deliver { card, lease, deliveries } => {
            let sql = "UPDATE card SET lease = ?2, deliveries = ?3 WHERE id = ?1 RETURNING payload";
            let mut statement = connection.prepare_cached(sql)?;
            let row = statement.query_row(params![card.0, lease.0, deliveries], |row| row.get(0));
            row.optional()?.map_or(Found::Gone, Found::Payload)
        }
        Change::Return { card, error } => {
            let sql = "UPDATE card SET lease = 0, error = coalesce(?2, error) WHERE id = ?1";
            found(connection.prepare_cached(sql)?.execute(params![card.0, error])?)
        }
        Change::PutBack { card, why } => {
            let sql =
                "UPDATE card SET lease = 0, deliveries = max(deliveries - 1, 0), error = ?2 WHERE id = ?1";
            found(connection.prepare_cached(sql)?.execute(params![card.0, why])?)
        }
        Change::Die { card, error, .. } => {
            let sql = "UPDATE card SET lease = 0, dead = 1, error = coalesce(?2, error) WHERE id = ?1";
            found(connection.prepare_cached(sql)?.execute(params![card.0, error])?)
        }
        Change::Redrive { card } => {
            let sql = "UPDATE card SET dead = 0, deliveries = 0 WHERE id = ?1";
            found(connection.prepare_cached(sql)?.execute([card.0])?)
        }
        Change::Discard { card } => {
            let rows = connection.prepare_cached("DELETE FROM card WHERE id = ?1")?.execute([card.0])?;
            if rows == 1 {
                one_less(connection)?;
            }
            found(rows)
        }
    })
}

fn one_less(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE board SET cards = cards - 1")?.execute([])?;
    Ok(())
}

/// The dead cards after a card.
pub(super) fn dead(connection: &Connection, after: CardId, limit: usize) -> rusqlite::Result<Vec<DeadCard>> {
    let sql = "SELECT id, payload, deliveries, error, arrived_unix_ms FROM card
        WHERE dead = 1 AND id > ?1 ORDER BY id LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![after.0, limit.cast_signed()], |row| {
        Ok(DeadCard {
            card: CardId(row.get(0)?),
            payload: row.get(1)?,
            deliveries: row.get(2)?,
            error: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
            arrived_unix_ms: row.get(4)?,
        })
    })?;
    rows.collect()
}
