//! The way to the card gateway, and what its answers and silences prove.

use std::sync::Arc;
use std::time::Duration;

use gemba::trace::TraceContext;
use reqwest::{Client, Response, StatusCode, Url};

use crate::asked::TRACEPARENT;
use crate::charge::Order;
use crate::gateway::wire::{ChargeCall, ChargeEntry, Outcome, Refusal, RefusalKind};

/// How long a connection may take to come about.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long a lookup may take.
const LOOKUP_WAIT_MAX: Duration = Duration::from_secs(2);

/// Idle connections kept.
const IDLE_MAX: usize = 256;

/// What the gateway said for certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayAnswer {
    /// It charged.
    Charged {
        /// Its number of the charge.
        charge: i64,
    },
    /// It did not charge, and will not for this reference.
    Declined {
        /// Its reason.
        code: Arc<str>,
    },
}

/// Why there is no answer. The set is closed on purpose: each case asks for another step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// No connection came about, so nothing was sent; trying again is safe.
    #[error("the gateway cannot be reached ({why}); nothing was sent, try again")]
    NotSent {
        /// What the network said.
        why: Arc<str>,
    },
    /// A time-out, a reset, a failure or an answer that makes no sense: it may have charged.
    /// Only the same reference may be sent again.
    #[error("the gateway's answer is not known ({why}); ask again with the same reference")]
    Unknown {
        /// What came instead of an answer.
        why: Arc<str>,
    },
}

/// A gateway address that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{url}' is not the address of a gateway; write it like http://127.0.0.1:8090, a host and a port alone"
)]
pub struct GatewayUrlError {
    /// The refused address.
    pub url: Box<str>,
}

/// The text of a flag, if it is the address of a gateway.
pub(crate) fn checked_address(text: &str) -> Result<String, GatewayUrlError> {
    charges_at(text).map(|_| text.to_owned())
}

fn charges_at(url: &str) -> Result<Url, GatewayUrlError> {
    let wrong = || GatewayUrlError { url: url.into() };
    let base = Url::parse(url).map_err(|_| wrong())?;
    // What is not sent must not be taken: a path would be dropped, and charges would go to another service there.
    let plain = base.path() == "/"
        && base.query().is_none()
        && base.fragment().is_none()
        && base.username().is_empty()
        && base.password().is_none();
    if base.scheme() != "http" || !base.has_host() || !plain {
        return Err(wrong());
    }
    base.join("/charges").map_err(|_| wrong())
}

/// Talks to one gateway. Clones share their connections.
#[derive(Debug, Clone)]
pub struct GatewayClient {
    client: Client,
    charges: Url,
}

impl GatewayClient {
    /// A client of the gateway at `url`; no connection is made yet.
    ///
    /// # Errors
    ///
    /// [`GatewayUrlError`] if `url` is not an `http` address.
    pub fn new(url: &str) -> Result<Self, GatewayUrlError> {
        let charges = charges_at(url)?;
        let client = Client::builder()
            .connect_timeout(CONNECT_WAIT_MAX)
            .pool_max_idle_per_host(IDLE_MAX)
            // A redirect or a proxy could deliver a charge to somebody else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("a client without TLS needs nothing from the system");
        Ok(Self { client, charges })
    }

    /// Asks for a charge, or for the record of it if the gateway knows the reference; `trace` goes along in the
    /// header `traceparent`.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`]: only `NotSent` proves that nothing happened.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the gateway charged.
    pub async fn charge(
        &self,
        order: &Order,
        timeout: Duration,
        trace: Option<TraceContext>,
    ) -> Result<GatewayAnswer, GatewayError> {
        let call = ChargeCall {
            reference: order.reference.to_string(),
            amount_minor: order.money.minor(),
            currency: order.money.currency().code().to_owned(),
            token: order.token.clone(),
        };
        let mut request = self.client.post(self.charges.clone()).json(&call).timeout(timeout);
        if let Some(trace) = trace {
            request = request.header(TRACEPARENT, trace.to_string());
        }
        let response = request.send().await.map_err(no_answer)?;
        match response.status() {
            StatusCode::OK => entry(response, order).await,
            StatusCode::UNPROCESSABLE_ENTITY => match refusal(response).await? {
                RefusalKind::Invalid => Ok(GatewayAnswer::Declined { code: "invalid_request".into() }),
                kind @ (RefusalKind::NotFound | RefusalKind::ReferenceReused | RefusalKind::Trouble) => {
                    Err(unknown(format!("a refusal that fits no charge: {kind:?}")))
                }
            },
            status => Err(unknown(format!("status {status}"))),
        }
    }

