//! The health monitor: asks every check at once, every few seconds, and waits for none longer than its time.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gemba_core::health::{Change, CheckState, Found, Health, HealthState, HealthView, MachineView, Minute};
use gemba_core::metric;
use gemba_core::receipt::{Event, Seq};
use gemba_core::time::Timestamp;
use gemba_kernel::{Context, Instruments, Server, Stop};
use tokio::task::{AbortHandle, JoinError};

use crate::floor::Floor;

mod check;
mod machine;

use check::Look;
pub use check::{Check, HealthSpec};
pub(crate) use check::{Fault, Source};
use machine::Sampler;

/// How long the machine is left alone between two readings, by its own clock: in the time of a test or a simulation
/// hours pass within a second, and each reading is a thread.
const REST: Duration = Duration::from_secs(1);

/// The timer of the next look.
const TICK: &str = "tick";

/// What the monitor understands.
#[derive(Debug)]
pub(crate) enum HealthMsg {
    /// Ask all checks.
    Tick,
    /// Take the rules that are in force now.
    Follow,
    /// A check answered, or was given up.
    Told { check: usize, found: Found, took: Duration },
    /// The machine was read; the sampler comes back, unless it panicked.
    Read(Box<Reading>),
}

/// What came of a reading of the machine.
pub(crate) struct Reading {
    sampler: Option<Sampler>,
    view: MachineView,
    took: Duration,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reading").field(&self.view).finish()
    }
}

/// A question that may not have been answered yet.
struct Asked {
    task: AbortHandle,
    at: Timestamp,
    /// By the machine's own clock.
    began: Instant,
    found: Option<Found>,
}

/// The actor. What it knows of the checks outlives it on the floor.
pub(crate) struct Monitor {
    floor: Arc<Floor>,
    sources: Arc<[Source]>,
    health: Health,
    /// For each check, the question asked last.
    asked: Vec<Option<Asked>>,
    /// At home, unless the machine is being read.
    sampler: Option<Sampler>,
    /// When the machine was read last, by its own clock.
    read_at: Option<Instant>,
    processor: Minute,
    machine: MachineView,
    /// The receipt that changed the state last.
    receipt: Option<Seq>,
}

impl Monitor {
    pub(crate) fn new(floor: Arc<Floor>, sources: Arc<[Source]>) -> Self {
        let Wellness { health, receipt } = (*floor.health.latest()).clone();
        let reads = sources.iter().any(|source| matches!(source, Source::Processor | Source::Memory));
        let period = health.rules().period();
        Self {
            floor,
            health,
            asked: sources.iter().map(|_| None).collect(),
            sources,
            sampler: reads.then(Sampler::new),
            read_at: None,
            processor: Minute::new(period),
            machine: MachineView::default(),
            receipt,
        }
    }

    /// Goes by the rules that are in force now, and asks again when they say so.
    fn follow(&mut self, ctx: &mut Context<HealthMsg>) {
        let rules = *self.floor.checking.latest();
        // What does not fit was refused before it was in force.
        if let Err(error) = self.health.set_rules(rules) {
            tracing::error!(%error, "the checks go by their old rules");
        }
        let period = self.health.rules().period();
        self.processor.set_period(period);
        ctx.start_timer(TICK, period, HealthMsg::Tick);
    }

    fn tick(&mut self, ctx: &Context<HealthMsg>) {
        self.read_machine(ctx);
        for (check, source) in self.sources.clone().iter().enumerate() {
            match source {
                Source::Processor | Source::Memory => {}
                Source::Queue => {
                    let pools = self.floor.pools.iter();
                    let queues = pools
                        .map(|pool| (pool.name.as_str(), pool.load.read()))
                        .map(|(name, now)| (name, now.queued, now.queue_max));
                    self.health.note(check, check::queue(queues), Duration::ZERO, ctx.now());
                }
                Source::Disk(look) => match self.asked[check].as_ref().filter(|asked| rests(asked.began)) {
                    None => self.ask(check, look, ctx),
                    Some(Asked { found: Some(found), .. }) => {
                        self.health.note(check, found.clone(), Duration::ZERO, ctx.now());
                    }
                    Some(_) => {}
                },
                Source::Asked(look) => self.ask(check, look, ctx),
            }
        }
        self.judge(ctx);
    }

