//! What can be changed: an actor's life, a line's cord, a breaker's state. Each answers with the number of its receipt.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use gemba_core::control::Control;
use gemba_core::name::{ActorPath, Name};
use gemba_core::receipt::{BreakerState, Seq};
use gemba_core::reload::Reloaded;
use gemba_core::routing::key_hash;
use serde::{Deserialize, Serialize};

use crate::problem::{Kind, Problem};
use crate::server::Shared;

/// The largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// How long a body may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);

/// The longest "who" and "why", in characters: they stand in receipts.
const WORDS_CHARS_MAX: usize = 200;

/// Who asks, when the request does not say.
const SOMEONE: &str = "operator";

/// Who asks for a change, and why. Both may be left out, and the whole body too.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ask {
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// For how long, in seconds; silences only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) for_s: Option<u64>,
    /// The pool that keys are to belong to; affinity groups only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pool: Option<String>,
    /// The keys; affinity groups only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) keys: Vec<String>,
}

/// What a change answers with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// The receipt of the change.
    pub(crate) receipt: Seq,
}

impl Ask {
    fn by(&self) -> Arc<str> {
        self.by.as_deref().unwrap_or(SOMEONE).into()
    }

    fn why(&self) -> Arc<str> {
        self.why.as_deref().unwrap_or("no reason given").into()
    }
}

/// What every handler answers.
type Answer = Result<Json<Done>, Problem>;

/// `POST /api/v1/actors/{path}/kill`, and for a supervisor `halt` and `resume`. An actor's path has slashes, so the
/// whole rest arrives as one.
pub(crate) async fn actor(State(shared): State<Arc<Shared>>, Path(rest): Path<String>, body: Body) -> Answer {
    let (path, verb) = asked(&rest)?;
    let ask = read(body).await?;
    let (system, by) = (&shared.system, ask.by());
    let receipt = match verb {
        Verb::Kill => system.kill(&path, &by)?,
        Verb::Halt => system.halt(&path, &by, &ask.why())?,
        Verb::Resume => system.resume(&path, &by)?,
    };
    Ok(Json(Done { receipt }))
}

/// `POST /api/v1/lines/{line}/cord`.
pub(crate) async fn pull_cord(
    State(shared): State<Arc<Shared>>,
    Path(line): Path<String>,
    body: Body,
) -> Answer {
    let line = name("line", &line)?;
    control(&shared, body, |ask| Ok(Control::PullCord { line, by: ask.by(), why: ask.why() })).await
}

/// `DELETE /api/v1/lines/{line}/cord`.
pub(crate) async fn reset_cord(
    State(shared): State<Arc<Shared>>,
    Path(line): Path<String>,
    body: Body,
) -> Answer {
    let line = name("line", &line)?;
    control(&shared, body, |ask| Ok(Control::ResetCord { line, by: ask.by() })).await
}

/// `POST /api/v1/pools/balance`.
pub(crate) async fn rebalance(State(shared): State<Arc<Shared>>, body: Body) -> Answer {
    control(&shared, body, |ask| Ok(Control::Rebalance { by: ask.by() })).await
}

/// `POST /api/v1/lines/{line}/baseline`.
pub(crate) async fn accept_baseline(
    State(shared): State<Arc<Shared>>,
    Path(line): Path<String>,
    body: Body,
) -> Answer {
    let line = name("line", &line)?;
    control(&shared, body, |ask| Ok(Control::AcceptBaseline { line, by: ask.by() })).await
}

/// `POST /api/v1/alerts/{station}/acknowledgement`.
pub(crate) async fn acknowledge(
    State(shared): State<Arc<Shared>>,
    Path(station): Path<String>,
    body: Body,
) -> Answer {
    let station = name("station", &station)?;
    control(&shared, body, |ask| Ok(Control::Acknowledge { station, by: ask.by() })).await
}

/// `POST /api/v1/alerts/{stations}/silence`: a station, or the beginning of names with a `*` behind it.
pub(crate) async fn silence(
    State(shared): State<Arc<Shared>>,
    Path(stations): Path<String>,
    body: Body,
) -> Answer {
    let named = stations.strip_suffix('*').unwrap_or(&stations);
    if !(named.is_empty() && stations == "*") {
        name("station", named)?;
    }
    let silence = |ask: &Ask| {
        let seconds = ask.for_s.ok_or_else(|| {
            Problem::new(
                Kind::BadRequest,
                "a silence has an end; say it with {\"for_s\": 1800}, or 0 to end one",
            )
        })?;
        let for_ms = seconds.saturating_mul(1000);
        Ok(Control::Silence { stations: stations.as_str().into(), for_ms, by: ask.by(), why: ask.why() })
    };
    control(&shared, body, silence).await
}

