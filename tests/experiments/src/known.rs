//! Targets that are missed, and why: all others must be met.

use crate::finding::{Finding, Report};

/// A target that is not met for a reason that is known.
#[derive(Debug)]
struct KnownMiss {
    number: &'static str,
    /// Words the case or the figure holds.
    holds: &'static str,
    why: &'static str,
}

/// All of them. Who mends one takes it out.
const KNOWN: &[KnownMiss] = &[KnownMiss {
    number: "E1s",
    holds: "goodput / capacity",
    why: "the one worker idles now and then, as half of the deadline is a queue of six signals (decision 0025); with eighteen it would idle for a twentieth of the time, and most would be late",
}];

/// Why this target is missed, if that is known.
pub(crate) fn of(number: &str, finding: &Finding) -> Option<&'static str> {
    let says = |miss: &&KnownMiss| {
        miss.number == number && (finding.case.contains(miss.holds) || finding.figure.contains(miss.holds))
    };
    finding.known.or_else(|| KNOWN.iter().find(says).map(|miss| miss.why))
}

/// Whether each target is met, or known not to be. Void runs show neither.
pub(crate) fn is_as_known(report: &Report) -> bool {
    !report.is_void()
        && report.findings.iter().all(|finding| finding.is_met() || of(report.number, finding).is_some())
}