    /// Asks a check, in a task of its own. One that has not ended since it was asked last is not asked again.
    fn ask(&mut self, check: usize, look: &Look, ctx: &Context<HealthMsg>) {
        let now = ctx.now();
        if let Some(asked) = self.asked[check].as_ref().filter(|asked| !asked.task.is_finished()) {
            let hangs = now.since(asked.at);
            // Its own time-out has not told yet, though it is over: one late answer counts once.
            if asked.found.is_none() && hangs < self.health.within(check).saturating_mul(2) {
                return;
            }
            let why = format!("it was asked {} s ago and has not ended", hangs.as_secs());
            self.health.note(check, Err(why.into()), hangs, now);
            return;
        }
        let within = self.health.within(check);
        let task = look.begin();
        let handle = task.abort_handle();
        self.asked[check] = Some(Asked { task: handle.clone(), at: now, began: Instant::now(), found: None });
        let (me, system) = (ctx.pinned(), ctx.system().clone());
        tokio::spawn(async move {
            let found = match tokio::time::timeout(within, task).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => Err(told(error)),
                Err(_) => {
                    handle.abort();
                    Err(format!("no answer within {within:?}").into())
                }
            };
            // A monitor that is gone has a successor that asks anew.
            let _ = me.cast(HealthMsg::Told { check, found, took: system.now().since(now) });
        });
    }

    /// Reads the machine in a thread that may block. While a reading hangs there is no other, and what it would
    /// have told is stale.
    fn read_machine(&mut self, ctx: &Context<HealthMsg>) {
        if self.read_at.is_some_and(rests) {
            if self.sampler.is_some() {
                self.note_machine(false, Duration::ZERO, ctx);
            }
            return;
        }
        let Some(mut sampler) = self.sampler.take() else { return };
        self.read_at = Some(Instant::now());
        let (me, system, begun) = (ctx.pinned(), ctx.system().clone(), ctx.now());
        tokio::task::spawn_blocking(move || {
            let read = std::panic::catch_unwind(AssertUnwindSafe(|| sampler.read()));
            let (sampler, view) = match read {
                Ok(view) => (Some(sampler), view),
                Err(_) => (None, MachineView::default()),
            };
            let took = system.now().since(begun);
            let _ = me.cast(HealthMsg::Read(Box::new(Reading { sampler, view, took })));
        });
    }

    fn machine_read(&mut self, reading: Reading, ctx: &Context<HealthMsg>) {
        let now = ctx.now();
        let Reading { sampler, view, took } = reading;
        let lost = sampler.is_none();
        self.sampler = Some(sampler.unwrap_or_else(Sampler::new));
        if let Some(ratio) = view.processor_now_ratio {
            self.processor.add(ratio, now);
        }
        let processor_ratio = self.processor.mean(now);
        self.machine = MachineView { processor_ratio, ..view };
        self.note_machine(lost, took, ctx);
        self.judge(ctx);
    }

    /// Says what the machine's last reading means for the checks of it.
    fn note_machine(&mut self, lost: bool, took: Duration, ctx: &Context<HealthMsg>) {
        let view = self.machine;
        for (check, source) in self.sources.clone().iter().enumerate() {
            let found = match source {
                Source::Processor => check::processor(view.processor_ratio, view.processor_now_ratio),
                Source::Memory => check::memory(view.memory_available_bytes, view.memory_bytes),
                Source::Queue | Source::Disk(_) | Source::Asked(_) => continue,
            };
            let found = if lost { Err("the machine could not be read".into()) } else { found };
            self.health.note(check, found, took, ctx.now());
            self.time(check, took, ctx);
        }
    }

    fn told(&mut self, check: usize, found: Found, took: Duration, ctx: &Context<HealthMsg>) {
        if let Some(asked) = &mut self.asked[check] {
            asked.found = Some(found.clone());
        }
        self.health.note(check, found, took, ctx.now());
        self.time(check, took, ctx);
        self.judge(ctx);
    }

    fn time(&self, check: usize, took: Duration, ctx: &Context<HealthMsg>) {
        if let Some(name) = self.health.name(check) {
            let histogram = ctx.system().instruments().histogram(&metric::CHECK_TIME, &[name.as_str()]);
            histogram.record(took.as_secs_f64());
        }
    }

    /// Tells what changed, and shows all of it.
    fn judge(&mut self, ctx: &Context<HealthMsg>) {
        let mut tipped = None;
        for change in self.health.look(ctx.now()) {
            match change {
                Change::Check { check, failing, must_pass, why } => {
                    let event = Event::CheckMoved { check, failing, must_pass, why };
                    tipped = Some(ctx.system().record(None, ctx.path(), event));
                }
                Change::Node { from, to, failing_milli, why } => {
                    let event = Event::HealthMoved { from, to, failing_milli, why };
                    // The check that tipped the scale is the cause.
                    self.receipt = Some(ctx.system().record(tipped, ctx.path(), event));
                }
            }
        }
        let view = HealthView { machine: self.machine, receipt: self.receipt, ..self.health.view(ctx.now()) };
        publish(&view, ctx.system().instruments());
        self.floor.health_view.publish(view);
        self.floor.health.publish(Wellness { health: self.health.clone(), receipt: self.receipt });
    }
}

