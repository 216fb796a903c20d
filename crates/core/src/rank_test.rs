//! The Mann–Whitney test: whether values of one sample tend to be greater than those of another.
//!
//! It asks for no distribution, which latencies do not have in common, and takes counted values as a
//! histogram gives them; equal values share their ranks.

use crate::normal::upper_tail;

/// Values of both samples together up to which the exact distribution is used if no two are equal.
const EXACT_MAX: u64 = 40;

/// Values in order, each with how often it occurred.
pub type Counted = (u64, u64);

/// How likely it is that `now` tends this much above `then` by chance (one-sided); 1 if a sample is empty.
///
/// Both are in ascending order of their values, each value once.
pub fn tends_above(now: &[Counted], then: &[Counted]) -> f64 {
    let (n, m) = (total(now), total(then));
    if n == 0 || m == 0 {
        return 1.0;
    }
    let (wins, ties) = compare(now, then);
    if n + m <= EXACT_MAX && ties.is_empty() {
        return exact(n, m, wins as u64);
    }
    let (n, m) = (n as f64, m as f64);
    let all = n + m;
    let lost: f64 = ties.iter().map(|&count| (count as f64).powi(3) - count as f64).sum();
    let variance = n * m / 12.0 * (all + 1.0 - lost / (all * (all - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    // Half a step towards the middle: a count is compared with a curve.
    upper_tail((wins - n * m / 2.0 - 0.5) / variance.sqrt())
}

fn total(sample: &[Counted]) -> u64 {
    sample.iter().map(|&(_, count)| count).sum()
}

/// How many pairs `now` wins against `then`, a tie being half a pair (U), and how large each group of equal
/// values is.
fn compare(now: &[Counted], then: &[Counted]) -> (f64, Vec<u64>) {
    let (mut wins, mut below, mut ties) = (0.0, 0u64, Vec::new());
    let mut others = then.iter().peekable();
    let mut group = |count: u64| {
        if 1 < count {
            ties.push(count);
        }
    };
    for &(value, count) in now {
        while let Some(&(_, passed)) = others.next_if(|&&(other, _)| other < value) {
            below += passed;
            group(passed);
        }
        let same = others.next_if(|&&(other, _)| other == value).map_or(0, |&(_, same)| same);
        wins += count as f64 * (below as f64 + same as f64 / 2.0);
        below += same;
        group(count + same);
    }
    for &(_, rest) in others {
        group(rest);
    }
    (wins, ties)
}

/// How likely `n` values win at least `wins` of the pairs with `m` others, all orders being equally likely.
fn exact(n: u64, m: u64, wins: u64) -> f64 {
    // `ways[i][u]`: orders of i of the one and the present number of the other with u pairs won; built up by
    // whether the greatest value is of the one sample or of the other.
    let pairs = (n * m) as usize;
    let mut ways = vec![vec![0.0; pairs + 1]; n as usize + 1];
    for row in &mut ways {
        row[0] = 1.0;
    }
    for others in 1..=m as usize {
        for i in 1..=n as usize {
            let (before, rest) = ways.split_at_mut(i);
            for won in others..=pairs {
                rest[0][won] += before[i - 1][won - others];
            }
        }
    }
    let row = &ways[n as usize];
    row[wins as usize..].iter().sum::<f64>() / row.iter().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    /// Counts values.
    fn sample(values: &[u64]) -> Vec<Counted> {
        let mut counts = std::collections::BTreeMap::new();
        for &value in values {
            *counts.entry(value).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    #[test]
    fn the_exact_tails_are_those_of_the_published_tables() {
        // Critical values of U: the greatest U of the smaller side that is still significant.
        // Two-sided 0.05 and 0.01 (one-sided 0.025 and 0.005), after Mann & Whitney 1947 and later tables.
        for (n, m, at_025, at_005) in [
            (4, 4, 0, None),
            (5, 5, 2, Some(0)),
            (5, 8, 6, Some(2)),
            (6, 6, 5, Some(2)),
            (7, 7, 8, Some(4)),
            (8, 8, 13, Some(7)),
            (8, 10, 17, Some(11)),
            (9, 9, 17, Some(11)),
            (10, 10, 23, Some(16)),
            (12, 12, 37, Some(27)),
            (15, 15, 64, Some(51)),
            (20, 20, 127, Some(105)),
        ] {
            for (share, critical) in [(0.025, Some(at_025)), (0.005, at_005)] {
                let Some(critical) = critical else { continue };
                let inside = exact(n, m, n * m - critical);
                let outside = exact(n, m, n * m - critical - 1);
                assert!(inside <= share && share < outside, "{n}, {m}, {share}: {inside} {outside}");
            }
        }
        // 20 orders of 3 and 3: U is 9 in one of them, at least 8 in two.
        assert!((exact(3, 3, 9) - 0.05).abs() < 1e-12);
        assert!((exact(3, 3, 8) - 0.10).abs() < 1e-12);
    }

    #[test]
    fn pairs_are_counted_and_ties_are_halves() {
        assert_eq!(compare(&sample(&[3, 4, 5]), &sample(&[1, 2])), (6.0, vec![]));
        assert_eq!(compare(&sample(&[1, 2]), &sample(&[3, 4, 5])), (0.0, vec![]));
        assert_eq!(compare(&sample(&[2, 2, 3]), &sample(&[1, 2, 4, 4])), (3.0 + 2.0, vec![3, 2]));
    }

    #[test]
    fn with_ties_it_is_the_normal_curve_with_their_correction() {
        let chance = tends_above(&sample(&[4, 4, 6, 9]), &sample(&[1, 2, 4, 5, 5]));
        // By hand: each 4 wins two pairs and ties one, 6 and 9 win five each: U = 15 of 20.
        let variance: f64 = 20.0 / 12.0 * (10.0 - (24.0 + 6.0) / 72.0);
        let expected = upper_tail((15.0 - 10.0 - 0.5) / variance.sqrt());
        assert!((chance - expected).abs() < 1e-12, "{chance} {expected}");
    }

    #[test]
    fn nothing_against_nothing_is_chance() {
        let some = sample(&[1, 2, 3]);
        for (now, then) in [(&[][..], &some[..]), (&some[..], &[][..]), (&[(7, 100)][..], &[(7, 100)][..])] {
            assert!(0.999 < tends_above(now, then), "{now:?} {then:?}");
        }
    }

    proptest! {
        #[test]
        fn the_curve_is_close_to_the_exact_tail(values in vec(0u64..1_000_000, 20..38), split in 8usize..12) {
            let mut values = values;
            values.sort_unstable();
            values.dedup();
            if values.len() < 20 { return Ok(()); }
            let now: Vec<_> = values.iter().enumerate().filter(|(i, _)| i % split == 0 || values.len() - 8 < *i).map(|(_, v)| *v).collect();
            let then: Vec<_> = values.iter().copied().filter(|v| !now.contains(v)).collect();
            let (n, m) = (now.len() as u64, then.len() as u64);
            let (wins, _) = compare(&sample(&now), &sample(&then));
            let variance = (n * m) as f64 / 12.0 * (n + m + 1) as f64;
            let curve = upper_tail((wins - (n * m) as f64 / 2.0 - 0.5) / variance.sqrt());
            prop_assert!((curve - exact(n, m, wins as u64)).abs() < 0.02);
        }

        #[test]
        fn one_side_or_the_other_is_above(a in vec(0u64..50, 1..60), b in vec(0u64..50, 1..60)) {
            let (a, b) = (sample(&a), sample(&b));
            prop_assert!(1.0 <= tends_above(&a, &b) + tends_above(&b, &a) + 1e-9);
        }
    }
}
