//! The manager's HTTP: begin a delivery, look at a service, say what a person wants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use gemba::{Address, ProcessHandle, Signal, SubmitError, System};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::conductor::{Msg, Order, Reach};
use crate::facts::facts_of_asking;
use crate::fleet::Fleet;
use crate::plant::{BeginError, DeploymentLine};
use crate::policy::{self, DeploymentRequest, Strategy};
use crate::problem::{FieldError, Kind, Problem};
use crate::queue::Queue;
use crate::scheduler::{self, JoinError};
use crate::store::Store;
use crate::view::{ServiceView, WaitingView};

/// How long everything may take to end.
const DOWN_MAX: Duration = Duration::from_secs(60);

/// How often it is looked at meanwhile.
const DOWN_LOOK: Duration = Duration::from_millis(100);

/// What requests are answered from.
#[derive(Debug)]
pub struct Office {
    /// The time.
    pub system: System,
    /// What there is.
    pub fleet: watch::Receiver<Arc<Fleet>>,
    /// Each service.
    pub services: BTreeMap<String, Reach>,
    /// Where deliveries enter.
    pub line: DeploymentLine,
    /// Who lets them wait.
    pub scheduler: Address<scheduler::Msg>,
    /// Who waits.
    pub queue: watch::Receiver<Queue>,
    /// Whether everything was told to end.
    pub closed: watch::Receiver<bool>,
    /// The record.
    pub store: Store,
    /// The splitters.
    pub splitters: Vec<ProcessHandle>,
}

/// What a caller asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The version.
    pub version: String,
    /// The id of the delivery: the same id is the same delivery. Made up if there is none.
    #[serde(default)]
    pub id: Option<String>,
    /// How the traffic moves.
    #[serde(default)]
    pub strategy: Strategy,
}

/// Who asks, for the record.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// A name.
    #[serde(default)]
    pub by: Option<String>,
}

/// Every route.
pub fn router(office: Arc<Office>) -> Router {
    let order = |order: Order| {
        post(
            move |State(office): State<Arc<Office>>,
                  Path(service): Path<String>,
                  signed: Option<Json<Signed>>| {
                carry(office, service, order, signed.map(|Json(signed)| signed).unwrap_or_default())
            },
        )
    };
    Router::new()
        .route("/health", get(async || "ready"))
        .route("/v1/services", get(services))
        .route("/v1/services/{service}", get(service))
        .route("/v1/services/{service}/rollouts", post(begin))
        .route("/v1/services/{service}/history", get(history))
        .route("/v1/services/{service}/pause", order(Order::Pause))
        .route("/v1/services/{service}/resume", order(Order::Resume))
        .route("/v1/services/{service}/promote", order(Order::Promote))
        .route("/v1/services/{service}/abort", order(Order::Abort))
        .route("/v1/queue", get(queue))
        .route("/v1/down", post(down))
        .fallback(async |uri: Uri| Problem::new(Kind::NotFound, format!("there is no {}", uri.path())))
        .with_state(office)
}

impl Office {
    fn reach(&self, service: &str) -> Result<&Reach, Problem> {
        let unknown = || Problem::new(Kind::NotFound, format!("the fleet has no service {service}"));
        self.services.get(service).ok_or_else(unknown)
    }

    /// A service as it is, with the delivery of it that waits.
    fn view(&self, reach: &Reach) -> ServiceView {
        let mut view = reach.view.borrow().clone();
        view.waiting = self.waiting().into_iter().find(|waiting| waiting.service == view.service);
        view
    }

    fn waiting(&self) -> Vec<WaitingView> {
        WaitingView::of(&self.queue.borrow())
    }

    /// Tells the id of a delivery, and its place if it waits.
    fn accepted(&self, status: StatusCode, service: &str, id: &str) -> Response {
        let waiting = self.waiting().into_iter().find(|waiting| waiting.id == id);
        (status, Json(json!({ "id": id, "service": service, "waiting": waiting }))).into_response()
    }
}

async fn services(State(office): State<Arc<Office>>) -> Json<Vec<ServiceView>> {
    Json(office.services.values().map(|reach| office.view(reach)).collect())
}

async fn queue(State(office): State<Arc<Office>>) -> Json<Vec<WaitingView>> {
    Json(office.waiting())
}

