//! Who may ask: host names, cross-site requests, and the bearer token.
//!
//! A page of a foreign site can make the operator's browser call `127.0.0.1`: directly, which its
//! `Origin` and `Sec-Fetch-Site` give away, or through a name that it points there (DNS rebinding),
//! which `Host` gives away. No CORS header is ever sent, so nothing read this way could be seen either.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use axum::http::{Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::host::HostName;
use crate::problem::{Kind, Problem, render};
use crate::server::Shared;
use crate::token::Token;

/// Says which site a browser's request comes from.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Paths that answer everyone: an orchestrator that asks from elsewhere has no token.
const HEALTH: [&str; 2] = ["/livez", "/readyz"];

/// The outermost layer: lets a request in or not, and finishes every response.
pub(crate) async fn gate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let response = match admits(&shared, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            tracing::debug!(path = uri.path(), problem = ?problem, "request refused");
            problem.into_response()
        }
    };
    let mut response = render(response, &uri);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

/// The layer of every change: without the token nothing else of the request is looked at.
pub(crate) async fn token(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match carries(&shared.config.token, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn admits(shared: &Shared, request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let authority = authority(headers, request.uri())?;
    host_is_ours(authority, &shared.config.hosts)?;
    if !is_read(request.method()) {
        same_site(headers, authority)?;
    }
    let is_local = is_here(sender(request)) && !is_forwarded(headers);
    if !is_local && !HEALTH.contains(&request.uri().path()) {
        carries(&shared.config.token, headers)?;
    }
    Ok(())
}

/// Who sent it, as our own listener tells it, or that of whoever serves our router.
fn sender(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip())
}

/// What the client believes it talks to.
fn authority<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Result<&'a str, Problem> {
    let header = headers.get(HOST).and_then(|value| value.to_str().ok());
    header.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str)).ok_or_else(|| {
        Problem::new(
            Kind::ForeignHost,
            "the request has no readable Host header; send the address of this node",
        )
    })
}

/// An address cannot be rebound to another machine; a name can, unless it is known.
fn host_is_ours(authority: &str, known: &[HostName]) -> Result<(), Problem> {
    let host = host_of(authority);
    let is_ours = host.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || known.iter().any(|name| name.is(host));
    if is_ours {
        return Ok(());
    }
    Err(Problem::new(
        Kind::ForeignHost,
        format!(
            "this node does not answer for host '{host}'; ask by IP address or as localhost, or add the name to \
             inspect_hosts, in its configuration or where it is built"
        ),
    ))
}

/// The host of an authority, without port and brackets.
fn host_of(authority: &str) -> &str {
    if let Some((address, port)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return if port.is_empty() || port.starts_with(':') { address } else { authority };
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn same_site(headers: &HeaderMap, authority: &str) -> Result<(), Problem> {
    let refused = |why: &str| Err(Problem::new(Kind::CrossSite, format!("changes are refused {why}")));
    if headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site") {
        return refused("when a browser sends them for another site");
    }
    match headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default()) {
        Some(origin) => match origin.split_once("://") {
            Some((_, from)) if from.eq_ignore_ascii_case(authority) => Ok(()),
            Some(_) | None => refused("from a page of another origin than this node"),
        },
        None => Ok(()),
    }
}

fn carries(token: &Token, headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(AUTHORIZATION) {
        Some(value) if token.opens(value.as_bytes()) => Ok(()),
        Some(_) => Err(Problem::new(
            Kind::Unauthorized,
            "the bearer token is not the one of this node; it prints its token when it starts",
        )),
        None => Err(Problem::new(
            Kind::Unauthorized,
            "send 'Authorization: Bearer TOKEN'; the node prints its token when it starts",
        )),
    }
}

fn is_read(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// Whether a proxy on this machine has passed the request on: then it is the proxy that is here. A header can
/// only take trust away. A tunnel of bare TCP leaves no trace; do not put one before the inspector.
fn is_forwarded(headers: &HeaderMap) -> bool {
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

/// Whether the request comes from this machine. One of unknown origin does not.
fn is_here(peer: Option<IpAddr>) -> bool {
    peer.is_some_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_a_proxy_passed_on_is_not_from_here() {
        let mut headers = HeaderMap::new();
        assert!(!is_forwarded(&headers));
        headers.insert("x-forwarded-for", "8.8.8.8".parse().unwrap());
        assert!(is_forwarded(&headers));
    }

    #[test]
    fn a_host_is_an_address_localhost_or_a_known_name() {
        let known = [HostName::new("Node-1.example").unwrap()];
        for (authority, ours) in [
            ("127.0.0.1:4040", true),
            ("127.0.0.1", true),
            ("[::1]:4040", true),
            ("[::1]", true),
            ("10.1.2.3:80", true),
            ("localhost:4040", true),
            ("LOCALHOST", true),
            ("node-1.example:4040", true),
            ("evil.example", false),
            ("evil.example:4040", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example:4040", false),
            ("[::1].evil.example", false),
            ("x@127.0.0.1:4040", false),
            (":4040", false),
            ("", false),
        ] {
            assert_eq!(host_is_ours(authority, &known).is_ok(), ours, "{authority:?}");
        }
    }

    #[test]
    fn a_change_comes_from_no_page_or_from_our_own() {
        for (origin, site, admitted) in [
            (None, None, true),
            (None, Some("none"), true),
            (None, Some("same-origin"), true),
            (None, Some("cross-site"), false),
            (Some("http://127.0.0.1:4040"), None, true),
            (Some("http://127.0.0.1:4040"), Some("same-origin"), true),
            (Some("http://127.0.0.1:4040"), Some("cross-site"), false),
            (Some("http://127.0.0.1:3000"), Some("same-site"), false),
            (Some("http://evil.example"), None, false),
            (Some("http://127.0.0.1:4040.evil.example"), None, false),
            (Some("null"), None, false),
            (Some(""), None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            if let Some(site) = site {
                headers.insert(SEC_FETCH_SITE, site.parse().unwrap());
            }
            assert_eq!(same_site(&headers, "127.0.0.1:4040").is_ok(), admitted, "{origin:?} {site:?}");
        }
    }

    #[test]
    fn only_this_machine_is_here() {
        for (peer, here) in [
            (Some("127.0.0.1"), true),
            (Some("127.8.8.8"), true),
            (Some("::1"), true),
            (Some("::ffff:127.0.0.1"), true),
            (Some("10.0.0.1"), false),
            (Some("::ffff:10.0.0.1"), false),
            (None, false),
        ] {
            assert_eq!(is_here(peer.map(|text| text.parse().unwrap())), here, "{peer:?}");
        }
    }
}
