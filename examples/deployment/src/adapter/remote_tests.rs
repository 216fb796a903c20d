//! The lanes in virtual time: what waits for what, and what does not.

use gemba::Node;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

/// What the hands of a test find, and how they behave.
#[derive(Debug, Clone, Default)]
struct World {
    standings: BTreeMap<String, Standing>,
    /// How long a start takes.
    start: Duration,
    refused: Option<Trouble>,
    /// Why nobody can look.
    blind: Option<Trouble>,
    /// The generation whose order to share never comes back.
    stuck: u64,
}

#[derive(Debug, Clone)]
struct TestHands {
    world: watch::Receiver<World>,
    calls: mpsc::Sender<String>,
}

impl TestHands {
    fn say(&self, call: String) {
        // A test that is over listens no more.
        let _ = self.calls.try_send(call);
    }
}

impl Hands for TestHands {
    const TOLD_AGAIN: Option<Duration> = Some(Duration::from_secs(60));

    async fn look(&mut self) -> Result<BTreeMap<String, Standing>, Trouble> {
        let World { standings, blind, .. } = self.world.borrow().clone();
        blind.map_or(Ok(standings), Err)
    }

    async fn start(&mut self, order: &Order<'_>, instances: u32) -> Result<(), Trouble> {
        self.say(format!("start {} {instances}", order.version));
        let (start, refused) = (self.world.borrow().start, self.world.borrow().refused.clone());
        sleep(start).await;
        refused.map_or(Ok(()), Err)
    }