async fn service(State(office): State<Arc<Office>>, Path(name): Path<String>) -> Response {
    match office.reach(&name) {
        Ok(reach) => Json(office.view(reach)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn history(State(office): State<Arc<Office>>, Path(name): Path<String>) -> Result<Response, Problem> {
    office.reach(&name)?;
    Ok(Json(office.store.history(&name).await?).into_response())
}

async fn begin(
    State(office): State<Arc<Office>>,
    Path(name): Path<String>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Response, Problem> {
    let reach = office.reach(&name)?;
    let Json(wanted) =
        wanted.map_err(|error| Problem::fields(&[FieldError::new("body", error.body_text())]))?;
    let id = wanted.id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    if let Some(fault) = policy::id_fault(&id) {
        return Err(Problem::fields(&[FieldError::new("id", fault)]));
    }
    let again = |problem: Problem| problem.again(&id);
    if let Some(found) = office.store.find(&id).await.map_err(|error| again(error.into()))? {
        return match found.conflict(&id, &name, &wanted.version) {
            None => Ok(office.accepted(StatusCode::OK, &name, &id)),
            Some(why) => Err(Problem::new(Kind::Conflict, why)),
        };
    }
    if *office.closed.borrow() {
        return Err(Problem::new(Kind::Conflict, scheduler::CLOSED));
    }
    let fleet = office.fleet.borrow().clone();
    let unknown = || Problem::new(Kind::NotFound, format!("the fleet has no service {name}"));
    let service = fleet.service(&name).ok_or_else(unknown)?;
    let request = DeploymentRequest {
        id: id.clone(),
        service: name.clone(),
        version: wanted.version,
        regions: service.regions.iter().map(|region| region.name.to_string()).collect(),
        strategy: wanted.strategy,
    };
    let view = reach.current(&name, &office.store).await.map_err(|error| again(error.into()))?;
    let queue = office.queue.borrow().clone();
    let mut facts = facts_of_asking(&fleet, service, &view, &request, &queue, office.system.unix_ms());
    facts.artefact = service.versions.get(&request.version).and_then(policy::inspect);
    match office.line.submit(Signal::new(request).key(name.as_bytes()), &facts).await {
        Ok(id) => Ok(office.accepted(StatusCode::ACCEPTED, &name, &id)),
        Err(SubmitError::Rejected(rejection)) => {
            Err(Problem::new(Kind::RejectedByPolicy, "mend what is listed, then ask again")
                .with("violations", json!(rejection.violations))
                .with("policy", format!("{} v{}", rejection.policy, rejection.version)))
        }
        Err(SubmitError::Refused(refusal)) => Err(Problem::new(Kind::Overloaded, refusal.to_string())),
        Err(SubmitError::Failed(BeginError::Join(JoinError::Refused(why)))) => {
            Err(Problem::new(Kind::Conflict, why))
        }
        Err(SubmitError::Failed(BeginError::Join(JoinError::Unavailable(why)))) => {
            Err(again(Problem::new(Kind::StoreUnavailable, why)))
        }
        Err(error) => Err(again(Problem::new(Kind::Internal, crate::chain(&error)))),
    }
}

async fn carry(office: Arc<Office>, name: String, order: Order, signed: Signed) -> Result<Response, Problem> {
    let reach = office.reach(&name)?;
    let by = signed.by.unwrap_or_else(|| "an operator".to_owned());
    if order == Order::Abort {
        // The one that waits is the last that was asked for.
        let left = office.scheduler.call(|reply| scheduler::Msg::Leave(name, by.clone(), reply)).await;
        let failed =
            |why| Problem::new(Kind::Internal, format!("{why}; look at the service before asking again"));
        let left = left.map_err(|error| failed(error.to_string()))?.map_err(failed)?;
        if let Some(what) = left {
            return Ok(Json(json!({ "did": what })).into_response());
        }
    }
    let answer = reach.conductor.call(|reply| Msg::Carry(order, by, reply)).await;
    match answer {
        Ok(Ok(what)) => Ok(Json(json!({ "did": what })).into_response()),
        Ok(Err(why)) => Err(Problem::new(Kind::Conflict, why)),
        Err(error) => {
            Err(Problem::new(Kind::Internal, format!("{error}; look at the service before asking again")))
        }
    }
}

/// Ends every instance, then the splitters; the manager stays, and begins nothing any more.
async fn down(State(office): State<Arc<Office>>, signed: Option<Json<Signed>>) -> Result<Response, Problem> {
    let by = signed.and_then(|Json(signed)| signed.by).unwrap_or_else(|| "an operator".to_owned());
    let failed = |why| Problem::new(Kind::Internal, format!("{why}; ask again"));
    let cleared = office.scheduler.call(|reply| scheduler::Msg::Clear(by.clone(), reply)).await;
    cleared.map_err(|error| failed(error.to_string()))?.map_err(failed)?;
    for reach in office.services.values() {
        let by = by.clone();
        let answer = reach.conductor.call(|reply| Msg::Carry(Order::Down, by, reply)).await;
        answer.map_err(|error| failed(error.to_string()))?.map_err(failed)?;
    }
    let began = Instant::now();
    let runs = |view: &ServiceView| {
        view.regions.iter().flat_map(|region| &region.versions).any(|version| 0 < version.instances.1)
    };
    while office.services.values().any(|reach| runs(&reach.view.borrow())) {
        if DOWN_MAX < began.elapsed() {
            return Err(Problem::new(
                Kind::Internal,
                "some instances do not end; look at them, then ask again",
            ));
        }
        sleep(DOWN_LOOK).await;
    }
    for splitter in &office.splitters {
        if let Err(error) = splitter.end().await {
            return Err(Problem::new(Kind::Internal, error.to_string()));
        }
    }
    Ok(Json(json!({ "did": "everything ended" })).into_response())
}
