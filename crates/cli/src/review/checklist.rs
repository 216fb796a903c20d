//! The questions of the monthly review, each answered from a fact, or left to a person where there is none.

use gemba::baseline::Comparison;
use gemba::six_sigma::Quality;
use serde::Serialize;

use super::{ACKNOWLEDGE_S, Counts, Review};

/// The share of failures below which the seeds call the rate of errors stable.
const FAILURES_STABLE: f64 = 0.000_1;

/// The utilisation pools are scaled towards. Source: `core/scaling.rs`; the seeds' 50 % contradicts it.
const UTILIZATION_TARGET: f64 = 0.70;

/// From which share of all time on one station's part of it is a bottleneck.
const BOTTLENECK_SHARE: f64 = 0.5;

/// What a fact says to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Yes,
    No,
    /// Nothing on the node knows: a person answers.
    NoFact,
}

/// A question with its answer.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Question {
    pub(crate) part: &'static str,
    pub(crate) asks: &'static str,
    pub(crate) answer: Answer,
    pub(crate) fact: String,
}

const METRICS: &str = "Metrics";
const SAFETY: &str = "Safety";
const CAPACITY: &str = "Capacity";
const IMPROVEMENT: &str = "Improvement";

/// Answers every question.
pub(super) fn answer(review: &Review, quality: Quality) -> Vec<Question> {
    let question = |part, asks, (answer, fact)| Question { part, asks, answer, fact };
    let person = |fact: &str| (Answer::NoFact, fact.to_owned());
    vec![
        question(METRICS, "Is the share of failures stable below 0.01 %?", failures(quality)),
        question(METRICS, "Is the p95 of each line stable?", latency(review)),
        question(
            METRICS,
            "Is the use of resources predictable?",
            person("the node does not measure processor and memory; pools are below"),
        ),
        question(METRICS, "Do load tests pass without errors?", person("load tests leave no receipt here")),
        question(SAFETY, "Have failures of a new kind appeared?", kinds(&review.counts)),
        question(SAFETY, "Are the thresholds of alerts still right?", thresholds(&review.counts)),
        question(SAFETY, "Is the documentation current?", person("a person has to read it")),
        question(SAFETY, "Is an incident taken care of within 5 minutes?", on_call(&review.counts)),
        question(CAPACITY, "Are the pools below their target of 70 %?", utilization(review)),
        question(CAPACITY, "Do the pools grow when they should?", scaling(review)),
        question(
            CAPACITY,
            "Does capacity last for three more months?",
            person("the node keeps no history of months; compare this review with earlier ones"),
        ),
        question(CAPACITY, "Is there a bottleneck?", bottleneck(review)),
        question(IMPROVEMENT, "Which incident was the longest?", longest(review)),
        question(IMPROVEMENT, "What would prevent it?", person("follow `gemba why` to its first cause")),
        question(IMPROVEMENT, "Is the fix planned?", person("a person has to say")),
        question(IMPROVEMENT, "Will it raise the sigma level?", sigma(quality)),
    ]
}

fn failures(quality: Quality) -> (Answer, String) {
    let Some(dpmo) = quality.dpmo() else { return (Answer::NoFact, "nothing was worked on".into()) };
    let interval = quality.interval();
    let fact = format!(
        "{} of {} failed: {dpmo:.0} per million ({:.0} to {:.0})",
        quality.defects, quality.opportunities, interval.low, interval.high
    );
    let limit = FAILURES_STABLE * 1e6;
    if quality.proves(limit) {
        (Answer::Yes, fact)
    } else if limit < interval.low {
        (Answer::No, fact)
    } else {
        (Answer::NoFact, format!("{fact}; too few to prove it"))
    }
}

fn latency(review: &Review) -> (Answer, String) {
    let compared: Vec<_> =
        review.studies.iter().filter_map(|study| Some((&study.line, study.comparison?))).collect();
    let worse: Vec<_> = compared
        .iter()
        .filter_map(|(line, comparison)| match comparison {
            Comparison::Regression { p95_ratio, .. } => {
                Some(format!("{line} is at {p95_ratio:.2} times its baseline"))
            }
            Comparison::Sound { .. } | Comparison::TooFew { .. } => None,
        })
        .collect();
    let found = review.counts.regressions;
    match (worse.is_empty(), compared.is_empty()) {
        (false, _) => (Answer::No, worse.join("; ")),
        (true, true) => (Answer::NoFact, "no line has a full window beside its baseline".into()),
        (true, false) if found == 0 => {
            (Answer::Yes, format!("{} line(s) compared with their baselines", compared.len()))
        }
        (true, false) => (Answer::No, format!("{found} regression(s) in this time, over by now")),
    }
}

