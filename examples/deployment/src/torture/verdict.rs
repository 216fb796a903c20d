//! Whether a history is one that may be: each delivery once, with one end, its steps in order; each order done once.

use std::collections::BTreeSet;

use crate::store::Past;
use crate::torture::stage::{BAD, BROKEN, REGIONS, STAGES};

/// A delivery that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) version: String,
    /// Whether the manager said yes.
    pub(crate) is_accepted: bool,
}

/// What came back for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was done.
    Done,
    /// It did not fit.
    Refused,
    /// The manager died first.
    None,
}

/// A person's order; the name it is signed with is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ordered {
    pub(crate) by: String,
    pub(crate) answer: Answer,
}

/// What is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Accepted deliveries that are not there or have no end, and orders that were answered and not done.
    pub(crate) lost: u64,
    /// Deliveries with two beginnings or ends, and orders that were done twice.
    pub(crate) doubled: u64,
    /// Each thing that is wrong, in words.
    pub(crate) wrong: Vec<String>,
}

/// Judges a history, the first delivery first.
pub(crate) fn judge(history: &[Past], asked: &[Asked], ordered: &[Ordered]) -> Verdict {
    let mut verdict = Verdict::default();
    for asked in asked.iter().filter(|asked| asked.is_accepted) {
        let ends = history.iter().filter(|past| past.id == asked.id && past.succeeded.is_some()).count();
        if ends == 0 {
            verdict.lost += 1;
            verdict.wrong.push(format!("delivery {} was accepted and has no end", asked.id));
        }
    }
    for past in history {
        if !asked.iter().any(|asked| asked.id == past.id && asked.version == past.to) {
            verdict.wrong.push(format!("delivery {} to {} was not asked for", past.id, past.to));
        }
        let steps: Vec<_> = past.steps.iter().map(|(_, what)| Step::parse(what, past)).collect();
        let begun = steps.iter().filter(|step| **step == Step::Begun).count();
        let ends = steps.iter().filter(|step| step.is_end()).count();
        if 1 < begun || 1 < ends {
            verdict.doubled += 1;
        }
        verdict.wrong.extend(illegal(past, &steps).map(|why| format!("delivery {}: {why}", past.id)));
    }
    verdict.wrong.extend(broken_chain(history));
    for order in ordered {
        let sign = format!("(by {})", order.by);
        let done =
            history.iter().flat_map(|past| &past.steps).filter(|(_, what)| what.ends_with(&sign)).count();
        let is_lost = order.answer == Answer::Done && done == 0;
        let is_doubled = usize::from(order.answer != Answer::Refused) < done;
        verdict.lost += u64::from(is_lost);
        verdict.doubled += u64::from(is_doubled);
        if is_lost || is_doubled {
            let answer = order.answer;
            verdict
                .wrong
                .push(format!("the order of {} was answered {answer:?} and done {done} times", order.by));
        }
    }
    verdict
}

/// A step as its words tell it.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// It waits for its turn.
    Waits,
    Begun,
    /// A region's requests are split from now on.
    Started {
        region: String,
        percent: u32,
    },
    /// It has this share now, or keeps it.
    Share {
        region: String,
        percent: u32,
    },
    RegionDone {
        region: String,
        is_last: bool,
    },
    Back,
    /// It never began, and never will.
    NotBegun,
    Unknown,
}

impl Step {
    fn parse(what: &str, past: &Past) -> Self {
        let to = &past.to;
        if what == format!("{to} is to follow {}", past.from.as_deref().unwrap_or("nothing")) {
            return Self::Begun;
        }
        if what.starts_with(&format!("{to} back to 0 %: ")) {
            return Self::Back;
        }
        if what.starts_with(&format!("{to} waits, ")) {
            return Self::Waits;
        }
        if what.starts_with(&format!("{to} not begun: ")) {
            return Self::NotBegun;
        }
        let Some((region, rest)) = what.split_once(": ") else { return Self::Unknown };
        let region = region.to_owned();
        if let Some(after) = rest.strip_prefix(&format!("everything to {to}")) {
            return Self::RegionDone { region, is_last: !after.contains(" is next") };
        }
        // "40 % to v2", "40 % to v2 (7 requests …)" or "paused at 40 % (7 requests …)".
        let share = rest.rsplit_once(" at ").map_or(rest, |(_, share)| share);
        match share.split_once(" %").and_then(|(percent, after)| Some((percent.parse().ok()?, after))) {
            Some((percent, after)) if after == format!(" to {to}") => Self::Started { region, percent },
            Some((percent, _)) => Self::Share { region, percent },
            None => Self::Unknown,
        }
    }

