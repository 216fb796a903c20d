//! Refusals of the API, as RFC 9457 problem documents.

use std::sync::Arc;

use axum::Json;
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use gemba_core::control::ControlError;
use gemba_core::reload::ReloadError;
use gemba_kernel::{HaltError, KillError};
use serde::{Deserialize, Serialize};

/// The media type of a problem document.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Where the stable names of problems live; nothing needs to answer there.
const PROBLEM_BASE: &str = "https://gemba.dev/problems/";

/// What can be wrong with a request. The name is the end of the problem's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The `Host` header names no host this node answers for.
    ForeignHost,
    /// A browser sends this on behalf of another site.
    CrossSite,
    /// The bearer token is missing or wrong.
    Unauthorized,
    /// The path is not of this API, or names nothing that exists.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// A parameter of the query, the path or the body is wrong.
    BadRequest,
    /// The body is too large.
    TooLarge,
    /// The body did not arrive in time.
    TooSlow,
    /// It is forbidden whoever asks.
    Protected,
    /// It does not fit the present state.
    Conflict,
    /// The configuration that was to be read again is faulty.
    Faults,
    /// The configuration differs where it is read at the start only.
    NeedsRestart,
    /// It may work in a moment.
    Unavailable,
}

impl Kind {
    /// The end of `type`, the title and the status.
    const fn row(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::ForeignHost => ("foreign-host", "Unknown host name", StatusCode::FORBIDDEN),
            Self::CrossSite => ("cross-site", "Cross-site request", StatusCode::FORBIDDEN),
            Self::Unauthorized => ("unauthorized", "Token needed", StatusCode::UNAUTHORIZED),
            Self::NotFound => ("not-found", "Not found", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => {
                ("method-not-allowed", "Method not allowed", StatusCode::METHOD_NOT_ALLOWED)
            }
            Self::BadRequest => ("bad-request", "Bad request", StatusCode::BAD_REQUEST),
            Self::TooLarge => ("body-too-large", "Body too large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::TooSlow => ("body-too-slow", "Body too slow", StatusCode::REQUEST_TIMEOUT),
            Self::Protected => ("protected", "Protected", StatusCode::FORBIDDEN),
            Self::Conflict => ("conflict", "Does not fit the present state", StatusCode::CONFLICT),
            Self::Faults => {
                ("faulty-configuration", "Faulty configuration", StatusCode::UNPROCESSABLE_ENTITY)
            }
            Self::NeedsRestart => ("needs-restart", "Needs a restart", StatusCode::CONFLICT),
            Self::Unavailable => ("unavailable", "Not available now", StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

/// A refusal: what kind it is, and a sentence on this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    /// What is wrong or in the way, one by one, where there may be several.
    faults: Vec<Arc<str>>,
}

impl Problem {
    /// A problem with the sentence `detail`, which says what the caller can do.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), faults: Vec::new() }
    }

    /// What kind it is.
    #[cfg(test)]
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// The whole response, for the request that asked for `uri`.
    pub(crate) fn answer(&self, uri: &Uri) -> Response {
        let (name, title, status) = self.kind.row();
        let document = Document {
            kind: format!("{PROBLEM_BASE}{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail.clone(),
            instance: uri.path().to_owned(),
            faults: self.faults.clone(),
        };
        let mut response = (status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if self.kind == Kind::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"gemba\""));
        }
        if self.kind == Kind::Unavailable {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Handlers do not know the address they were asked under: the response carries the problem itself, and
/// [`render`] writes it out.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.row().2.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes out the problem a handler answered with, if it did.
pub(crate) fn render(mut response: Response, uri: &Uri) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    let mut rendered = problem.answer(uri);
    // The router knows which methods a path has, and says so beside the handler's answer.
    if let Some(allow) = response.headers_mut().remove(ALLOW) {
        rendered.headers_mut().insert(ALLOW, allow);
    }
    rendered
}

impl From<HaltError> for Problem {
    fn from(error: HaltError) -> Self {
        let kind = match &error {
            HaltError::NotFound { .. } => Kind::NotFound,
            HaltError::Protected { .. } => Kind::Protected,
            HaltError::NoSupervisor { .. } | HaltError::Halted { .. } | HaltError::Runs { .. } => {
                Kind::Conflict
            }
            _ => Kind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<KillError> for Problem {
    fn from(error: KillError) -> Self {
        let kind = match &error {
            KillError::NotFound { .. } => Kind::NotFound,
            KillError::NotRunning { .. } => Kind::Conflict,
            KillError::Protected { .. } => Kind::Protected,
            _ => Kind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let kind = match &error {
            ControlError::UnknownLine { .. }
            | ControlError::UnknownStation { .. }
            | ControlError::UnknownBreaker { .. }
            | ControlError::UnknownPool { .. }
            | ControlError::UnknownGroup { .. } => Kind::NotFound,
            ControlError::AlreadyPulled { .. }
            | ControlError::NotPulled { .. }
            | ControlError::Green { .. }
            | ControlError::NothingToMove
            | ControlError::TooFewOutcomes { .. } => Kind::Conflict,
            ControlError::TooLong { .. } | ControlError::Affinity(_) => Kind::BadRequest,
            ControlError::Unavailable | _ => Kind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ReloadError> for Problem {
    fn from(error: ReloadError) -> Self {
        let detail = error.to_string();
        let (kind, faults) = match error {
            ReloadError::Faults(faults) => (Kind::Faults, faults),
            ReloadError::NeedsRestart(keys) => (Kind::NeedsRestart, keys),
            ReloadError::Unavailable | _ => (Kind::Unavailable, Vec::new()),
        };
        Self { faults, ..Self::new(kind, detail) }
    }
}

/// The document on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Document {
    /// A stable name for the kind of problem.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The kind in words.
    pub(crate) title: String,
    /// The status of the response.
    pub(crate) status: u16,
    /// This problem in words.
    pub(crate) detail: String,
    /// What was asked for.
    pub(crate) instance: String,
    /// Of a configuration: each fault, or each key that needs a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) faults: Vec<Arc<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_problem_says_what_where_and_how_to_go_on() {
        let problem = Problem::new(Kind::Unavailable, "try again");
        let response = render(problem.into_response(), &Uri::from_static("/api/v1/tree?x=1"));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let body = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
        let document: Document = serde_json::from_slice(&body).unwrap();
        assert_eq!(document.kind, "https://gemba.dev/problems/unavailable");
        assert_eq!((document.status, document.instance.as_str()), (503, "/api/v1/tree"));
        assert_eq!(document.detail, "try again");
    }
}
