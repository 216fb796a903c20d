//! Scenarios from a seed.

use std::time::Duration;

use gemba_core::supervision::{AutoShutdown, Restart, Strategy};
use gemba_kernel::Shutdown;

use crate::model::{Child, How, OnStop, Outcome, Scenario, Start, Step, Sup};
use crate::rng::Rng;

mod steps;

use steps::Steps;

/// A period that no scenario outlives.
const LONG_S: u32 = 3600;

/// A shutdown time that no child uses up.
const AMPLE: Duration = Duration::from_secs(60);

/// The scenario of a seed: always the same.
pub(crate) fn scenario(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    if rng.percent(1) {
        return window(seed, &mut rng);
    }
    let top = top(&mut rng);
    let steps = Steps::new(&top).make(&mut rng);
    Scenario { seed, top, steps }
}

/// Real time: the restarts before a wait of more than two periods no longer count after it.
fn window(seed: u64, rng: &mut Rng) -> Scenario {
    let intensity = 1 + rng.below(2) as u32;
    let strategy =
        rng.weighted(&[(1, Strategy::OneForOne), (1, Strategy::OneForAll), (1, Strategy::RestForOne)]);
    let children = ["a", "b"].map(plain).into();
    let top = Sup { strategy, intensity, period_s: 1, auto_shutdown: AutoShutdown::Never, children };
    let mut steps = Vec::new();
    for _ in 0..2 + rng.below(2) {
        for _ in 0..rng.below(intensity as usize + 1) {
            let id = if rng.percent(50) { "a" } else { "b" }.to_owned();
            steps.push(Step::End { id, how: How::Error });
        }
        steps.push(Step::Wait(Duration::from_millis(2300)));
    }
    for _ in 0..rng.below(intensity as usize + 2) {
        steps.push(Step::End { id: "a".to_owned(), how: How::Panic });
    }
    Scenario { seed, top, steps }
}

fn plain(id: &str) -> Child {
    Child {
        id: id.to_owned(),
        restart: Restart::Permanent,
        significant: false,
        shutdown: Shutdown::Within(AMPLE),
        on_stop: OnStop::Shutdown,
        starts: Vec::new(),
        below: None,
    }
}

fn intensity(rng: &mut Rng) -> u32 {
    rng.weighted(&[(10, 0), (20, 1), (20, 2), (20, 3), (15, 4), (15, 5)])
}

fn auto_shutdown(rng: &mut Rng, dynamic: bool) -> AutoShutdown {
    let all = if dynamic { 0 } else { 25 };
    rng.weighted(&[
        (50, AutoShutdown::Never),
        (25, AutoShutdown::AnySignificant),
        (all, AutoShutdown::AllSignificant),
    ])
}

fn top(rng: &mut Rng) -> Sup {
    let strategy = rng.weighted(&[
        (35, Strategy::OneForOne),
        (25, Strategy::OneForAll),
        (25, Strategy::RestForOne),
        (15, Strategy::Dynamic),
    ]);
    let dynamic = strategy == Strategy::Dynamic;
    let auto_shutdown = auto_shutdown(rng, dynamic);
    let mut sup =
        Sup { strategy, intensity: intensity(rng), period_s: LONG_S, auto_shutdown, children: Vec::new() };
    let count = if dynamic { 1 } else { rng.below(7) };
    for id in ["a", "b", "c", "d", "e", "f"].iter().take(count) {
        let nested = !dynamic && rng.percent(15);
        let child =
            if nested { nest(rng, id, auto_shutdown) } else { worker(rng, id, auto_shutdown, dynamic) };
        sup.children.push(child);
    }
    if sup.children.len() > 1 && rng.percent(1) {
        let twice = sup.children[0].id.clone();
        sup.children.last_mut().expect("there are two").id = twice;
    }
    sup
}

fn restart(rng: &mut Rng) -> Restart {
    rng.weighted(&[(45, Restart::Permanent), (35, Restart::Transient), (20, Restart::Temporary)])
}

/// Whether a child is significant; unless it has to be `valid`, now and then where that is refused.
fn significant(rng: &mut Rng, restart: Restart, auto_shutdown: AutoShutdown, valid: bool) -> bool {
    let allowed = restart != Restart::Permanent && auto_shutdown != AutoShutdown::Never;
    if allowed { rng.percent(40) } else { !valid && rng.percent(1) }
}