    const fn is_end(&self) -> bool {
        matches!(self, Self::Back | Self::NotBegun | Self::RegionDone { is_last: true, .. })
    }
}

/// The shares, in hundredths, that a delivery's version had in a region by what is written, from its beginning on.
pub(crate) fn shares_written(past: &Past, region: &str) -> BTreeSet<u32> {
    let mut shares = BTreeSet::from([0]);
    for (_, what) in &past.steps {
        let (here, percent) = match Step::parse(what, past) {
            Step::Started { region, percent } | Step::Share { region, percent } => (region, percent),
            Step::RegionDone { region, .. } => (region, 100),
            Step::Waits | Step::Begun | Step::Back | Step::NotBegun | Step::Unknown => continue,
        };
        if here == region {
            shares.insert(percent);
        }
    }
    shares
}

/// What of a delivery's steps cannot be.
fn illegal(past: &Past, steps: &[Step]) -> impl Iterator<Item = String> {
    let mut wrong = Vec::new();
    let mut regions = REGIONS.iter().peekable();
    let (mut is_begun, mut share) = (false, None);
    for (index, (step, (_, what))) in steps.iter().zip(&past.steps).enumerate() {
        let here = regions.peek().copied().copied();
        let is_here = |region: &String| here == Some(region.as_str());
        let is_legal = match step {
            Step::Waits | Step::NotBegun => !is_begun,
            Step::Begun => !std::mem::replace(&mut is_begun, true),
            Step::Started { region, percent } => {
                is_here(region) && share.replace(*percent).is_none() && *percent == STAGES[0]
            }
            Step::Share { region, percent } => {
                let is_stage = *percent == 100 || STAGES.contains(percent);
                is_here(region) && is_stage && share.replace(*percent).is_some_and(|share| share <= *percent)
            }
            Step::RegionDone { region, is_last } => {
                let was_shared = share.take().is_some() || past.from.is_none();
                let is_legal = is_here(region) && was_shared;
                regions.next();
                is_legal && *is_last == regions.peek().is_none()
            }
            Step::Back => is_begun,
            Step::Unknown => false,
        };
        if !is_legal || !is_begun && !matches!(step, Step::Waits | Step::NotBegun) {
            wrong.push(format!("step {} cannot be here: {what}", index + 1));
        }
        if step.is_end() && index + 1 != steps.len() {
            wrong.push(format!("it goes on after its end: {}", past.steps[index + 1].1));
        }
    }
    if past.steps.windows(2).any(|pair| pair[1].0 < pair[0].0) {
        wrong.push("its steps go back in time".to_owned());
    }
    let end = steps.last().filter(|step| step.is_end());
    if end.map(|step| matches!(step, Step::RegionDone { .. })) != past.succeeded || is_begun != past.is_begun
    {
        wrong.push(format!("its last step and its end, succeeded {:?}, do not agree", past.succeeded));
    }
    if past.succeeded.is_some() && past.ended_unix_ms != past.steps.last().map(|(unix_ms, _)| *unix_ms) {
        wrong.push("it ended at another time than its last step".to_owned());
    }
    if past.succeeded == Some(true) && [BAD, BROKEN].contains(&past.to.as_str()) {
        wrong.push(format!("{} must not arrive, and did", past.to));
    }
    wrong.into_iter()
}

