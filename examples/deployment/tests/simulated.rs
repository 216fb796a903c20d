//! What the rules of a fleet promise, in virtual time.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod rehearsal;

use rehearsal::{Ended, TODAY, Version, deliver};

/// Each run has a seed of its own number.
fn runs(next: Version, runs: u64) -> Vec<Ended> {
    (0..runs).map(|number| deliver(next, 20, number)).collect()
}

#[test]
fn an_equal_version_is_taken_back_in_at_most_one_of_a_hundred_runs() {
    let back: Vec<_> = runs(TODAY, 100).into_iter().filter_map(|ended| ended.back).collect();
    assert!(back.len() <= 1, "{back:?}");
}

#[test]
fn one_that_fails_one_time_in_ten_is_found_by_few_of_its_requests() {
    let mut ended = runs(Version { failing: 0.1, ..TODAY }, 100);
    assert!(ended.iter().all(|ended| ended.back.as_ref().is_some_and(|why| why.contains("fails"))));
    ended.sort_by_key(|ended| ended.after_s);
    // By chance, a canary of ten requests a second may have no failure for some seconds.
    let (median, most) = (ended[49].after_s, ended[99].after_s);
    assert!(median <= 10 && most <= 60, "{median} s, at most {most} s");
    let saw = ended.iter().map(|ended| ended.saw).sum::<f64>() / 100.0;
    assert!(saw < 0.06, "{saw}");
}

#[test]
fn one_that_is_three_times_slower_at_the_99th_percentile_is_taken_back() {
    let ended = runs(Version { slower: 3.0, ..TODAY }, 100);
    let found = ended.iter().filter(|ended| ended.back.as_ref().is_some_and(|why| why.contains("slower")));
    assert_eq!(found.count(), 100);
    // Within its first stage, which lasts five minutes.
    assert!(ended.iter().all(|ended| ended.after_s < 300), "{ended:?}");
}
