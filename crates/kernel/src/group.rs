//! A cell: a process group, whose members come, go and die, and who is told of that.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::any::{Any, type_name};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use gemba_core::exit::Incarnation;
use gemba_core::name::{ActorPath, Name};
use tokio::sync::Notify;

use crate::address::Address;
use crate::bonds::{Rank, Tie};
use crate::groups::{AnyGroup, Groups};
use crate::system::System;

/// How many events wait for a [`GroupMonitor`]; one that falls further behind is given the members anew.
pub const GROUP_EVENTS: usize = 1024;

/// Lives of servers that take messages of type `M`, under one name. Clones are handles to the same group.
///
/// A member is a life, not a place: it leaves when it ends, and its successor joins anew, as a rule in
/// [`init`](crate::Server::init). Joining twice is joining once: OTP's `pg` counts joins, but a message
/// that comes twice is more often a fault than a wish.
///
/// # Examples
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use gemba_kernel::{Context, Group, Node, Server, Stop, server};
///
/// struct Listener;
///
/// impl Server for Listener {
///     type Msg = &'static str;
///
///     async fn init(&mut self, ctx: &mut Context<&'static str>) -> Result<(), Stop> {
///         let listeners: Group<&'static str> = ctx.system().groups().group("listeners")?;
///         listeners.join(&ctx.address())?;
///         Ok(())
///     }
///
///     async fn handle(&mut self, news: &'static str, _: &mut Context<&'static str>) -> Result<(), Stop> {
///         println!("{news}");
///         Ok(())
///     }
/// }
///
/// let tree = Node::builder("example").child(server("a", || Listener)).child(server("b", || Listener));
/// let node = tree.start().await.unwrap();
/// let listeners: Group<&'static str> = node.system().groups().group("listeners").unwrap();
/// assert_eq!(listeners.broadcast("hello").delivered, 2);
/// # });
/// ```
#[doc(alias = "pg")]
#[doc(alias = "gen_event")]
pub struct Group<M> {
    system: System,
    cell: Arc<Cell<M>>,
}

/// A life in a group.
pub struct Member<M> {
    path: ActorPath,
    incarnation: Incarnation,
    send: Arc<dyn Fn(M) -> Result<(), MemberRefusal> + Send + Sync>,
}

/// Why a server did not join a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Nobody is there: not started, ended, or between two lives.
    #[error("no server joined '{group}': it is not running; join from its own `init`")]
    NotRunning {
        /// The group.
        group: Name,
    },
}

/// Why a member did not take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberRefusal {
    /// Its mailbox is full.
    #[error("its mailbox is full")]
    Full,
    /// It has just ended.
    #[error("it is not running")]
    NotRunning,
}

/// What became of a message to a group.
#[must_use = "members may have refused it: look at `refused`, or drop it on purpose with `let _`"]
#[non_exhaustive]
pub struct Broadcast<M> {
    /// How many mailboxes took it.
    pub delivered: usize,
    /// Who refused it, and why.
    pub refused: Vec<(Member<M>, MemberRefusal)>,
}

/// A change of a group.
#[non_exhaustive]
pub enum GroupEvent<M> {
    /// A life joined.
    Joined(Member<M>),
    /// A life left, or ended.
    Left(Member<M>),
    /// More than [`GROUP_EVENTS`] changes were not read and are lost; these are the members now, and the changes
    /// go on from here.
    Behind(Vec<Member<M>>),
}

/// Follows a group: the members at its beginning, then every change in its order, and none twice.
///
/// None is missed as long as at most [`GROUP_EVENTS`] wait to be read. One that falls further behind loses those,
/// and is told: [`GroupEvent::Behind`] gives the members of that moment, from which the changes go on.
///
/// Dropping it ends it, with all that was not read.
///
/// # Examples
///
/// ```
/// use gemba_kernel::{Context, Group, GroupEvent, Node, Server, Stop, server};
///
/// struct Listener;
///
/// impl Server for Listener {
///     type Msg = ();
///     async fn init(&mut self, ctx: &mut Context<()>) -> Result<(), Stop> {
///         let listeners: Group<()> = ctx.system().groups().group("listeners")?;
///         listeners.join(&ctx.address())?;
///         Ok(())
///     }
///     async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
///         Err(Stop::normal())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder("example").child(server("a", || Listener).temporary()).start().await?;
/// let listeners: Group<()> = node.system().groups().group("listeners")?;
/// let mut changes = listeners.monitor();
/// assert_eq!(changes.members().len(), 1);
/// assert_eq!(listeners.broadcast(()).delivered, 1);
/// let GroupEvent::Left(member) = changes.changed().await else { unreachable!("nobody joins") };
/// assert_eq!(member.path().as_str(), "/a");
/// # node.stop("done").await?;
/// # Ok(()) }
/// ```
#[must_use = "dropping a monitor ends it"]
pub struct GroupMonitor<M: Send + 'static> {
    cell: Arc<Cell<M>>,
    number: u64,
    members: Vec<Member<M>>,
    news: Arc<Notify>,
}

