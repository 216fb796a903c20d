//! The alerter: follows the journal, decides by `core::alert`, and fills the outboxes of the routes.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::alert::{Alerts, Delivery};
use gemba_core::receipt::{Event, Seq};
use gemba_core::time::Timestamp;
use gemba_kernel::{Publisher, Stop, TaskContext};
use tokio::sync::watch;

use crate::route::Route;

/// How often it looks whether something is due without a receipt: a repetition, an escalation, an end.
const TICK: Duration = Duration::from_millis(500);

/// How many receipts it reads at one go.
const PAGE: usize = 1024;

/// What outlives a life of the alerter: the incidents, and the last receipt that is in them.
#[derive(Debug, Clone)]
pub(crate) struct Position {
    alerts: Alerts,
    read: Seq,
}

#[derive(Debug)]
pub(crate) struct Alerter {
    position: Publisher<Position>,
    routes: Vec<Arc<Route>>,
    /// Tells the routes that nothing comes any more.
    last: watch::Sender<bool>,
}

impl Alerter {
    pub(crate) fn new(alerts: Alerts, routes: Vec<Arc<Route>>, last: watch::Sender<bool>) -> Self {
        Self { position: Publisher::new(Position { alerts, read: Seq(0) }), routes, last }
    }

    /// Follows the journal until the node stops.
    pub(crate) async fn run(&self, ctx: TaskContext) -> Result<(), Stop> {
        let journal = ctx.system().journal();
        let mut newest = journal.subscribe();
        let mut position = (*self.position.latest()).clone();
        loop {
            let page = journal.after(position.read, None, PAGE);
            let mut deliveries = Vec::new();
            if 0 < page.forgotten {
                // Lights may have changed in what the journal no longer keeps; the board shows how they are.
                tracing::warn!(receipts = page.forgotten, "receipts were forgotten before they were read");
                let (now, unix_ms) = (ctx.system().now(), ctx.system().unix_ms());
                position.alerts.reconcile(&ctx.system().board(), now, unix_ms);
            }
            for receipt in &page.receipts {
                position.alerts.apply(receipt);
                // A light that was on for a moment is told as well: each change is judged as of its time.
                if let Event::LightChanged { .. } = receipt.event {
                    deliveries.extend(position.alerts.advance(receipt.at, receipt.unix_ms));
                }
            }
            let now = ctx.system().now();
            deliveries.extend(position.alerts.advance(now, ctx.system().unix_ms()));
            position.read = page.next;
            let has_told = !deliveries.is_empty();
            for delivery in deliveries {
                self.tell(delivery, &ctx);
            }
            if has_told || !page.receipts.is_empty() {
                // After the outboxes are filled: a life that is killed between both tells twice, never not.
                self.position.publish(position.clone());
                ctx.count(page.receipts.len() as u64, since(now, &ctx));
            }
            if position.read < journal.newest() {
                continue;
            }
            tokio::select! {
                biased;
                () = ctx.stopped() => {
                    // An operator may end it alone, and then another life of it goes on.
                    self.last.send_replace(ctx.system().is_stopping());
                    return Ok(());
                }
                changed = newest.changed() => changed?,
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    fn tell(&self, Delivery { notice, routes }: Delivery, ctx: &TaskContext) {
        let event = Event::Alerted {
            station: notice.station.clone(),
            light: notice.light,
            notice: notice.kind,
            routes: routes.clone(),
        };
        ctx.system().record(Some(notice.receipt), ctx.path(), event);
        for route in self.routes.iter().filter(|route| routes.contains(&route.name)) {
            route.push(notice.clone(), ctx);
        }
    }
}

fn since(begun: Timestamp, ctx: &TaskContext) -> Duration {
    ctx.system().now().since(begun)
}
