//! The normal distribution: tails and quantiles.

/// The quantile that leaves 5 % outside on both sides together.
pub(crate) const Z_95: f64 = 1.959_963_984_540_054;

/// The quantile that leaves 5 % outside on one side.
pub(crate) const Z_95_ONE_SIDED: f64 = 1.644_853_626_951_472_2;

/// How likely a standard normal value is above `z`.
pub(crate) fn upper_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z / std::f64::consts::SQRT_2)
}

/// The value that a standard normal one stays below with the probability `share`; infinite at 0 and 1.
pub(crate) fn quantile(share: f64) -> f64 {
    if share <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if 1.0 <= share {
        return f64::INFINITY;
    }
    // Halving finds it to the last digit in 64 steps, and this is asked for once a view, not once a signal.
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        // The smaller tail of both, so that nothing is lost next to 1.
        let is_below =
            if middle < 0.0 { upper_tail(-middle) < share } else { 1.0 - share < upper_tail(middle) };
        if is_below { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_and_quantiles_are_those_of_the_tables() {
        for (z, above) in [(0.0, 0.5), (1.0, 0.158_655_254), (1.96, 0.024_997_895), (3.0, 0.001_349_898)] {
            assert!((upper_tail(z) - above).abs() < 1e-9, "{z}");
        }
        for (share, z) in [(0.5, 0.0), (0.975, Z_95), (0.95, Z_95_ONE_SIDED), (0.01, -2.326_347_874)] {
            assert!((quantile(share) - z).abs() < 1e-9, "{share}");
        }
        assert_eq!((quantile(0.0), quantile(1.0)), (f64::NEG_INFINITY, f64::INFINITY));
    }
}
