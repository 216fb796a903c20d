//! Loads to look at, with one's own workers, work and deadlines, and what ours and others make of them.

use std::fmt;
use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::scaling::{ScaleRules, ScaleRulesError};
use gemba_core::time::Timestamp;
use serde::Serialize;

use crate::client::Client;
use crate::contenders::Contender;
use crate::engine::Run;
use crate::outcome::{BIN, Bin, Outcome};
use crate::plot::{Plot, Series};
use crate::workload::{Arrival, Model, Phase, Trouble, Workload};

/// How long an overload lasts before it is measured.
const WARM_UP: Duration = Duration::from_secs(15);

/// What goes before a spike or a trouble, and the load then and afterwards.
const BEFORE: Duration = Duration::from_secs(20);
const BEFORE_SPIKE: f64 = 0.7;
const BEFORE_TROUBLE: f64 = 0.8;

/// What goes before them if the pool changes its size: it takes a minute to know what is normal.
const BEFORE_SIZED: Duration = Duration::from_secs(80);

/// How long is watched whether things become well again.
const AFTER: Duration = Duration::from_secs(60);

/// Signals a scenario may bring, as a trace; those before and after a trouble included.
const SIGNALS_MAX: f64 = crate::trace::SIGNALS_MAX as f64;

const WORKERS_MAX: u32 = 10_000;
const TIMES_MAX: f64 = 100.0;
const LASTS_MAX: Duration = Duration::from_secs(3600);

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Scenario {
    /// A steady load.
    Overload {
        /// In times of the capacity.
        times: f64,
        /// How long it is measured, after 15 s.
        lasts: Duration,
    },
    /// A load of 0.7, a higher one, and 0.7 again.
    Spike {
        /// The higher one, in times of the capacity.
        times: f64,
        /// How long it lasts.
        lasts: Duration,
    },
    /// A load of 0.8, slow work for a while, and callers who try again.
    RetryStorm {
        /// By which factor work is slower.
        slower: f64,
        /// For how long.
        lasts: Duration,
        /// How callers try again.
        client: Client,
    },
    /// A load of 0.8 and slow work for a while.
    BrownOut {
        /// By which factor work is slower.
        slower: f64,
        /// For how long.
        lasts: Duration,
    },
    /// What was recorded.
    Trace {
        /// In order, one at least; see [`trace::parse`](crate::trace::parse).
        arrivals: Vec<Arrival>,
    },
}

/// What is wrong with one setting.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// A pool of no workers, or of too many.
    #[error("{workers} workers; give 1 to {WORKERS_MAX}")]
    Workers {
        /// The refused number.
        workers: u32,
    },
    /// The pool could not change its size between these.
    #[error(transparent)]
    Sizing(#[from] ScaleRulesError),
    /// A time is zero or too long.
    #[error("{name} is {value:?}; give more than zero and at most {LASTS_MAX:?}")]
    Time {
        /// Which.
        name: &'static str,
        /// The refused time.
        value: Duration,
    },
    /// A factor is none, or too large.
    #[error("{name} is {value}; give a number above 0 and at most {TIMES_MAX}")]
    Factor {
        /// Which.
        name: &'static str,
        /// The refused number.
        value: f64,
    },
    /// Service times would not vary, or without measure.
    #[error("the coefficient of variation is {cv}; give a number from 0 to 10")]
    Variation {
        /// The refused number.
        cv: f64,
    },
    /// There would be no end to it.
    #[error(
        "this would be {signals:.0} signals, more than {SIGNALS_MAX:.0}; take fewer workers, longer work, \
         less load or a shorter time"
    )]
    Signals {
        /// How many.
        signals: f64,
    },
}

/// Everything wrong with the settings.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingErrors(pub Vec<SettingError>);

impl fmt::Display for SettingErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&faults.join("\n"))
    }
}

impl std::error::Error for SettingErrors {}

/// What one controller made of a scenario, in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Which controller.
    pub controller: &'static str,
    /// Answers in time per second, over what the workers could do.
    pub goodput_ratio: f64,
    /// The share of critical signals that were answered in time.
    pub critical_served_ratio: f64,
    /// The share of normal signals that were answered in time.
    pub normal_served_ratio: f64,
    /// The share of batch signals that were answered in time.
    pub batch_served_ratio: f64,
    /// The median time from an attempt to its answer.
    pub p50_ms: f64,
    /// The time that 99 % of the answers did not exceed.
    pub p99_ms: f64,
    /// Answers that came after the deadline.
    pub late: u64,
    /// Attempts that were refused, or turned out of the queue, for each signal.
    pub shed_ratio: f64,
    /// Attempts for each signal.
    pub attempts_ratio: f64,
    /// Seconds from the end of the trouble until all was well again; `null` if it never was, or there was none.
    pub recovery_s: Option<f64>,
    /// Workers the pool had at most.
    pub workers_most: u32,
    /// A digest of all decisions: the same for the same seed, on every machine.
    pub decisions: String,
    /// Whether the run was broken off after 200 000 000 events: what would have come later is in no figure.
    pub broken_off: bool,
}

