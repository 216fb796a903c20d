//! Money: a positive number of minor units in one currency, and nothing that could round it.

use std::fmt;

use crate::currency::Currency;

/// The largest amount one payment may have, in minor units.
pub const AMOUNT_MINOR_MAX: i64 = 9_999_999_999;

/// An amount outside what one payment may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{minor} is not an amount; give 1 to {AMOUNT_MINOR_MAX} minor units")]
pub struct AmountError {
    /// The refused amount.
    pub minor: i64,
}

/// An amount to be charged.
///
/// # Units and limits
///
/// 1 to [`AMOUNT_MINOR_MAX`] minor units: cents of a dollar, whole yen, fils of a dinar.
///
/// # Examples
///
/// ```
/// use gemba_payment::{currency::Currency, money::Money};
///
/// let euro = Currency::from_code("EUR").unwrap();
/// assert_eq!(Money::new(1999, euro)?.to_string(), "19.99 EUR");
/// # Ok::<(), gemba_payment::money::AmountError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

impl Money {
    /// An amount of `minor` units.
    ///
    /// # Errors
    ///
    /// [`AmountError`] if it is not positive or above [`AMOUNT_MINOR_MAX`].
    pub fn new(minor: i64, currency: Currency) -> Result<Self, AmountError> {
        if (1..=AMOUNT_MINOR_MAX).contains(&minor) {
            Ok(Self { minor, currency })
        } else {
            Err(AmountError { minor })
        }
    }

    /// The amount in minor units.
    pub const fn minor(self) -> i64 {
        self.minor
    }

    /// The currency.
    pub const fn currency(self) -> Currency {
        self.currency
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_main = self.currency.minor_per_main();
        let digits = self.currency.minor_digits() as usize;
        let (main, rest) = (self.minor / per_main, self.minor % per_main);
        if digits == 0 {
            write!(f, "{main} {}", self.currency)
        } else {
            write!(f, "{main}.{rest:0digits$} {}", self.currency)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::from_code(code).unwrap()
    }

    #[test]
    fn an_amount_is_positive_and_has_a_limit() {
        for (minor, fits) in [
            (i64::MIN, false),
            (-1, false),
            (0, false),
            (1, true),
            (AMOUNT_MINOR_MAX, true),
            (AMOUNT_MINOR_MAX + 1, false),
            (i64::MAX, false),
        ] {
            assert_eq!(Money::new(minor, currency("EUR")).is_ok(), fits, "{minor}");
        }
    }

    #[test]
    fn an_amount_reads_with_the_digits_of_its_currency() {
        for (minor, code, text) in [
            (5, "USD", "0.05 USD"),
            (1999, "EUR", "19.99 EUR"),
            (700, "JPY", "700 JPY"),
            (1234, "KWD", "1.234 KWD"),
        ] {
            assert_eq!(Money::new(minor, currency(code)).unwrap().to_string(), text);
        }
    }
}
