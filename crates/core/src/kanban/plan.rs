//! Capacity shared out in whole units, so that the parts add up to the whole.

/// Shares `total` out in proportion to `weights`, by largest remainder: nobody is more than one unit away
/// from its exact share, and the parts add up to `total` whenever somebody has a weight.
///
/// Of equal remainders the first gets the unit.
///
/// ```
/// use gemba_core::kanban::share_out;
///
/// assert_eq!(share_out(10, &[1, 1, 1]), [4, 3, 3]);
/// assert_eq!(share_out(1, &[1, 1]), [1, 0]);
/// assert_eq!(share_out(5, &[0, 0]), [0, 0]);
/// ```
pub fn share_out(total: u64, weights: &[u64]) -> Vec<u64> {
    let whole: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if whole == 0 {
        return vec![0; weights.len()];
    }
    let exact = |weight: &u64| u128::from(total) * u128::from(*weight);
    let mut parts: Vec<u64> = weights.iter().map(|weight| (exact(weight) / whole) as u64).collect();
    let missing = total - parts.iter().sum::<u64>();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|index| std::cmp::Reverse(exact(&weights[*index]) % whole));
    for index in by_remainder.into_iter().take(missing as usize) {
        parts[index] += 1;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn the_parts_add_up_and_nobody_is_a_unit_off(
            total in 0u64..1_000_000,
            weights in proptest::collection::vec(0u64..1_000, 1..20),
        ) {
            let parts = share_out(total, &weights);
            let whole: u64 = weights.iter().sum();
            if whole == 0 {
                prop_assert!(parts.iter().all(|part| *part == 0));
                return Ok(());
            }
            prop_assert_eq!(parts.iter().sum::<u64>(), total);
            for (part, weight) in parts.iter().zip(&weights) {
                let exact = total as f64 * *weight as f64 / whole as f64;
                prop_assert!((*part as f64 - exact).abs() < 1.0 + 1e-6, "{part} of {exact}");
            }
        }
    }
}
