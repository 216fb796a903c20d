//! One request through the splitter, read from top to bottom.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout};

use super::table::Table;
use super::tally::{Tally, Ticket};

/// How long a connection to an instance may take; they are near.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// How long a connection is kept that nobody uses.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Connections kept to each instance.
const IDLE_CONNECTIONS: usize = 256;

/// Instances that are asked before a request is given up.
const ATTEMPTS_MAX: usize = 3;

/// Tells the caller which version it was.
pub const VERSION_HEADER: HeaderName = HeaderName::from_static("x-version");

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Those of RFC 9110, 7.6.1, and two that never were in a standard: they mean this connection, not the request.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

type Outgoing = Either<Incoming, Empty<Bytes>>;

/// What an answer's body is: an instance's, or our own.
pub type AnswerBody = Either<Watched, Full<Bytes>>;

/// The table in force, with the counts of each of its versions.
#[derive(Debug, Default)]
pub struct Routes {
    /// The table.
    pub table: Table,
    /// In the order of its versions.
    pub tallies: Vec<Tally>,
}

/// Passes requests on. Clones are the same proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    routes: Arc<ArcSwap<Routes>>,
    client: Client<HttpConnector, Outgoing>,
    answer_max: Duration,
}

impl Proxy {
    /// A proxy over these routes; an instance has `answer_max` for the head of its answer.
    pub fn new(routes: Arc<ArcSwap<Routes>>, answer_max: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_MAX));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { routes, client, answer_max }
    }

    /// Passes one request on and returns the answer, whose body streams.
    pub async fn pass(&self, request: Request<Incoming>, caller: IpAddr) -> Response<AnswerBody> {
        let routes = self.routes.load_full();
        let point = routes.table.sticky.point(request.headers());
        let Some(place) = routes.table.pick(point) else {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "no version takes traffic yet", None);
        };
        let instances = &routes.table.versions[place].instances;
        let tally = &routes.tallies[place];
        let mut ticket = tally.begin();
        let began = Instant::now();
        let result = self.ask(request, caller, instances, point as usize).await;
        let mut response = match result {
            Ok(response) => {
                ticket.answered(response.status().is_server_error(), began.elapsed());
                let (mut head, body) = response.into_parts();
                remove_hop_by_hop(&mut head.headers);
                Response::from_parts(head, Either::Left(Watched { body, ticket }))
            }
            Err((status, why)) => {
                ticket.answered(true, began.elapsed());
                refusal(status, &why, Some(tally.version()))
            }
        };
        if let Ok(version) = HeaderValue::from_str(tally.version()) {
            response.headers_mut().insert(VERSION_HEADER, version);
        }
        response
    }

    /// Asks one instance after the other as long as that is harmless: the method may be repeated, nothing of the
    /// request is used up, and nothing of an answer has come.
    async fn ask(
        &self,
        request: Request<Incoming>,
        caller: IpAddr,
        instances: &[SocketAddr],
        first: usize,
    ) -> Result<Response<Incoming>, (StatusCode, String)> {
        let (mut head, body) = request.into_parts();
        remove_hop_by_hop(&mut head.headers);
        add_caller(&mut head.headers, caller);
        let may_repeat = is_idempotent(&head.method) && body.is_end_stream();
        let mut body = Some(body);
        let mut why = String::new();
        for attempt in 0..if may_repeat { ATTEMPTS_MAX } else { 1 } {
            let instance = instances[first.wrapping_add(attempt) % instances.len()];
            let mut next = Request::builder().method(head.method.clone()).uri(target(&head.uri, instance));
            if let Some(headers) = next.headers_mut() {
                headers.clone_from(&head.headers);
            }
            let sent = if may_repeat {
                Either::Right(Empty::new())
            } else {
                Either::Left(body.take().expect("asked once"))
            };
            let next = next.body(sent).expect("its parts are those of a request");
            match timeout(self.answer_max, self.client.request(next)).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => why = format!("{instance}: {}", crate::chain(&error)),
                // Not again: what was too slow once would only be asked to do more.
                Err(_) => {
                    let why = format!("{instance} did not answer within {:?}", self.answer_max);
                    return Err((StatusCode::GATEWAY_TIMEOUT, why));
                }
            }
        }
        Err((StatusCode::BAD_GATEWAY, why))
    }
}

fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}

/// The same path at an instance.
fn target(uri: &Uri, instance: SocketAddr) -> Uri {
    let mut parts = axum::http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Authority::try_from(instance.to_string()).ok();
    parts.path_and_query = Some(uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
    Uri::from_parts(parts).expect("an address and a path make a URI")
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Adds the caller behind those who passed it on before.
fn add_caller(headers: &mut HeaderMap, caller: IpAddr) {
    let before = headers.get(FORWARDED_FOR).and_then(|value| value.to_str().ok());
    let all = before.map_or_else(|| caller.to_string(), |before| format!("{before}, {caller}"));
    if let Ok(value) = HeaderValue::from_str(&all) {
        headers.insert(FORWARDED_FOR, value);
    }
}

fn refusal(status: StatusCode, why: &str, version: Option<&Arc<str>>) -> Response<AnswerBody> {
    tracing::debug!(%status, why, version = version.map(|version| &**version), "request not passed on");
    let title = status.canonical_reason().unwrap_or("no answer");
    let body = serde_json::json!({
        "type": "https://gemba.dev/problems/not_passed_on",
        "title": title,
        "status": status.as_u16(),
        "detail": why,
    });
    let mut response = Response::new(Either::Right(Full::new(Bytes::from(body.to_string()))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

/// An instance's body; when it is over or breaks off, so is its request.
#[derive(Debug)]
pub struct Watched {
    body: Incoming,
    ticket: Ticket,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            self.ticket.broke_off();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The whole body as text, for tests and admin.
pub async fn text(body: impl Body<Data = Bytes, Error: std::fmt::Debug>) -> String {
    let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
