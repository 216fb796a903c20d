//! The HTTP client of the routes: one TLS stack, no redirects, answers read no further than their status.

use std::error::Error;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::sink::DeliverError;

/// A client with a pool of connections of its own.
pub(crate) type Client = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Why a request got no answer.
pub(crate) type Failure = legacy::Error;

/// A client that trusts Mozilla's roots. It follows no redirect: that would carry the secret of an address
/// or the body elsewhere. Nothing about it is global to the process.
pub(crate) fn client() -> Client {
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
        .expect("ring offers the default versions of TLS")
        .https_or_http()
        .enable_http1()
        .build();
    legacy::Client::builder(TokioExecutor::new()).build(connector)
}

pub(crate) async fn post(client: &Client, url: &Uri, body: &Value) -> Result<(), DeliverError> {
    let request = Request::post(url.clone())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::from(body.to_string()))
        .expect("the address was checked when the route was made");
    let response = client.request(request).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Err(DeliverError::Status { status: status.as_u16(), retry_after: asked.map(Duration::from_secs) })
}

/// What went wrong, down to the first cause: "connection refused" says more than "client error". It names no
/// address.
pub(crate) fn reason(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut source = failure.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
