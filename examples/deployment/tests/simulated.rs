//! What the rules of a fleet promise, in virtual time.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod rehearsal;

use rehearsal::{AILING, Ended, TODAY, Version, deliver};

/// Each run has a seed of its own number.
fn runs(today: Version, next: Version) -> Vec<Ended> {
    (0..100).map(|number| deliver(today, next, 20, number)).collect()
}

#[test]
fn an_equal_version_is_taken_back_in_at_most_one_of_a_hundred_runs() {
    for version in [TODAY, AILING] {
        let back: Vec<_> = runs(version, version).into_iter().filter_map(|ended| ended.back).collect();
        assert!(back.len() <= 1, "{version:?}: {back:?}");
    }
}

#[test]
fn one_that_fails_one_time_in_ten_is_found_within_ten_seconds() {
    let found = |today: Version| {
        let mut ended = runs(today, Version { failing: 0.1, ..TODAY });
        assert!(
            ended.iter().all(|ended| ended.back.as_ref().is_some_and(|why| why.contains("fails"))),
            "{ended:?}"
        );
        let saw = ended.iter().map(|ended| ended.saw).sum::<f64>() / 100.0;
        assert!(saw < 0.06, "{saw}");
        ended.sort_by_key(|ended| ended.after_s);
        [49, 94, 99].map(|run| ended[run].after_s)
    };
    // By chance, a canary of ten requests a second has no failure for some seconds in a few of a hundred runs.
    let [median, nearly_all, most] = found(TODAY);
    assert!(median <= 5 && nearly_all <= 10 && most <= 20, "{median} s, {nearly_all} s, at most {most} s");
    let [median, _, most] = found(AILING);
    assert!(median <= 10 && most <= 60, "{median} s, at most {most} s");
}

#[test]
fn one_that_is_three_times_slower_at_the_99th_percentile_is_taken_back() {
    let ended = runs(TODAY, Version { slower: 3.0, ..TODAY });
    let found = ended.iter().filter(|ended| ended.back.as_ref().is_some_and(|why| why.contains("slower")));
    assert_eq!(found.count(), 100);
    // Within its first stage, which lasts five minutes.
    assert!(ended.iter().all(|ended| ended.after_s < 300), "{ended:?}");
}