/// What follows upon what: each delivery begins from what the one before left, and after it has ended.
fn broken_chain(history: &[Past]) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut stable, mut ended) = (None, Some(0));
    for past in history.iter().filter(|past| past.is_begun) {
        if past.from != stable {
            let from = past.from.as_deref().unwrap_or("nothing");
            let runs = stable.as_deref().unwrap_or("nothing");
            wrong.push(format!("delivery {} begins from {from}, and {runs} ran", past.id));
        }
        if ended.is_none_or(|ended| past.begun_unix_ms < ended) {
            wrong.push(format!("delivery {} began before the one before it had ended", past.id));
        }
        stable = if past.succeeded == Some(true) { Some(past.to.clone()) } else { past.from.clone() };
        ended = past.ended_unix_ms;
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(from: Option<&str>, to: &str, steps: &[&str], succeeded: Option<bool>) -> Past {
        let steps: Vec<_> = steps.iter().zip(1..).map(|(what, at)| (at, (*what).to_owned())).collect();
        let ended_unix_ms = steps.last().map(|(at, _)| *at).filter(|_| succeeded.is_some());
        let from = from.map(str::to_owned);
        Past {
            id: to.to_owned(),
            from,
            to: to.to_owned(),
            begun_unix_ms: 0,
            is_begun: steps.iter().any(|(_, what)| what.contains(" is to follow ")),
            ended_unix_ms,
            succeeded,
            why: None,
            steps,
        }
    }

    const ARRIVES: [&str; 11] = [
        "v2 is to follow v1",
        "us-west: 40 % to v2",
        "us-west: paused at 40 % (9 requests of v2 seen beside 9) (by 3)",
        "us-west: 40 % to v2 (9 requests of v2 seen beside 9)",
        "us-west: 60 % to v2 (30 requests of v2 seen beside 50)",
        "us-west: held: too few outcomes to compare at 60 % (3 requests of v2 seen beside 5)",
        "us-west: 100 % to v2 (30 requests of v2 seen beside 50)",
        "us-west: everything to v2; us-east is next",
        "us-east: 40 % to v2",
        "us-east: 60 % to v2 (30 requests of v2 seen beside 50) (by 4)",
        "us-east: everything to v2",
    ];

    fn asked(versions: &[&str]) -> Vec<Asked> {
        let asked = |version: &&str| Asked {
            id: (*version).to_owned(),
            version: (*version).to_owned(),
            is_accepted: true,
        };
        versions.iter().map(asked).collect()
    }

    fn first() -> Past {
        let steps = [
            "v1 is to follow nothing",
            "us-west: everything to v1; us-east is next",
            "us-east: everything to v1",
        ];
        Past { ended_unix_ms: Some(3), ..past(None, "v1", &steps, Some(true)) }
    }

    fn then(next: Past) -> Vec<Past> {
        vec![first(), Past { begun_unix_ms: 3, ..next }]
    }

    fn ordered(by: &str, answer: Answer) -> Ordered {
        Ordered { by: by.to_owned(), answer }
    }

    #[test]
    fn what_may_be_is_not_blamed() {
        let orders = [
            ordered("3", Answer::Done),
            ordered("4", Answer::None),
            ordered("5", Answer::None),
            ordered("6", Answer::Refused),
        ];
        let arrives = past(Some("v1"), "v2", &ARRIVES, Some(true));
        assert_eq!(judge(&then(arrives), &asked(&["v1", "v2"]), &orders), Verdict::default());
        for steps in [&ARRIVES[..1], &ARRIVES[..5], &ARRIVES[..9]] {
            let steps = [&["v2 waits, number 1 in the queue: instances of v3 still end"], steps].concat();
            let back =
                [&steps[..], &["v2 back to 0 %: us-west: aborted: it fails more often (by 9)"]].concat();
            let history = then(past(Some("v1"), "v2", &back, Some(false)));
            assert_eq!(judge(&history, &asked(&["v1", "v2"]), &[]), Verdict::default());
        }
    }

    #[test]
    fn shares_are_those_that_are_written() {
        let written = |steps: usize, region| {
            let past = past(Some("v1"), "v2", &ARRIVES[..steps], None);
            shares_written(&past, region).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(written(1, "us-west"), [0]);
        assert_eq!((written(5, "us-west"), written(5, "us-east")), (vec![0, 40, 60], vec![0]));
        assert_eq!((written(8, "us-west"), written(9, "us-east")), (vec![0, 40, 60, 100], vec![0, 40]));
    }

    #[test]
    fn what_waits_may_never_begin() {
        let waits = "v2 waits, number 1 in the queue: v1 is taken back first";
        let not_begun = "v2 not begun: superseded by v3 (delivery 9)";
        for (steps, is_legal) in [
            (&[not_begun][..], true),
            (&[waits, not_begun], true),
            (&[not_begun, waits], false),
            (&[ARRIVES[0], not_begun], false),
            (&[waits, ARRIVES[0], waits, "v2 back to 0 %: x"], false),
        ] {
            assert_eq!(judged(steps, Some(false)).2 == 0, is_legal, "{steps:?}");
        }
        assert_eq!(judged(&[waits], None), (1, 0, 1), "it has no end");
    }

    /// Of a delivery to v2 with these steps: what is lost, what is doubled, how much is wrong.
    fn judged(steps: &[&str], succeeded: Option<bool>) -> (u64, u64, usize) {
        let verdict = judge(&then(past(Some("v1"), "v2", steps, succeeded)), &asked(&["v1", "v2"]), &[]);
        (verdict.lost, verdict.doubled, verdict.wrong.len())
    }

    #[test]
    fn each_thing_that_cannot_be_is_found() {
        assert_eq!(judged(&ARRIVES[..7], None), (1, 0, 1), "it has no end");
        assert_eq!(judge(&[first()], &asked(&["v1", "v2"]), &[]).lost, 1, "it is not there");
        let twice = [&ARRIVES[..], &ARRIVES[..]].concat();
        assert_eq!(judged(&twice, Some(true)).1, 1);
        let without = |left_out: usize| {
            let kept = (0..ARRIVES.len()).filter(|index| *index != left_out);
            judged(&kept.map(|index| ARRIVES[index]).collect::<Vec<_>>(), Some(true)).2
        };
        assert!(0 < without(0) && 0 < without(1) && 0 < without(7) && 0 < without(8) && 0 < without(10));
        let mut turned = ARRIVES;
        turned.swap(4, 6);
        assert_eq!(judged(&turned, Some(true)), (0, 0, 1), "a share that shrinks");
        assert_eq!(judged(&ARRIVES, Some(false)), (0, 0, 1), "another end than its steps tell");
        assert!(0 < judged(&["v2 is to follow v3", "v2 back to 0 %: x"], Some(false)).2, "from another one");
        let bad: Vec<_> = ARRIVES.iter().map(|what| what.replace("v2", BAD)).collect();
        let bad: Vec<_> = bad.iter().map(String::as_str).collect();
        let arrived = judge(&then(past(Some("v1"), BAD, &bad, Some(true))), &asked(&["v1", BAD]), &[]);
        assert_eq!(arrived.wrong, ["delivery bad: bad must not arrive, and did"]);
    }

    #[test]
    fn an_order_is_done_once_or_not_at_all() {
        let history = then(past(Some("v1"), "v2", &ARRIVES, Some(true)));
        let judged = |order| {
            let verdict = judge(&history, &asked(&["v1", "v2"]), &[order]);
            (verdict.lost, verdict.doubled)
        };
        assert_eq!(judged(ordered("9", Answer::Done)), (1, 0));
        assert_eq!(judged(ordered("3", Answer::Refused)), (0, 1));
        assert_eq!(judged(ordered("3", Answer::None)), (0, 0));
    }

    #[test]
    fn a_delivery_begins_where_the_one_before_ended() {
        let arrives = past(Some("v1"), "v2", &ARRIVES, Some(true));
        assert_eq!(broken_chain(&then(arrives.clone())), Vec::<String>::new());
        assert_eq!(broken_chain(&[first(), arrives.clone()]).len(), 1, "too early");
        assert_eq!(broken_chain(&[arrives]), ["delivery v2 begins from v1, and nothing ran"]);
    }
}