    /// What the gateway has on record for the order's reference; `None` if it has nothing.
    ///
    /// Nothing on record does not prove that nothing is on its way.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    ///
    /// # Cancel safety
    ///
    /// A lookup changes nothing.
    pub async fn lookup(&self, order: &Order) -> Result<Option<GatewayAnswer>, GatewayError> {
        let mut url = self.charges.clone();
        url.path_segments_mut().expect("an http address has a path").push(&order.reference);
        let response = self.client.get(url).timeout(LOOKUP_WAIT_MAX).send().await.map_err(no_answer)?;
        match response.status() {
            StatusCode::OK => entry(response, order).await.map(Some),
            StatusCode::NOT_FOUND => match refusal(response).await? {
                RefusalKind::NotFound => Ok(None),
                kind @ (RefusalKind::Invalid | RefusalKind::ReferenceReused | RefusalKind::Trouble) => {
                    Err(unknown(format!("a refusal that fits no lookup: {kind:?}")))
                }
            },
            status => Err(unknown(format!("status {status}"))),
        }
    }
}

/// Reads a record and holds it against what was ordered.
async fn entry(response: Response, order: &Order) -> Result<GatewayAnswer, GatewayError> {
    let entry: ChargeEntry = response.json().await.map_err(|error| unknown(crate::chain(&error)))?;
    let ours = *entry.reference == *order.reference
        && entry.amount_minor == order.money.minor()
        && entry.currency == order.money.currency().code();
    if !ours {
        return Err(unknown("an answer about another charge".to_owned()));
    }
    Ok(match entry.outcome {
        Outcome::Charged => GatewayAnswer::Charged { charge: entry.id },
        Outcome::Declined => {
            GatewayAnswer::Declined { code: entry.decline_code.as_deref().unwrap_or("unspecified").into() }
        }
    })
}

async fn refusal(response: Response) -> Result<RefusalKind, GatewayError> {
    let refusal: Refusal = response.json().await.map_err(|error| unknown(crate::chain(&error)))?;
    Ok(refusal.error)
}

fn no_answer(error: reqwest::Error) -> GatewayError {
    let connecting = error.is_connect();
    let why = crate::chain(&error.without_url());
    if connecting { GatewayError::NotSent { why: why.into() } } else { unknown(why) }
}

fn unknown(why: String) -> GatewayError {
    GatewayError::Unknown { why: why.into() }
}

#[cfg(test)]
mod tests {
    use axum::http::header;
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::*;
    use crate::charge::tests::order;

    async fn client_of(router: Router) -> GatewayClient {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        GatewayClient::new(&url).unwrap()
    }

    async fn charged_at(status: u16, body: String) -> Result<GatewayAnswer, GatewayError> {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = move || async move { (status, [(header::CONTENT_TYPE, "application/json")], body) };
        let client = client_of(Router::new().route("/charges", post(answer))).await;
        client.charge(&fixed_order(), Duration::from_secs(5), None).await
    }

    fn fixed_order() -> Order {
        Order { reference: "r-1".into(), ..order("c", 100, "EUR") }
    }

    fn record() -> Value {
        json!({"id": 7, "reference": "r-1", "amount_minor": 100, "currency": "EUR", "outcome": "charged", "at_unix_ms": 1})
    }

