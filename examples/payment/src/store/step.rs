//! Every later transaction of a payment: one step, with its trail, its answer and its confirmation.

use std::sync::Arc;

use gemba::policy::Rejection;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::begin::used;
use super::rows::{audit, payments};
use crate::answer::Answer;
use crate::asked::Asked;
use crate::clock::unix_ms_now;
use crate::payment::{Payment, State};

/// Where a payment goes.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Captured { charge: i64 },
    Declined { code: Arc<str> },
    Rejected(Rejection),
    Unknown { why: Arc<str> },
    Abandoned { why: Arc<str> },
}

impl Step {
    pub(super) const fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Captured { .. } | Self::Declined { .. } | Self::Unknown { .. } | Self::Abandoned { .. } => {
                None
            }
        }
    }

    pub(super) const fn state(&self) -> State {
        match self {
            Self::Captured { .. } => State::Captured,
            Self::Declined { .. } => State::Declined,
            Self::Rejected(_) => State::RejectedByPolicy,
            Self::Unknown { .. } => State::Unknown,
            Self::Abandoned { .. } => State::Failed,
        }
    }

    fn detail(&self) -> Value {
        match self {
            Self::Captured { charge } => json!({ "charge": charge }),
            Self::Declined { code } => json!({ "code": code }),
            Self::Rejected(rejection) => json!(rejection),
            Self::Unknown { why } | Self::Abandoned { why } => json!({ "why": why }),
        }
    }
}

/// Takes the step and gives the answer it leads to, or the state the payment was found in instead.
pub(super) fn take(
    connection: &Connection,
    from: &Payment,
    step: &Step,
    asked: Option<&Asked>,
) -> rusqlite::Result<Result<Option<Answer>, State>> {
    let found = payments(connection, "id = ?1", [from.id.to_string()], 1)?.pop();
    let mut payment = found.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    if payment.version != from.version || !payment.state.may_become(step.state()) {
        return Ok(Err(payment.state));
    }
    payment.state = step.state();
    payment.version += 1;
    payment.updated_unix_ms = unix_ms_now();
    match step {
        Step::Captured { charge } => payment.gateway_charge = Some(*charge),
        Step::Declined { code } => payment.decline_code = Some(code.clone()),
        Step::Rejected(_) | Step::Unknown { .. } | Step::Abandoned { .. } => {}
    }
    update(connection, &payment)?;
    let mut detail = step.detail();
    if let Some(asked) = asked {
        detail["trace_id"] = asked.trace_id().to_string().into();
    }
    audit(connection, payment.id, payment.updated_unix_ms, payment.state.word(), &detail)?;
    let answer = settle_key(connection, &payment, step, asked)?;
    if matches!(step, Step::Captured { .. } | Step::Declined { .. }) {
        confirm(connection, &payment)?;
    }
    Ok(Ok(answer))
}

fn update(connection: &Connection, payment: &Payment) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE payment SET state = ?2, version = ?3, gateway_charge = ?4, decline_code = ?5,
                 updated_unix_ms = ?6 WHERE id = ?1",
        )?
        .execute(params![
            payment.id.to_string(),
            payment.state.word(),
            payment.version,
            payment.gateway_charge,
            payment.decline_code,
            payment.updated_unix_ms,
        ])
        .map(|_| ())
}

/// Stores the answer under the key, or gives the key back if nothing was sent.
fn settle_key(
    connection: &Connection,
    payment: &Payment,
    step: &Step,
    asked: Option<&Asked>,
) -> rusqlite::Result<Option<Answer>> {
    let rejection = match step {
        Step::Rejected(rejection) => Some(rejection),
        Step::Captured { .. } | Step::Declined { .. } | Step::Unknown { .. } | Step::Abandoned { .. } => None,
    };
    let mut answer = Answer::of(payment, rejection, asked);
    if asked.is_none()
        && let Some((_, Some(before))) = used(connection, &payment.key)?
    {
        answer = answer.map(|answer| answer.in_place_of(&before));
    }
    match &answer {
        Some(answer) => connection
            .prepare_cached("UPDATE idempotency SET state = 'done', status = ?2, body = ?3 WHERE key = ?1")?
            .execute(params![payment.key, answer.status, answer.body]),
        None => connection
            .prepare_cached("DELETE FROM idempotency WHERE key = ?1 AND payment = ?2")?
            .execute(params![payment.key, payment.id.to_string()]),
    }?;
    Ok(answer)
}

fn confirm(connection: &Connection, payment: &Payment) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO outbox (payment, kind, body, created_unix_ms) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            payment.id.to_string(),
            payment.state.word(),
            payment.view().to_string(),
            payment.updated_unix_ms
        ])
        .map(|_| ())
}
