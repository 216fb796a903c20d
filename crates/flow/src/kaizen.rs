//! Kaizen: measures each line second by second, and tells when its failures, its budget or its speed change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::band::Band;
use gemba_core::baseline::{Baseline, BaselineRules, Comparison, Measured};
use gemba_core::burn_rate::{BurnRules, BurnStep};
use gemba_core::control::ControlError;
use gemba_core::jidoka::JidokaRules;
use gemba_core::ladder::{LadderRules, LevelRules, Measure, Step};
use gemba_core::light::Light;
use gemba_core::metric;
use gemba_core::name::Name;
use gemba_core::pool_health::{PoolFacts, PoolHealth, PoolHealthRules, PoolMoved};
use gemba_core::receipt::{BreakerState, Event, Receipt, Seq};
use gemba_core::time::Timestamp;
use gemba_core::view::{BoardView, LineState};
use gemba_kernel::{Context, Instruments, Reply, Server, Stop};

use crate::floor::Floor;
use crate::line::LineCell;
use crate::meter::Ended;

pub(crate) mod file;
mod levels;
mod record;
mod served;
mod stations;

pub(crate) use levels::Levels;
use record::{Record, Studied};
use served::Pools;
use stations::Stations;

/// How often the lines are measured.
const TICK: Duration = Duration::from_secs(1);

/// How often the pools are looked at: a queue that comes and goes within a second is seen as well.
const LOOK: Duration = Duration::from_millis(100);

/// Over how long the bottleneck is sought.
const BOTTLENECK_WINDOW: Duration = Duration::from_secs(60);

/// How far back a failure may be that a step of the ladder names as its cause: the ladder's window by default.
const LADDER_LOOKS_BACK: Duration = Duration::from_secs(60);

/// What kaizen understands.
#[derive(Debug)]
pub(crate) enum KaizenMsg {
    Tick,
    Look,
    /// Takes the window so far for the line's baseline.
    Accept {
        line: Name,
        by: Arc<str>,
        reply: Reply<Result<Seq, ControlError>>,
    },
}

/// What kaizen goes by while it runs; the regulator changes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Measuring {
    pub ladder: LadderRules,
    pub levels: LevelRules,
    pub baseline: BaselineRules,
    pub burn: BurnRules,
    pub pools: PoolHealthRules,
}

/// Where kaizen keeps baselines, and what it writes into them.
#[derive(Debug, Clone, Default)]
pub(crate) struct KaizenRules {
    /// Where the baselines are kept, if anywhere.
    pub file: Option<PathBuf>,
    /// What stands in a baseline for the build it was taken from.
    pub build: Arc<str>,
}

/// The actor.
pub(crate) struct Kaizen {
    floor: Arc<Floor>,
    rules: KaizenRules,
    /// What it goes by now.
    measuring: Arc<Measuring>,
    records: Vec<Record>,
    pools: Pools,
    stations: Stations,
    stations_since: Timestamp,
}

impl Kaizen {
    pub(crate) fn new(floor: Arc<Floor>, rules: KaizenRules) -> Self {
        let stations_since = Timestamp::START;
        let (pools, stations) = (Pools::new(&floor.pools), Stations::default());
        let measuring = floor.measuring.latest();
        Self { floor, rules, measuring, records: Vec::new(), pools, stations, stations_since }
    }

