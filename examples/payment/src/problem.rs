//! Refusals in one form, RFC 9457: a stable type, what went wrong, which fields, when to come back.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};

use gemba::DatabaseError;

/// The kinds of problems there are; each has a page of its own under one stable address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The body is not JSON, or not an object.
    MalformedBody,
    /// Fields are missing, unknown, or have values they cannot have.
    InvalidRequest,
    /// There is no `Idempotency-Key`, or not one, or it is not 1 to 255 visible characters.
    IdempotencyKeyInvalid,
    /// The key was used before, for another request.
    IdempotencyKeyReuse,
    /// The first request with this key is not answered yet.
    InProgress,
    /// The gateway declined.
    Declined,
    /// A policy rejected.
    RejectedByPolicy,
    /// Nothing is there.
    NotFound,
    /// Something is there, but not for this method.
    MethodNotAllowed,
    /// The body took too long to arrive.
    BodyTooSlow,
    /// The body is larger than is read.
    BodyTooLarge,
    /// As many requests are in flight as may be.
    Overloaded,
    /// The payment was refused before anything was sent.
    Refused,
    /// The record cannot be read or written.
    StoreUnavailable,
    /// A defect of the service.
    Internal,
}

impl Kind {
    /// Its name in the type's address, its title and its status.
    const fn row(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::MalformedBody => {
                ("malformed_body", "The body is not a JSON object", StatusCode::BAD_REQUEST)
            }
            Self::InvalidRequest => {
                ("invalid_request", "Some fields cannot be accepted", StatusCode::UNPROCESSABLE_ENTITY)
            }
            Self::IdempotencyKeyInvalid => {
                ("idempotency_key_invalid", "One valid Idempotency-Key is required", StatusCode::BAD_REQUEST)
            }
            Self::IdempotencyKeyReuse => (
                "idempotency_key_reuse",
                "The Idempotency-Key belongs to another request",
                StatusCode::UNPROCESSABLE_ENTITY,
            ),
            Self::InProgress => {
                ("in_progress", "The first request is not answered yet", StatusCode::CONFLICT)
            }
            Self::Declined => ("declined", "The card was declined", StatusCode::PAYMENT_REQUIRED),
            Self::RejectedByPolicy => {
                ("rejected_by_policy", "A policy rejects the payment", StatusCode::UNPROCESSABLE_ENTITY)
            }
            Self::NotFound => ("not_found", "There is nothing here", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => {
                ("method_not_allowed", "The method is not offered here", StatusCode::METHOD_NOT_ALLOWED)
            }
            Self::BodyTooSlow => {
                ("body_too_slow", "The body did not arrive in time", StatusCode::REQUEST_TIMEOUT)
            }
            Self::BodyTooLarge => ("body_too_large", "The body is too large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::Overloaded => ("overloaded", "Too much is in flight", StatusCode::SERVICE_UNAVAILABLE),
            Self::Refused => ("refused", "The payment was not attempted", StatusCode::SERVICE_UNAVAILABLE),
            Self::StoreUnavailable => {
                ("store_unavailable", "The record is out of reach", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Internal => ("internal", "The service has a defect", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// The status it is answered with.
    pub const fn status(self) -> StatusCode {
        self.row().2
    }
}

/// Fields one answer names at most: an answer must not grow with the mistakes of a request.
pub const FIELDS_MAX: usize = 20;

/// One field that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The name of the field; `metadata.order` for a pair.
    pub field: String,
    /// What is wrong and what would be right.
    pub detail: String,
}

impl FieldError {
    /// Says what is wrong with `field`.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    kind: Kind,
    detail: String,
    instance: Option<String>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    more: Map<String, Value>,
}

impl Problem {
    /// A problem of this kind, with what the caller can do about it.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            instance: None,
            errors: Vec::new(),
            retry_after: None,
            more: Map::new(),
        }
    }

    /// Every field that cannot be accepted, at once; of more than [`FIELDS_MAX`] the first ones, and how many more.
    pub fn fields(mut errors: Vec<FieldError>) -> Self {
        let more = errors.len().saturating_sub(FIELDS_MAX);
        errors.truncate(FIELDS_MAX);
        let names: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let detail = format!("correct {}{more} and send the request again", names.join(", "));
        Self { errors, ..Self::new(Kind::InvalidRequest, detail) }
    }

    /// What it is about; without it, the path of the request.
    pub fn about(self, instance: impl Into<String>) -> Self {
        Self { instance: Some(instance.into()), ..self }
    }

    /// When the caller may come back.
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// A member beyond those every problem has.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// The kind.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The body.
    pub fn to_json(&self) -> Value {
        let (name, title, status) = self.kind.row();
        let mut body = self.more.clone();
        body.insert("type".into(), format!("https://gemba.dev/problems/{name}").into());
        body.insert("title".into(), title.into());
        body.insert("status".into(), status.as_u16().into());
        body.insert("detail".into(), self.detail.clone().into());
        if let Some(instance) = &self.instance {
            body.insert("instance".into(), instance.clone().into());
        }
        if !self.errors.is_empty() {
            body.insert("errors".into(), json!(self.errors));
        }
        body.into()
    }

    /// The record has not answered within [`RECORD_WAIT_MAX`].
    pub(crate) fn stalled() -> Self {
        tracing::warn!(limit_s = RECORD_WAIT_MAX.as_secs(), "the store does not answer; see its disk");
        Self::out_of_reach()
    }

    fn out_of_reach() -> Self {
        let detail = "nothing is lost; send the request again with the same Idempotency-Key";
        Self::new(Kind::StoreUnavailable, detail).retry_after(STORE_RETRY)
    }

    /// The answer to a request for `path`.
    pub fn into_response_at(self, path: &str) -> Response {
        if self.instance.is_some() { self.into_response() } else { self.about(path).into_response() }
    }
}

/// The media type of a problem.
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.to_json().to_string();
        let mut response = (self.kind.status(), [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, whole_seconds(wait).into());
        }
        response
    }
}

const RETRY_AFTER: HeaderName = header::RETRY_AFTER;

/// The header counts in seconds; a shorter wait is rounded up so that nobody comes back too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() != 0)
}

/// How long a request waits for the record. Longer than that is a disk that stalls, and its caller must hear of it.
pub(crate) const RECORD_WAIT_MAX: Duration = Duration::from_secs(5);

/// When to try a database again that is busy or broken.
const STORE_RETRY: Duration = Duration::from_secs(1);

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        tracing::warn!(error = %crate::chain(&error), "store unavailable");
        Self::out_of_reach()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_every_wrong_field() {
        let problem =
            Problem::fields(vec![FieldError::new("currency", "no"), FieldError::new("customer", "no")]);
        let body = problem.about("/v1/payments").to_json();
        assert_eq!(body["type"], "https://gemba.dev/problems/invalid_request");
        assert_eq!(body["status"], 422);
        assert_eq!(body["instance"], "/v1/payments");
        assert_eq!(body["errors"][1]["field"], "customer");
    }

    #[test]
    fn nobody_is_told_to_come_back_too_early() {
        for (millis, seconds) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
        let response =
            Problem::new(Kind::Refused, "x").retry_after(Duration::from_millis(300)).into_response();
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}
