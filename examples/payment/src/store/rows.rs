//! Rows as values: what stands in a column that cannot be read is an error, never a default.

use std::fmt;

use rusqlite::types::Type;
use rusqlite::{Connection, Row};

use super::Past;
use crate::country::Country;
use crate::currency::Currency;
use crate::money::Money;
use crate::payment::{Payment, PaymentId, State, Token};

/// The columns [`payment_of`] reads.
pub(super) const PAYMENT_COLUMNS: &str = "seq, id, idempotency_key, merchant, customer, amount_minor, \
     currency, token, metadata, state, version, reference, gateway_charge, decline_code, created_unix_ms, \
     updated_unix_ms, country";

/// A value the program could not have written.
#[derive(Debug, thiserror::Error)]
#[error("column {column} holds what this program never writes; restore the file from a backup")]
struct Unreadable {
    column: &'static str,
}

fn unreadable(column: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(Unreadable { column }))
}

/// A payment from a row of [`PAYMENT_COLUMNS`].
pub(super) fn payment_of(row: &Row<'_>) -> rusqlite::Result<Payment> {
    Ok(Payment {
        id: id_of(row)?,
        key: row.get("idempotency_key")?,
        merchant: row.get("merchant")?,
        customer: row.get("customer")?,
        country: country_of(row)?,
        money: money_of(row)?,
        token: Token::new(&row.get::<_, String>("token")?),
        metadata: serde_json::from_str(&row.get::<_, String>("metadata")?)
            .map_err(|_| unreadable("metadata"))?,
        state: state_of(row)?,
        version: row.get("version")?,
        reference: row.get("reference")?,
        gateway_charge: row.get("gateway_charge")?,
        decline_code: row.get("decline_code")?,
        created_unix_ms: row.get("created_unix_ms")?,
        updated_unix_ms: row.get("updated_unix_ms")?,
    })
}

/// The columns [`past_of`] reads.
pub(super) const PAST_COLUMNS: &str = "id, customer, amount_minor, currency, country, state, created_unix_ms";

/// What a payment says about its customer, from a row of [`PAST_COLUMNS`].
pub(super) fn past_of(row: &Row<'_>) -> rusqlite::Result<Past> {
    Ok(Past {
        payment: id_of(row)?,
        customer: row.get("customer")?,
        country: country_of(row)?,
        money: money_of(row)?,
        captured: state_of(row)? == State::Captured,
        created_unix_ms: row.get("created_unix_ms")?,
    })
}

fn id_of(row: &Row<'_>) -> rusqlite::Result<PaymentId> {
    row.get::<_, String>("id")?.parse().map_err(|_| unreadable("id"))
}

fn money_of(row: &Row<'_>) -> rusqlite::Result<Money> {
    let currency = Currency::from_code(&row.get::<_, String>("currency")?);
    let currency = currency.ok_or_else(|| unreadable("currency"))?;
    Money::new(row.get("amount_minor")?, currency).map_err(|_| unreadable("amount_minor"))
}

fn country_of(row: &Row<'_>) -> rusqlite::Result<Option<Country>> {
    let code = row.get::<_, Option<String>>("country")?;
    code.map(|code| Country::from_code(&code).ok_or_else(|| unreadable("country"))).transpose()
}

fn state_of(row: &Row<'_>) -> rusqlite::Result<State> {
    State::from_word(&row.get::<_, String>("state")?).ok_or_else(|| unreadable("state"))
}

/// The first `limit` payments of a query over [`PAYMENT_COLUMNS`] that can be read. The query has no limit of its own:
/// fewer than were asked for must mean that there are no more.
pub(super) fn payments(
    connection: &Connection,
    condition: &str,
    params: impl rusqlite::Params,
    limit: usize,
) -> rusqlite::Result<Vec<Payment>> {
    let sql = format!("SELECT {PAYMENT_COLUMNS} FROM payment WHERE {condition}");
    connection.prepare_cached(&sql)?.query_map(params, payment_of)?.filter_map(readable).take(limit).collect()
}

/// Leaves out a row that this program cannot read, and says so: one of them must not hide all others.
pub(super) fn readable<T>(row: rusqlite::Result<T>) -> Option<rusqlite::Result<T>> {
    match row {
        Err(error @ rusqlite::Error::FromSqlConversionFailure(..)) => {
            tracing::error!(%error, "a payment cannot be read, and is left out");
            None
        }
        row => Some(row),
    }
}

/// Appends a line to the trail of a payment.
pub(super) fn audit(
    connection: &Connection,
    payment: impl fmt::Display,
    at_unix_ms: i64,
    event: &str,
    detail: &serde_json::Value,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO audit (payment, at_unix_ms, event, detail) VALUES (?1, ?2, ?3, ?4)";
    let values = rusqlite::params![payment.to_string(), at_unix_ms, event, detail.to_string()];
    connection.prepare_cached(sql)?.execute(values).map(|_| ())
}
