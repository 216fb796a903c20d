//! The gateway's HTTP: charges, lookups, pages for auditors, and the dials.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinError;

use super::dials::Dials;
use super::record::{Charged, Record};
use super::wire::{ChargeCall, Refusal, RefusalKind};
use crate::currency::Currency;
use crate::money::Money;
use gemba::DatabaseError;

/// How long a charge that is not answered keeps its caller waiting.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// How long `tok_slow` takes.
const SLOW: Duration = Duration::from_millis(1_500);

/// The longest reference, in bytes.
const REFERENCE_BYTES_MAX: usize = 128;

/// Entries on one page, unless fewer are asked for.
const PAGE_MAX: usize = 1_000;

/// What every handler needs.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    record: Record,
    dials: Arc<watch::Sender<Dials>>,
    stopping: watch::Receiver<bool>,
}

impl Desk {
    /// A desk that keeps `record` and behaves by `dials`, and speaks again when the process stops.
    pub(crate) fn new(record: Record, dials: Dials, stopping: watch::Receiver<bool>) -> Self {
        Self { record, dials: Arc::new(watch::Sender::new(dials)), stopping }
    }
}

/// Every route of the gateway.
pub(crate) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/charges", post(charge).get(charges))
        .route("/charges/{reference}", get(lookup))
        .route("/summary", get(summary))
        .route("/dials", get(read_dials).put(set_dials))
        .with_state(desk)
}

async fn charge(
    State(desk): State<Desk>,
    body: Result<Json<ChargeCall>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(call) = body.map_err(|rejection| invalid(rejection.body_text()))?;
    check(&call)?;
    // A processor that has begun does not stop because the caller hangs up.
    tokio::spawn(carry_out(desk, call)).await?
}

async fn carry_out(mut desk: Desk, call: ChargeCall) -> Result<Response, Refused> {
    let dials = desk.dials.borrow().clone();
    let known = desk.record.lookup(call.reference.clone()).await?.is_some();
    if !known {
        let slow = if call.token.reveal() == "tok_slow" { SLOW } else { Duration::ZERO };
        tokio::time::sleep(slow + dials.latency(&call.reference)).await;
    }
    match desk.record.charge(call, dials).await? {
        Charged::Now { entry, silent: false } | Charged::Before(entry) => Ok(Json(entry).into_response()),
        Charged::Now { silent: true, .. } => {
            let _ = tokio::time::timeout(SILENCE, desk.stopping.wait_for(|stopping| *stopping)).await;
            Err(trouble(StatusCode::GATEWAY_TIMEOUT, "the answer took too long"))
        }
        Charged::Error => Err(trouble(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong")),
        Charged::ReferenceReused => Err(Refused {
            status: StatusCode::CONFLICT,
            kind: RefusalKind::ReferenceReused,
            detail: "the reference is on record for another amount, currency or token".to_owned(),
        }),
    }
}

fn check(call: &ChargeCall) -> Result<(), Refused> {
    if call.reference.is_empty() || REFERENCE_BYTES_MAX < call.reference.len() {
        return Err(invalid(format!("reference has 1 to {REFERENCE_BYTES_MAX} bytes")));
    }
    let currency = Currency::from_code(&call.currency)
        .ok_or_else(|| invalid("currency is not an active ISO 4217 code".to_owned()))?;
    Money::new(call.amount_minor, currency).map(|_| ()).map_err(|error| invalid(error.to_string()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    #[serde(default)]
    after: i64,
    limit: Option<usize>,
}

async fn charges(
    State(desk): State<Desk>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(query) = query.map_err(|rejection| invalid(rejection.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    Ok(Json(desk.record.page(query.after, limit).await?).into_response())
}

async fn lookup(State(desk): State<Desk>, Path(reference): Path<String>) -> Result<Response, Refused> {
    let entry = desk.record.lookup(reference).await?.ok_or_else(|| Refused {
        status: StatusCode::NOT_FOUND,
        kind: RefusalKind::NotFound,
        detail: "nothing is on record under this reference".to_owned(),
    })?;
    Ok(Json(entry).into_response())
}

async fn summary(State(desk): State<Desk>) -> Result<Response, Refused> {
    Ok(Json(desk.record.summary().await?).into_response())
}

async fn read_dials(State(desk): State<Desk>) -> Json<Dials> {
    Json(desk.dials.borrow().clone())
}

/// Sets every dial; one that is left out goes back to its default.
async fn set_dials(
    State(desk): State<Desk>,
    body: Result<Json<Dials>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(dials) = body.map_err(|rejection| invalid(rejection.body_text()))?;
    if let Some(mistake) = dials.mistake() {
        return Err(invalid(mistake.to_owned()));
    }
    desk.dials.send_replace(dials.clone());
    Ok(Json(dials).into_response())
}

/// A refusal on its way out.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    kind: RefusalKind,
    detail: String,
}

fn invalid(detail: String) -> Refused {
    Refused { status: StatusCode::UNPROCESSABLE_ENTITY, kind: RefusalKind::Invalid, detail }
}

fn trouble(status: StatusCode, detail: &str) -> Refused {
    Refused { status, kind: RefusalKind::Trouble, detail: detail.to_owned() }
}

impl From<DatabaseError> for Refused {
    fn from(error: DatabaseError) -> Self {
        trouble(StatusCode::SERVICE_UNAVAILABLE, &crate::chain(&error))
    }
}

impl From<JoinError> for Refused {
    fn from(_: JoinError) -> Self {
        trouble(StatusCode::INTERNAL_SERVER_ERROR, "the charge broke off")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(Refusal { error: self.kind, detail: self.detail })).into_response()
    }
}