fn kinds(counts: &Counts) -> (Answer, String) {
    if counts.exits.is_empty() && counts.breaker_trips.is_empty() {
        return (Answer::No, "no actor failed and no breaker opened".into());
    }
    let list = counts.exits.iter().map(|(kind, count)| format!("{count} exits: {kind}"));
    let trips =
        counts.breaker_trips.iter().map(|(name, count)| format!("breaker {name} opened {count} times"));
    let list = list.chain(trips).collect::<Vec<_>>().join("; ");
    (Answer::NoFact, format!("{list}; whether that is new, earlier reviews say"))
}

fn thresholds(counts: &Counts) -> (Answer, String) {
    let acknowledged = counts.acknowledged_s.len();
    (Answer::NoFact, format!("{} alerts, {acknowledged} of them taken care of by a person", counts.alerts))
}

fn on_call(counts: &Counts) -> (Answer, String) {
    let slowest = counts.acknowledged_s.iter().copied().fold(f64::NAN, f64::max);
    if 0 < counts.escalations {
        return (Answer::No, format!("{} escalations: nobody answered in time", counts.escalations));
    }
    if slowest.is_nan() {
        return (Answer::NoFact, "no alert was acknowledged".into());
    }
    let answer = if slowest <= ACKNOWLEDGE_S { Answer::Yes } else { Answer::No };
    (answer, format!("the slowest acknowledgement took {slowest:.0} s"))
}

fn utilization(review: &Review) -> (Answer, String) {
    let Some(fullest) = review.pools.iter().max_by(|a, b| a.utilization.total_cmp(&b.utilization)) else {
        return (Answer::NoFact, "the node has no pools".into());
    };
    let answer = if fullest.utilization <= UTILIZATION_TARGET { Answer::Yes } else { Answer::No };
    (answer, format!("pool {} is the fullest, at {:.0} % now", fullest.name, fullest.utilization * 100.0))
}

fn scaling(review: &Review) -> (Answer, String) {
    let full: Vec<_> = review
        .pools
        .iter()
        .filter(|pool| pool.workers_max <= pool.workers)
        .map(|pool| format!("pool {} has all its {} workers", pool.name, pool.workers_max))
        .collect();
    let fact = format!("{} changes of size, {} surges", review.counts.resizes, review.counts.surges);
    match (full.is_empty(), review.pools.is_empty()) {
        (_, true) => (Answer::NoFact, "the node has no pools".into()),
        (true, false) => (Answer::Yes, fact),
        (false, false) => (Answer::No, format!("{fact}; {}", full.join("; "))),
    }
}

fn bottleneck(review: &Review) -> (Answer, String) {
    let Some(first) = review.bottlenecks.first() else {
        return (Answer::NoFact, "too little went through in the last minute".into());
    };
    let answer = if BOTTLENECK_SHARE <= first.share { Answer::Yes } else { Answer::No };
    (answer, format!("pool {}: {}, {:.0} % of all time", first.station, first.reason, first.share * 100.0))
}

fn longest(review: &Review) -> (Answer, String) {
    match &review.lights.longest {
        None => (Answer::No, "no station was red or worse".into()),
        Some(incident) => {
            let why = incident.receipt.map(|receipt| format!(" (`gemba why {}`)", receipt.0));
            let why = why.unwrap_or_default();
            let fact = format!("{} for {:.0} s: {}{why}", incident.station, incident.seconds, incident.why);
            (Answer::Yes, fact)
        }
    }
}

fn sigma(quality: Quality) -> (Answer, String) {
    let level = quality.sigma().map_or_else(|| "unknown".to_owned(), |sigma| format!("{sigma:.2}"));
    (Answer::NoFact, format!("the level is {level} now (with the shift of 1.5)"))
}
