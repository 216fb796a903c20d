//! The queue's actor over a record on a disk, with a conductor that a test plays.

use std::path::Path;

use gemba::{Address, Node, Supervisor, server};
use rusqlite::Connection;

use super::*;
use crate::care::Care;
use crate::delivery::Delivery;
use crate::fleet::Artefact;
use crate::fleet::tests::fleet;
use crate::policy::Strategy;
use crate::store::ServiceRecord;
use crate::view::DeliveryView;

/// A conductor that begins what it is told to, writes it down and shows it at once.
struct Stand {
    store: Store,
    view: Arc<watch::Sender<ServiceView>>,
}

impl Server for Stand {
    type Msg = conductor::Msg;

    async fn init(&mut self, _: &mut Context<conductor::Msg>) -> Result<(), Stop> {
        self.view.send_modify(|view| "api".clone_into(&mut view.service));
        Ok(())
    }

    async fn handle(&mut self, msg: conductor::Msg, _: &mut Context<conductor::Msg>) -> Result<(), Stop> {
        match msg {
            conductor::Msg::Tick => {}
            conductor::Msg::Begin(DeploymentRequest { id, version, regions, .. }, reply) => {
                let rules = Care::default().rules().unwrap();
                let delivery = Delivery::begin(&id, "api", (None, &version), regions, rules, 0);
                let record = ServiceRecord { delivery: Some(delivery.clone()), ..ServiceRecord::default() };
                self.store.save("api", &record, Some((delivery, 0, "begun".to_owned()))).await?;
                let shown = DeliveryView { id: id.clone(), to: version, ..DeliveryView::default() };
                self.view.send_modify(|view| view.delivery = Some(shown));
                reply.send(Ok(id));
            }
            conductor::Msg::Supersede(_, _, reply) => reply.send(Ok(())),
            conductor::Msg::Carry(_, _, reply) => reply.send(Ok("done".to_owned())),
            conductor::Msg::Shown(reply) => reply.send(()),
        }
        Ok(())
    }
}

struct Stage {
    queue: Address<Msg>,
    store: Store,
    node: Node,
    directory: tempfile::TempDir,
}

impl Stage {
    /// A service of which nothing runs, with its conductor or with one that has not started yet.
    async fn new(has_conductor: bool) -> Self {
        let mut fleet = fleet();
        let artefact = Artefact { command: vec!["sh".to_owned(), "{port}".to_owned()], sha256: None };
        let versions = ["v2", "v3"].map(|version| (version.to_owned(), artefact.clone()));
        fleet.services.get_mut("api").unwrap().versions = versions.into();
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&file(directory.path())).unwrap();
        let (sender, view) = watch::channel(ServiceView::default());
        let sender = Arc::new(sender);
        let stand = (store.clone(), sender);
        let conductor = server("api", move || Stand { store: stand.0.clone(), view: stand.1.clone() });
        let services = [("api".to_owned(), Reach { conductor: conductor.address(), view })].into();
        let (queue, _) = watch::channel(Queue::default());
        let parts = Parts {
            fleet: watch::Sender::new(Arc::new(fleet)).subscribe(),
            services,
            store: store.clone(),
            view: Arc::new(queue),
            closed: Arc::new(watch::Sender::new(false)),
        };
        let spec = server("queue", move || Scheduler::new(parts.clone()));
        let queue = spec.address();
        let mut conductors = Supervisor::one_for_one("conductors");
        if has_conductor {
            conductors = conductors.child(conductor);
        }
        let node = Node::builder("test").child(conductors).child(spec).start().await.unwrap();
        Self { queue, store, node, directory }
    }

    async fn join(&self, id: &str, version: &str) -> Result<String, JoinError> {
        let request = DeploymentRequest {
            id: id.to_owned(),
            service: "api".to_owned(),
            version: version.to_owned(),
            regions: vec!["us-west".to_owned()],
            strategy: Strategy::First,
        };
        self.queue.call(|reply| Msg::Join(request, reply)).await.unwrap()
    }
}

fn file(directory: &Path) -> std::path::PathBuf {
    directory.join("deployment.db")
}

fn refused(why: &str) -> Result<String, JoinError> {
    Err(JoinError::Refused(why.to_owned()))
}

#[tokio::test]
async fn of_two_that_ask_for_the_same_at_once_one_is_refused() {
    let stage = Stage::new(true).await;
    // As those whose requests were judged before either of them was here.
    let (first, second) = tokio::join!(stage.join("1", "v2"), stage.join("2", "v2"));
    assert_eq!(first, Ok("1".to_owned()));
    assert_eq!(second, refused("delivery 1 brings this version already"));
    assert_eq!(stage.join("1", "v2").await, Ok("1".to_owned()), "the same id is the same delivery");
    assert_eq!(stage.join("1", "v3").await, refused("1 is a delivery of api v2; take another id"));
    assert_eq!(stage.join("3", "v3").await, Ok("3".to_owned()), "another version takes its place");
    assert_eq!(stage.join("4", "v3").await, refused("delivery 3 brings this version already"));
    let history = stage.store.history("api").await.unwrap();
    assert_eq!(history.iter().map(|past| past.id.as_str()).collect::<Vec<_>>(), ["3", "1"]);
    stage.node.stop("done").await.unwrap();
}

#[tokio::test]
async fn what_is_written_down_is_accepted_whatever_comes_of_its_turn() {
    let stage = Stage::new(false).await;
    let other = Connection::open(file(stage.directory.path())).unwrap();
    other.execute_batch("ALTER TABLE step RENAME TO gone").unwrap();
    // It has to wait, and that cannot be written.
    assert_eq!(stage.join("1", "v2").await, Ok("1".to_owned()));
    let waiting = stage.store.waiting().await.unwrap();
    assert_eq!(waiting.iter().map(|one| one.request.id.as_str()).collect::<Vec<_>>(), ["1"]);
    // The next life of the queue cannot either, until somebody mends it.
    let _ = stage.node.stop("done").await;
}

#[tokio::test]
async fn nothing_is_begun_after_an_order_to_end_everything() {
    let stage = Stage::new(true).await;
    assert_eq!(stage.join("1", "v2").await, Ok("1".to_owned()));
    assert_eq!(stage.join("2", "v3").await, Ok("2".to_owned()));
    stage.queue.call(|reply| Msg::Clear("an operator".to_owned(), reply)).await.unwrap().unwrap();
    assert!(stage.store.waiting().await.unwrap().is_empty());
    // Judged before the order, here after it.
    assert_eq!(stage.join("3", "v3").await, refused(CLOSED));
    assert_eq!(stage.join("1", "v2").await, Ok("1".to_owned()), "what is known is told all the same");
    stage.node.stop("done").await.unwrap();
}