/// `POST /api/v1/affinity/{group}`, with `{"pool": "large", "keys": ["customer 7"]}`.
pub(crate) async fn bind_keys(
    State(shared): State<Arc<Shared>>,
    Path(group): Path<String>,
    body: Body,
) -> Answer {
    let group = name("group", &group)?;
    let bind = |ask: &Ask| {
        let pool = ask.pool.as_deref().ok_or_else(|| {
            let example = "say where the keys belong: {\"pool\": \"large\", \"keys\": [\"customer 7\"]}";
            Problem::new(Kind::BadRequest, example)
        })?;
        let keys = ask.keys.iter().map(|key| key_hash(key.as_bytes())).collect();
        Ok(Control::BindKeys { group, pool: name("pool", pool)?, keys, by: ask.by(), why: ask.why() })
    };
    control(&shared, body, bind).await
}

/// `DELETE /api/v1/affinity/{group}`.
pub(crate) async fn clear_keys(
    State(shared): State<Arc<Shared>>,
    Path(group): Path<String>,
    body: Body,
) -> Answer {
    let group = name("group", &group)?;
    control(&shared, body, |ask| Ok(Control::ClearKeys { group, by: ask.by() })).await
}

/// `POST /api/v1/reload`: has the configuration of the service read again, and answers with what changed.
pub(crate) async fn reload(State(shared): State<Arc<Shared>>, body: Body) -> Result<Json<Reloaded>, Problem> {
    let ask = read(body).await?;
    Ok(Json(shared.system.reload(&ask.by()).await?))
}

/// `POST /api/v1/breakers/{breaker}/{state}`, with `open`, `half_open` or `closed` for the state.
pub(crate) async fn force_breaker(
    State(shared): State<Arc<Shared>>,
    Path((breaker, to)): Path<(String, String)>,
    body: Body,
) -> Answer {
    let breaker = name("breaker", &breaker)?;
    let to = match to.as_str() {
        "open" => BreakerState::Open,
        "half_open" => BreakerState::HalfOpen,
        "closed" => BreakerState::Closed,
        _ => {
            let states = "a breaker can be forced to 'open', 'half_open' or 'closed'";
            return Err(Problem::new(Kind::NotFound, states));
        }
    };
    let force = |ask: &Ask| Ok(Control::ForceBreaker { breaker, to, by: ask.by(), why: ask.why() });
    control(&shared, body, force).await
}

/// Reads who asks and why, and has it done.
async fn control(shared: &Shared, body: Body, make: impl FnOnce(&Ask) -> Result<Control, Problem>) -> Answer {
    let ask = read(body).await?;
    let receipt = shared.system.control(make(&ask)?).await?;
    Ok(Json(Done { receipt }))
}

/// What an actor can be asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Kill,
    Halt,
    Resume,
}

/// The actor that `plant/board/kill` names, seen from `/api/v1/actors/`, and what it is asked.
fn asked(rest: &str) -> Result<(ActorPath, Verb), Problem> {
    // `/api/v1/actors/kill` names the root itself.
    let (path, verb) = rest.rsplit_once('/').unwrap_or(("", rest));
    let verb = match verb {
        "kill" => Verb::Kill,
        "halt" => Verb::Halt,
        "resume" => Verb::Resume,
        _ => {
            return Err(Problem::new(
                Kind::NotFound,
                "an actor can be asked to 'kill', a supervisor to 'halt' and to 'resume'; write POST \
                 /api/v1/actors/PATH/kill",
            ));
        }
    };
    let path = ActorPath::new(&format!("/{path}"))
        .map_err(|error| Problem::new(Kind::BadRequest, format!("the actor's path is wrong: {error}")))?;
    Ok((path, verb))
}

/// The name of such a thing.
fn name(what: &str, text: &str) -> Result<Name, Problem> {
    let wrong = |error| Problem::new(Kind::BadRequest, format!("the {what}'s name is wrong: {error}"));
    Name::new(text).map_err(wrong)
}