/// What a scenario happens to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Settings {
    /// The pool; for a trace, the mean service time is that of the trace.
    pub model: Model,
    /// The most workers it may grow to, and back; `None` if it keeps its size.
    pub workers_max: Option<u32>,
    /// Where arrivals and work come from.
    pub seed: u64,
}

/// What came of a scenario.
#[derive(Debug, Clone)]
pub struct Report {
    /// What it was, in words.
    pub title: String,
    /// The pool.
    pub model: Model,
    /// The seed.
    pub seed: u64,
    /// Whether there was something to recover from.
    pub has_trouble: bool,
    /// The figures, in the order of the contenders.
    pub summaries: Vec<Summary>,
    /// What happened when, in the same order.
    pub histories: Vec<(&'static str, Vec<Bin>)>,
}

impl Scenario {
    /// Runs it, for each contender with the same signals.
    ///
    /// # Errors
    ///
    /// [`SettingErrors`] names every setting that is out of range; nothing was run.
    pub fn run(&self, settings: Settings, contenders: &[Contender]) -> Result<Report, SettingErrors> {
        let Settings { mut model, workers_max, seed } = settings;
        if let Self::Trace { arrivals } = self {
            model.service = mean_service(arrivals);
        }
        let before = if workers_max.is_some() { BEFORE_SIZED } else { BEFORE };
        let mut faults = self.faults(&model, before);
        let sizing = workers_max.map(|most| ScaleRules::builder().workers(model.workers, most).build());
        let sizing = sizing.transpose().map_err(|error| faults.push(error.into())).unwrap_or_default();
        if !faults.is_empty() {
            return Err(SettingErrors(faults));
        }
        let workload = self.workload(&model, before, seed);
        let trouble_ends = self.trouble_lasts().map(|lasts| before + lasts);
        let client = match self {
            Self::RetryStorm { client, .. } => *client,
            Self::Overload { .. } | Self::Spike { .. } | Self::BrownOut { .. } | Self::Trace { .. } => {
                Client::ONCE
            }
        };
        let measured_from = match self {
            Self::Overload { .. } => Timestamp::START + WARM_UP,
            Self::Spike { .. } | Self::RetryStorm { .. } | Self::BrownOut { .. } | Self::Trace { .. } => {
                Timestamp::START
            }
        };
        let run = Run { model, workload: &workload, client, seed, measured_from, sizing };
        let judge = |contender: &Contender| {
            // Its latencies go before the next one brings its own.
            let outcome = run.through(&mut *contender.controller(&model));
            (summary(&outcome, trouble_ends), (outcome.controller, outcome.history))
        };
        let (summaries, histories) = contenders.iter().map(judge).unzip();
        let has_trouble = trouble_ends.is_some();
        Ok(Report { title: self.to_string(), model, seed, has_trouble, summaries, histories })
    }

    fn faults(&self, model: &Model, before: Duration) -> Vec<SettingError> {
        let is_time = |value: Duration| !value.is_zero() && value <= LASTS_MAX;
        let is_factor = |value: f64| 0.0 < value && value <= TIMES_MAX;
        let mut faults = Vec::new();
        let mut check = |is_fine: bool, fault| {
            if !is_fine {
                faults.push(fault);
            }
        };
        let Model { workers, service, cv, deadline, .. } = *model;
        check((1..=WORKERS_MAX).contains(&workers), SettingError::Workers { workers });
        check(is_time(service), SettingError::Time { name: "the service time", value: service });
        check(is_time(deadline), SettingError::Time { name: "the deadline", value: deadline });
        check((0.0..=10.0).contains(&cv), SettingError::Variation { cv });
        let (name, factor, lasts) = match self {
            Self::Overload { times, lasts } | Self::Spike { times, lasts } => ("the load", *times, *lasts),
            Self::RetryStorm { slower, lasts, .. } | Self::BrownOut { slower, lasts } => {
                ("the factor", *slower, *lasts)
            }
            Self::Trace { .. } => return faults,
        };
        check(is_factor(factor), SettingError::Factor { name, value: factor });
        check(is_time(lasts), SettingError::Time { name: "the time it lasts", value: lasts });
        if faults.is_empty() {
            let phases = self.phases(model, before);
            let signals: f64 = phases.iter().map(|phase| phase.signals(model)).sum();
            if SIGNALS_MAX < signals {
                faults.push(SettingError::Signals { signals });
            }
        }
        faults
    }

