//! Stands between the adapter and an API server, and writes down what they say to each other.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body as ClusterBody;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

/// What passes in a scenario, with room.
const PASSED_MAX: usize = 10_000;

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exchange {
    /// The method.
    pub(crate) method: String,
    /// The path and the query.
    pub(crate) path: String,
    /// As whom, if as somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// What the body is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    /// The body.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) body: Value,
    /// The status.
    pub(crate) status: u16,
    /// The answer; of a watch, its events; a text, if it was no JSON.
    pub(crate) answer: Value,
}

impl Exchange {
    /// Whether the answer is a list of events.
    pub(crate) fn is_watch(&self) -> bool {
        self.path.contains("watch=true")
    }
}

/// What passes: exchanges, and events of a watch that began as the exchange of this number.
#[derive(Debug)]
enum Passed {
    Exchange(usize, Exchange),
    Event(usize, Value),
}

/// The record of a conversation.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Where the adapter finds what it takes for a cluster.
    pub(crate) address: SocketAddr,
    passed: Receiver<Passed>,
}

#[derive(Clone)]
struct Desk {
    client: Client,
    passed: Sender<Passed>,
    numbers: Sender<oneshot::Sender<usize>>,
}

impl Recorder {
    /// In front of the cluster that `client` speaks to.
    pub(crate) async fn new(client: Client) -> Self {
        let (passed, received) = channel(PASSED_MAX);
        let (numbers, mut asked) = channel::<oneshot::Sender<usize>>(PASSED_MAX);
        tokio::spawn(async move {
            let mut number = 0;
            while let Some(asker) = asked.recv().await {
                let _ = asker.send(number);
                number += 1;
            }
        });
        let router = Router::new().fallback(pass).with_state(Desk { client, passed, numbers });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, passed: received }
    }

    /// What has passed since the last time, in the order in which it was asked.
    pub(crate) fn exchanges(&mut self) -> Vec<Exchange> {
        let mut found: Vec<Option<Exchange>> = Vec::new();
        while let Ok(passed) = self.passed.try_recv() {
            match passed {
                Passed::Exchange(number, exchange) => {
                    found.resize(found.len().max(number + 1), None);
                    found[number] = Some(exchange);
                }
                Passed::Event(number, event) => {
                    let exchange = found.get_mut(number).and_then(Option::as_mut).unwrap();
                    exchange.answer.as_array_mut().unwrap().push(event);
                }
            }
        }
        found.into_iter().flatten().collect()
    }

    /// A kubeconfig for the adapter, as this user if not as whoever the cluster takes us for.
    pub(crate) fn kubeconfig(&self, file: &Path, user: Option<&str>) {
        let user = user.map_or(json!({}), |user| json!({ "as": user }));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{}", self.address) } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
            "users": [{ "name": "u", "user": user }],
        });
        std::fs::write(file, config.to_string()).unwrap();
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

async fn pass(State(desk): State<Desk>, request: Request) -> Response {
    let (sender, number) = oneshot::channel();
    desk.numbers.send(sender).await.unwrap();
    let number = number.await.unwrap();
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let impersonate = header::HeaderName::from_static("impersonate-user");
    let mut exchange = Exchange {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        user: text(&parts.headers, impersonate.clone()),
        content_type: text(&parts.headers, header::CONTENT_TYPE).filter(|_| !body.is_empty()),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        status: 0,
        answer: Value::Null,
    };
    let mut onward = axum::http::Request::builder().method(parts.method).uri(parts.uri);
    for name in [header::CONTENT_TYPE, header::ACCEPT, impersonate] {
        if let Some(value) = parts.headers.get(&name) {
            onward = onward.header(name, value);
        }
    }
    let answer = match desk.client.send(onward.body(ClusterBody::from(body.to_vec())).unwrap()).await {
        Ok(answer) => answer,
        // Nobody there: the adapter is to see a connection that breaks.
        Err(error) => {
            let broken =
                futures_util::stream::once(async move { Err::<Vec<u8>, _>(std::io::Error::other(error)) });
            return Response::new(Body::from_stream(broken));
        }
    };
    exchange.status = answer.status().as_u16();
    let mut reply = Response::builder().status(StatusCode::from_u16(exchange.status).unwrap());
    if let Some(value) = answer.headers().get(header::CONTENT_TYPE) {
        reply = reply.header(header::CONTENT_TYPE, value);
    }
    if exchange.is_watch() && exchange.status == 200 {
        exchange.answer = json!([]);
        desk.passed.send(Passed::Exchange(number, exchange)).await.unwrap();
        let mut rest = Vec::new();
        let lines = answer.into_body().into_data_stream().map(move |chunk| {
            if let Ok(chunk) = &chunk {
                rest.extend_from_slice(chunk);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let event = serde_json::from_slice(&line).unwrap();
                    let _ = desk.passed.try_send(Passed::Event(number, event));
                }
            }
            chunk
        });
        return reply.body(Body::from_stream(lines)).unwrap();
    }
    let answered = answer.into_body().collect().await.unwrap().to_bytes();
    let said = || Value::String(String::from_utf8_lossy(&answered).into_owned());
    exchange.answer = serde_json::from_slice(&answered).unwrap_or_else(|_| said());
    desk.passed.send(Passed::Exchange(number, exchange)).await.unwrap();
    reply.body(Body::from(answered)).unwrap()
}
