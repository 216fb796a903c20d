//! The burst handler: compares arrivals with their baseline, and gives the pools more hands in a surge.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::burst::{Burst, BurstRules, SurgeChange};
use gemba_core::metric;
use gemba_core::receipt::{Event, Seq};
use gemba_kernel::{Context, Server, Stop};

use crate::dispatcher::PoolMsg;
use crate::floor::{Floor, Surge};

/// How often arrivals are counted.
const TICK: Duration = Duration::from_millis(250);

/// What the burst handler understands.
#[derive(Debug)]
pub(crate) enum BurstMsg {
    Tick,
}

/// The actor.
pub(crate) struct BurstHandler {
    floor: Arc<Floor>,
    rules: BurstRules,
    surge: Surge,
    extra: u32,
}

impl BurstHandler {
    pub(crate) fn new(floor: Arc<Floor>, rules: BurstRules) -> Self {
        let surge = (*floor.surge.latest()).clone();
        Self { floor, rules, surge, extra: 0 }
    }

    fn tick(&mut self, ctx: &Context<BurstMsg>) {
        let now = ctx.now();
        let burst = self.surge.burst.get_or_insert_with(|| Burst::new(self.rules, now));
        let mut receipt = self.surge.receipt;
        match burst.observe(self.floor.arrived(), now) {
            None => {}
            Some(SurgeChange::Started { fast_per_s, baseline_per_s }) => {
                let milli = |per_s: f64| (per_s * 1e3) as u64;
                let (fast_milli, baseline_milli) = (milli(fast_per_s), milli(baseline_per_s));
                let event = Event::SurgeStarted { fast_milli, baseline_milli };
                receipt = Some(ctx.system().record(None, ctx.path(), event));
                self.surge.receipt = receipt;
            }
            Some(SurgeChange::Ended { lasted }) => {
                let event = Event::SurgeEnded { lasted_ms: lasted.as_millis() as u64 };
                receipt = Some(ctx.system().record(self.surge.receipt.take(), ctx.path(), event));
            }
        }
        let extra = burst.extra_workers(now);
        let view = burst.view();
        if extra != self.extra {
            self.extra = extra;
            self.tell(extra, receipt);
        }
        self.floor.surge.publish(self.surge.clone());
        let instruments = ctx.system().instruments();
        instruments.gauge(&metric::ARRIVALS, &["fast"]).set(view.fast_per_s);
        if let Some(baseline) = view.baseline_per_s {
            instruments.gauge(&metric::ARRIVALS, &["baseline"]).set(baseline);
        }
        self.floor.arrivals.publish(view);
    }
}

impl BurstHandler {
    fn tell(&self, extra: u32, receipt: Option<Seq>) {
        for pool in &self.floor.pools {
            // A pool between two lives goes on with what it was told last, and is told at the next change.
            let _ = pool.address.cast(PoolMsg::Surge { extra, receipt });
        }
    }
}

impl Server for BurstHandler {
    type Msg = BurstMsg;

    async fn init(&mut self, ctx: &mut Context<BurstMsg>) -> Result<(), Stop> {
        // The pools have restarted with this plant, and hold what they were told before.
        self.extra = self.surge.burst.as_ref().map_or(0, |burst| burst.extra_workers(ctx.now()));
        self.tell(self.extra, self.surge.receipt);
        ctx.every(TICK, || BurstMsg::Tick);
        Ok(())
    }

    async fn handle(&mut self, msg: BurstMsg, ctx: &mut Context<BurstMsg>) -> Result<(), Stop> {
        match msg {
            BurstMsg::Tick => self.tick(ctx),
        }
        Ok(())
    }
}
