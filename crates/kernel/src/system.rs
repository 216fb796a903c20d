//! What all actors of a node share: clock, registry, journal, published views.

#![allow(
    clippy::disallowed_types,
    reason = "the counter of incarnations and the date; one of the cells of docs/architecture.md"
)]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use gemba_core::control::{Control, ControlError};
use gemba_core::exit::Incarnation;
use gemba_core::name::{ActorPath, Name};
use gemba_core::receipt::{BreakerState, Event, Seq};
use gemba_core::reload::{ReloadError, Reloaded};
use gemba_core::time::Timestamp;
use gemba_core::view::{ActorKind, ActorState, BoardView, TreeView};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::address::Reply;
use crate::breakers::{Breakers, Offered};
use crate::groups::Groups;
use crate::instruments::Instruments;
use crate::journal::Journal;
use crate::publish::Publisher;
use crate::registry::Registry;
use crate::vitals::Vitals;
use crate::watch::Watchlist;

/// How long an operator waits for the plant to carry out a request.
const CONTROL_LIMIT: Duration = Duration::from_secs(2);

/// How long an operator waits for a configuration that is read again: files may be on a slow disk.
const RELOAD_LIMIT: Duration = Duration::from_secs(4);

/// How long it is waited for somebody who reads it: a child that was just started has not come to it yet.
const READER_WITHIN: Duration = Duration::from_secs(1);

/// How often it is looked for.
const READER_LOOK: Duration = Duration::from_millis(10);

/// A node from the inside, and for those who inspect it. Clones are handles to the same node.
///
/// # Examples
///
/// ```
/// use gemba_core::name::ActorPath;
/// use gemba_kernel::{Node, task};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = task("clock", |ctx| async move { ctx.stopped().await; Ok(()) });
/// let node = Node::builder("tower").child(clock).start().await?;
/// let system = node.system();
/// let path: ActorPath = "/clock".parse()?;
/// let first = system.whereis(&path).expect("it runs");
/// let down = system.monitor_life(&path, first);
/// system.kill(&path, "example")?; // As a fault would: its supervisor starts the next life.
/// assert_eq!(down.await.incarnation, Some(first));
/// assert!(system.tree().root.find(&path).is_some());
/// # node.stop("done").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct System(Arc<Inner>);

struct Inner {
    node: Name,
    epoch: Instant,
    epoch_unix_ms: AtomicU64,
    registry: Registry,
    groups: Groups,
    journal: Journal,
    board: Publisher<BoardView>,
    controls: ArcSwapOption<Controls>,
    reloads: ArcSwapOption<Reloads>,
    breakers: Offered,
    incarnations: AtomicU64,
    phase: watch::Sender<Phase>,
    instruments: OnceLock<Instruments>,
    watchlist: Watchlist,
}

/// A node that may be gone.
#[derive(Debug)]
pub(crate) struct WeakSystem(Weak<Inner>);

impl WeakSystem {
    pub(crate) fn upgrade(&self) -> Option<System> {
        self.0.upgrade().map(System)
    }
}

type Reloads = Box<dyn Fn(Arc<str>, Reply<Result<Reloaded, ReloadError>>) + Send + Sync>;
type Controls = Box<dyn Fn(Control, Reply<Result<Seq, ControlError>>) + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Running,
    Stopping,
}

/// Why a node takes no work now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// Its children have not all been started.
    #[error("the node is starting")]
    Starting,
    /// It was asked to stop.
    #[error("the node is stopping")]
    Stopping,
    /// A supervisor does not run; its own supervisor starts it again or gives up.
    #[error("'{path}' is {state}")]
    Supervisor {
        /// Which.
        path: ActorPath,
        /// What it does instead.
        state: ActorState,
    },
}

