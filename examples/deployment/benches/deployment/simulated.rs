//! What the rules of a fleet promise, in virtual time.

use crate::Scale;
use crate::rehearsal::{AILING, Ended, RATE, TODAY, Version, deliver};
use crate::table::{Row, Target};

pub(crate) fn rows(scale: &Scale) -> Vec<Row> {
    if !scale.wants("simulated") {
        return Vec::new();
    }
    let runs = scale.runs;
    let ended = |today: Version, next: Version| {
        (0..runs).map(|number| deliver(today, next, 20, number)).collect::<Vec<_>>()
    };
    let percent = |is: &dyn Fn(&Ended) -> bool, ended: &[Ended]| {
        ended.iter().filter(|ended| is(ended)).count() as f64 * 100.0 / runs as f64
    };
    let back = percent(&|ended| ended.back.is_some(), &ended(TODAY, TODAY));
    let equal = Row::new("an equal version wrongly taken back", "%", Some(Target::AtMost(1.0)), vec![back]);
    let mut rows =
        vec![equal.note(format!("of {runs} seeded deliveries in virtual time, {RATE} requests/s"))];
    let bad = Version { failing: 0.1, ..TODAY };
    for (what, today, next, within_s, target) in [
        ("fails 10 %, beside 0.1 %", TODAY, bad, 10, Some(Target::AtLeast(95.0))),
        ("fails 10 %, beside 1 %", AILING, bad, 10, None),
        ("3 x slower at the 99th", TODAY, Version { slower: 3.0, ..TODAY }, 300, Some(Target::AtLeast(95.0))),
    ] {
        let mut ended = ended(today, next);
        let saw = ended.iter().map(|ended| ended.saw).sum::<f64>() / runs as f64 * 100.0;
        let found = percent(&|ended| ended.back.is_some() && ended.after_s <= within_s, &ended);
        ended.sort_by_key(|ended| ended.after_s);
        let at = |share: f64| ended[((runs as f64 * share) as usize).min(ended.len() - 1)].after_s;
        let row = Row::new(&format!("{what}: back within {within_s} s"), "%", target, vec![found]);
        rows.push(row.note(format!(
            "median {} s, 90 % within {} s, all within {} s; saw {saw:.1} % of the requests",
            at(0.5),
            at(0.9),
            at(1.0)
        )));
    }
    rows
}
