//! A call across a restart: sent again, only where its caller says that it may be.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::exit::Incarnation;

use super::{Address, CallError, Lane, Opened, Reply, Request};
use crate::server::later;

impl<M> Lane<M> {
    /// Waits for a life with an open mailbox, another one than `past`.
    async fn life_after(&self, past: Option<Incarnation>) -> Arc<Opened<M>> {
        loop {
            let mut opened = pin!(self.opened.notified());
            // Before the look: a life that opens right after it is heard of.
            opened.as_mut().enable();
            let life = self.current.load_full().filter(|life| {
                // A mailbox stays open for a moment after its life has ended.
                !life.sender.is_closed() && Some(life.vitals.incarnation) != past
            });
            if let Some(life) = life {
                return life;
            }
            opened.await;
        }
    }
}

impl<M: Send + 'static> Address<M> {
    /// [`call_within`](Self::call_within) for a request that may be carried out twice without harm, as one that
    /// only reads, or that carries a key: a restart costs its caller time, not an error.
    ///
    /// If the server is not running, this waits for its next life; if it ends before it has answered, the
    /// request is made again, by another call of `message`, and sent to the next life.
    ///
    /// # Units and limits
    ///
    /// All of it takes `within` at most. The request is sent again once: one that ends whoever handles it would
    /// else use up the restarts of the supervisor, and end that too.
    ///
    /// # Errors
    ///
    /// [`CallError::NotRunning`] if no life came in time; a server that is not restarted is waited for all the
    /// same. [`CallError::Died`] if the second life ended too, or none followed the first.
    /// [`CallError::Timeout`], [`CallError::Full`], [`CallError::NoReply`] and [`CallError::CallingSelf`] as for
    /// [`call`](Self::call): none of them comes from a restart, so nothing is sent again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw a request that was sent; it is not sent again.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use gemba_kernel::{Context, Node, Reply, Server, Stop, server};
    ///
    /// struct Prices;
    /// enum Msg { Of(&'static str, Reply<u64>), Crash }
    ///
    /// impl Server for Prices {
    ///     type Msg = Msg;
    ///     async fn handle(&mut self, msg: Msg, _: &mut Context<Msg>) -> Result<(), Stop> {
    ///         match msg {
    ///             Msg::Of(_, reply) => reply.send(42),
    ///             Msg::Crash => panic!("no luck"),
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = server("prices", || Prices);
    /// let prices = spec.address();
    /// let node = Node::builder("shop").child(spec).start().await?;
    /// prices.cast(Msg::Crash)?;
    /// // To ask for a price changes nothing, so it may be asked twice.
    /// let tea = prices.call_across_restart(Duration::from_secs(5), |reply| Msg::Of("tea", reply)).await?;
    /// assert_eq!(tea, 42);
    /// # node.stop("done").await?;
    /// # Ok(()) }
    /// ```
    pub async fn call_across_restart<T: Send + 'static>(
        &self,
        within: Duration,
        message: impl Fn(Reply<T>) -> M,
    ) -> Result<T, CallError> {
        let deadline = later(within);
        let path = || self.0.place();
        if self.0.current.load().as_ref().is_some_and(|life| life.vitals.is_asking()) {
            return Err(CallError::CallingSelf { path: path() });
        }
        let (mut past, mut died) = (None, None);
        loop {
            let Ok(life) = tokio::time::timeout_at(deadline, self.0.life_after(past)).await else {
                return Err(died.unwrap_or_else(|| CallError::NotRunning { path: path() }));
            };
            past = Some(life.vitals.incarnation);
            let answered = match self.ask_life(&life, &message) {
                Ok(answer) => Request::new(answer, life.vitals.clone(), path(), deadline).await,
                Err(error) => Err(error),
            };
            match answered {
                // It ended between the look and the send: nothing was asked.
                Err(CallError::NotRunning { .. }) => {}
                Err(error @ CallError::Died { .. }) if died.is_none() => died = Some(error),
                Err(CallError::Timeout { path, .. }) => return Err(CallError::Timeout { path, within }),
                answered => return answered,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gemba_core::exit::{ExitReason, Incarnation};
    use gemba_core::receipt::Seq;
    use gemba_core::supervision::Backoff;

    use crate::{Address, CallError, Context, Node, Reply, Server, ServerSpec, Stop, Supervisor, server};

    const SECOND: Duration = Duration::from_secs(1);

    struct Oracle;

    enum Msg {
        Crash,
        Who(Reply<Incarnation>),
        Fatal(Reply<()>),
        AskYourself(Reply<Result<Incarnation, CallError>>),
    }

    impl Server for Oracle {
        type Msg = Msg;

        async fn handle(&mut self, msg: Msg, ctx: &mut Context<Msg>) -> Result<(), Stop> {
            match msg {
                Msg::Crash => return Err(Stop::error("asked to")),
                Msg::Fatal(reply) => {
                    drop(reply);
                    return Err(Stop::error("asked to"));
                }
                Msg::Who(reply) => reply.send(ctx.incarnation()),
                Msg::AskYourself(reply) => {
                    reply.send(ctx.address().call_across_restart(SECOND, Msg::Who).await);
                }
            }
            Ok(())
        }
    }

    fn oracle() -> (ServerSpec<Oracle>, Address<Msg>) {
        let spec = server("oracle", || Oracle);
        let address = spec.address();
        (spec, address)
    }

    fn exits(node: &Node) -> usize {
        let all = node.system().journal().after(Seq(0), None, usize::MAX).receipts;
        all.iter().filter(|receipt| receipt.event.kind() == "child_exited").count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_its_server_did_not_survive_to_read_goes_to_the_next_life() {
        let (spec, address) = oracle();
        let node = Node::builder("test").child(spec).start().await.unwrap();
        let first = address.call(Msg::Who).await.unwrap();
        address.cast(Msg::Crash).unwrap();
        // It waits behind the crash in the same mailbox.
        let second = address.call_across_restart(SECOND, Msg::Who).await.unwrap();
        assert!(second > first, "{second} answered, after {first}");
        assert_eq!(exits(&node), 1);
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_while_the_supervisor_backs_off() {
        let (spec, address) = oracle();
        let backoff = Backoff::exponential(SECOND, SECOND * 10);
        let tree = Supervisor::one_for_one("tree").backoff(backoff).child(spec);
        let node = Node::builder("test").child(tree).start().await.unwrap();
        // The first restart comes at once, the second one waits.
        let answer = address.call_across_restart(SECOND * 60, Msg::Fatal).await;
        assert!(matches!(answer, Err(CallError::Died { .. })), "{answer:?}");
        assert_eq!(address.call(Msg::Who).await, Err(CallError::NotRunning { path: address.0.place() }));
        let next = address.call_across_restart(SECOND * 60, Msg::Who).await.unwrap();
        assert_eq!(address.call(Msg::Who).await, Ok(next));
        assert_eq!(exits(&node), 2);
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_ends_whoever_handles_it_is_sent_twice_and_no_more() {
        let (spec, address) = oracle();
        let node = Node::builder("test").child(spec).start().await.unwrap();
        let answer = address.call_across_restart(SECOND * 60, Msg::Fatal).await;
        let reason = ExitReason::Error { message: "asked to".into() };
        assert_eq!(answer, Err(CallError::Died { path: address.0.place(), reason }));
        address.call_across_restart(SECOND, Msg::Who).await.unwrap();
        assert_eq!(exits(&node), 2);
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_come_is_waited_for_until_the_deadline() {
        let (spec, address) = oracle();
        let early = address.call_across_restart(SECOND, Msg::Who).await;
        assert!(matches!(early, Err(CallError::NotRunning { .. })), "{early:?}");
        let node = Node::builder("test").child(spec.temporary()).start().await.unwrap();
        let answer = address.call_across_restart(SECOND, Msg::Fatal).await;
        assert!(matches!(answer, Err(CallError::Died { .. })), "{answer:?}");
        assert_eq!(exits(&node), 1);
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_does_not_wait_for_itself() {
        let (spec, address) = oracle();
        let node = Node::builder("test").child(spec).start().await.unwrap();
        let itself = address.call(Msg::AskYourself).await.unwrap();
        assert!(matches!(itself, Err(CallError::CallingSelf { .. })), "{itself:?}");
        node.stop("test").await.unwrap();
    }
}