/// Why an actor was not killed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KillError {
    /// No actor has this path.
    #[error("no actor stands at '{path}'{}", similar.as_ref().map_or(String::new(), |similar| format!("; did you mean '{similar}'?")))]
    NotFound {
        /// The path asked for.
        path: ActorPath,
        /// The path most like it.
        similar: Option<ActorPath>,
    },
    /// The actor is down at the moment, or on its way.
    #[error("'{path}' is not running now; there is nothing to kill")]
    NotRunning {
        /// The path asked for.
        path: ActorPath,
    },
    /// The root supervisor is not killed: stop the node.
    #[error("'{path}' is the root of the node; send the process SIGTERM to stop it")]
    Protected {
        /// The root.
        path: ActorPath,
    },
}

impl System {
    pub(crate) fn new(node: Name) -> Self {
        Self(Arc::new(Inner {
            node,
            epoch: Instant::now(),
            epoch_unix_ms: AtomicU64::new(
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
            ),
            registry: Registry::default(),
            groups: Groups::default(),
            journal: Journal::new(),
            board: Publisher::new(BoardView::default()),
            controls: ArcSwapOption::empty(),
            reloads: ArcSwapOption::empty(),
            breakers: Offered::default(),
            incarnations: AtomicU64::new(1),
            phase: watch::Sender::new(Phase::Starting),
            instruments: OnceLock::new(),
            watchlist: Watchlist::default(),
        }))
    }

    /// The name of the node.
    pub fn node(&self) -> &Name {
        &self.0.node
    }

    /// The time since the node started.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanos(u64::try_from(self.0.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Milliseconds since 1970, for people; decisions use [`now`](Self::now).
    ///
    /// Read once, at the start, and counted on from there: receipts stay in order when someone sets the
    /// clock.
    pub fn unix_ms(&self) -> u64 {
        self.unix_ms_at(self.now())
    }

    pub(crate) fn unix_ms_at(&self, now: Timestamp) -> u64 {
        self.0.epoch_unix_ms.load(Relaxed) + now.as_millis()
    }

    /// Says when the node's time began, before it starts.
    pub(crate) fn set_epoch_unix_ms(&self, unix_ms: u64) {
        self.0.epoch_unix_ms.store(unix_ms, Relaxed);
    }

    /// What happened on this node.
    pub fn journal(&self) -> &Journal {
        &self.0.journal
    }

    /// Writes a receipt: what happened, to whom, because of what.
    pub fn record(&self, cause: Option<Seq>, path: &ActorPath, event: Event) -> Seq {
        self.record_at(cause, path, event, self.now())
    }

    /// [`record`](Self::record) for those who have read the clock already.
    pub(crate) fn record_at(
        &self,
        cause: Option<Seq>,
        path: &ActorPath,
        event: Event,
        now: Timestamp,
    ) -> Seq {
        self.0.journal.record(cause, path, event, now, self.unix_ms_at(now))
    }

    /// The supervision tree as it is now. Takes no actor's time.
    pub fn tree(&self) -> TreeView {
        let root = self.0.registry.tree(&ActorPath::root(), self.now());
        let root = root.expect("the root's place is made before the node is handed out");
        TreeView::new(self.0.node.clone(), self.unix_ms(), root)
    }

    /// Messages handled by actors of this kind whose places are gone, as those of dynamic children are: what the
    /// [`tree`](Self::tree) no longer shows.
    ///
    /// For a count that never falls and counts nothing twice, read this first and the tree after it.
    pub fn handled_by_forgotten(&self, kind: ActorKind) -> u64 {
        self.0.registry.handled_by_forgotten(kind)
    }

    /// The andon board as its actor published it last; all green and empty on a node without a plant.
    pub fn board(&self) -> Arc<BoardView> {
        self.0.board.latest()
    }

    /// Where the board is published.
    pub fn board_publisher(&self) -> &Publisher<BoardView> {
        &self.0.board
    }