    async fn share(&mut self, _: &str, shares: &Shares) -> Result<(), Trouble> {
        self.say(format!("share {}", shares.generation));
        let stuck = self.world.borrow().stuck;
        if stuck == shares.generation {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn counts(&mut self, _: &[String]) -> Result<Counted, Trouble> {
        Err(Trouble::passing("nobody counts"))
    }

    async fn end(&mut self, order: &Order<'_>) -> Result<(), Trouble> {
        self.say(format!("end {}", order.version));
        Ok(())
    }
}

const PATIENCE: Patience = Patience { ready_within: Duration::from_secs(20), drain: Duration::from_secs(5) };

struct Scene {
    remote: Remote,
    world: watch::Sender<World>,
    calls: mpsc::Receiver<String>,
    node: Node,
}

impl Scene {
    async fn new(world: World) -> Self {
        let (sender, receiver) = watch::channel(world);
        let (calls, called) = mpsc::channel(1_000);
        let hands = TestHands { world: receiver, calls };
        let (remote, lanes) = Remote::new("api.us-west", move || hands.clone(), PATIENCE);
        let node = Node::builder("test").child(lanes).start().await.unwrap();
        Self { remote, world: sender, calls: called, node }
    }

    /// The next call, within an hour of virtual time.
    async fn call(&mut self) -> String {
        timeout(Duration::from_secs(3_600), self.calls.recv()).await.expect("a call").unwrap()
    }

    /// Whether no call comes within this time.
    async fn is_quiet(&mut self, within: Duration) -> bool {
        timeout(within, self.calls.recv()).await.is_err()
    }

    async fn failure(&self, delivery: &str, version: &str) -> String {
        let mut fleet = self.remote.fleet.subscribe();
        loop {
            if let Some((_, why)) = self.remote.standing(delivery, version).failures {
                return why;
            }
            timeout(Duration::from_secs(3_600), fleet.changed()).await.expect("a failure").unwrap();
        }
    }
}

fn wanted(versions: &[&str], shares: Option<(u64, &[(&str, u32)])>) -> Wanted {
    Wanted {
        delivery: "7".to_owned(),
        generation: 1,
        instances: versions.iter().map(|version| ((*version).to_owned(), 2)).collect(),
        shares: shares.map(|(generation, versions)| Shares {
            generation,
            versions: versions.iter().map(|(version, weight)| ((*version).to_owned(), *weight)).collect(),
        }),
    }
}

fn ready(versions: &[&str]) -> BTreeMap<String, Standing> {
    let standing = Standing { ready: 2, all: 2, failures: None };
    versions.iter().map(|version| ((*version).to_owned(), standing.clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_rollback_waits_for_no_start_and_for_no_older_word() {
    let world = World { start: Duration::from_secs(100_000), stuck: 1, ..World::default() };
    let mut scene = Scene::new(world).await;
    scene.remote.want(wanted(&["v1", "v2"], Some((1, &[("v2", 500), ("v1", 9_500)]))));
    let mut first = [scene.call().await, scene.call().await];
    first.sort();
    assert_eq!(first, ["share 1", "start v1 2"]);
    assert_eq!(scene.remote.in_force(), None, "it hangs");
    scene.remote.want(wanted(&["v1", "v2"], Some((2, &[("v1", 10_000)]))));
    assert_eq!(scene.call().await, "share 2");
    scene.remote.traffic.subscribe().wait_for(|traffic| traffic.in_force.is_some()).await.unwrap();
    assert_eq!(scene.remote.in_force(), Some(2));
    assert_eq!(scene.call().await, "share 2", "told again, should somebody have changed it");
    scene.node.stop("done").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_ends_before_its_share_is_gone_and_what_was_on_its_way_has_arrived() {
    let mut scene = Scene::new(World { standings: ready(&["v1", "v2"]), stuck: 1, ..World::default() }).await;
    // A manager that has just started again: it finds a version that nobody wants, and knows of no shares yet.
    scene.remote.want(wanted(&["v1"], None));
    assert_eq!(scene.call().await, "start v1 2", "so that it is what is wanted");
    assert!(scene.is_quiet(Duration::from_secs(1_000)).await);
    scene.remote.want(wanted(&["v1"], Some((1, &[("v1", 10_000)]))));
    assert_eq!(scene.call().await, "share 1");
    assert!(scene.is_quiet(Duration::from_secs(1_000)).await, "its share may still be in force");
    let told = Instant::now();
    scene.remote.want(wanted(&["v1"], Some((2, &[("v1", 10_000)]))));
    assert_eq!(scene.call().await, "share 2");
    assert_eq!(scene.call().await, "end v2");
    assert!(PATIENCE.drain <= told.elapsed());
    scene.node.stop("done").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_refused_or_late_has_failed_and_one_that_may_be_tried_again_has_not() {
    let mut scene =
        Scene::new(World { refused: Some(Trouble::passing("too busy")), ..World::default() }).await;
    scene.remote.want(wanted(&["v2"], None));
    for _ in 0..3 {
        assert_eq!(scene.call().await, "start v2 2");
        assert_eq!(scene.remote.standing("7", "v2").failures, None);
    }
    assert!(scene.remote.trouble().unwrap().contains("too busy"));
    scene.world.send_modify(|world| world.refused = Some(Trouble::lasting("no such image")));
    assert_eq!(scene.failure("7", "v2").await, "no such image");
    // Another delivery begins anew.
    scene.world.send_modify(|world| world.refused = None);
    scene.remote.want(Wanted { delivery: "8".to_owned(), ..wanted(&["v2"], None) });
    assert_eq!(scene.failure("8", "v2").await, "was not ready in time: 0 of 2 instances are");
    assert!(scene.remote.trouble().unwrap().contains("nobody counts"));
    scene.node.stop("done").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_version_that_cannot_be_looked_at_has_failed_in_time_and_one_that_was_ready_has_not() {
    let world = World { standings: ready(&["v1"]), ..World::default() };
    let mut scene = Scene::new(world).await;
    scene.remote.want(wanted(&["v1"], None));
    assert_eq!(scene.call().await, "start v1 2");
    let mut fleet = scene.remote.fleet.subscribe();
    fleet.wait_for(|fleet| fleet.delivery == "7").await.unwrap();
    let blind = Trouble::passing("the cluster does not answer");
    scene.world.send_modify(|world| world.blind = Some(blind));
    sleep(Duration::from_secs(1_000)).await;
    let seen = scene.remote.standing("7", "v1");
    assert_eq!((seen.ready, seen.failures), (2, None), "it was ready, and stays what was seen last");

    let began = Instant::now();
    scene.remote.want(wanted(&["v1", "v2"], None));
    assert_eq!(scene.failure("7", "v2").await, "was not seen ready in time: the cluster does not answer");
    assert!((20..=23).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(scene.remote.standing("7", "v1").failures, None);
    // Another delivery has its own time, and the same end.
    scene.remote.want(Wanted { delivery: "8".to_owned(), ..wanted(&["v2"], None) });
    sleep(Duration::from_secs(10)).await;
    assert_eq!(scene.remote.standing("8", "v2").failures, None);
    assert_eq!(scene.failure("8", "v2").await, "was not seen ready in time: the cluster does not answer");
    scene.world.send_modify(|world| world.blind = None);
    assert_eq!(scene.call().await, "start v2 2", "as soon as it can be seen");
    scene.node.stop("done").await.unwrap();
}
