//! What can be read: health, metrics, tree, board, receipts.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use gemba_core::health::HealthView;
use gemba_core::light::Light;
use gemba_core::name::ActorPath;
use gemba_core::receipt::Seq;
use gemba_core::view::{BoardView, ReceiptsView, TreeView};

use crate::problem::{Kind, Problem};
use crate::server::Shared;

/// Receipts in a page when the request does not say how many.
const RECEIPTS_DEFAULT: usize = 100;

/// The most receipts in a page.
pub(crate) const RECEIPTS_MAX: usize = 1_000;

/// The greatest number of a receipt that can be asked for: the greatest that JSON carries exactly.
const SEQ_MAX: u64 = (1 << 53) - 1;

/// The text format of Prometheus.
const METRICS_TYPE: &str = "text/plain; version=0.0.4";

/// The query as pairs; each handler says which names it knows.
pub(crate) type Pairs = Query<Vec<(String, String)>>;

pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

pub(crate) async fn readyz(
    State(shared): State<Arc<Shared>>,
    Query(pairs): Pairs,
) -> Result<(StatusCode, String), Problem> {
    only(&pairs, &["verbose"])?;
    let board = shared.system.board();
    let ready = shared.system.ready().map_err(|why| why.to_string()).and_then(|()| takes_work(&board));
    let (status, mark, node, end) = match &ready {
        Ok(()) => (StatusCode::OK, '+', "ok", "ok"),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, '-', why.as_str(), "not ready"),
    };
    let is_verbose = !pairs.is_empty();
    Ok((
        status,
        if is_verbose {
            format!(
                "[{mark}]node {node}\n[+]board {}\n[+]health {}\nreadyz {end}\n",
                board.overall, board.health.state
            )
        } else {
            format!("{node}\n")
        },
    ))
}

/// A purple board takes the node out of service; its orchestrator should send work elsewhere.
fn takes_work(board: &BoardView) -> Result<(), String> {
    if board.overall != Light::Purple {
        return Ok(());
    }
    let worst = board.stations.iter().find(|station| station.light == Light::Purple);
    let why = worst.map_or(String::new(), |station| format!(": {} {}", station.name, station.why));
    Err(format!("the board is {}{why}", Light::Purple.word()))
}

pub(crate) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], (shared.config.metrics)()).into_response()
}

pub(crate) async fn tree(State(shared): State<Arc<Shared>>) -> Json<TreeView> {
    Json(shared.system.tree())
}

pub(crate) async fn board(State(shared): State<Arc<Shared>>) -> Json<Arc<BoardView>> {
    Json(shared.system.board())
}

pub(crate) async fn health(State(shared): State<Arc<Shared>>) -> Json<HealthView> {
    Json(shared.system.board().health.clone())
}

pub(crate) async fn receipts(
    State(shared): State<Arc<Shared>>,
    Query(pairs): Pairs,
) -> Result<Json<ReceiptsView>, Problem> {
    only(&pairs, &["after", "limit", "path"])?;
    let path = value(&pairs, "path").map(actor_path).transpose()?;
    let limit = value(&pairs, "limit").map_or(Ok(RECEIPTS_DEFAULT), page_size)?;
    let journal = shared.system.journal();
    Ok(Json(match value(&pairs, "after") {
        Some(after) => journal.after(seq("after", after)?, path.as_ref(), limit),
        None => newest(journal.after(Seq(0), path.as_ref(), usize::MAX), limit),
    }))
}

/// The end of all the ring holds: who does not say where to begin wants to see what just happened.
fn newest(mut all: ReceiptsView, limit: usize) -> ReceiptsView {
    let surplus = all.receipts.len().saturating_sub(limit);
    all.receipts.drain(..surplus);
    ReceiptsView { forgotten: 0, ..all }
}

/// Refuses a query with a parameter that is not `known`: a misspelt one would be ignored in silence.
pub(crate) fn only(pairs: &[(String, String)], known: &[&str]) -> Result<(), Problem> {
    match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some((name, _)) => Err(Problem::new(
            Kind::BadRequest,
            format!("unknown parameter '{name}'; this path knows: {}", known.join(", ")),
        )),
    }
}

pub(crate) fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
}

/// The number of a receipt, given as `name`.
pub(crate) fn seq(name: &str, text: &str) -> Result<Seq, Problem> {
    match text.parse() {
        Ok(number @ 0..=SEQ_MAX) => Ok(Seq(number)),
        Ok(_) | Err(_) => Err(Problem::new(
            Kind::BadRequest,
            format!("'{name}' is '{text}'; give the number of a receipt, 0 or greater, such as {name}=42"),
        )),
    }
}

fn actor_path(text: &str) -> Result<ActorPath, Problem> {
    ActorPath::new(text).map_err(|error| Problem::new(Kind::BadRequest, format!("'path' is wrong: {error}")))
}

fn page_size(text: &str) -> Result<usize, Problem> {
    match text.parse() {
        Ok(limit @ 1..=RECEIPTS_MAX) => Ok(limit),
        Ok(_) | Err(_) => Err(Problem::new(
            Kind::BadRequest,
            format!("'limit' is '{text}'; give a number from 1 to {RECEIPTS_MAX}, and page on with 'after'"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_between_one_and_the_most_receipts() {
        for (text, size) in
            [("1", Some(1)), ("1000", Some(1000)), ("0", None), ("1001", None), ("-1", None), ("many", None)]
        {
            assert_eq!(page_size(text).ok(), size, "{text}");
        }
    }

    #[test]
    fn a_receipt_has_a_number() {
        for (text, sound) in
            [("0", true), ("9007199254740991", true), ("9007199254740992", false), ("-1", false), ("", false)]
        {
            assert_eq!(seq("after", text).is_ok(), sound, "{text}");
        }
    }

    #[test]
    fn a_misspelt_parameter_is_named() {
        let pairs = [("afer".to_owned(), "1".to_owned())];
        assert_eq!(
            only(&pairs, &["after", "limit"]),
            Err(Problem::new(Kind::BadRequest, "unknown parameter 'afer'; this path knows: after, limit"))
        );
    }
}
