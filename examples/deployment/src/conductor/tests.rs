//! A conductor in a node of its own, in front of a splitter that takes shares when the test lets it.

use std::net::SocketAddr;

use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use gemba::policy::Policy;
use gemba::{Node, Supervisor, server};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::*;
use crate::adapter::settings::{AdapterKind, Addresses, StaticSettings};
use crate::facts::facts_of_asking;
use crate::host::ListenAddress;
use crate::policy::{Strategy, policy};
use crate::queue::Queue;
use crate::splitter::Counted;

/// A splitter that says when it is told shares, and answers when it may.
struct Gate {
    admin: SocketAddr,
    told: mpsc::Receiver<Table>,
    may: watch::Sender<bool>,
}

impl Gate {
    async fn new(is_open: bool) -> Self {
        let (tell, told) = mpsc::channel(64);
        let (may, allowed) = watch::channel(is_open);
        let take = move |Json(table): Json<Table>| {
            let (tell, mut allowed) = (tell.clone(), allowed.clone());
            async move {
                if !table.versions.is_empty() {
                    let _ = tell.try_send(table);
                    let _ = allowed.wait_for(|allowed| *allowed).await;
                }
                StatusCode::NO_CONTENT
            }
        };
        let counts = get(async || Json(Counted::default()));
        let router = Router::new().route("/table", put(take)).route("/counts", counts);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { admin, told, may }
    }
}

struct Stage {
    reach: Reach,
    store: Store,
    fleet: Fleet,
    node: Node,
    _directory: tempfile::TempDir,
}

impl Stage {
    /// A service with given addresses in one region, of which nothing runs yet.
    async fn new(admin: SocketAddr) -> Self {
        let mut fleet = crate::fleet::tests::fleet();
        let service = fleet.services.get_mut("api").unwrap();
        service.regions.truncate(1);
        let addresses = |port| {
            Addresses([port, port + 1].map(|port| ListenAddress(([127, 0, 0, 1], port).into())).into())
        };
        service.regions[0].adapter = AdapterKind::Static;
        service.regions[0].admin = Some(ListenAddress(admin));
        let addresses = [("v1".to_owned(), addresses(7_001)), ("v2".to_owned(), addresses(7_003))].into();
        service.regions[0].given = Some(StaticSettings { addresses });
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("deployment.db")).unwrap();
        let (sender, view) = watch::channel(ServiceView::default());
        let parts = Parts {
            service: service.clone(),
            fleet: watch::Sender::new(Arc::new(fleet.clone())).subscribe(),
            home: directory.path().join("instances"),
            store: store.clone(),
            supervisor: Supervisor::dynamic("instances").handle(),
            client: reqwest::Client::new(),
            remotes: BTreeMap::new(),
            view: Arc::new(sender),
        };
        let spec = server("api", move || Conductor::new(parts.clone()));
        let reach = Reach { conductor: spec.address(), view };
        let node = Node::builder("test").child(spec).start().await.unwrap();
        Self { reach, store, fleet, node, _directory: directory }
    }

    fn request(&self, id: &str, version: &str, strategy: Strategy) -> DeploymentRequest {
        let service = self.fleet.service("api").unwrap();
        DeploymentRequest {
            id: id.to_owned(),
            service: "api".to_owned(),
            version: version.to_owned(),
            regions: service.regions.iter().map(|region| region.name.to_string()).collect(),
            strategy,
        }
    }

    async fn begin(&self, request: DeploymentRequest) -> Result<String, String> {
        self.reach.conductor.call(|reply| Msg::Begin(request, reply)).await.unwrap()
    }
}

#[tokio::test]
async fn who_has_read_that_a_delivery_is_over_is_judged_by_what_it_left() {
    let mut gate = Gate::new(false).await;
    let stage = Stage::new(gate.admin).await;
    stage.begin(stage.request("1", "v1", Strategy::First)).await.unwrap();
    assert_eq!(gate.told.recv().await.unwrap().versions[0].version, "v1");
    // The tick that ended it still tells the region; anybody can read the end.
    let record = stage.store.load("api").await.unwrap();
    assert_eq!((record.stable.as_deref(), record.delivery), (Some("v1"), None));
    let asking = stage.reach.current("api", &stage.store);
    tokio::pin!(asking);
    let view = tokio::select! {
        biased;
        view = &mut asking => view.unwrap(),
        // Long enough for somebody who does not wait for that tick; the right one may take any time.
        () = sleep(Duration::from_millis(100)) => {
            gate.may.send_replace(true);
            asking.await.unwrap()
        }
    };
    let next = stage.request("2", "v2", Strategy::Canary);
    let service = stage.fleet.service("api").unwrap();
    let facts = facts_of_asking(&stage.fleet, service, &view, &next, &Queue::default(), 0);
    let verdict = policy().evaluate(&next, &facts);
    assert!(verdict.violations().is_empty(), "{verdict:?} of {view:?}");
    stage.node.stop("done").await.unwrap();
}

#[tokio::test]
async fn what_fits_no_more_when_its_turn_comes_is_not_begun() {
    let gate = Gate::new(true).await;
    let stage = Stage::new(gate.admin).await;
    // A region that is gone since it was asked for.
    let mut waited = stage.request("2", "v1", Strategy::First);
    waited.regions.push("us-north".to_owned());
    // As after an order to end everything, which the queue had not seen: v2 would have everything at once.
    let why = stage.begin(stage.request("1", "v2", Strategy::Canary)).await.unwrap_err();
    assert_eq!(why, "nothing runs that one could go back to; bring a first version up");
    stage.begin(waited).await.unwrap();
    let mut view = stage.reach.view.clone();
    let arriving = view.wait_for(|view| view.stable.as_deref() == Some("v1"));
    assert!(timeout(Duration::from_secs(60), arriving).await.is_ok(), "no region is waited for that is gone");
    let why = stage.begin(stage.request("3", "v2", Strategy::First)).await.unwrap_err();
    assert_eq!(why, "v1 runs already; roll the new version out");
    assert_eq!(stage.store.load("api").await.unwrap().delivery, None);
    stage.node.stop("done").await.unwrap();
}

#[tokio::test]
async fn what_was_taken_out_of_the_queue_is_not_begun_by_a_late_word() {
    let gate = Gate::new(true).await;
    let stage = Stage::new(gate.admin).await;
    let request = stage.request("1", "v1", Strategy::First);
    let (waiting, _) = Queue::default().join(request.clone(), false, 1);
    stage.store.join(&waiting, None).await.unwrap();
    assert!(stage.store.end_waiting("1", 2, "taken out", "v1 not begun: taken out").await.unwrap());
    let why = stage.begin(request).await.unwrap_err();
    assert_eq!(why, "it was taken out of the queue; ask for another one");
    assert_eq!(stage.store.load("api").await.unwrap().delivery, None);
    assert_eq!(stage.reach.current("api", &stage.store).await.unwrap().delivery, None);
    stage.node.stop("done").await.unwrap();
}
