//! Kaizen: measures each line second by second, and tells when its share of failures changes step.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::ladder::{Ladder, LadderRules, Step};
use gemba_core::light::Light;
use gemba_core::metric;
use gemba_core::receipt::{BreakerState, Event};
use gemba_core::time::Timestamp;
use gemba_core::view::LineView;
use gemba_kernel::{Context, Instruments, Server, Stop};
use hdrhistogram::Histogram;

use crate::floor::Floor;
use crate::line::LineCell;
use crate::meter::{Counts, Ended};

/// How often the lines are measured.
const TICK: Duration = Duration::from_secs(1);

/// Over how many ticks rates and quantiles are taken.
const WINDOW: usize = 10;

/// What kaizen understands.
#[derive(Debug)]
pub(crate) enum KaizenMsg {
    Tick,
}

/// The actor.
pub(crate) struct Kaizen {
    floor: Arc<Floor>,
    rules: LadderRules,
    records: Vec<Record>,
}

/// What is kept of one line.
struct Record {
    ladder: Ladder,
    counts: Counts,
    window: VecDeque<Second>,
}

/// One tick of a line.
struct Second {
    outcomes: u64,
    lasted: Duration,
    latency_us: Histogram<u64>,
    at: Timestamp,
}

impl Kaizen {
    pub(crate) fn new(floor: Arc<Floor>, rules: LadderRules) -> Self {
        Self { floor, rules, records: Vec::new() }
    }

    fn tick(&mut self, ctx: &Context<KaizenMsg>) {
        let now = ctx.now();
        let instruments = ctx.system().instruments();
        let mut views = Vec::with_capacity(self.records.len());
        for (line, record) in self.floor.lines.iter().zip(&mut self.records) {
            let counts = line.meter.counts();
            record.measure(line, counts, now, instruments);
            if let Some(Step { from, to, failures, outcomes }) = record.climb(counts, now) {
                let event = Event::LadderMoved { line: line.name.clone(), from, to, failures, outcomes };
                ctx.system().record(None, ctx.path(), event);
            }
            views.push(record.view(line));
        }
        self.floor.line_views.publish(views);
        self.floor.ladders.publish(self.records.iter().map(|record| record.ladder.clone()).collect());
        self.publish(instruments, ctx.system().board().overall);
    }

    fn publish(&self, to: &Instruments, overall: Light) {
        for pool in &self.floor.pools {
            let (name, load) = (pool.name.as_str(), pool.load.read());
            to.gauge(&metric::WORKERS, &[name, "busy"]).set(f64::from(load.busy));
            to.gauge(&metric::WORKERS, &[name, "idle"])
                .set(f64::from(load.workers.saturating_sub(load.busy)));
            to.gauge(&metric::QUEUED, &[name]).set(f64::from(load.queued));
            to.gauge(&metric::UTILIZATION, &[name]).set(load.utilization);
        }
        for line in &self.floor.lines {
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
        for light in Light::ALL {
            to.gauge(&metric::LIGHT, &[light.colour()]).set(f64::from(u8::from(light == overall)));
        }
    }
}

impl Record {
    fn measure(&mut self, line: &LineCell, counts: Counts, now: Timestamp, to: &Instruments) {
        let name = line.name.as_str();
        let latency_us = line.meter.take_latencies();
        let histogram = to.histogram(&metric::LATENCY, &[name]);
        for bucket in latency_us.iter_recorded() {
            histogram.record_many(bucket.value_iterated_to() as f64 / 1e6, bucket.count_at_value() as usize);
        }
        let mut outcomes = 0;
        for ended in Ended::ALL {
            let new = counts.of(ended) - self.counts.of(ended);
            outcomes += new;
            to.counter(&metric::SIGNALS, &[name, ended.word()]).absolute(counts.of(ended));
        }
        to.gauge(&metric::IN_FLIGHT, &[name]).set(counts.in_flight() as f64);
        let last = self.window.back().map_or(now - TICK, |second| second.at);
        self.window.push_back(Second { outcomes, lasted: now.since(last), latency_us, at: now });
        if WINDOW < self.window.len() {
            self.window.pop_front();
        }
        self.counts = counts;
    }

    /// Failures are those of the work: what was refused or rejected did no harm.
    fn climb(&mut self, counts: Counts, now: Timestamp) -> Option<Step> {
        let failures = counts.of(Ended::Failed);
        self.ladder.observe(failures, failures + counts.of(Ended::Succeeded), now)
    }

    fn view(&self, line: &LineCell) -> LineView {
        let mut latency = Histogram::<u64>::new(2).expect("two digits are in range");
        let (mut outcomes, mut seconds) = (0, 0.0);
        for second in &self.window {
            latency.add(&second.latency_us).expect("it grows as needed");
            outcomes += second.outcomes;
            seconds += second.lasted.as_secs_f64();
        }
        let milli = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        LineView {
            throughput_per_s: if seconds > 0.0 { outcomes as f64 / seconds } else { 0.0 },
            p50_ms: milli(0.50),
            p99_ms: milli(0.99),
            ..line.view()
        }
    }
}

impl Server for Kaizen {
    type Msg = KaizenMsg;

    async fn init(&mut self, ctx: &mut Context<KaizenMsg>) -> Result<(), Stop> {
        let now = ctx.now();
        // An earlier life's light goes out by the rules, not by the crash.
        let ladders = self.floor.ladders.latest();
        let lines = self.floor.lines.iter().enumerate();
        self.records = lines
            .map(|(index, line)| Record {
                ladder: ladders.get(index).cloned().unwrap_or_else(|| Ladder::new(self.rules, now)),
                counts: line.meter.counts(),
                window: VecDeque::new(),
            })
            .collect();
        ctx.every(TICK, || KaizenMsg::Tick);
        Ok(())
    }

    async fn handle(&mut self, msg: KaizenMsg, ctx: &mut Context<KaizenMsg>) -> Result<(), Stop> {
        match msg {
            KaizenMsg::Tick => self.tick(ctx),
        }
        Ok(())
    }
}
