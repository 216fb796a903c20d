//! Repetitions: all contenders in turn, forth and back, over the same trace; void runs are made again.

use std::sync::Arc;
use std::time::Duration;

use gemba::sim::client::Client;

use crate::contenders::Kind;
use crate::drive::{Run, run};
use crate::finding::Report;
use crate::trace::Trace;

/// How often a void run is made again; if that is void too its repetition counts as it is, and the table says so.
const AGAIN_MAX: usize = 1;

/// One repetition takes each contender through the trace of its seed, the next in the opposite order. The runs
/// that count are handed to `look`, and forgotten. Who needs less of the `warm_up` gets less.
pub(crate) fn rounds<T>(
    report: &mut Report,
    kinds: &[Kind],
    (rounds, warm_up): (u64, Duration),
    client: Client,
    trace: impl Fn(u64) -> Trace,
    look: impl Fn(&Run) -> T,
) -> Vec<Vec<T>> {
    let mut found: Vec<Vec<T>> = kinds.iter().map(|_| Vec::new()).collect();
    for seed in 1..=rounds {
        let trace = Arc::new(trace(seed));
        let mut order: Vec<usize> = (0..kinds.len()).collect();
        if seed % 2 == 0 {
            order.reverse();
        }
        for place in order {
            let skipped = warm_up.saturating_sub(kinds[place].warm_up(warm_up));
            let trace = if skipped.is_zero() { trace.clone() } else { Arc::new(trace.from(skipped)) };
            let counted = valid(report, kinds[place], &trace, client);
            found[place].push(look(&counted));
        }
    }
    found
}

fn valid(report: &mut Report, kind: Kind, trace: &Arc<Trace>, client: Client) -> Run {
    let mut again = 0;
    loop {
        let run = run(kind, trace, client);
        report.runs += 1;
        if run.is_void() {
            report.voids += 1;
            if again < AGAIN_MAX {
                again += 1;
                continue;
            }
            report.kept += 1;
        }
        report.lags_ms.push(run.lag.as_secs_f64() * 1e3);
        return run;
    }
}