pub(crate) struct Cell<M> {
    name: Name,
    groups: Groups,
    state: Mutex<State<M>>,
}

struct State<M> {
    members: BTreeMap<Incarnation, (Member<M>, Tie)>,
    monitors: BTreeMap<u64, Follower<M>>,
    numbers: u64,
}

struct Follower<M> {
    events: VecDeque<GroupEvent<M>>,
    is_behind: bool,
    news: Arc<Notify>,
}

impl<M> State<M> {
    fn members(&self) -> Vec<Member<M>> {
        self.members.values().map(|(member, _)| member.clone()).collect()
    }

    fn tell(&mut self, member: &Member<M>, event: fn(Member<M>) -> GroupEvent<M>) {
        for follower in self.monitors.values_mut() {
            if follower.events.len() == GROUP_EVENTS {
                follower.events.clear();
                follower.is_behind = true;
            }
            if !follower.is_behind {
                follower.events.push_back(event(member.clone()));
            }
            follower.news.notify_one();
        }
    }
}

impl<M: Send + 'static> Cell<M> {
    pub(crate) fn new(name: Name, groups: Groups) -> Self {
        let state = State { members: BTreeMap::new(), monitors: BTreeMap::new(), numbers: 0 };
        Self { name, groups, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().expect("nothing panics while it holds a group")
    }

    fn remove(&self, incarnation: Incarnation) -> Option<Tie> {
        let mut state = self.state();
        let (member, tie) = state.members.remove(&incarnation)?;
        state.tell(&member, GroupEvent::Left);
        drop(state);
        Some(tie)
    }
}

impl<M> Drop for Cell<M> {
    /// Nobody is in the group and nobody has a handle: it vanishes, unless it has been made anew.
    fn drop(&mut self) {
        self.groups.forget(&self.name);
    }
}

impl<M: Send + 'static> AnyGroup for Cell<M> {
    fn is_empty(&self) -> bool {
        self.state().members.is_empty()
    }

    fn takes(&self) -> &'static str {
        type_name::<M>()
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl<M: Send + 'static> Group<M> {
    pub(crate) fn new(system: System, cell: Arc<Cell<M>>) -> Self {
        Self { system, cell }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.cell.name
    }

    /// Adds the present life of `server`. `false` if it is a member already.
    ///
    /// # Errors
    ///
    /// [`JoinError::NotRunning`]: join from the server's own `init`, which each life runs.
    pub fn join(&self, server: &Address<M>) -> Result<bool, JoinError> {
        self.join_as(server, |message| message)
    }

    /// [`join`](Self::join) of a server that understands other messages: `message` translates. It is called
    /// where somebody sends to the group, and must not block.
    ///
    /// # Errors
    ///
    /// [`JoinError::NotRunning`].
    pub fn join_as<N: Send + 'static>(
        &self,
        server: &Address<N>,
        message: impl Fn(M) -> N + Send + Sync + 'static,
    ) -> Result<bool, JoinError> {
        let nobody = || JoinError::NotRunning { group: self.cell.name.clone() };
        let path = server.path().ok_or_else(nobody)?;
        let slot = self.system.registry().get(&path).ok_or_else(nobody)?;
        let incarnation = slot.holder().ok_or_else(nobody)?;
        let pinned = server.pin().ok_or_else(nobody)?;
        let send = move |translated| {
            let refused = |_| if pinned.is_over() { MemberRefusal::NotRunning } else { MemberRefusal::Full };
            pinned.cast(message(translated)).map_err(refused)
        };
        let member = Member { path, incarnation, send: Arc::new(send) };
        let mut state = self.cell.state();
        if state.members.contains_key(&incarnation) {
            return Ok(false);
        }
        let cell = self.cell.clone();
        // Under the lock: the end of this life is told after it has joined. And if the life that was pinned
        // was over before this, the place has another holder or none.
        let watched =
            slot.watch(Some(incarnation), Rank::Name, Box::new(move |_| drop(cell.remove(incarnation))));
        let tie = watched.map_err(|_| nobody())?;
        state.tell(&member, GroupEvent::Joined);
        state.members.insert(incarnation, (member, tie));
        Ok(true)
    }

    /// Takes the present life of `server` out. `false` if it is no member.
    pub fn leave<N: Send + 'static>(&self, server: &Address<N>) -> bool {
        let slot = server.path().and_then(|path| self.system.registry().get(&path));
        let Some(incarnation) = slot.and_then(|slot| slot.holder()) else { return false };
        let tie = self.cell.remove(incarnation);
        if let Some(tie) = &tie {
            tie.cut();
        }
        tie.is_some()
    }

    /// Those in it now, the oldest life first.
    pub fn members(&self) -> Vec<Member<M>> {
        self.cell.state().members()
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.cell.is_empty()
    }

    /// Sends a copy of `message` to each member and does not wait. A member whose mailbox is full, or that
    /// has just ended, is named; the others have it all the same.
    pub fn broadcast(&self, message: M) -> Broadcast<M>
    where
        M: Clone,
    {
        let mut broadcast = Broadcast { delivered: 0, refused: Vec::new() };
        // Not under the lock: whoever joins is not to wait for thousands of mailboxes.
        let members = self.members();
        let copies = std::iter::repeat_n(message, members.len());
        for (member, copy) in members.into_iter().zip(copies) {
            match member.cast(copy) {
                Ok(()) => broadcast.delivered += 1,
                Err(refusal) => broadcast.refused.push((member, refusal)),
            }
        }
        broadcast
    }

    /// Follows the group from now on.
    pub fn monitor(&self) -> GroupMonitor<M> {
        let news = Arc::new(Notify::new());
        let mut state = self.cell.state();
        state.numbers += 1;
        let number = state.numbers;
        let follower = Follower { events: VecDeque::new(), is_behind: false, news: news.clone() };
        state.monitors.insert(number, follower);
        GroupMonitor { cell: self.cell.clone(), number, members: state.members(), news }
    }
}

