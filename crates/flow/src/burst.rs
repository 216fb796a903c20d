//! The burst handler: compares arrivals with their baseline, and gives the pools more hands in a surge.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::burst::{Burst, BurstRules, SurgeChange};
use gemba_core::metric;
use gemba_core::receipt::{Event, Seq};
use gemba_kernel::{Context, Server, Stop};

use crate::dispatcher::PoolMsg;
use crate::floor::Floor;

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
    burst: Option<Burst>,
    extra: u32,
    surge: Option<Seq>,
}

impl BurstHandler {
    pub(crate) fn new(floor: Arc<Floor>, rules: BurstRules) -> Self {
        Self { floor, rules, burst: None, extra: 0, surge: None }
    }

    fn tick(&mut self, ctx: &Context<BurstMsg>) {
        let now = ctx.now();
        let burst = self.burst.get_or_insert_with(|| Burst::new(self.rules, now));
        let mut receipt = self.surge;
        match burst.observe(self.floor.arrived(), now) {
            None => {}
            Some(SurgeChange::Started { fast_per_s, baseline_per_s }) => {
                let milli = |per_s: f64| (per_s * 1e3) as u64;
                let (fast_milli, baseline_milli) = (milli(fast_per_s), milli(baseline_per_s));
                let event = Event::SurgeStarted { fast_milli, baseline_milli };
                self.surge = Some(ctx.system().record(None, ctx.path(), event));
                receipt = self.surge;
            }
            Some(SurgeChange::Ended { lasted }) => {
                let event = Event::SurgeEnded { lasted_ms: lasted.as_millis() as u64 };
                receipt = Some(ctx.system().record(self.surge.take(), ctx.path(), event));
            }
        }
        let extra = burst.extra_workers(now);
        let view = burst.view();
        if extra != self.extra {
            self.extra = extra;
            for pool in &self.floor.pools {
                // A pool between two lives starts without a surge and is told at the next change.
                let _ = pool.address.cast(PoolMsg::Surge { extra, receipt });
            }
        }
        let instruments = ctx.system().instruments();
        instruments.gauge(&metric::ARRIVALS, &["fast"]).set(view.fast_per_s);
        if let Some(baseline) = view.baseline_per_s {
            instruments.gauge(&metric::ARRIVALS, &["baseline"]).set(baseline);
        }
        self.floor.arrivals.publish(view);
    }
}

impl Server for BurstHandler {
    type Msg = BurstMsg;

    async fn init(&mut self, ctx: &mut Context<BurstMsg>) -> Result<(), Stop> {
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