    async fn tick(&mut self, ctx: &Context<KaizenMsg>) {
        let now = ctx.now();
        let instruments = ctx.system().instruments();
        let mut views = Vec::with_capacity(self.records.len());
        let mut firsts = Vec::new();
        self.follow(now);
        let jidoka = *self.floor.jidoka.latest();
        let baselines = self.floor.baselines.latest();
        let lines = self.floor.lines.iter().zip(&self.floor.serves);
        for ((line, serves), record) in lines.zip(&mut self.records) {
            let counts = line.meter.counts();
            let latencies = line.meter.take_latencies(|pool, latencies| self.pools.note(pool, latencies));
            record.measure(line, counts, latencies, now, instruments);
            let (steps, burn) = record.climb(now);
            for (index, (defect, step)) in steps.into_iter().enumerate() {
                let Some(Step { from, to, failures, outcomes }) = step else { continue };
                // What got better did so because of what had got worse; for what gets worse, the last failure that
                // left a receipt stands for all of them.
                let last = record.learnt.steps[index];
                let cause =
                    if to < from { last } else { newest_failure(line, serves, &self.floor, ctx).max(last) };
                let line = line.name.clone();
                let event = Event::LadderMoved { line, defect, from, to, failures, outcomes };
                record.learnt.steps[index] = Some(ctx.system().record(cause, ctx.path(), event));
            }
            if let Some(BurnStep { from, to, rate }) = burn {
                let burn_milli = (rate * 1e3) as u64;
                let event = Event::BurnMoved { line: line.name.clone(), from, to, burn_milli };
                ctx.system().record(None, ctx.path(), event);
            }
            let baseline = baselines.get(&line.name);
            match record.study(baseline, &self.measuring.baseline, now) {
                None => {}
                Some(Studied::First(measured)) => firsts.push((line.name.clone(), measured)),
                Some(Studied::Compared(comparison, p95_us_now)) => {
                    let p95_us_then = baseline.map_or(0, |baseline| baseline.p95_us);
                    let ends = (p95_us_then, p95_us_now);
                    tell_comparison(&line.name, comparison, ends, &mut record.learnt.regressed, ctx);
                }
            }
            record.time(line, instruments);
            line.account.publish(&line.name, &line.meter, instruments);
            line.follow_ups.tell(&line.name, ctx.system(), ctx.path());
            let recent = record.recent();
            if let Some(ratio) = recent.success_ratio() {
                instruments.gauge(&metric::SUCCESS, &[line.name.as_str()]).set(ratio);
            }
            let queued =
                || serves.iter().map(|pool| u64::from(self.floor.pools[*pool].load.read().queued)).sum();
            let known = |measure| match measure {
                Measure::P95 => Some(recent.level_us(0.95)),
                Measure::P99 => Some(recent.level_us(0.99)),
                Measure::Queued => Some(queued()),
                Measure::Processor | Measure::Memory | Measure::Connections => None,
            };
            record.learnt.levels.observe(Some(&line.name), known, &jidoka, ctx);
            views.push(recent.view(line, record.learnt.intake.view(now)));
        }
        self.watch_node(&jidoka, ctx);
        for (line, measured) in firsts {
            self.set_baseline(line, measured, "the first full window".into(), ctx).await;
        }
        self.pools.publish(&self.floor, instruments);
        self.watch_pools(ctx);
        self.conclude(now);
        self.floor.line_views.publish(views);
        self.show(now, instruments);
        self.floor.learnt.publish(self.records.iter().map(|record| record.learnt.clone()).collect());
        self.publish(instruments, &ctx.system().board());
    }

    /// Goes by the rules that are in force now.
    fn follow(&mut self, now: Timestamp) {
        for (line, record) in self.floor.lines.iter().zip(&mut self.records) {
            record.learnt.burn.set_rules(*line.objective.latest(), self.measuring.burn);
        }
        let measuring = self.floor.measuring.latest();
        if measuring == self.measuring {
            return;
        }
        self.measuring = measuring;
        self.records.iter_mut().for_each(|record| record.learnt.set_rules(&self.measuring, now));
        self.hold_node_to_its_rules();
    }

    fn hold_node_to_its_rules(&self) {
        let mut node = (*self.floor.node_levels.latest()).clone();
        node.set_rules(&Measure::OF_NODE, &self.measuring);
        self.floor.node_levels.publish(node);
    }

    /// Holds what the machine told last against the thresholds of the node.
    fn watch_node(&self, jidoka: &JidokaRules, ctx: &Context<KaizenMsg>) {
        let levels = self.floor.node_levels.latest();
        if levels.is_empty() {
            return;
        }
        let machine = self.floor.health_view.latest().machine;
        let known = |measure| match measure {
            Measure::Processor => machine.processor_ratio.map(|ratio| (ratio * 1e3) as u64),
            Measure::Memory => machine.memory_bytes,
            Measure::Connections => machine.connections.map(u64::from),
            Measure::P95 | Measure::P99 | Measure::Queued => None,
        };
        let mut levels = (*levels).clone();
        levels.observe(None, known, jidoka, ctx);
        self.floor.node_levels.publish(levels);
    }

    /// Puts each pool into its class of health.
    fn watch_pools(&self, ctx: &Context<KaizenMsg>) {
        for pool in &self.floor.pools {
            let counts = self.floor.done_in(pool);
            let failures_total = counts.of(Ended::Failed) + counts.of(Ended::TimedOut);
            let outcomes_total = failures_total + counts.of(Ended::Succeeded);
            let facts = PoolFacts { failures_total, outcomes_total, ..pool.facts() };
            let mut watch = (*pool.watch.latest()).clone();
            watch.set_rules(self.measuring.pools);
            if let Some(PoolMoved { from, to, why }) = watch.observe(&facts, ctx.now()) {
                let event = Event::PoolHealthMoved { pool: pool.name.clone(), from, to, why };
                ctx.system().record(None, ctx.path(), event);
            }
            pool.watch.publish(watch);
        }
    }

