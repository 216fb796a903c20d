//! Links: two lives that share their fate, unless one of them takes exits as messages.

use std::sync::Arc;

use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;

use crate::server::Context;
use crate::slot::Slot;
use crate::task::TaskContext;

/// The end of a life this one was linked to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// The place of the peer.
    pub path: ActorPath,
    /// The life that ended; `None` if there was none to link to.
    pub incarnation: Option<Incarnation>,
    /// Why it ended; [`ExitReason::NoProc`] if there was none to link to.
    pub reason: ExitReason,
}

/// Links the life `mine` of `slot` to the one at `path` now.
fn link(slot: &Arc<Slot>, mine: Incarnation, peer: Option<&Arc<Slot>>, path: &ActorPath) {
    if let Some((peer, theirs)) = peer.and_then(|peer| Some((peer, peer.holder()?))) {
        if Arc::ptr_eq(peer, slot) {
            return;
        }
        // Our end first: a peer that ends as soon as it knows of us finds us.
        slot.link(mine, theirs, Arc::downgrade(peer));
        if peer.link(theirs, mine, Arc::downgrade(slot)) {
            return;
        }
        slot.unlink(mine, theirs);
    }
    slot.exit(mine, Exit { path: path.clone(), incarnation: None, reason: ExitReason::NoProc });
}

/// Undoes the links of the life `mine` of `slot` with those at `path`.
fn unlink(slot: &Slot, mine: Incarnation, path: &ActorPath) {
    for (theirs, peer) in slot.unlink_all(mine, path) {
        if let Some(peer) = peer.upgrade() {
            peer.unlink(theirs, mine);
        }
    }
}

impl<M: Send + 'static> Context<M> {
    /// Links this life and the one that is at `path` now: when one ends with an error, a panic or a kill,
    /// the other ends with the same reason, and its supervisor decides what follows. A clean end takes
    /// nobody along. Linking twice is linking once; the link lasts until one end is over or unlinks.
    ///
    /// If nobody is at `path`, this life gets an exit with [`ExitReason::NoProc`].
    ///
    /// An exit ends this life as a kill does, at its next `await`, in `init` too, without
    /// [`terminate`](crate::Server::terminate); with [`trap_exits`](Self::trap_exits) it is a message. A
    /// supervisor takes no exit but those of its children: linked to it, one shares its fate, not the
    /// other way round.
    ///
    /// It returns no guard: a crash drops guards, and a crash is what has to reach the peer.
    ///
    /// # Examples
    ///
    /// ```
    /// use gemba_core::name::ActorPath;
    /// use gemba_kernel::{Context, Exit, Node, Server, Stop, server, task};
    ///
    /// struct Reader { source: ActorPath }
    ///
    /// impl Server for Reader {
    ///     type Msg = Exit;
    ///
    ///     async fn init(&mut self, ctx: &mut Context<Exit>) -> Result<(), Stop> {
    ///         ctx.trap_exits(|exit| exit); // Without this line the source takes the reader along.
    ///         ctx.link(&self.source);
    ///         Ok(())
    ///     }
    ///
    ///     async fn handle(&mut self, exit: Exit, _: &mut Context<Exit>) -> Result<(), Stop> {
    ///         Err(Stop::shutdown(format!("{} is gone: {}", exit.path, exit.reason)))
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let path: ActorPath = "/source".parse()?;
    /// let source = task("source", |ctx| async move { ctx.stopped().await; Ok(()) }).temporary();
    /// let reader = server("reader", { let path = path.clone(); move || Reader { source: path.clone() } });
    /// let node = Node::builder("example").child(source).child(reader.transient()).start().await?;
    /// let reader = node.system().monitor(&"/reader".parse()?);
    /// node.system().kill(&path, "example")?;
    /// assert_eq!(reader.await.reason.to_string(), "shutdown: /source is gone: killed");
    /// # node.stop("done").await?;
    /// # Ok(()) }
    /// ```
    pub fn link(&mut self, path: &ActorPath) {
        let peer = self.system().registry().get(path);
        link(&self.slot, self.incarnation(), peer.as_ref(), path);
    }

    /// Undoes the link with the one at `path`, for both. When it returns, no exit of that peer comes any
    /// more; one that was waiting to be handled is taken back.
    pub fn unlink(&mut self, path: &ActorPath) {
        unlink(&self.slot, self.incarnation(), path);
        self.inbox.take_back_exits(path);
    }

    /// From now on exits over links come as messages, clean ones too, after all messages the peer has sent
    /// before (OTP: `process_flag(trap_exit, true)`). `message` is called in this server's own task.
    pub fn trap_exits(&mut self, message: impl Fn(Exit) -> M + Send + Sync + 'static) {
        let trap = self.inbox.trap(message);
        self.slot.trap(self.incarnation(), trap);
    }
}

impl TaskContext {
    /// [`Context::link`] for a task. A task takes no messages: an exit ends it; watch with
    /// [`System::monitor`](crate::System::monitor) to be told instead. The exit acts at its next `await`.
    pub fn link(&self, path: &ActorPath) {
        link(&self.slot, self.incarnation(), self.system().registry().get(path).as_ref(), path);
    }

    /// [`Context::unlink`] for a task.
    pub fn unlink(&self, path: &ActorPath) {
        unlink(&self.slot, self.incarnation(), path);
    }
}