    /// What arrives; a trace brings its own.
    fn phases(&self, model: &Model, before: Duration) -> Vec<Phase> {
        match self {
            Self::Overload { times, lasts } => vec![model.phase(WARM_UP + *lasts, *times)],
            Self::Spike { times, lasts } => {
                let calm = |lasts| model.phase(lasts, BEFORE_SPIKE);
                vec![calm(before), model.phase(*lasts, *times), calm(AFTER)]
            }
            Self::RetryStorm { lasts, .. } | Self::BrownOut { lasts, .. } => {
                vec![model.phase(before + *lasts + AFTER, BEFORE_TROUBLE)]
            }
            Self::Trace { .. } => Vec::new(),
        }
    }

    fn workload(&self, model: &Model, before: Duration, seed: u64) -> Workload {
        let drawn = || Workload::poisson(model, &self.phases(model, before), seed);
        match self {
            Self::Overload { .. } | Self::Spike { .. } => drawn(),
            Self::RetryStorm { slower, lasts, .. } | Self::BrownOut { slower, lasts } => {
                let (from, to) = (Timestamp::START + before, Timestamp::START + before + *lasts);
                drawn().with(Trouble { from, to, slower: *slower })
            }
            Self::Trace { arrivals } => {
                let last = arrivals.last().map_or(Timestamp::START, |arrival| arrival.at);
                // Its last signals have time for their answers.
                Workload::recorded(arrivals.clone(), last + model.deadline)
            }
        }
    }

