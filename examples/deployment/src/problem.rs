//! Refusals in one form, RFC 9457: a stable type, what went wrong, which fields.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::conductor::ViewError;

/// The kinds of problems there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Fields are missing, unknown, or have values they cannot have.
    InvalidRequest,
    /// A policy rejected.
    RejectedByPolicy,
    /// What is asked for does not fit what there is.
    Conflict,
    /// Nothing is there.
    NotFound,
    /// As much is in flight as may be.
    Overloaded,
    /// The record cannot be read or written.
    StoreUnavailable,
    /// A defect.
    Internal,
}

impl Kind {
    const fn row(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::InvalidRequest => {
                ("invalid_request", "Some fields cannot be accepted", StatusCode::UNPROCESSABLE_ENTITY)
            }
            Self::RejectedByPolicy => {
                ("rejected_by_policy", "A policy rejects the deployment", StatusCode::UNPROCESSABLE_ENTITY)
            }
            Self::Conflict => ("conflict", "It does not fit what there is", StatusCode::CONFLICT),
            Self::NotFound => ("not_found", "There is nothing here", StatusCode::NOT_FOUND),
            Self::Overloaded => ("overloaded", "Too much is in flight", StatusCode::SERVICE_UNAVAILABLE),
            Self::StoreUnavailable => {
                ("store_unavailable", "The record is out of reach", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Internal => ("internal", "The service has a defect", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// One field that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Its name.
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
    more: Map<String, Value>,
}

impl Problem {
    /// A problem of this kind, with what the caller can do about it.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), more: Map::new() }
    }

    /// Every field that cannot be accepted, at once.
    pub fn fields(errors: &[FieldError]) -> Self {
        let names: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        let detail = format!("correct {} and send the request again", names.join(", "));
        Self::new(Kind::InvalidRequest, detail).with("errors", json!(errors))
    }

    /// Tells the id to ask again with, which the caller may not know: it may have been made up here.
    pub fn again(mut self, id: &str) -> Self {
        self.detail = format!("{}; ask again with the id {id}", self.detail);
        self.with("id", id)
    }

    /// A member beyond those every problem has.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (name, title, status) = self.kind.row();
        let mut body = self.more;
        body.insert("type".into(), format!("https://gemba.dev/problems/{name}").into());
        body.insert("title".into(), title.into());
        body.insert("status".into(), status.as_u16().into());
        body.insert("detail".into(), self.detail.into());
        let media_type = HeaderValue::from_static("application/problem+json");
        (status, [(header::CONTENT_TYPE, media_type)], Value::Object(body).to_string()).into_response()
    }
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Record(error) => error.into(),
            ViewError::Conductor(_) => Self::new(Kind::Internal, crate::chain(&error)),
        }
    }
}

impl From<gemba::DatabaseError> for Problem {
    fn from(error: gemba::DatabaseError) -> Self {
        tracing::warn!(error = %crate::chain(&error), "store unavailable");
        Self::new(Kind::StoreUnavailable, "see the disk of the manager")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_with_which_id_to_ask_again() {
        let problem = Problem::new(Kind::Internal, "the queue does not answer").again("7");
        assert_eq!(problem.detail, "the queue does not answer; ask again with the id 7");
        assert_eq!(problem.more["id"], "7");
    }
}