async fn read(body: Body) -> Result<Ask, Problem> {
    let arrived = tokio::time::timeout(BODY_TIME_MAX, to_bytes(body, BODY_BYTES_MAX)).await;
    let bytes = arrived
        .map_err(|_| {
            Problem::new(
                Kind::TooSlow,
                format!("the body did not arrive within {} s; send it at once", BODY_TIME_MAX.as_secs()),
            )
        })?
        .map_err(|_| {
            Problem::new(
                Kind::TooLarge,
                format!("the body is larger than {BODY_BYTES_MAX} bytes; send {{\"why\": …, \"by\": …}} or nothing"),
            )
        })?;
    if bytes.is_empty() {
        return Ok(Ask::default());
    }
    let ask: Ask = serde_json::from_slice(&bytes).map_err(|error| {
        Problem::new(Kind::BadRequest, format!("the body is not {{\"why\": \"…\", \"by\": \"…\"}}: {error}"))
    })?;
    let words = [("why", &ask.why), ("by", &ask.by)];
    let faults: Vec<_> =
        words.into_iter().filter_map(|(field, text)| unreadable(field, text.as_deref())).collect();
    if faults.is_empty() { Ok(ask) } else { Err(Problem::new(Kind::BadRequest, faults.join("; "))) }
}

/// Receipts are shown in terminals and logs: what stands in them is short and cannot move a cursor.
fn unreadable(field: &str, text: Option<&str>) -> Option<String> {
    let wrong = |text: &str| WORDS_CHARS_MAX < text.chars().count() || text.chars().any(char::is_control);
    text.is_some_and(wrong)
        .then(|| format!("'{field}' must be at most {WORDS_CHARS_MAX} characters on one line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_segment_is_the_deed_and_the_rest_the_actor() {
        for (rest, expected) in [
            ("plant/pools/payment/workers/3/kill", Some(("/plant/pools/payment/workers/3", Verb::Kill))),
            ("plant/pools/halt", Some(("/plant/pools", Verb::Halt))),
            ("plant/halt/resume", Some(("/plant/halt", Verb::Resume))),
            ("plant/kill/kill", Some(("/plant/kill", Verb::Kill))),
            ("kill", Some(("/", Verb::Kill))),
            ("plant", None),
            ("plant/killer", None),
            ("plant//kill", None),
            ("two words/kill", None),
        ] {
            let expected = expected.map(|(path, verb)| (ActorPath::new(path).unwrap(), verb));
            assert_eq!(asked(rest).ok(), expected, "{rest}");
        }
    }

    #[tokio::test]
    async fn a_body_is_small_strict_and_may_be_absent() {
        let limit = format!("{{\"why\":\"{}\"}}", "x".repeat(WORDS_CHARS_MAX));
        let above = format!("{{\"why\":\"{}\"}}", "x".repeat(WORDS_CHARS_MAX + 1));
        for (body, kind) in [
            (String::new(), None),
            ("{}".to_owned(), None),
            (r#"{"why":"smoke","by":"ann"}"#.to_owned(), None),
            (limit, None),
            (above, Some(Kind::BadRequest)),
            (r#"{"why":"\u001b[2J"}"#.to_owned(), Some(Kind::BadRequest)),
            (r#"{"reason":"smoke"}"#.to_owned(), Some(Kind::BadRequest)),
            (r#"{"why":1}"#.to_owned(), Some(Kind::BadRequest)),
            ("smoke".to_owned(), Some(Kind::BadRequest)),
            (" ".repeat(BODY_BYTES_MAX), Some(Kind::BadRequest)),
            (" ".repeat(BODY_BYTES_MAX + 1), Some(Kind::TooLarge)),
        ] {
            let shown: String = body.chars().take(40).collect();
            assert_eq!(read(Body::from(body)).await.err().map(|problem| problem.kind()), kind, "{shown}");
        }
    }

    #[tokio::test]
    async fn all_that_is_wrong_with_the_words_is_told_at_once() {
        let problem = read(Body::from(r#"{"why":"a\nb","by":"a\nb"}"#)).await.unwrap_err();
        let told = format!("{problem:?}");
        assert!(told.contains("'why' must be") && told.contains("'by' must be"), "{told}");
    }
}
