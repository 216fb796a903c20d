//! A route: a task that takes notices from its outbox, one after another, until they have arrived.

use std::fmt;
use std::future::{Future, ready};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::alert::{Next, Notice, Outbox};
use gemba_core::metric;
use gemba_core::name::Name;
use gemba_core::receipt::Event;
use gemba_kernel::{Stop, TaskContext};
use tokio::sync::watch;

use crate::sink::{ATTEMPT_LIMIT, Sink};

/// How long a route may take to stop: [`Route::finish`] keeps within half of it.
pub(crate) const STOP_MAX: Duration = ATTEMPT_LIMIT.saturating_mul(2);

/// One route: where it leads, and what waits for it. It outlives the lives of its task.
pub(crate) struct Route {
    pub(crate) name: Name,
    pub(crate) sink: Sink,
    outbox: watch::Sender<Outbox>,
    /// Whether the node stops and nothing comes any more. A supervisor stops its children one after another; by this
    /// they all begin at once, and a receiver that hangs takes no time from the next one's.
    last: watch::Receiver<bool>,
}

impl Route {
    pub(crate) fn new(name: Name, sink: Sink, last: watch::Receiver<bool>) -> Self {
        Self { name, sink, outbox: watch::Sender::new(Outbox::new()), last }
    }

    /// Puts a notice into the outbox; never waits.
    pub(crate) fn push(&self, notice: Arc<Notice>, ctx: &TaskContext) {
        let mut turned_out = None;
        self.outbox.send_modify(|outbox| turned_out = outbox.push(notice, ctx.system().now()));
        if let Some(notice) = turned_out {
            self.give_up(&notice, "too many wait for it".into(), ctx);
        }
    }

    fn give_up(&self, notice: &Notice, why: Arc<str>, ctx: &TaskContext) {
        let event = Event::DeliveryFailed { route: self.name.clone(), station: notice.station.clone(), why };
        ctx.system().record(Some(notice.receipt), ctx.path(), event);
    }

    fn next(&self) -> Option<Next> {
        self.outbox.borrow().next()
    }

    /// Delivers what comes until the node stops, and then what is there already.
    pub(crate) async fn run(&self, ctx: TaskContext) -> Result<(), Stop> {
        self.deliver_all(&ctx).await?;
        ctx.stopped().await;
        Ok(())
    }

    async fn deliver_all(&self, ctx: &TaskContext) -> Result<(), Stop> {
        let mut news = self.outbox.subscribe();
        let mut last = self.last.clone();
        let mut stopped = pin!(async {
            tokio::select! {
                () = ctx.stopped() => {}
                Ok(_) = last.wait_for(|last| *last) => {}
            }
        });
        loop {
            let next = news.borrow_and_update().next();
            let Some(next) = next else {
                tokio::select! {
                    biased;
                    () = &mut stopped => return Ok(()),
                    changed = news.changed() => changed?,
                }
                continue;
            };
            let wait = next.due.since(ctx.system().now());
            if !wait.is_zero() {
                tokio::select! {
                    biased;
                    () = &mut stopped => {
                        self.finish(ready(true), ctx).await;
                        return Ok(());
                    }
                    () = tokio::time::sleep(wait) => {}
                }
                continue;
            }
            let mut attempt = pin!(self.attempt(next.id, &next.notice, ctx));
            tokio::select! {
                biased;
                _ = &mut attempt => {}
                () = &mut stopped => {
                    self.finish(attempt, ctx).await;
                    return Ok(());
                }
            }
        }
    }

    /// The node stops: delivers what waits as long as its receiver takes it, and gives up the rest, within
    /// [`ATTEMPT_LIMIT`]. `under_way` is the attempt that the stop met.
    async fn finish(&self, under_way: impl Future<Output = bool>, ctx: &TaskContext) {
        let last = async {
            let mut takes = under_way.await;
            while takes && let Some(next) = self.next() {
                if next.due <= ctx.system().now() {
                    takes = self.attempt(next.id, &next.notice, ctx).await;
                } else {
                    // What failed before is not waited for.
                    self.leave(&next, ctx);
                }
            }
        };
        // Whether it was cut off or not: what is left now has nobody to deliver it.
        let _ = tokio::time::timeout(ATTEMPT_LIMIT, last).await;
        while let Some(next) = self.next() {
            self.leave(&next, ctx);
        }
    }

    fn leave(&self, next: &Next, ctx: &TaskContext) {
        self.give_up(&next.notice, "the node stops".into(), ctx);
        self.outbox.send_modify(|outbox| outbox.delivered(next.id));
    }

    /// Tries to deliver a notice once. `false` if the receiver takes nothing now.
    async fn attempt(&self, id: u64, notice: &Notice, ctx: &TaskContext) -> bool {
        let begun = ctx.system().now();
        let result = self.sink.deliver(&self.name, notice).await;
        let now = ctx.system().now();
        ctx.count(1, now.since(begun));
        let instruments = ctx.system().instruments();
        let label = [self.name.as_str()];
        match result {
            Ok(()) => {
                self.outbox.send_modify(|outbox| outbox.delivered(id));
                let took: Duration = now.since(notice.fact_at);
                instruments.histogram(&metric::ALERT_LATENCY, &label).record(took.as_secs_f64());
                true
            }
            Err(error) => {
                let mut given_up = None;
                let (wait, is_final) = (error.retry_after(), error.is_final());
                self.outbox.send_modify(|outbox| given_up = outbox.failed(id, wait, is_final, now));
                if let Some(notice) = given_up {
                    self.give_up(&notice, error.to_string().into(), ctx);
                } else {
                    instruments.counter(&metric::ALERT_RETRIES, &label).increment(1);
                    tracing::warn!(route = %self.name, %error, "alert not delivered, it is tried again");
                }
                is_final
            }
        }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("name", &self.name).field("sink", &self.sink).finish_non_exhaustive()
    }
}