impl<M: Send + 'static> GroupMonitor<M> {
    /// The members when the monitor began.
    pub fn members(&self) -> &[Member<M>] {
        &self.members
    }

    /// The next change.
    ///
    /// # Cancel safety
    ///
    /// No change is lost if the future is dropped.
    pub async fn changed(&mut self) -> GroupEvent<M> {
        loop {
            if let Some(event) = self.next() {
                return event;
            }
            self.news.notified().await;
        }
    }

    fn next(&self) -> Option<GroupEvent<M>> {
        let mut state = self.cell.state();
        let follower = state.monitors.get_mut(&self.number).expect("it is there until this is dropped");
        if std::mem::take(&mut follower.is_behind) {
            return Some(GroupEvent::Behind(state.members()));
        }
        follower.events.pop_front()
    }
}

impl<M: Send + 'static> Drop for GroupMonitor<M> {
    fn drop(&mut self) {
        let follower = self.cell.state().monitors.remove(&self.number);
        // What it did not read is dropped where no lock is held.
        drop(follower);
    }
}

impl<M> Member<M> {
    /// Where it stands.
    pub fn path(&self) -> &ActorPath {
        &self.path
    }

    /// Which life it is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Sends `message` to this life and does not wait.
    ///
    /// # Errors
    ///
    /// [`MemberRefusal`] says why it was not taken.
    pub fn cast(&self, message: M) -> Result<(), MemberRefusal> {
        (self.send)(message)
    }
}

impl<M> Clone for Member<M> {
    fn clone(&self) -> Self {
        Self { path: self.path.clone(), incarnation: self.incarnation, send: self.send.clone() }
    }
}

impl<M> PartialEq for Member<M> {
    fn eq(&self, other: &Self) -> bool {
        self.incarnation == other.incarnation
    }
}

impl<M> Eq for Member<M> {}

impl<M> fmt::Debug for Member<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({}, {})", self.path, self.incarnation)
    }
}

impl<M> fmt::Debug for Broadcast<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast")
            .field("delivered", &self.delivered)
            .field("refused", &self.refused)
            .finish()
    }
}

impl<M> fmt::Debug for GroupEvent<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined(member) => f.debug_tuple("Joined").field(member).finish(),
            Self::Left(member) => f.debug_tuple("Left").field(member).finish(),
            Self::Behind(members) => f.debug_tuple("Behind").field(members).finish(),
        }
    }
}

impl<M> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self { system: self.system.clone(), cell: self.cell.clone() }
    }
}

impl<M> fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.cell.name).finish_non_exhaustive()
    }
}

impl<M: Send + 'static> fmt::Debug for GroupMonitor<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupMonitor").field("name", &self.cell.name).finish_non_exhaustive()
    }
}