    /// Publishes what was learnt of each line.
    fn show(&mut self, now: Timestamp, to: &Instruments) {
        let baselines = self.floor.baselines.latest();
        let mut studies = Vec::with_capacity(self.records.len());
        for (line, record) in self.floor.lines.iter().zip(&mut self.records) {
            let (name, baseline) = (line.name.as_str(), baselines.get(&line.name));
            if let Some(baseline) = baseline {
                to.gauge(&metric::P95_BASELINE, &[name]).set(baseline.p95_us as f64 / 1e6);
            }
            match record.learnt.comparison {
                Some(Comparison::Sound { p95_ratio } | Comparison::Regression { p95_ratio, .. }) => {
                    to.gauge(&metric::P95_RATIO, &[name]).set(p95_ratio);
                }
                Some(Comparison::TooFew { .. }) | None => {}
            }
            studies.push(record.study_view(&line.name, baseline, now));
        }
        self.floor.studies.publish(studies);
    }

    /// Seeks the bottleneck when its window is over.
    fn conclude(&mut self, now: Timestamp) {
        let lasted = now.since(self.stations_since);
        if lasted < BOTTLENECK_WINDOW {
            return;
        }
        self.stations_since = now;
        let through: Vec<_> = self.records.iter_mut().map(Record::take_through).collect();
        let findings = self.stations.conclude(&self.floor, &through, lasted.as_secs_f64());
        self.floor.bottlenecks.publish(findings);
    }

    async fn accept(&mut self, line: Name, by: &str, ctx: &Context<KaizenMsg>) -> Result<Seq, ControlError> {
        let Some(index) = self.floor.lines.iter().position(|known| known.name == line) else {
            return Err(ControlError::UnknownLine { line, known: self.floor.line_names().into() });
        };
        let (outcomes, needed) =
            (self.records[index].study_outcomes(), self.measuring.baseline.outcomes_min());
        if outcomes < needed {
            return Err(ControlError::TooFewOutcomes { line, outcomes, needed });
        }
        let record = &mut self.records[index];
        let measured = record.take_study(ctx.now());
        record.learnt.comparison = None;
        let was_regressed = record.learnt.regressed.take();
        let receipt =
            self.set_baseline(line.clone(), measured, format!("accepted by {by}").into(), ctx).await;
        if was_regressed.is_some() {
            ctx.system().record(Some(receipt), ctx.path(), Event::RegressionOver { line });
        }
        Ok(receipt)
    }

    async fn set_baseline(
        &self,
        line: Name,
        measured: Measured,
        why: Arc<str>,
        ctx: &Context<KaizenMsg>,
    ) -> Seq {
        let outcomes = measured.latencies.count();
        let baseline = Baseline::new(measured, self.rules.build.clone(), ctx.system().unix_ms());
        let p95_us = baseline.p95_us;
        let mut baselines = (*self.floor.baselines.latest()).clone();
        baselines.set(line.clone(), baseline);
        self.floor.baselines.publish(baselines.clone());
        if let Some(path) = self.rules.file.clone() {
            let shown = path.display().to_string();
            let written = tokio::task::spawn_blocking(move || file::write(&path, &baselines)).await;
            // What was measured is kept in memory all the same; the next baseline is the next attempt.
            match written {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(file = shown, %error, "baselines not written"),
                Err(error) => tracing::error!(file = shown, %error, "baselines not written"),
            }
        }
        ctx.system().record(None, ctx.path(), Event::BaselineSet { line, p95_us, outcomes, why })
    }

    fn publish(&self, to: &Instruments, board: &BoardView) {
        for pool in &self.floor.pools {
            let (name, load) = (pool.name.as_str(), pool.load.read());
            to.gauge(&metric::WORKERS, &[name, "busy"]).set(f64::from(load.busy));
            to.gauge(&metric::WORKERS, &[name, "idle"])
                .set(f64::from(load.workers.saturating_sub(load.busy)));
            to.gauge(&metric::STAND_INS, &[name]).set(f64::from(*pool.stand_ins.latest()));
            to.gauge(&metric::QUEUED, &[name]).set(f64::from(load.queued));
            to.gauge(&metric::UTILIZATION, &[name]).set(load.utilization);
            let band = Band::of(load.utilization);
            for one in Band::ALL {
                let on = f64::from(u8::from(one == band));
                to.gauge(&metric::UTILIZATION_BAND, &[name, one.word()]).set(on);
            }
            to.counter(&metric::ROUTED, &[name]).absolute(pool.exchange.arrived());
            let bounds = [("min", pool.rules().workers_min()), ("max", pool.granted.latest().most)];
            for (bound, workers) in bounds {
                to.gauge(&metric::POOL_BOUNDS, &[name, bound]).set(f64::from(workers));
            }
            let class = pool.watch.latest().class();
            for one in PoolHealth::ALL {
                let on = f64::from(u8::from(one == class));
                to.gauge(&metric::POOL_HEALTH, &[name, one.word()]).set(on);
            }
            if let Some(liveness) = *pool.liveness.latest() {
                to.gauge(&metric::POOL_ALIVE, &[name]).set(f64::from(liveness.alive));
            }
        }
        for line in &self.floor.lines {
            let standing = line.gate.standing().state;
            for state in LineState::ALL {
                let on = f64::from(u8::from(state == standing));
                to.gauge(&metric::LINE_STATE, &[line.name.as_str(), &state.to_string()]).set(on);
            }
            let breaker = line.guard.view();
            for (state, word) in [
                (BreakerState::Closed, "closed"),
                (BreakerState::Open, "open"),
                (BreakerState::HalfOpen, "half_open"),
            ] {
                let on = f64::from(u8::from(breaker.state == state));
                to.gauge(&metric::BREAKER, &[breaker.name.as_str(), word]).set(on);
            }
        }
        for station in &board.stations {
            let light = f64::from(station.light as u8);
            to.gauge(&metric::STATION_LIGHT, &[station.name.as_str()]).set(light);
        }
        if let Some(verdict) = &board.verdict {
            to.gauge(&metric::WELL, &[]).set(f64::from(u8::from(verdict.well)));
        }
        for light in Light::ALL {
            to.gauge(&metric::LIGHT, &[light.colour()]).set(f64::from(u8::from(light == board.overall)));
        }
    }
}

