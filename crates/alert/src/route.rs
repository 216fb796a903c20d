//! A route: a task that takes notices from its outbox, one after another, until they have arrived.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::alert::{Notice, Outbox};
use gemba_core::metric;
use gemba_core::name::Name;
use gemba_core::receipt::Event;
use gemba_kernel::{Stop, TaskContext};
use tokio::sync::watch;

use crate::sink::Sink;

/// One route: where it leads, and what waits for it. It outlives the lives of its task.
pub(crate) struct Route {
    pub(crate) name: Name,
    pub(crate) sink: Sink,
    outbox: watch::Sender<Outbox>,
}

impl Route {
    pub(crate) fn new(name: Name, sink: Sink) -> Self {
        Self { name, sink, outbox: watch::Sender::new(Outbox::new()) }
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

    /// Delivers what comes until the node stops, and then what is there already.
    pub(crate) async fn run(&self, ctx: TaskContext) -> Result<(), Stop> {
        let mut news = self.outbox.subscribe();
        let stopped = ctx.stopped();
        tokio::pin!(stopped);
        let mut is_stopping = false;
        loop {
            let next = news.borrow_and_update().next();
            let Some(next) = next else {
                if is_stopping {
                    return Ok(());
                }
                tokio::select! {
                    biased;
                    () = &mut stopped => is_stopping = true,
                    changed = news.changed() => changed?,
                }
                continue;
            };
            let wait = next.due.since(ctx.system().now());
            if !wait.is_zero() {
                if is_stopping {
                    // What failed before is not waited for: the node goes down.
                    self.give_up(&next.notice, "the node stops".into(), &ctx);
                    self.outbox.send_modify(|outbox| outbox.delivered(next.id));
                    continue;
                }
                tokio::select! {
                    biased;
                    () = &mut stopped => is_stopping = true,
                    () = tokio::time::sleep(wait) => {}
                }
                continue;
            }
            self.attempt(next.id, &next.notice, &ctx).await;
        }
    }

    async fn attempt(&self, id: u64, notice: &Notice, ctx: &TaskContext) {
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
            }
        }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("name", &self.name).field("sink", &self.sink).finish_non_exhaustive()
    }
}
