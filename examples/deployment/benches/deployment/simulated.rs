//! What the rules of a fleet promise, in virtual time.

use crate::Scale;
use crate::rehearsal::{RATE, TODAY, Version, deliver};
use crate::table::{Row, Target};

pub(crate) fn rows(scale: &Scale) -> Vec<Row> {
    if !scale.wants("simulated") {
        return Vec::new();
    }
    let ended =
        |next: Version| (0..scale.runs).map(move |number| deliver(next, 20, number)).collect::<Vec<_>>();
    let runs = scale.runs;
    let back = ended(TODAY).into_iter().filter(|ended| ended.back.is_some()).count();
    let share = back as f64 * 100.0 / runs as f64;
    let note = format!("{back} of {runs} seeded deliveries in virtual time, {RATE} requests/s");
    let equal = Row::new("an equal version wrongly taken back", "%", Some(Target::AtMost(1.0)), vec![share]);
    let mut rows = vec![equal.note(note)];
    for (what, next) in [
        ("fails 10 %", Version { failing: 0.1, ..TODAY }),
        ("3 x slower at the 99th", Version { slower: 3.0, ..TODAY }),
    ] {
        let ended = ended(next);
        let saw = ended.iter().map(|ended| ended.saw).sum::<f64>() / runs as f64 * 100.0;
        let mut after: Vec<_> = ended.iter().map(|ended| ended.after_s as f64).collect();
        after.sort_by(f64::total_cmp);
        let at = |share: f64| after[((runs as f64 * share) as usize).min(after.len() - 1)];
        let target = (what == "fails 10 %").then_some(Target::AtMost(10.0));
        let row = Row::new(&format!("{what}: found, median of the same"), "s", target, vec![at(0.5)]);
        rows.push(row.note(format!(
            "90 % within {} s, all within {} s; saw {saw:.1} % of the requests",
            at(0.9),
            at(1.0)
        )));
    }
    rows
}
