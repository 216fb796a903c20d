//! The first transaction of a payment: its key, its row and its trail, or what the key says already.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;

use super::rows::audit;
use crate::answer::Answer;
use crate::clock::unix_ms_now;
use crate::country::Country;
use crate::idempotency::{Fingerprint, Key};
use crate::payment::{Payment, PaymentId, State};
use crate::request::PaymentRequest;

/// What became of a request that was to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It is on the disk as [`State::Authorising`]; whoever holds it must see it to an end.
    Started(Box<Payment>),
    /// The same request was answered before.
    Replay(Answer),
    /// The same request is being worked on.
    InProgress,
    /// The key belongs to another request.
    KeyReuse,
}

pub(super) fn begin(
    connection: &Connection,
    key: &Key,
    fingerprint: Fingerprint,
    request: PaymentRequest,
) -> rusqlite::Result<Begun> {
    if let Some((used_for, answer)) = used(connection, key.as_str())? {
        return Ok(match answer {
            _ if used_for != fingerprint.as_bytes() => Begun::KeyReuse,
            Some(answer) => Begun::Replay(answer),
            None => Begun::InProgress,
        });
    }
    let payment = new_payment(key, request);
    insert(connection, &payment)?;
    connection
        .prepare_cached(
            "INSERT INTO idempotency (key, fingerprint, payment, state, created_unix_ms)
             VALUES (?1, ?2, ?3, 'in_progress', ?4)",
        )?
        .execute(params![
            key.as_str(),
            fingerprint.as_bytes(),
            payment.id.to_string(),
            payment.created_unix_ms
        ])?;
    let asked = json!({ "amount_minor": payment.money.minor(), "currency": payment.money.currency() });
    audit(connection, payment.id, payment.created_unix_ms, "created", &asked)?;
    audit(connection, payment.id, payment.created_unix_ms, payment.state.word(), &json!({}))?;
    Ok(Begun::Started(Box::new(payment)))
}

/// The fingerprint a key was used with, and the answer if there is one yet.
type Used = (Vec<u8>, Option<Answer>);

/// What a key was used for.
pub(super) fn used(connection: &Connection, key: &str) -> rusqlite::Result<Option<Used>> {
    let sql = "SELECT fingerprint, payment, status, body FROM idempotency WHERE key = ?1";
    let row = connection
        .prepare_cached(sql)?
        .query_row([key], |row| {
            let payment: String = row.get("payment")?;
            let stored = row.get::<_, Option<u16>>("status")?.zip(row.get::<_, Option<String>>("body")?);
            Ok((row.get("fingerprint")?, payment, stored))
        })
        .optional()?;
    Ok(row.map(|(fingerprint, payment, stored)| {
        let answer = stored.and_then(|(status, body)| {
            // A row names a payment by the foreign key, so its id can be read.
            payment.parse().ok().map(|payment| Answer { payment, status, body })
        });
        (fingerprint, answer)
    }))
}

pub(super) fn new_payment(key: &Key, request: PaymentRequest) -> Payment {
    let id = PaymentId::generate();
    let now = unix_ms_now();
    Payment {
        id,
        key: key.as_str().into(),
        merchant: request.merchant,
        customer: request.customer,
        country: request.country,
        money: request.money,
        token: request.token,
        metadata: request.metadata,
        state: State::Authorising,
        version: 1,
        // Ours, unique, and known before the first byte leaves: the gateway can be asked about it for ever.
        reference: id.to_string().into(),
        gateway_charge: None,
        decline_code: None,
        created_unix_ms: now,
        updated_unix_ms: now,
    }
}

fn insert(connection: &Connection, payment: &Payment) -> rusqlite::Result<()> {
    let metadata = serde_json::to_string(&payment.metadata).expect("text under text is JSON");
    connection
        .prepare_cached(
            "INSERT INTO payment (id, idempotency_key, merchant, customer, amount_minor, currency, token,
                 metadata, state, version, reference, created_unix_ms, updated_unix_ms, country)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12, ?13)",
        )?
        .execute(params![
            payment.id.to_string(),
            payment.key,
            payment.merchant,
            payment.customer,
            payment.money.minor(),
            payment.money.currency().code(),
            payment.token.reveal(),
            metadata,
            payment.state.word(),
            payment.version,
            payment.reference,
            payment.created_unix_ms,
            payment.country.as_ref().map(Country::code),
        ])
        .map(|_| ())
}
