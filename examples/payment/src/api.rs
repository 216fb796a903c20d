//! The service's HTTP: take a payment, look at one, look through a customer's.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::time::timeout;
use tracing::Instrument;

use crate::asked::{Asked, TRACERESPONSE};
use crate::body;
use crate::idempotency::{Fingerprint, IDEMPOTENCY_REPLAYED, Key};
use crate::pay::{Reply, Service};
use crate::payment::{PaymentId, location};
use crate::problem::{FieldError, Kind, PROBLEM_JSON, Problem, RECORD_WAIT_MAX};
use crate::request::PaymentRequest;
use gemba::DatabaseError;

/// Payments on one page at most.
pub const PAGE_MAX: usize = 100;

/// Payments on a page when the caller does not say.
const PAGE_DEFAULT: usize = 20;

/// Every route of the service.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1/payments", post(take).get(page))
        .route("/v1/payments/{id}", get(one))
        .fallback(nothing_here)
        .method_not_allowed_fallback(other_method)
        .with_state(service)
}

async fn take(State(service): State<Arc<Service>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let span = tracing::debug_span!(target: "gemba::signal", "take_payment",
        otel.kind = "server",
        trace_id = tracing::field::Empty,
    );
    let asked = Asked::begin(request.headers(), &span);
    let mut response = match try_take(service, request, &path, asked).instrument(span).await {
        Ok(reply) => respond(reply),
        Err(problem) => asked.on(problem).into_response_at(&path),
    };
    response.headers_mut().insert(TRACERESPONSE, asked.response_header());
    response
}

async fn try_take(
    service: Arc<Service>,
    request: Request,
    path: &str,
    asked: Asked,
) -> Result<Reply, Problem> {
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body).await?;
    let key = Key::of(&head.headers)?;
    let payment = PaymentRequest::parse(&body)?;
    let fingerprint = Fingerprint::of(head.method.as_str(), path, &payment);
    service.take(key, fingerprint, payment, asked).await
}

fn respond(Reply { answer, replayed }: Reply) -> Response {
    let status = StatusCode::from_u16(answer.status).expect("the record holds statuses that were sent");
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    if status.is_success() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let location =
            HeaderValue::try_from(location(answer.payment)).expect("an id has only visible letters");
        headers.insert(header::LOCATION, location);
    } else {
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
    }
    if replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

async fn one(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Response {
    // Letters that cannot be read name no payment either.
    let found = match id.ok().and_then(|Path(id)| id.parse().ok()) {
        Some(id) => in_time(service.store().payment(id)).await,
        None => Ok(None),
    };
    match found {
        Ok(Some(payment)) => axum::Json(payment.view()).into_response(),
        Ok(None) => Problem::new(Kind::NotFound, "no payment has this id").into_response_at(uri.path()),
        Err(problem) => problem.into_response_at(uri.path()),
    }
}

/// What the record says, or that it does not say it in time.
async fn in_time<T>(read: impl Future<Output = Result<T, DatabaseError>>) -> Result<T, Problem> {
    Ok(timeout(RECORD_WAIT_MAX, read).await.map_err(|_| Problem::stalled())??)
}

async fn page(
    State(service): State<Arc<Service>>,
    uri: Uri,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let pairs = query.map(|Query(pairs)| pairs).unwrap_or_default();
    match try_page(&service, pairs).await {
        Ok(response) => response,
        Err(problem) => problem.into_response_at(uri.path()),
    }
}

async fn try_page(service: &Service, pairs: Vec<(String, String)>) -> Result<Response, Problem> {
    let asked = PageQuery::check(pairs).map_err(Problem::fields)?;
    let found = in_time(service.store().payments_of(asked.customer, asked.after, asked.limit)).await?;
    let payments = found.ok_or_else(|| {
        Problem::fields(vec![FieldError::new("after", "is not a payment of this customer")])
    })?;
    let next = payments.last().map(|payment| payment.id).filter(|_| payments.len() == asked.limit);
    let views: Vec<_> = payments.iter().map(crate::payment::Payment::view).collect();
    Ok(axum::Json(json!({ "payments": views, "next": next })).into_response())
}

#[derive(Debug, PartialEq, Eq)]
struct PageQuery {
    customer: String,
    after: Option<PaymentId>,
    limit: usize,
}

impl PageQuery {
    fn check(pairs: Vec<(String, String)>) -> Result<Self, Vec<FieldError>> {
        let (mut customer, mut after, mut limit) = (None, None, PAGE_DEFAULT);
        let mut wrong = Vec::new();
        for (name, value) in pairs {
            match name.as_str() {
                "customer" if !value.is_empty() => customer = Some(value),
                "after" => match value.parse() {
                    Ok(id) => after = Some(id),
                    Err(_) => wrong.push(FieldError::new("after", "must be the id of a payment")),
                },
                "limit" => match value.parse() {
                    Ok(count @ 1..=PAGE_MAX) => limit = count,
                    Ok(_) | Err(_) => {
                        wrong
                            .push(FieldError::new("limit", format!("must be a number from 1 to {PAGE_MAX}")));
                    }
                },
                "customer" => {}
                _ => wrong.push(FieldError::new(
                    name.chars().take(40).collect::<String>(),
                    "is not known; use customer, after or limit",
                )),
            }
        }
        match customer {
            Some(customer) if wrong.is_empty() => Ok(Self { customer, after, limit }),
            Some(_) => Err(wrong),
            None => {
                wrong.insert(0, FieldError::new("customer", "is missing; say whose payments"));
                Err(wrong)
            }
        }
    }
}

async fn nothing_here(uri: Uri) -> Response {
    let detail = "use /v1/payments or /v1/payments/{id}";
    Problem::new(Kind::NotFound, detail).into_response_at(uri.path())
}

async fn other_method(uri: Uri) -> Response {
    let detail = "see the Allow header for what is offered";
    Problem::new(Kind::MethodNotAllowed, detail).into_response_at(uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)]) -> Result<PageQuery, Vec<String>> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        PageQuery::check(pairs).map_err(|wrong| wrong.into_iter().map(|error| error.field).collect())
    }

    #[test]
    fn a_page_is_of_one_customer_and_bounded() {
        let asked = check(&[("customer", "c"), ("limit", "100")]);
        assert_eq!(asked, Ok(PageQuery { customer: "c".into(), after: None, limit: 100 }));
        assert_eq!(check(&[("customer", "c")]).map(|asked| asked.limit), Ok(PAGE_DEFAULT));
        for (pairs, fields) in [
            (vec![], vec!["customer"]),
            (vec![("customer", "")], vec!["customer"]),
            (vec![("customer", "c"), ("limit", "0")], vec!["limit"]),
            (vec![("customer", "c"), ("limit", "101")], vec!["limit"]),
            (
                vec![("customer", "c"), ("after", "x"), ("limit", "-1"), ("page", "2")],
                vec!["after", "limit", "page"],
            ),
        ] {
            assert_eq!(check(&pairs), Err(fields.into_iter().map(str::to_owned).collect()), "{pairs:?}");
        }
    }

    #[test]
    fn a_long_query_gets_a_short_answer() {
        let pairs = (0..5_000).map(|n| (format!("name{n}"), String::new())).collect();
        let wrong = PageQuery::check(pairs).unwrap_err();
        assert!(Problem::fields(wrong).to_json().to_string().len() < 16 * 1024);
    }
}
