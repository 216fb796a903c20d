//! Property tests of supervision: against a naive model, and its invariants under any order of reports.
//!
//! `PROPTEST_CASES` says how many cases each property is tried with; with `SUPERVISION_LOG=1` a case that
//! fails tells its steps and the commands they led to.

use std::time::Duration;

use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy as Generator, prop_oneof, proptest};
use proptest::sample::select;

use super::{AutoShutdown, Backoff, ChildKind, ChildRules, Flags, GiveUp, Intensity, Restart, Strategy};
use crate::exit::ExitReason;
use crate::name::Name;
use crate::time::Timestamp;

mod found;
mod model;
mod world;

/// What times and periods are made of: few values, so that boundaries are met.
const UNIT: Duration = Duration::from_millis(100);

/// How one start turns out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Runs,
    Ignores,
    Fails,
}

/// What failing starts fail with.
fn no_luck() -> ExitReason {
    ExitReason::Error { message: "no luck".into() }
}

fn gave_up(flags: &Flags, name: &Name, what: &str, reason: &ExitReason) -> ExitReason {
    let Intensity { restarts, period } = flags.intensity;
    ExitReason::GaveUp {
        restarts: restarts + 1,
        limit: restarts,
        period_ms: u64::try_from(period.as_millis()).unwrap(),
        last: format!("child '{name}' {what}: {reason}").into(),
    }
}

/// Whether one more restart is within the intensity, by counting them all.
fn fits(intensity: Intensity, restarts: &[Timestamp], now: Timestamp) -> bool {
    let recent = restarts.iter().filter(|restart| now.since(**restart) <= intensity.period);
    recent.count() < intensity.restarts as usize
}

fn cases(default: u32) -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 1500,
        ..ProptestConfig::with_cases(wanted.unwrap_or(default))
    }
}

fn reasons() -> impl Generator<Value = ExitReason> {
    let why = || "done".into();
    select(vec![
        ExitReason::Normal,
        ExitReason::Shutdown,
        ExitReason::ShutdownWith { why: why() },
        ExitReason::Error { message: why() },
        ExitReason::Panic { message: why(), location: None },
        ExitReason::Killed,
        ExitReason::Killed,
    ])
}

fn outcomes() -> impl Generator<Value = Outcome> {
    prop_oneof![4 => Just(Outcome::Runs), 1 => Just(Outcome::Ignores), 2 => Just(Outcome::Fails)]
}

/// Rules that any supervisor with this auto-shutdown takes.
fn rules(auto_shutdown: AutoShutdown) -> impl Generator<Value = ChildRules> {
    let restart = select(vec![Restart::Permanent, Restart::Transient, Restart::Temporary]);
    let kind = select(vec![ChildKind::Worker, ChildKind::Supervisor]);
    (restart, weighted(0.7), kind).prop_map(move |(restart, significant, kind)| {
        let rules = ChildRules { restart, significant, kind };
        match rules.check(auto_shutdown) {
            None => rules,
            Some(_) => ChildRules { significant: false, ..rules },
        }
    })
}

fn flags(backoff: impl Generator<Value = Backoff>) -> impl Generator<Value = Flags> {
    let strategy =
        select(vec![Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne, Strategy::Dynamic]);
    let auto = select(vec![AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant]);
    let give_up = select(vec![GiveUp::Abnormally, GiveUp::Cleanly]);
    // Where restarts are plenty, the rest has time to happen.
    let restarts = prop_oneof![2 => 0u32..6, 1 => Just(1000u32)];
    (strategy, restarts, 1u32..8, auto, backoff, give_up, 5usize..9).prop_map(
        |(strategy, restarts, units, auto_shutdown, backoff, give_up, children_max)| {
            let flags = Flags {
                strategy,
                intensity: Intensity { restarts, period: UNIT * units },
                auto_shutdown,
                backoff,
                give_up,
                children_max,
            };
            match &flags.check()[..] {
                [] => flags,
                _ => Flags { auto_shutdown: AutoShutdown::AnySignificant, ..flags },
            }
        },
    )
}

fn backoffs() -> impl Generator<Value = Backoff> {
    let waits = (1u32..4, 0u32..9, 0u32..9).prop_map(|(first, more, healthy)| Backoff {
        first: UNIT * first,
        max: UNIT * (first + more),
        healthy_after: UNIT * healthy,
    });
    prop_oneof![Just(Backoff::default()), waits]
}

/// The flags of a supervisor and the children it starts with; a dynamic one starts with none.
fn supervisors(backoff: impl Generator<Value = Backoff>) -> impl Generator<Value = (Flags, Vec<ChildRules>)> {
    flags(backoff).prop_flat_map(|flags| {
        let children = if flags.strategy == Strategy::Dynamic { 0..1 } else { 0..6 };
        (Just(flags), vec(rules(flags.auto_shutdown), children))
    })
}

fn name(number: usize) -> Name {
    format!("child-{number}").parse().unwrap()
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn with_immediate_reports_it_does_what_the_model_does(
        (flags, children, steps, script) in supervisors(Just(Backoff::default())).prop_flat_map(
            |(flags, children)| {
                let steps = vec(model::steps(flags.auto_shutdown), 0..60);
                (Just(flags), Just(children), steps, vec(outcomes(), 0..60))
            },
        )
    ) {
        model::compare(flags, &children, &steps, &script);
    }

    #[test]
    fn in_any_order_of_reports_it_keeps_its_promises(
        (flags, children, steps) in supervisors(backoffs()).prop_flat_map(|(flags, children)| {
            (Just(flags), Just(children), vec(world::steps(flags.auto_shutdown), 0..120))
        })
    ) {
        world::World::new(flags, &children).run(&steps);
    }

    #[test]
    fn in_a_storm_of_crashes_it_keeps_its_promises(
        (flags, children) in supervisors(backoffs()), steps in vec(world::storm(), 0..120)
    ) {
        let intensity = Intensity { restarts: 1000, ..flags.intensity };
        let backoff = Backoff { healthy_after: UNIT * 50, ..flags.backoff };
        world::World::new(Flags { intensity, backoff, ..flags }, &children).run(&steps);
    }

    #[test]
    fn a_wait_is_half_of_the_doubled_one_at_least_and_never_above_the_longest(
        backoff in backoffs(), tries in 0u32..80, seed: u64
    ) {
        let bounds = |tries| world::wait_between(&backoff, tries);
        let (least, most) = bounds(tries);
        assert!((least..=most).contains(&backoff.delay(tries, seed)));
        assert!(most <= backoff.max);
        assert!(most <= bounds(tries + 1).1, "the range of waits never shrinks");
    }
}
