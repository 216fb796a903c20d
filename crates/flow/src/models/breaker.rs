//! The breaker's fast path: what callers read is what the breaker says, and a half-open one lets its probes through.

use std::time::Duration;

use gemba_core::breaker::{BreakerRules, Outcome};
use gemba_core::receipt::BreakerState;
use loom::thread;

use super::{NOW, check, guard};

/// Opens at the first failure, for a second; then one probe at a time.
fn rules() -> BreakerRules {
    BreakerRules::builder().failures_in_a_row(1).jitter(0.0, 0).build().unwrap()
}

#[test]
fn after_the_failure_that_opens_it_nobody_passes() {
    check(3, || {
        let (guard, _system) = guard(rules());
        let other = guard.clone();
        let thread = thread::spawn(move || {
            let Ok(pass) = other.enter(NOW) else { return };
            pass.spend(Outcome::Success, NOW);
        });
        guard.enter(NOW).expect("it is closed").spend(Outcome::Failure, NOW);
        // Whatever the other does, a success of before does not close it.
        assert!(guard.enter(NOW).is_err(), "it is open");
        thread.join().unwrap();
        assert!(guard.enter(NOW).is_err(), "it is open");
    });
}

#[test]
fn what_callers_read_is_what_the_breaker_says() {
    check(3, || {
        let (guard, _system) = guard(rules());
        let (first, second) = (guard.clone(), guard.clone());
        let failing = thread::spawn(move || {
            if let Ok(pass) = first.enter(NOW) {
                pass.spend(Outcome::Failure, NOW);
            }
        });
        let operator = thread::spawn(move || {
            second.force(BreakerState::Closed, "model", "to see");
        });
        failing.join().unwrap();
        operator.join().unwrap();
        let is_closed = guard.view().state == BreakerState::Closed;
        assert_eq!(guard.enter(NOW).is_ok(), is_closed, "{:?}", guard.view());
    });
}

#[test]
fn a_probe_that_closes_it_does_not_hide_that_it_opens_again() {
    check(3, || {
        let rules = BreakerRules::builder().failures_in_a_row(1).probes(1, Duration::from_secs(1), 1);
        let (guard, _system) = guard(rules.build().unwrap());
        guard.enter(NOW).expect("it is closed").spend(Outcome::Failure, NOW);
        let later = NOW + Duration::from_secs(3600);
        let other = guard.clone();
        let failing = thread::spawn(move || {
            if let Ok(pass) = other.enter(later) {
                pass.spend(Outcome::Failure, later);
            }
        });
        if let Ok(pass) = guard.enter(later) {
            pass.spend(Outcome::Success, later);
        }
        failing.join().unwrap();
        let is_closed = guard.view().state == BreakerState::Closed;
        assert_eq!(guard.enter(later).is_ok(), is_closed, "{:?}", guard.view());
    });
}

#[test]
fn one_probe_passes_at_a_time() {
    check(3, || {
        let (guard, _system) = guard(rules());
        guard.enter(NOW).expect("it is closed").spend(Outcome::Failure, NOW);
        let later = NOW + Duration::from_secs(3600);
        let other = guard.clone();
        let thread = thread::spawn(move || match other.enter(later) {
            Ok(pass) => {
                let state = other.view().state;
                pass.spend(Outcome::Ignored, later);
                Some(state)
            }
            Err(_) => None,
        });
        let mine = guard.enter(later).ok();
        if mine.is_some() {
            // While it is out, it is the only one.
            assert!(guard.enter(later).is_err(), "a second probe passed");
        }
        let passed = mine.is_some();
        drop(mine);
        let other = thread.join().unwrap();
        assert!(passed || other.is_some(), "somebody probes");
        assert!(other.is_none_or(|state| state != BreakerState::Closed));
    });
}