/// What is known of the checks, for the next life of the monitor.
#[derive(Debug, Clone)]
pub(crate) struct Wellness {
    pub health: Health,
    pub receipt: Option<Seq>,
}

fn publish(view: &HealthView, to: &Instruments) {
    for state in [HealthState::Unknown, HealthState::Healthy, HealthState::Degraded] {
        let on = f64::from(u8::from(view.state == state));
        to.gauge(&metric::HEALTH, &[state.word()]).set(on);
    }
    to.gauge(&metric::HEALTH_FAILING, &[]).set(view.failing_ratio);
    for check in &view.checks {
        let failing = f64::from(u8::from(check.state == CheckState::Failing));
        to.gauge(&metric::CHECK_FAILING, &[check.name.as_str()]).set(failing);
    }
    let MachineView { processor_ratio, processor_now_ratio, .. } = view.machine;
    for (window, ratio) in [("minute", processor_ratio), ("now", processor_now_ratio)] {
        if let Some(ratio) = ratio {
            to.gauge(&metric::PROCESSOR, &[window]).set(ratio);
        }
    }
    let MachineView { memory_bytes, memory_available_bytes, memory_total_bytes, .. } = view.machine;
    for (what, bytes) in
        [("process", memory_bytes), ("available", memory_available_bytes), ("total", memory_total_bytes)]
    {
        if let Some(bytes) = bytes {
            to.gauge(&metric::MEMORY, &[what]).set(bytes as f64);
        }
    }
    if let Some(connections) = view.machine.connections {
        to.gauge(&metric::CONNECTIONS, &[]).set(f64::from(connections));
    }
}

/// Whether it was so little ago that the machine has nothing new to tell.
fn rests(began: Instant) -> bool {
    began.elapsed() < REST
}

/// Why a check did not come to an answer, in words.
fn told(error: JoinError) -> Arc<str> {
    let Ok(panic) = error.try_into_panic() else { return "it was ended before it answered".into() };
    let text = panic.downcast_ref::<&str>().copied();
    match text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)) {
        Some(text) => format!("it panicked: {text}").into(),
        None => "it panicked".into(),
    }
}

impl Server for Monitor {
    type Msg = HealthMsg;

    async fn init(&mut self, ctx: &mut Context<HealthMsg>) -> Result<(), Stop> {
        self.health.begin(ctx.now());
        self.follow(ctx);
        ctx.continue_with(HealthMsg::Tick);
        Ok(())
    }

    async fn handle(&mut self, msg: HealthMsg, ctx: &mut Context<HealthMsg>) -> Result<(), Stop> {
        match msg {
            HealthMsg::Tick => {
                ctx.start_timer(TICK, self.health.rules().period(), HealthMsg::Tick);
                self.tick(ctx);
            }
            HealthMsg::Follow => self.follow(ctx),
            HealthMsg::Told { check, found, took } => self.told(check, found, took, ctx),
            HealthMsg::Read(reading) => self.machine_read(*reading, ctx),
        }
        Ok(())
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // What is still being looked at is of no use to anybody.
        for asked in self.asked.iter().flatten() {
            asked.task.abort();
        }
    }
}