    fn changed(field: &str, value: Value) -> String {
        let mut record = record();
        record[field] = value;
        record.to_string()
    }

    #[tokio::test]
    async fn only_a_record_of_this_very_charge_is_an_answer() {
        let answer = charged_at(200, record().to_string()).await;
        assert_eq!(answer, Ok(GatewayAnswer::Charged { charge: 7 }));
        let declined = changed("outcome", json!("declined"));
        assert_eq!(
            charged_at(200, declined).await,
            Ok(GatewayAnswer::Declined { code: "unspecified".into() })
        );
        for (status, body) in [
            (200, String::new()),
            (200, "<html>".to_owned()),
            (200, changed("reference", json!("r-2"))),
            (200, changed("amount_minor", json!(101))),
            (200, changed("currency", json!("USD"))),
            (200, changed("outcome", json!("perhaps"))),
            (204, String::new()),
            (302, record().to_string()),
            (404, r#"{"error":"not_found"}"#.to_owned()),
            (409, r#"{"error":"reference_reused"}"#.to_owned()),
            (422, "no".to_owned()),
            (500, record().to_string()),
            (503, String::new()),
        ] {
            let answer = charged_at(status, body.clone()).await;
            assert!(matches!(answer, Err(GatewayError::Unknown { .. })), "{status} {body}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn the_gateway_is_told_whose_trace_it_works_for() {
        let trace = TraceContext::begin(7);
        let told = move |headers: axum::http::HeaderMap| async move {
            let given = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
            let status =
                if given == Some(&trace.to_string()) { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
            (status, Json(record()))
        };
        let client = client_of(Router::new().route("/charges", post(told))).await;
        let charge = async |trace| client.charge(&fixed_order(), Duration::from_secs(5), trace).await;
        assert_eq!(charge(Some(trace)).await, Ok(GatewayAnswer::Charged { charge: 7 }));
        assert!(matches!(charge(None).await, Err(GatewayError::Unknown { .. })), "it is told nothing else");
    }

    #[tokio::test]
    async fn silence_is_unknown_and_no_connection_is_not_sent() {
        let silent =
            client_of(Router::new().route("/charges", post(std::future::pending::<Json<Value>>))).await;
        let answer = silent.charge(&fixed_order(), Duration::from_millis(50), None).await;
        assert!(matches!(answer, Err(GatewayError::Unknown { .. })), "{answer:?}");
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let nobody = GatewayClient::new(&format!("http://{free}")).unwrap();
        let answer = nobody.charge(&fixed_order(), Duration::from_secs(5), None).await;
        assert!(matches!(answer, Err(GatewayError::NotSent { .. })), "{answer:?}");
    }

    #[tokio::test]
    async fn a_lookup_tells_nothing_on_record_from_a_wrong_address() {
        let not_found = || async { (StatusCode::NOT_FOUND, Json(json!({"error": "not_found"}))) };
        let client = client_of(Router::new().route("/charges/{reference}", get(not_found))).await;
        assert_eq!(client.lookup(&fixed_order()).await, Ok(None));
        let elsewhere = client_of(Router::new()).await.lookup(&fixed_order()).await;
        assert!(matches!(elsewhere, Err(GatewayError::Unknown { .. })), "{elsewhere:?}");
    }

    #[test]
    fn an_address_is_checked_before_it_is_used() {
        for url in ["", "127.0.0.1:8090", "https://a", "ftp://a", "http://"] {
            assert!(GatewayClient::new(url).is_err(), "{url}");
        }
        for more in ["/b", "/b/", "/?b", "/#b"] {
            assert!(GatewayClient::new(&format!("http://a{more}")).is_err(), "{more}");
        }
        for user in ["user", "user:secret", ":secret"] {
            assert!(GatewayClient::new(&format!("http://{user}@a")).is_err(), "{user}");
        }
        for url in ["http://localhost:8090", "http://localhost:8090/"] {
            assert!(GatewayClient::new(url).is_ok(), "{url}");
        }
    }
}
