//! How many signals a line took and how many it refused, over several windows at once.
//!
//! A count from the start of the process hides an outage: after a good month, an hour of refusals is nothing.

use std::time::Duration;

use crate::time::Timestamp;
use crate::view::IntakeView;
use crate::window::{Tally, Window};

/// The windows, in seconds: what happens now, what lasts, and what has been. Source: FLOW-EVIDENCE, R8.
pub const WINDOWS_S: [u32; 3] = [10, 60, 300];

/// Buckets of each window.
const PARTS: u32 = 10;

/// What came to one line lately.
#[derive(Debug, Clone)]
pub struct Intake {
    windows: [Window; WINDOWS_S.len()],
    /// Refusals and arrivals since the node started, at the last look, and when that was.
    seen: Option<(Tally, Timestamp)>,
    since: Timestamp,
}

impl Intake {
    /// Nothing has come as of `now`.
    pub fn new(now: Timestamp) -> Self {
        let window = |span_s: u32| Window::new(Duration::from_secs(span_s.into()), PARTS, now);
        Self { windows: WINDOWS_S.map(window), seen: None, since: now }
    }

    /// Takes note of the refusals and arrivals since the node started; to be called every second or so. What was
    /// before the first call does not count.
    pub fn observe(&mut self, refused_total: u64, arrived_total: u64, now: Timestamp) {
        let total = Tally { failures: refused_total, outcomes: arrived_total };
        let (seen, begun) = self.seen.replace((total, now)).unwrap_or((total, now));
        let outcomes = total.outcomes.saturating_sub(seen.outcomes);
        let failures = total.failures.saturating_sub(seen.failures);
        for window in &mut self.windows {
            // Where it began to come: a bucket that has just begun would have it without its time.
            window.add(Tally { failures, outcomes }, begun);
        }
    }

    /// What the board shows of it.
    pub fn view(&mut self, now: Timestamp) -> Vec<IntakeView> {
        let watched = now.since(self.since);
        let view = |(window, window_s): (&mut Window, u32)| {
            let Tally { failures: refused, outcomes: arrived } = window.sum(now);
            // What is refused from a queue came earlier, in another window perhaps.
            let accepted = arrived.saturating_sub(refused);
            let seconds = window.covers(now).min(watched).as_secs_f64();
            let per_s = |count: u64| if 0.0 < seconds { count as f64 / seconds } else { 0.0 };
            let (accepted_per_s, refused_per_s) = (per_s(accepted), per_s(refused));
            IntakeView { window_s, accepted, refused, accepted_per_s, refused_per_s }
        };
        self.windows.iter_mut().zip(WINDOWS_S).map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(intake: &mut Intake, second: u64) -> Vec<(u32, f64, f64)> {
        let shown = intake.view(Timestamp::from_secs(second));
        shown.iter().map(|view| (view.window_s, view.accepted_per_s, view.refused_per_s)).collect()
    }

    #[test]
    fn an_outage_stands_in_the_short_window_first_and_leaves_it_first() {
        let mut intake = Intake::new(Timestamp::START);
        let (mut arrived, mut refused) = (5_000_000, 1_000);
        intake.observe(refused, arrived, Timestamp::START);
        // 100 a second, of which 40 are refused from the 590th second to the 600th.
        for second in 1..=600 {
            arrived += 100;
            refused += if 590 < second { 40 } else { 0 };
            intake.observe(refused, arrived, Timestamp::from_secs(second));
        }
        let [(10, now, turned), (60, minute, some), (300, _, few)] = rates(&mut intake, 600)[..] else {
            panic!("other windows");
        };
        assert_eq!((now, turned), (60.0, 40.0));
        assert!((93.0..94.0).contains(&minute) && (6.0..7.0).contains(&some), "{minute} {some}");
        assert!((1.0..2.0).contains(&few), "{few}");
        for second in 601..=620 {
            arrived += 100;
            intake.observe(refused, arrived, Timestamp::from_secs(second));
        }
        let after = rates(&mut intake, 620);
        assert!(after[0].2 <= 0.0, "{after:?}");
        assert!(0.0 < after[1].2, "{after:?}");
    }

    #[test]
    fn a_window_that_has_not_passed_yet_is_no_reason_for_a_small_rate() {
        let mut intake = Intake::new(Timestamp::from_secs(1000));
        intake.observe(0, 0, Timestamp::from_secs(1000));
        for second in 1..=5 {
            intake.observe(0, second * 10, Timestamp::from_secs(1000 + second));
        }
        assert_eq!(rates(&mut intake, 1005), [(10, 10.0, 0.0), (60, 10.0, 0.0), (300, 10.0, 0.0)]);
    }

    #[test]
    fn without_time_there_is_no_rate() {
        let mut intake = Intake::new(Timestamp::START);
        assert_eq!(rates(&mut intake, 0), [(10, 0.0, 0.0), (60, 0.0, 0.0), (300, 0.0, 0.0)]);
    }
}
