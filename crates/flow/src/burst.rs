//! The burst handler: says how large each pool may be, in a surge, before a rise, and otherwise; and what it costs.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::burst::{Burst, BurstRules, Grant, SurgeChange};
use gemba_core::cost::{Ledger, Prices};
use gemba_core::forecast::{Forecast, ForecastRules};
use gemba_core::metric;
use gemba_core::receipt::Event;
use gemba_core::scaling::Bounds;
use gemba_core::time::Timestamp;
use gemba_kernel::{Context, Server, Stop};

use crate::floor::{Floor, PoolSurge, Surge};
use crate::pool::{Granted, PoolCell};

/// How often arrivals are counted.
const TICK: Duration = Duration::from_millis(250);

/// What the burst handler goes by.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Levelling {
    pub burst: BurstRules,
    pub forecast: ForecastRules,
    pub prices: Prices,
}

/// What the burst handler understands.
#[derive(Debug)]
pub(crate) enum BurstMsg {
    Tick,
}

/// The actor. What it has learnt outlives it on the floor.
pub(crate) struct BurstHandler {
    floor: Arc<Floor>,
    rules: Levelling,
    surge: Surge,
    booked_at: Timestamp,
}

impl BurstHandler {
    pub(crate) fn new(floor: Arc<Floor>) -> Self {
        let rules = *floor.levelling.latest();
        let mut surge = (*floor.surge.latest()).clone();
        surge.pools.resize_with(floor.pools.len(), || PoolSurge {
            forecast: Forecast::new(rules.forecast),
            arrived: 0,
            told: 0,
            calm: 0,
            held: 0,
        });
        Self { floor, rules, surge, booked_at: Timestamp::START }
    }

    fn tick(&mut self, ctx: &Context<BurstMsg>) {
        let now = ctx.now();
        self.rules = *self.floor.levelling.latest();
        if let Some(ledger) = &mut self.surge.ledger {
            ledger.set_prices(self.rules.prices);
        }
        self.book(now);
        let grant = self.look(now, ctx);
        let lending = self.floor.lending.latest();
        for (index, (pool, known)) in self.floor.pools.iter().zip(&mut self.surge.pools).enumerate() {
            known.learn(pool, self.rules.forecast, ctx.system().unix_ms(), now);
            let most = lending.workers_max(index, pool.rules().workers_max());
            let extra = self.rules.burst.extra_workers();
            let bounds = known.bounds(pool, most, grant, extra, ctx.system().unix_ms());
            let granted = pool.granted.latest();
            if granted.bounds != bounds || granted.most != most {
                pool.granted.publish(Granted { bounds, most, receipt: self.surge.receipt });
            }
        }
        self.floor.surge.publish(self.surge.clone());
    }

    /// Looks for a burst, tells what changed, and says what pools may have because of it.
    fn look(&mut self, now: Timestamp, ctx: &Context<BurstMsg>) -> Grant {
        let short =
            self.floor.pools.iter().any(|pool| pool.rules().workers_max() < pool.demand.latest().right);
        let spent = self.surge.ledger.as_ref().map_or(0, Ledger::surge_micro);
        let burst = self.surge.burst.get_or_insert_with(|| Burst::new(self.rules.burst, now));
        if *burst.rules() != self.rules.burst {
            burst.set_rules(self.rules.burst);
        }
        match burst.observe(self.floor.arrived(), short, now) {
            None => {}
            Some(SurgeChange::Started { fast_per_s, baseline_per_s }) => {
                let milli = |per_s: f64| (per_s * 1e3) as u64;
                let (fast_milli, baseline_milli) = (milli(fast_per_s), milli(baseline_per_s));
                let event = Event::SurgeStarted { fast_milli, baseline_milli };
                self.surge.receipt = Some(ctx.system().record(None, ctx.path(), event));
                self.surge.cost_before = spent;
            }
            Some(SurgeChange::Ended { lasted }) => {
                let cost_micro = spent.saturating_sub(self.surge.cost_before);
                let event = Event::SurgeEnded { lasted_ms: lasted.as_millis() as u64, cost_micro };
                ctx.system().record(self.surge.receipt.take(), ctx.path(), event);
            }
        }
        let view = burst.view(now);
        let instruments = ctx.system().instruments();
        instruments.gauge(&metric::ARRIVALS, &["fast"]).set(view.fast_per_s);
        if let Some(baseline) = view.baseline_per_s {
            instruments.gauge(&metric::ARRIVALS, &["baseline"]).set(baseline);
        }
        instruments.counter(&metric::SURGE_TIME, &[]).absolute(view.surged_ms / 1000);
        self.floor.arrivals.publish(view);
        let cost = self.surge.ledger.as_ref().map(Ledger::view).unwrap_or_default();
        instruments.gauge(&metric::COST, &["baseline"]).set(cost.baseline_micro as f64 / 1e6);
        instruments.gauge(&metric::COST, &["surge"]).set(cost.surge_micro as f64 / 1e6);
        self.floor.cost.publish(cost);
        burst.grant(now)
    }

    fn book(&mut self, now: Timestamp) {
        let pools = self.floor.pools.iter().map(|pool| {
            let (workers, most) = (pool.load.read().workers, pool.granted.latest().most);
            (workers.min(most), workers.saturating_sub(most))
        });
        let ledger =
            self.surge.ledger.get_or_insert_with(|| Ledger::new(self.rules.prices, self.floor.pools.len()));
        ledger.book(pools, now.since(self.booked_at));
        self.booked_at = now;
    }
}

impl PoolSurge {
    /// Adds what came to the pool since the last look to its forecast.
    fn learn(&mut self, pool: &PoolCell, rules: ForecastRules, unix_ms: u64, now: Timestamp) {
        if *self.forecast.rules() != rules {
            self.forecast.set_rules(rules);
        }
        let told = pool.demand.latest().arrived;
        // A dispatcher that was started anew counts from zero.
        self.arrived += if told < self.told { told } else { told - self.told };
        self.told = told;
        self.forecast.observe(self.arrived, unix_ms, now);
    }

    /// The size a pool may have whose maximum is `most` with what it has lent and borrowed.
    fn bounds(&mut self, pool: &PoolCell, most: u32, grant: Grant, extra: u32, unix_ms: u64) -> Bounds {
        let workers = pool.load.read().workers;
        match grant {
            Grant::None => self.calm = workers,
            Grant::Whole => self.held = workers,
            Grant::Fading { .. } => {}
        }
        let fades = matches!(grant, Grant::Fading { .. });
        let beyond = if fades { self.held.saturating_sub(most) } else { extra };
        Bounds {
            workers_min: self.workers_min(pool, unix_ms).min(most),
            workers_max: most.saturating_add(grant.of(beyond)),
            fading: fades.then(|| self.calm + grant.of(self.held.saturating_sub(self.calm))),
        }
    }

    /// The least size: that of the rules, or what a rise that is foreseen will need.
    fn workers_min(&self, pool: &PoolCell, unix_ms: u64) -> u32 {
        // Read once: they may be changed meanwhile.
        let rules = pool.rules();
        let service = pool.demand.latest().service;
        let Some(per_s) = self.forecast.rise(unix_ms) else { return rules.workers_min() };
        rules.right_for(per_s * service.as_secs_f64()).clamp(rules.workers_min(), rules.workers_max())
    }
}

impl Server for BurstHandler {
    type Msg = BurstMsg;

    async fn init(&mut self, ctx: &mut Context<BurstMsg>) -> Result<(), Stop> {
        self.booked_at = ctx.now();
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