    fn trouble_lasts(&self) -> Option<Duration> {
        match self {
            Self::Spike { lasts, .. } | Self::RetryStorm { lasts, .. } | Self::BrownOut { lasts, .. } => {
                Some(*lasts)
            }
            Self::Overload { .. } | Self::Trace { .. } => None,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overload { times, lasts } => write!(f, "{times} times the capacity for {lasts:?}"),
            Self::Spike { times, lasts } => {
                write!(f, "{times} times the capacity for {lasts:?}, {BEFORE_SPIKE} else")
            }
            Self::RetryStorm { slower, lasts, client } => {
                write!(
                    f,
                    "work {slower} times as long for {lasts:?} at a load of {BEFORE_TROUBLE}, {}",
                    client.name
                )
            }
            Self::BrownOut { slower, lasts } => {
                write!(f, "work {slower} times as long for {lasts:?} at a load of {BEFORE_TROUBLE}")
            }
            Self::Trace { arrivals } => write!(f, "a trace of {} signals", arrivals.len()),
        }
    }
}

fn mean_service(arrivals: &[Arrival]) -> Duration {
    let sum: Duration = arrivals.iter().map(|arrival| arrival.service).sum();
    sum / u32::try_from(arrivals.len()).unwrap_or(u32::MAX).max(1)
}

fn summary(outcome: &Outcome, trouble_ends: Option<Duration>) -> Summary {
    let offered: u64 = outcome.tiers.iter().map(|tier| tier.offered).sum();
    Summary {
        controller: outcome.controller,
        goodput_ratio: outcome.goodput(),
        critical_served_ratio: outcome.served(Tier::Critical),
        normal_served_ratio: outcome.served(Tier::Normal),
        batch_served_ratio: outcome.served(Tier::Batch),
        p50_ms: outcome.latency_ms(0.5),
        p99_ms: outcome.latency_ms(0.99),
        late: outcome.late,
        shed_ratio: outcome.shed(),
        attempts_ratio: outcome.attempts as f64 / offered.max(1) as f64,
        recovery_s: trouble_ends.and_then(|ends| outcome.recovery(ends)).map(|after| after.as_secs_f64()),
        workers_most: outcome.history.iter().map(|bin| bin.workers).max().unwrap_or_default(),
        decisions: format!("{:016x}", outcome.decisions),
        broken_off: outcome.broken_off,
    }
}

impl Report {
    /// What arrives and what each controller answers in time, second by second.
    pub fn svg(&self) -> String {
        let per_second = |bins: &[Bin], count: fn(&Bin) -> u32| -> Vec<(f64, f64)> {
            let seconds = bins.chunks_exact((1000 / BIN.as_millis()) as usize).enumerate();
            let sum = |bins: &[Bin]| bins.iter().map(|bin| f64::from(count(bin))).sum::<f64>();
            seconds.map(|(second, bins)| (second as f64, sum(bins))).collect()
        };
        let answered = |(name, bins): &(&'static str, Vec<Bin>)| Series {
            name,
            points: per_second(bins, |bin| bin.answered),
        };
        let mut series: Vec<_> = self.histories.iter().map(answered).collect();
        if let Some((_, bins)) = self.histories.first() {
            series.push(Series { name: "offered", points: per_second(bins, |bin| bin.offered) });
        }
        Plot {
            title: format!("{}, seed {}", self.title, self.seed),
            x: "seconds".to_owned(),
            y: "answered in time per second".to_owned(),
            // What is offered may be ten times as much, and would flatten the rest.
            y_max: Some(1.5 * self.model.capacity_per_s()),
            log_x: false,
            series,
        }
        .svg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_all_named_and_nothing_runs() {
        let model = Model { workers: 0, cv: -1.0, ..Model::default() };
        let scenario = Scenario::Overload { times: 101.0, lasts: Duration::ZERO };
        let errors =
            scenario.run(Settings { model, workers_max: None, seed: 1 }, &[Contender::Ours]).unwrap_err();
        assert_eq!(errors.0.len(), 4, "{errors}");
        let model = Model { workers: 10_000, ..Model::default() };
        let scenario = Scenario::Overload { times: 10.0, lasts: Duration::from_secs(60) };
        let errors =
            scenario.run(Settings { model, workers_max: None, seed: 1 }, &[Contender::Ours]).unwrap_err();
        assert!(errors.to_string().contains("signals, more than 5000000"), "{errors}");
    }

    #[test]
    fn what_goes_before_and_comes_after_counts_towards_the_limit() {
        let secs = Duration::from_secs;
        let model = |workers, service| Model { workers, service, ..Model::default() };
        let signals = |scenario: &Scenario, model: Model, before| match scenario.faults(&model, before)[..] {
            [] => 0.0,
            [SettingError::Signals { signals }] => signals,
            ref others => panic!("{others:?}"),
        };
        // 0.7 of a million a second for 80 s, and 0.1 of it for 10 s.
        let spike = Scenario::Spike { times: 0.1, lasts: secs(10) };
        let found = signals(&spike, model(1_000, Duration::from_millis(1)), BEFORE);
        assert!((found - 57e6).abs() < 1.0, "{found}");
        // 0.8 of 200 000 a second for 90 s, and of 50 000 a second for 150 s if the pool may change its size.
        let storm = Scenario::RetryStorm { slower: 4.0, lasts: secs(10), client: Client::IN_STEP };
        let found = signals(&storm, model(10_000, Duration::from_millis(50)), BEFORE);
        assert!((found - 14.4e6).abs() < 1.0, "{found}");
        let smaller = model(1_000, Duration::from_millis(20));
        assert!(signals(&storm, smaller, BEFORE) < 1.0);
        let found = signals(&storm, smaller, BEFORE_SIZED);
        assert!((found - 6e6).abs() < 1.0, "{found}");
    }

    #[test]
    fn a_trace_is_measured_against_its_own_work() {
        let text = "at_ms,service_ms\n".to_owned() + &"0,10\n".repeat(20);
        let arrivals = crate::trace::parse(&text).unwrap();
        let model = Model { workers: 20, ..Model::default() };
        let report = Scenario::Trace { arrivals }
            .run(Settings { model, workers_max: None, seed: 1 }, &[Contender::Ours])
            .unwrap();
        let ours = &report.summaries[0];
        assert_eq!(report.model.service, Duration::from_millis(10));
        assert_eq!((ours.late, ours.p99_ms), (0, 10.0));
        assert!((ours.normal_served_ratio - 1.0).abs() < 1e-9 && ours.recovery_s.is_none());
        assert!(report.svg().contains("a trace of 20 signals"));
    }

    #[test]
    fn a_wait_of_hours_is_told_whole() {
        let text = "at_ms,service_ms\n0,3600000\n0,3600000\n7200000,0\n";
        let arrivals = crate::trace::parse(text).unwrap();
        let model = Model { workers: 1, ..Model::default() };
        let report = Scenario::Trace { arrivals }
            .run(Settings { model, workers_max: None, seed: 1 }, &[Contender::NoControl])
            .unwrap();
        let longest = report.summaries[0].p99_ms;
        assert!((longest - 7_200_000.0).abs() < 1e-3, "{longest}");
    }

    #[test]
    fn a_pool_that_may_grow_serves_what_one_of_its_first_size_sheds() {
        let scenario = Scenario::Overload { times: 2.0, lasts: Duration::from_secs(30) };
        let model = Model { workers: 8, ..Model::default() };
        let run = |workers_max| {
            let settings = Settings { model, workers_max, seed: 1 };
            scenario.run(settings, &[Contender::Ours]).unwrap().summaries.remove(0)
        };
        let (kept, grown) = (run(None), run(Some(40)));
        assert_eq!(kept.workers_most, 8);
        assert!(0.4 < kept.shed_ratio && grown.shed_ratio < 0.01, "{kept:?} {grown:?}");
        assert!((16..=40).contains(&grown.workers_most), "{grown:?}");
        let error = scenario.run(Settings { model, workers_max: Some(4), seed: 1 }, &[Contender::Ours]);
        assert!(error.unwrap_err().to_string().contains("8 to 4"));
    }
}
