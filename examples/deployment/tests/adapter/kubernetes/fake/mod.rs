//! An API server for tests: what the adapter uses of Kubernetes, answered as the recorded one answers it.
//!
//! It keeps objects with their resource versions, lists and watches them, merges server-side applies and knows who owns
//! which field. It refuses as a real one does, and on request it is too busy, forgets the past or breaks off. It can
//! play the controllers too, and count what an HTTPRoute would have let through.

mod apply;
mod cluster;
mod counts;
mod place;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt, Collected};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use self::cluster::Cluster;

/// What may go wrong, for so many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 429, come again in a second.
    Busy,
    /// The connection breaks.
    Broken,
    /// A watch is refused with 410.
    Gone,
    /// Somebody writes the HTTPRoute right before it is written.
    Race,
}

/// What plays beside the API.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Play {
    /// The HTTPRoute is known from the beginning.
    pub(crate) routes: bool,
    /// Deployments become ready, but for versions called `unknown`, whose image there is none of.
    pub(crate) controllers: bool,
    /// How long a watch lasts at most, in milliseconds; as long as it asks for if none.
    pub(crate) watch_ms: Option<u64>,
}

/// The server, as a test has it.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Ask(Box<Question>, oneshot::Sender<Reply>),
    Faults(Vec<Fault>, oneshot::Sender<()>),
    Look(String, oneshot::Sender<Option<Value>>),
    Left(oneshot::Sender<usize>),
    Events(u64, Question, oneshot::Sender<Vec<Value>>),
}

#[derive(Debug, Clone)]
struct Question {
    method: Method,
    path: String,
    query: BTreeMap<String, String>,
    user: Option<String>,
    body: Value,
}

#[derive(Debug)]
enum Reply {
    Answer(u16, Value),
    Text(u16, &'static str),
    Broken,
    Watch(u64, watch::Receiver<u64>),
}

impl Fake {
    /// Begins to listen.
    pub(crate) async fn new(play: Play) -> Self {
        let (orders, mut received) = mpsc::channel(100);
        let mut cluster = Cluster::new(play);
        tokio::spawn(async move {
            while let Some(order) = received.recv().await {
                match order {
                    Order::Ask(question, reply) => drop(reply.send(cluster.answer(&question))),
                    Order::Faults(faults, done) => {
                        cluster.faults = faults;
                        let _ = done.send(());
                    }
                    Order::Look(key, reply) => drop(reply.send(cluster.objects.get(&key).cloned())),
                    Order::Left(reply) => drop(reply.send(cluster.faults.len())),
                    Order::Events(since, question, reply) => {
                        drop(reply.send(cluster.events(since, &question)));
                    }
                }
            }
        });
        let router = Router::new().fallback(serve).with_state((orders.clone(), play));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, orders }
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> T {
        let (sender, answer) = oneshot::channel();
        self.orders.send(order(sender)).await.unwrap();
        answer.await.unwrap()
    }

    /// What is to go wrong from now on: the last of them first, each with the next request it fits.
    pub(crate) async fn faults(&self, faults: &[Fault]) {
        self.ask(|done| Order::Faults(faults.to_vec(), done)).await;
    }

    /// How many of them have not come yet.
    pub(crate) async fn faults_left(&self) -> usize {
        self.ask(Order::Left).await
    }

    /// An object, such as `gemba-record/httproutes/api`.
    pub(crate) async fn object(&self, key: &str) -> Option<Value> {
        self.ask(|reply| Order::Look(key.to_owned(), reply)).await
    }
}

async fn serve(State((orders, play)): State<(mpsc::Sender<Order>, Play)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    let question = Question {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: query(parts.uri.query().unwrap_or_default()),
        user: user(&parts.headers),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let (sender, answer) = oneshot::channel();
    let _ = orders.send(Order::Ask(Box::new(question.clone()), sender)).await;
    let typed = |status: u16, kind: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        Response::builder().status(status).header(header::CONTENT_TYPE, kind)
    };
    match answer.await.unwrap_or(Reply::Broken) {
        Reply::Answer(status, value) => {
            typed(status, "application/json").body(Body::from(value.to_string())).unwrap()
        }
        Reply::Text(status, text) => {
            typed(status, "text/plain; charset=utf-8").body(Body::from(text)).unwrap()
        }
        Reply::Broken => {
            let broken =
                futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("broken off")) });
            Response::new(Body::from_stream(broken))
        }
        Reply::Watch(since, changed) => {
            let asked: u64 =
                question.query.get("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(1);
            let lasts = Duration::from_millis(play.watch_ms.unwrap_or(asked * 1_000));
            let end = tokio::time::Instant::now() + lasts;
            let events = futures_util::stream::unfold((since, changed), move |(since, mut changed)| {
                let (orders, question) = (orders.clone(), question.clone());
                async move {
                    loop {
                        let now = *changed.borrow_and_update();
                        let (sender, found) = oneshot::channel();
                        orders.send(Order::Events(since, question.clone(), sender)).await.ok()?;
                        let found = found.await.ok()?;
                        if !found.is_empty() {
                            let mut lines = found.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
                            lines.push('\n');
                            return Some((Ok::<_, std::io::Error>(Bytes::from(lines)), (now, changed)));
                        }
                        let left = end.saturating_duration_since(tokio::time::Instant::now());
                        timeout(left, changed.changed()).await.ok()?.ok()?;
                    }
                }
            });
            typed(200, "application/json").body(Body::from_stream(events)).unwrap()
        }
    }
}

fn user(headers: &HeaderMap) -> Option<String> {
    headers.get("impersonate-user").and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn query(text: &str) -> BTreeMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://fake/?{text}")).unwrap();
    url.query_pairs().into_owned().collect()
}
