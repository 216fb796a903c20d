//! The tables of the service.

use rusqlite::Connection;

/// Payments, the keys they were asked for with, their trail, and what is to be told of them.
pub(super) const SCHEMA: &str = "
    CREATE TABLE payment (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        idempotency_key TEXT NOT NULL,
        merchant TEXT,
        customer TEXT NOT NULL,
        amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
        currency TEXT NOT NULL CHECK (length(currency) = 3),
        token TEXT NOT NULL,
        metadata TEXT NOT NULL,
        state TEXT NOT NULL,
        version INTEGER NOT NULL,
        reference TEXT NOT NULL UNIQUE,
        gateway_charge INTEGER,
        decline_code TEXT,
        created_unix_ms INTEGER NOT NULL,
        updated_unix_ms INTEGER NOT NULL,
        CHECK ((state = 'captured') = (gateway_charge IS NOT NULL))
    ) STRICT;
    CREATE INDEX payment_customer ON payment (customer, seq);
    CREATE INDEX payment_open ON payment (seq) WHERE state IN ('authorising', 'unknown');

    CREATE TABLE idempotency (
        key TEXT PRIMARY KEY,
        fingerprint BLOB NOT NULL,
        payment TEXT NOT NULL REFERENCES payment (id),
        state TEXT NOT NULL CHECK (state IN ('in_progress', 'done')),
        status INTEGER,
        body TEXT,
        created_unix_ms INTEGER NOT NULL,
        CHECK ((state = 'done') = (status IS NOT NULL AND body IS NOT NULL))
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        payment TEXT NOT NULL REFERENCES payment (id),
        at_unix_ms INTEGER NOT NULL,
        event TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT;
    CREATE TRIGGER audit_is_not_rewritten BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail is only appended to'); END;
    CREATE TRIGGER audit_is_not_cut BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail is only appended to'); END;

    CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        payment TEXT NOT NULL REFERENCES payment (id),
        kind TEXT NOT NULL,
        body TEXT NOT NULL,
        created_unix_ms INTEGER NOT NULL,
        done_unix_ms INTEGER
    ) STRICT;
    CREATE INDEX outbox_waiting ON outbox (seq) WHERE done_unix_ms IS NULL;
";

/// Where the customer of a payment is. It came later than the other columns, so that it is added to files of before
/// and to new ones alike.
pub(super) fn add_country(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('payment') WHERE name = 'country')";
    if connection.query_row(sql, [], |row| row.get(0))? {
        return Ok(());
    }
    connection.execute_batch("ALTER TABLE payment ADD COLUMN country TEXT CHECK (length(country) = 2)")
}
