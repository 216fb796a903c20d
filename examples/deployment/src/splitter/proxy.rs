//! One request through the splitter, read from top to bottom.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, sleep_until};

use super::headers::{self, Caller, Malformed};
use super::limits::{ATTEMPTS_MAX, Limits};
use super::pool::{Pool, Sender};
use super::pulse::{Beat, Pulse, Upload};
use super::table::{Point, Table};
use super::tally::{Draw, Tally, Ticket};
use super::tunnel::{self, Place};

/// Tells the caller which version it was.
pub const VERSION_HEADER: HeaderName = HeaderName::from_static("x-version");

/// What an answer's body is: an instance's, or our own.
pub type AnswerBody = Either<Watched, Full<Bytes>>;

/// The table in force, with the counts of each of its versions.
#[derive(Debug, Default)]
pub struct Routes {
    /// The table.
    pub table: Table,
    /// In the order of its versions; behind them those that had a share before.
    pub tallies: Vec<Tally>,
}

/// Passes requests on. Clones are the same proxy; each thread has one.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    routes: Arc<ArcSwap<Routes>>,
    draw: Draw,
    pool: Pool,
    limits: Arc<Limits>,
}

/// The connection that a request came on.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) caller: Arc<Caller>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) place: Arc<Place>,
}

/// Why a request has no answer of an instance.
#[derive(Debug)]
enum NoAnswer {
    /// The instances did not do what they should.
    Instance(StatusCode, String),
    /// The caller did not.
    Caller(StatusCode, &'static str),
}

/// An answer, the connection it comes on, and whose that is.
type Answered = (Response<Incoming>, Sender, SocketAddr);

impl Proxy {
    pub(crate) fn new(routes: Arc<ArcSwap<Routes>>, pool: Pool, limits: Arc<Limits>) -> Self {
        Self { routes, draw: Draw::default(), pool, limits }
    }

    /// Passes one request on and returns the answer, whose body streams.
    pub(crate) async fn pass(&self, request: Request<Incoming>, line: &Line) -> Response<AnswerBody> {
        let beat = line.pulse.begin(axum::http::Version::HTTP_2 <= request.version());
        let mut response = self.answer(request, line, beat).await;
        if line.pulse.is_leaving() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn answer(&self, mut request: Request<Incoming>, line: &Line, beat: Beat) -> Response<AnswerBody> {
        let routes = self.routes.load_full();
        let point = routes.table.sticky.point(request.headers()).unwrap_or_else(|| self.draw.next());
        let place = routes.table.asked(request.headers()).or_else(|| routes.table.pick(point));
        let Some(place) = place else {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "no version takes traffic yet");
        };
        let callers_end = hyper::upgrade::on(&mut request);
        let (mut head, body) = request.into_parts();
        let protocol = match headers::prepare(&mut head, &line.caller, self.limits.trust_forwarded) {
            Ok(protocol) => protocol,
            Err(Malformed::Host) => {
                return refusal(StatusCode::BAD_REQUEST, "name one host, in a header of that name");
            }
            Err(Malformed::Connect) => {
                return refusal(StatusCode::METHOD_NOT_ALLOWED, "this is no proxy for CONNECT");
            }
        };
        let instances = &routes.table.versions[place].instances;
        let tally = &routes.tallies[place];
        let mut ticket = tally.begin();
        let began = Instant::now();
        let result = self.ask(Request::from_parts(head, body), instances, point).await;
        let mut response = match result {
            Ok((mut response, sender, instance)) => {
                ticket.answered(response.status().is_server_error(), began.elapsed());
                match (response.status() == StatusCode::SWITCHING_PROTOCOLS, protocol) {
                    (false, _) => {
                        let (mut head, body) = response.into_parts();
                        headers::remove_hop_by_hop(&mut head.headers);
                        let way = Some((self.pool.clone(), instance, sender));
                        Response::from_parts(
                            head,
                            Either::Left(Watched { body, is_over: false, way, ticket, _beat: beat }),
                        )
                    }
                    (true, Some(protocol)) => {
                        let instances_end = hyper::upgrade::on(&mut response);
                        let idle = self.limits.idle_max();
                        tunnel::dig(callers_end, instances_end, idle, ticket, line.place.clone());
                        let protocol = response.headers().get(header::UPGRADE).cloned().unwrap_or(protocol);
                        let (mut head, _) = response.into_parts();
                        headers::remove_hop_by_hop(&mut head.headers);
                        headers::ask_for(&mut head.headers, protocol);
                        Response::from_parts(head, Either::Right(Full::default()))
                    }
                    (true, None) => {
                        ticket.answered(true, began.elapsed());
                        let why = "the instance changed to a protocol that nobody asked for";
                        refusal(StatusCode::BAD_GATEWAY, why)
                    }
                }
            }
            Err(NoAnswer::Instance(status, why)) => {
                ticket.answered(true, began.elapsed());
                tracing::debug!(%status, why, version = &**tally.version(), "no answer");
                refusal(status, &why)
            }
            Err(NoAnswer::Caller(status, why)) => {
                ticket.callers_fault();
                refusal(status, why)
            }
        };
        response.headers_mut().insert(VERSION_HEADER, tally.header().clone());
        response
    }