/// The newest receipt of a failure of this line: its breaker opened, or a worker of one of its pools died.
fn newest_failure(line: &LineCell, serves: &[usize], floor: &Floor, ctx: &Context<KaizenMsg>) -> Option<Seq> {
    let from = ctx.now() - LADDER_LOOKS_BACK;
    let of_a_pool = |receipt: &Receipt| {
        let mut above = receipt.path.as_str().split('/').skip(3);
        above.next().is_some_and(|pool| serves.iter().any(|index| floor.pools[*index].name.as_str() == pool))
    };
    let is_failure = |receipt: &Receipt| {
        if let Event::BreakerMoved { breaker, to: BreakerState::Open, .. } = &receipt.event {
            return *breaker == line.name;
        }
        matches!(&receipt.event, Event::ChildExited { reason, .. } if !reason.is_clean())
            && of_a_pool(receipt)
    };
    let all = ctx.system().journal().after(Seq(0), None, usize::MAX).receipts;
    let recent = all.iter().rev().take_while(|receipt| from <= receipt.at);
    recent.into_iter().find(|receipt| is_failure(receipt)).map(|receipt| receipt.seq)
}

/// Tells of a regression when it begins and when it ends, not with each window in between.
fn tell_comparison(
    line: &Name,
    comparison: Comparison,
    (p95_us_then, p95_us_now): (u64, u64),
    regressed: &mut Option<Seq>,
    ctx: &Context<KaizenMsg>,
) {
    match comparison {
        Comparison::Regression { chance, .. } if regressed.is_none() => {
            let chance_millionths = (chance * 1e6) as u64;
            let line = line.clone();
            let event = Event::RegressionFound { line, p95_us_then, p95_us_now, chance_millionths };
            *regressed = Some(ctx.system().record(None, ctx.path(), event));
        }
        Comparison::Sound { .. } => {
            if let Some(cause) = regressed.take() {
                let event = Event::RegressionOver { line: line.clone() };
                ctx.system().record(Some(cause), ctx.path(), event);
            }
        }
        Comparison::Regression { .. } | Comparison::TooFew { .. } => {}
    }
}

impl Server for Kaizen {
    type Msg = KaizenMsg;

    async fn init(&mut self, ctx: &mut Context<KaizenMsg>) -> Result<(), Stop> {
        let now = ctx.now();
        // An earlier life's light goes out by the rules, not by the crash.
        let learnt = self.floor.learnt.latest();
        let lines = self.floor.lines.iter().enumerate();
        self.records = lines
            .map(|(index, line)| Record::new(learnt.get(index).cloned(), &self.measuring, line, now))
            .collect();
        // They may have changed since an earlier life looked, as those of the lines.
        self.hold_node_to_its_rules();
        self.stations_since = now;
        ctx.every(TICK, || KaizenMsg::Tick);
        ctx.every(LOOK, || KaizenMsg::Look);
        Ok(())
    }

    async fn handle(&mut self, msg: KaizenMsg, ctx: &mut Context<KaizenMsg>) -> Result<(), Stop> {
        match msg {
            KaizenMsg::Tick => self.tick(ctx).await,
            KaizenMsg::Look => self.stations.look(&self.floor),
            KaizenMsg::Accept { line, by, reply } => {
                let accepted = self.accept(line, &by, ctx).await;
                reply.send(accepted);
            }
        }
        Ok(())
    }
}
