//! A review of a small story: an open breaker, an alert, someone who answers.

use gemba::receipt::Event;
use gemba::time::Timestamp;
use gemba::view::StationView;

use super::*;
use crate::show::{board_sample, review as show};

/// Receipts of a story, one every ten seconds.
fn story(events: Vec<Event>) -> Vec<Arc<Receipt>> {
    let receipt = |(index, event): (usize, Event)| {
        let seq = Seq(index as u64 + 1);
        let (cause, path) = (None, "/plant/board".parse().unwrap());
        Arc::new(Receipt { seq, at: Timestamp::START, unix_ms: 10_000 * seq.0, cause, path, event })
    };
    events.into_iter().enumerate().map(receipt).collect()
}

fn light(to: Light) -> Event {
    let (station, from) = ("breaker:gateway".parse().unwrap(), Light::Green);
    Event::LightChanged { station, from, to, why: "5 of 5 calls failed".into() }
}

fn review_of_a_day() -> Review {
    let gateway = || "gateway".parse().unwrap();
    let receipts = story(vec![
        Event::NodeStarted { node: "n1".parse().unwrap() },
        Event::BreakerMoved {
            breaker: gateway(),
            from: BreakerState::Closed,
            to: BreakerState::Open,
            why: "5 of 5 calls failed".into(),
        },
        light(Light::Red),
        Event::Alerted {
            station: "breaker:gateway".parse().unwrap(),
            light: Light::Red,
            notice: NoticeKind::Firing,
            routes: vec!["slack".parse().unwrap()],
        },
        Event::AlertAcknowledged { station: "breaker:gateway".parse().unwrap(), by: "ann".into() },
        light(Light::Green),
    ]);
    let quality = Quality { defects: 28, opportunities: 2_308 };
    let study = StudyView {
        line: "payment".parse().unwrap(),
        quality,
        dpmo: quality.dpmo(),
        dpmo_interval: quality.interval(),
        proven_dpmo: quality.proven_dpmo(),
        sigma: quality.sigma(),
        burn_rates: Vec::new(),
        baseline: None,
        comparison: None,
    };
    let board = BoardView { taken_unix_ms: 110_000, studies: vec![study], ..board_sample() };
    Review::new(&board, &receipts, 0)
}

#[test]
fn a_review_counts_what_happened_and_finds_the_longest_incident() {
    let review = review_of_a_day();
    assert_eq!(review.lights.availability(), Some(0.7));
    let longest = review.lights.longest.as_ref().unwrap();
    assert_eq!(
        (longest.station.as_str(), longest.seconds, longest.receipt),
        ("breaker:gateway", 30.0, Some(Seq(3)))
    );
    assert_eq!(review.counts.breaker_trips["gateway"], 1);
    assert_eq!(review.counts.acknowledged_s, [10.0]);
    assert_eq!(review.recalls[0], (Recall::Failures, Criterion::Met));
    assert_eq!(review.recalls[1], (Recall::Loss, Criterion::NotMeasured));
}

#[test]
fn what_was_red_before_the_oldest_receipt_counts() {
    let station = || "breaker:gateway".parse().unwrap();
    let started = || Event::NodeStarted { node: "n1".parse().unwrap() };
    let closed =
        Event::LightChanged { station: station(), from: Light::Red, to: Light::Green, why: "closed".into() };
    let board = BoardView { taken_unix_ms: 50_000, ..BoardView::default() };
    let review = Review::new(&board, &story(vec![started(), closed]), 7);
    assert_eq!(review.lights.availability(), Some(0.75));
    let longest = review.lights.longest.as_ref().unwrap();
    assert_eq!((longest.seconds, longest.receipt), (10.0, Some(Seq(2))));

    // Of one that never changed, the board knows; one that turned red just now may be ahead of the receipts.
    for (since_unix_ms, availability, seconds) in [(4_000, 0.0, Some(46.0)), (49_999, 1.0, None)] {
        let red = StationView {
            name: station(),
            light: Light::Red,
            why: "5 of 5 calls failed".into(),
            since_unix_ms,
            receipt: Some(Seq(3)),
        };
        let board = BoardView { taken_unix_ms: 50_000, stations: vec![red], ..BoardView::default() };
        let review = Review::new(&board, &story(vec![started()]), 7);
        assert_eq!(review.lights.availability(), Some(availability));
        assert_eq!(review.lights.longest.as_ref().map(|longest| longest.seconds), seconds);
    }
}

#[test]
fn a_question_without_a_fact_is_left_open() {
    let page = show(&review_of_a_day());
    for line in [
        "# Review of n1",
        "No station was red or worse for 70.000 % of the time.",
        "| payment | 2308 | 28 | 12131.7 (8406.8 to 17477.9) | 16492.2 | 3.75 | no |",
        "| breaker gateway opened | 1 |",
        "| more than 0.1 % of the work fails | **met** | roll this version back everywhere, or repair it at once |",
        "| security was breached | no fact: a person answers | repair every version concerned, and disclose |",
        "- [x] Is the share of failures stable below 0.01 %? **no**: 28 of 2308 failed: 12132 per million (8407 to 17478)",
        "- [x] Is an incident taken care of within 5 minutes? **yes**: the slowest acknowledgement took 10 s",
        "- [ ] Is the documentation current? **no fact**: a person has to read it",
        "- [x] Which incident was the longest? **yes**: breaker:gateway for 30 s: 5 of 5 calls failed (`gemba why 3`)",
    ] {
        assert!(page.lines().any(|shown| shown == line), "'{line}' is not in\n{page}");
    }
    let open = page.lines().filter(|line| line.starts_with("- [ ]")).count();
    assert_eq!(open, page.matches("**no fact**").count());
}

#[test]
fn a_review_of_nothing_claims_nothing() {
    let review = Review::new(&BoardView::default(), &[], 7);
    assert!(review.checklist.iter().all(|question| question.answer != Answer::Yes), "{:?}", review.checklist);
    assert!(show(&review).contains("7 older receipts are forgotten"));
}