    /// Asks one instance after the other as long as that is harmless: nothing was sent, or what was sent may be sent
    /// again and nothing of an answer has come.
    async fn ask(
        &self,
        request: Request<Incoming>,
        instances: &[SocketAddr],
        point: Point,
    ) -> Result<Answered, NoAnswer> {
        let (head, body) = request.into_parts();
        let upload = (!body.is_end_stream()).then(|| Arc::new(Upload::new()));
        // The same again, for an instance that takes it and does not answer.
        let again = (is_idempotent(&head.method) && upload.is_none())
            .then(|| (head.method.clone(), head.uri.clone(), head.headers.clone()));
        let body = upload.as_ref().map_or(Outgoing::Nothing, |upload| Outgoing::Stream(body, upload.clone()));
        let mut request = Request::from_parts(head, body);
        let (mut attempt, mut place, mut is_stale) = (0, point.place(instances.len()), false);
        let mut why = String::new();
        while attempt < ATTEMPTS_MAX {
            let instance = instances[place];
            // One that died closed them all, and the next one kept may not have noticed yet.
            let kept = if is_stale { None } else { self.pool.take(instance) };
            let is_kept = kept.is_some();
            let connected = match kept {
                Some(sender) => Ok(sender),
                None => self.pool.connect(instance).await,
            };
            let mut sender = match connected {
                Ok(sender) => sender,
                Err(error) => {
                    why = format!("{instance}: {}", crate::chain(&error));
                    (attempt, place, is_stale) = (attempt + 1, (place + 1) % instances.len(), false);
                    continue;
                }
            };
            let mut sending = std::pin::pin!(sender.try_send_request(request));
            let mut due = Instant::now() + self.limits.answer_max();
            let result = loop {
                tokio::select! {
                    biased;
                    result = &mut sending => break result,
                    () = sleep_until(due) => {}
                }
                // A body on its way has its time as long as it moves.
                match upload.as_ref().map(|upload| upload.moved_at() + self.limits.answer_max()) {
                    Some(later) if due < later => due = later,
                    Some(_) | None => return Err(self.late(instance, upload.as_deref())),
                }
            };
            let mut error = match result {
                Ok(response) => return Ok((response, sender, instance)),
                Err(error) => error,
            };
            if upload.as_ref().is_some_and(|upload| upload.is_broken()) {
                let why = "the body of the request broke off, or was none";
                return Err(NoAnswer::Caller(StatusCode::BAD_REQUEST, why));
            }
            let unsent = error.take_message();
            why = format!("{instance}: {}", crate::chain(error.error()));
            request = match (unsent, &again) {
                (Some(unsent), _) => unsent,
                (None, Some((method, uri, headers))) => repeated(method, uri, headers),
                (None, None) => break,
            };
            // A connection that was kept may have been closed at this moment; the instance is asked on a new one.
            if !is_kept {
                place = (place + 1) % instances.len();
            }
            (attempt, is_stale) = (attempt + 1, is_kept);
        }
        Err(NoAnswer::Instance(StatusCode::BAD_GATEWAY, why))
    }

    /// Not again: what was too slow once would only be asked to do more.
    fn late(&self, instance: SocketAddr, upload: Option<&Upload>) -> NoAnswer {
        if upload.is_some_and(Upload::is_callers_turn) {
            return NoAnswer::Caller(StatusCode::REQUEST_TIMEOUT, "the body of the request does not go on");
        }
        let why = format!("{instance} did not answer within {:?}", self.limits.answer_max());
        NoAnswer::Instance(StatusCode::GATEWAY_TIMEOUT, why)
    }
}

fn repeated(method: &Method, uri: &axum::http::Uri, headers: &HeaderMap) -> Request<Outgoing> {
    let mut request = Request::new(Outgoing::Nothing);
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = headers.clone();
    request
}

fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}

fn refusal(status: StatusCode, why: &str) -> Response<AnswerBody> {
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

/// The body of a request on its way to an instance. The instance is not sent more than it takes, and the caller is not
/// asked for more than that.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Nothing,
    Stream(Incoming, Arc<Upload>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self::Stream(body, upload) = &mut *self else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Pending => upload.waits(),
            Poll::Ready(Some(Err(_))) => upload.broke(),
            Poll::Ready(Some(Ok(_)) | None) => upload.moved(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Stream(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Stream(body, _) => body.size_hint(),
        }
    }
}

/// An instance's body; when it is over or breaks off, so is its request.
#[derive(Debug)]
pub struct Watched {
    body: Incoming,
    is_over: bool,
    way: Option<(Pool, SocketAddr, Sender)>,
    ticket: Ticket,
    _beat: Beat,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Err(_)) => self.ticket.broke_off(),
            None => self.is_over = true,
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // With something of the answer still to come, a connection is of no use for another one.
        if (self.is_over || self.body.is_end_stream())
            && let Some((pool, instance, sender)) = self.way.take()
        {
            pool.keep(instance, sender);
        }
    }
}