    /// Whether the node can take work: it has started, is not stopping, and all its supervisors run but for those that
    /// their own supervisor leaves down: they declined to run, ended for good, or were terminated.
    ///
    /// # Errors
    ///
    /// [`NotReady`] says why not. It may pass, as a restart does: ask again.
    pub fn ready(&self) -> Result<(), NotReady> {
        match *self.0.phase.borrow() {
            Phase::Starting => return Err(NotReady::Starting),
            Phase::Stopping => return Err(NotReady::Stopping),
            Phase::Running => {}
        }
        match self.0.registry.missing_supervisor(&ActorPath::root()) {
            Some((path, state)) => Err(NotReady::Supervisor { path, state }),
            None => Ok(()),
        }
    }

    /// The places right below `path` whose life is running, in the order they start; none if nothing
    /// stands there.
    pub fn children(&self, path: &ActorPath) -> Vec<ActorPath> {
        self.0.registry.running(path)
    }

    /// Whether the node has been asked to stop.
    pub fn is_stopping(&self) -> bool {
        *self.0.phase.borrow() == Phase::Stopping
    }

    /// Where the node's metrics go: nowhere if nobody has said, and from then on.
    pub fn instruments(&self) -> &Instruments {
        self.0.instruments.get_or_init(Instruments::default)
    }

    /// Whether it is settled where the metrics go: since the node started, or somebody asked.
    pub fn has_instruments(&self) -> bool {
        self.0.instruments.get().is_some()
    }

    /// Says where the metrics go. Gives the instruments back if that is settled: by who said it earlier, or by
    /// who asked, and was given instruments that go nowhere.
    pub(crate) fn set_instruments(&self, instruments: Instruments) -> Result<(), Instruments> {
        self.0.instruments.set(instruments)
    }

    /// Kills the actor at `path`, as a fault would; its supervisor decides what follows. `by` says who did it, for
    /// the receipt. It ends at its next `await`; this does not wait for that, a [`monitor`](Self::monitor) does.
    ///
    /// # Errors
    ///
    /// [`KillError`] says why nothing was killed.
    pub fn kill(&self, path: &ActorPath, by: &str) -> Result<Seq, KillError> {
        if path.is_root() {
            return Err(KillError::Protected { path: path.clone() });
        }
        let Some(slot) = self.0.registry.get(path) else {
            let similar = self.0.registry.similar(path);
            return Err(KillError::NotFound { path: path.clone(), similar });
        };
        let Some((incarnation, killer)) = slot.killer() else {
            return Err(KillError::NotRunning { path: path.clone() });
        };
        let receipt = self.record(None, path, Event::KillRequested { by: by.into() });
        slot.note_kill(incarnation, receipt);
        killer.kill();
        Ok(receipt)
    }