fn nest(rng: &mut Rng, id: &str, above: AutoShutdown) -> Child {
    let strategy =
        rng.weighted(&[(40, Strategy::OneForOne), (30, Strategy::OneForAll), (30, Strategy::RestForOne)]);
    let auto_shutdown = auto_shutdown(rng, false);
    let mut sup =
        Sup { strategy, intensity: intensity(rng), period_s: LONG_S, auto_shutdown, children: Vec::new() };
    for n in 1..=1 + rng.below(3) {
        let mut child = worker(rng, &format!("{id}.{n}"), auto_shutdown, false);
        // A fault in the spec of a nested supervisor is found when it starts in OTP, and before in ours.
        if child.significant && (child.restart == Restart::Permanent || auto_shutdown == AutoShutdown::Never)
        {
            child.significant = false;
        }
        sup.children.push(child);
    }
    let restart = restart(rng);
    let significant = significant(rng, restart, above, false);
    let shutdown = Shutdown::Infinity;
    let id = id.to_owned();
    Child {
        id,
        restart,
        significant,
        shutdown,
        on_stop: OnStop::Shutdown,
        starts: Vec::new(),
        below: Some(sup),
    }
}

/// A child without children. The rules of a dynamic supervisor's are valid: OTP checks its template when the
/// supervisor starts, and ours each child when it is added.
fn worker(rng: &mut Rng, id: &str, auto_shutdown: AutoShutdown, dynamic: bool) -> Child {
    let restart = restart(rng);
    let on_stop = rng.weighted(&[
        (55, OnStop::Shutdown),
        (6, OnStop::Normal),
        (6, OnStop::ShutdownWith),
        (6, OnStop::Error),
        (6, OnStop::Panic),
        (6, OnStop::Ignore),
        (15, OnStop::Hang),
    ]);
    let ample = Shutdown::Within(AMPLE);
    let shutdown = match on_stop {
        OnStop::Hang => rng.weighted(&[(1, ample), (1, Shutdown::Infinity)]),
        OnStop::Ignore => {
            let short = Shutdown::Within(Duration::from_millis(20 + rng.next() % 21));
            rng.weighted(&[(3, short), (1, Shutdown::Brutal)])
        }
        _ => rng.weighted(&[(20, Shutdown::Brutal), (50, ample), (30, Shutdown::Infinity)]),
    };
    let significant = significant(rng, restart, auto_shutdown, dynamic);
    let mut child =
        Child { id: id.to_owned(), restart, significant, shutdown, on_stop, starts: Vec::new(), below: None };
    if !child.is_task() {
        child.starts = starts(rng, shutdown, dynamic);
    }
    child
}

fn starts(rng: &mut Rng, shutdown: Shutdown, dynamic: bool) -> Vec<Start> {
    // OTP waits for a start as long as it takes; a start of ours that is to be stopped has the child's
    // shutdown time. So one that hangs is given ample time.
    let may_hang = match shutdown {
        Shutdown::Brutal => false,
        Shutdown::Within(limit) => limit >= AMPLE,
        Shutdown::Infinity => true,
    };
    let count = rng.weighted(&[(40, 0), (20, 2), (20, 3), (20, 5)]);
    (1..=count)
        .map(|n| {
            let (ok, ignore, error, panic, hang) = if n == 1 { (92, 3, 2, 1, 2) } else { (60, 8, 12, 5, 15) };
            // OTP 25 keeps a phantom of a dynamic child that declines its restart.
            let ignore = if dynamic && n > 1 { 0 } else { ignore };
            let hangs = rng.next() % (ok + ignore + error + panic + hang) < hang && may_hang;
            let then = if hangs {
                let ignore = u64::from(!dynamic || n == 1);
                rng.weighted(&[
                    (6, Outcome::Ok),
                    (2, Outcome::Error),
                    (ignore, Outcome::Ignore),
                    (1, Outcome::Panic),
                ])
            } else {
                rng.weighted(&[
                    (ok, Outcome::Ok),
                    (ignore, Outcome::Ignore),
                    (error, Outcome::Error),
                    (panic, Outcome::Panic),
                ])
            };
            Start { hangs, then }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_scenario() {
        for seed in 0..500 {
            assert_eq!(scenario(seed), scenario(seed));
        }
        assert_ne!(scenario(1), scenario(2));
    }

    #[test]
    fn every_kind_of_step_and_child_comes_up() {
        let all: String = (0..2000).map(|seed| scenario(seed).to_string()).collect();
        for word in [
            "one_for_one",
            "one_for_all",
            "rest_for_one",
            "dynamic",
            "significant",
            "Brutal",
            "Infinity",
            "hang-then-",
            "Ignore",
            "Panic",
            "supervises",
            "start_child",
            "terminate_child",
            "restart_child",
            "delete_child",
            "which_children",
            "count_children",
            "get_childspec",
            "is killed",
            "released",
            "shuts top down",
            "at once",
            "unknown message",
            "pass",
        ] {
            assert!(all.contains(word), "{word}");
        }
    }
}