    /// Asks the actors of the plant to carry out an operator's request.
    ///
    /// # Errors
    ///
    /// [`ControlError`]; [`ControlError::Unavailable`] also after two seconds without an answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn control(&self, control: Control) -> Result<Seq, ControlError> {
        let (reply, answer) = oneshot::channel();
        let controls = self.0.controls.load_full().ok_or(ControlError::Unavailable)?;
        controls(control, Reply::new(reply));
        match tokio::time::timeout(CONTROL_LIMIT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(ControlError::Unavailable),
        }
    }

    /// Names who carries out operators' requests: the plant's board.
    pub fn on_control(
        &self,
        controls: impl Fn(Control, Reply<Result<Seq, ControlError>>) + Send + Sync + 'static,
    ) {
        self.0.controls.store(Some(Arc::new(Box::new(controls))));
    }

    /// Has the configuration of the service read again, because an operator asks for it, and tells what changed.
    ///
    /// # Errors
    ///
    /// [`ReloadError`]: the old settings stay in force; after [`ReloadError::Unavailable`] the new ones may be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn reload(&self, by: &str) -> Result<Reloaded, ReloadError> {
        let reader = async {
            loop {
                if let Some(reloads) = self.0.reloads.load_full() {
                    return reloads;
                }
                tokio::time::sleep(READER_LOOK).await;
            }
        };
        let reader = tokio::time::timeout(READER_WITHIN, reader).await;
        let reloads = reader.map_err(|_| ReloadError::Unavailable)?;
        let (reply, answer) = oneshot::channel();
        reloads(by.into(), Reply::new(reply));
        match tokio::time::timeout(RELOAD_LIMIT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(ReloadError::Unavailable),
        }
    }

    /// Names who reads the configuration again, with who asks for it. A reply that is dropped says that nobody does.
    pub fn on_reload(
        &self,
        reloads: impl Fn(Arc<str>, Reply<Result<Reloaded, ReloadError>>) + Send + Sync + 'static,
    ) {
        self.0.reloads.store(Some(Arc::new(Box::new(reloads))));
    }

    /// Lets an operator force these breakers by name, as long as they are there.
    pub fn offer_breakers(&self, breakers: &Weak<dyn Breakers>) {
        self.0.breakers.add(breakers);
    }

    /// Puts a breaker that was [offered](Self::offer_breakers) into a state, and answers with the receipt.
    ///
    /// # Errors
    ///
    /// The names of those there are, if none has this one.
    pub fn force_breaker(
        &self,
        breaker: &Name,
        to: BreakerState,
        by: &str,
        why: &str,
    ) -> Result<Seq, Vec<Name>> {
        self.0.breakers.force(breaker, to, by, why).ok_or_else(|| self.0.breakers.names())
    }

    pub(crate) fn all_groups(&self) -> &Groups {
        &self.0.groups
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// When the node's time began.
    pub(crate) fn epoch(&self) -> Instant {
        self.0.epoch
    }

    pub(crate) fn downgrade(&self) -> WeakSystem {
        WeakSystem(Arc::downgrade(&self.0))
    }

    /// Has a life looked at for stuck handlers.
    pub(crate) fn watch(&self, vitals: &Arc<Vitals>) {
        self.0.watchlist.add(vitals, self);
    }

    pub(crate) fn watchlist(&self) -> &Watchlist {
        &self.0.watchlist
    }

    pub(crate) fn next_incarnation(&self) -> Incarnation {
        Incarnation(self.0.incarnations.fetch_add(1, Relaxed))
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.0.phase.send_replace(phase);
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").field("node", &self.0.node).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use gemba_core::supervision::AutoShutdown;

    use super::*;
    use crate::{Node, Stop, Supervisor, supervisor, task};

    fn idle(name: &str) -> crate::TaskSpec {
        task(name, |ctx| async move {
            ctx.stopped().await;
            Ok(())
        })
    }

    fn path(text: &str) -> ActorPath {
        text.parse().unwrap()
    }

    /// Waits for the receipt of this kind about this place, with a deadline of virtual time.
    async fn told(system: &System, of: &str, kind: &str) {
        let mut news = system.journal().subscribe();
        let search = async {
            loop {
                let receipts = system.journal().after(Seq(0), Some(&path(of)), usize::MAX).receipts;
                if receipts.iter().any(|receipt| receipt.path == path(of) && receipt.event.kind() == kind) {
                    return;
                }
                news.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), search).await.expect("it is told");
    }

    /// Its second life and those after it take a while to start.
    fn slow_to_restart() -> crate::ChildSpec {
        struct Slow(Arc<OnceLock<()>>);
        impl crate::Server for Slow {
            type Msg = ();
            async fn init(&mut self, _: &mut crate::Context<()>) -> Result<(), Stop> {
                if self.0.set(()).is_err() {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                }
                Ok(())
            }
            async fn handle(&mut self, (): (), _: &mut crate::Context<()>) -> Result<(), Stop> {
                Ok(())
            }
        }
        let once = Arc::new(OnceLock::new());
        crate::server("desk", move || Slow(once.clone())).into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervisor_that_declined_to_run_does_not_make_a_node_unready() {
        let shards = supervisor("shards", || Err(Stop::ignore()));
        let node = Node::builder("test").child(shards).child(idle("idle")).start().await.unwrap();
        assert_eq!(node.system().ready(), Ok(()));
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervisor_that_ended_for_good_does_not_make_a_node_unready() {
        let over = task("over", |ctx| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(ctx);
            Ok(())
        });
        let batch = Supervisor::one_for_one("batch")
            .transient()
            .auto_shutdown(AutoShutdown::AnySignificant)
            .child(Supervisor::one_for_one("below").child(idle("idle")))
            .child(over.transient().significant());
        let node = Node::builder("test").child(batch).start().await.unwrap();
        told(node.system(), "/batch", "child_exited").await;
        assert_eq!(node.system().ready(), Ok(()), "nor do those below it");
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervisor_that_was_terminated_is_not_missed_and_one_that_restarts_is() {
        let slow = Supervisor::one_for_one("slow").child(slow_to_restart());
        let plant = Supervisor::one_for_one("plant").child(slow).child(idle("idle"));
        let handle = plant.handle();
        let node = Node::builder("test").child(plant).start().await.unwrap();
        let system = node.system();
        let starting = NotReady::Supervisor { path: path("/plant/slow"), state: ActorState::Starting };

        system.kill(&path("/plant/slow"), "test").unwrap();
        told(system, "/plant/slow", "child_exited").await;
        assert_eq!(system.ready(), Err(starting.clone()));
        told(system, "/plant/slow", "child_restarted").await;
        assert_eq!(system.ready(), Ok(()));

        handle.terminate_child("slow").await.unwrap();
        assert_eq!(system.ready(), Ok(()));
        let restart = tokio::spawn(async move { handle.restart_child("slow").await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(system.ready(), Err(starting), "somebody wants it again");
        restart.await.unwrap().unwrap();
        assert_eq!(system.ready(), Ok(()));
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervisor_that_the_next_life_above_it_does_not_have_is_not_missed() {
        let below = |name: &str| Supervisor::one_for_one(name).child(idle("idle"));
        let plant = Supervisor::one_for_one("plant").child(below("kept"));
        let handle = plant.handle();
        let once = OnceLock::new();
        let shards = supervisor("shards", move || {
            let fewer = Supervisor::one_for_one("made").child(below("kept"));
            Ok(if once.set(()).is_ok() { fewer.child(below("more")) } else { fewer })
        });
        let node = Node::builder("test").child(plant).child(shards).start().await.unwrap();
        let system = node.system();
        handle.start_child(below("more")).await.unwrap();
        for above in ["/plant", "/shards"] {
            let stands = |name: &str| system.tree().root.find(&path(&format!("{above}/{name}"))).is_some();
            assert_eq!((stands("kept"), stands("more")), (true, true));
            system.kill(&path(above), "test").unwrap();
            told(system, above, "child_restarted").await;
            assert_eq!((stands("kept"), stands("more")), (true, false));
            assert_eq!(system.ready(), Ok(()));
        }
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervisor_that_waits_for_its_turn_after_a_halt_is_missed() {
        let last = Supervisor::one_for_one("last").child(idle("idle"));
        let plant = Supervisor::one_for_one("plant").child(slow_to_restart()).child(last);
        let node = Node::builder("test").child(plant).start().await.unwrap();
        let system = node.system();
        let missed = |at: &str, state| Err(NotReady::Supervisor { path: path(at), state });
        system.halt(&path("/plant"), "test", "test").unwrap();
        told(system, "/plant/desk", "child_exited").await;
        assert_eq!(system.ready(), missed("/plant", ActorState::Halted));
        system.resume(&path("/plant"), "test").unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(system.ready(), missed("/plant/last", ActorState::Down));
        told(system, "/plant/last", "child_restarted").await;
        assert_eq!(system.ready(), Ok(()));
        node.stop("test").await.unwrap();
    }
}
