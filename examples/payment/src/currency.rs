//! Currencies: the ISO 4217 codes in use, each with the number of digits after its decimal point.

use std::fmt;

use serde::{Serialize, Serializer};

/// The codes by the number of their minor digits.
const ACTIVE: [(u32, &str); 4] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD \
         CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP \
         GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL \
         MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN \
         QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD \
         TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

/// An active ISO 4217 currency.
///
/// # Units and limits
///
/// Three upper-case letters; 0, 2, 3 or 4 minor digits. Precious metals, bond units and test codes are
/// not money a card can be charged with and are left out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: [u8; 3],
    minor_digits: u8,
}

impl Currency {
    /// The currency with this alphabetic code, or `None` if no active one has it.
    ///
    /// # Examples
    ///
    /// ```
    /// use gemba_payment::currency::Currency;
    ///
    /// assert_eq!(Currency::from_code("JPY").unwrap().minor_digits(), 0);
    /// assert!(Currency::from_code("usd").is_none());
    /// ```
    pub fn from_code(code: &str) -> Option<Self> {
        let letters: [u8; 3] = code.as_bytes().try_into().ok()?;
        let known = |codes: &str| codes.split_ascii_whitespace().any(|known| known == code);
        let (digits, _) = ACTIVE.iter().find(|(_, codes)| known(codes))?;
        Some(Self { code: letters, minor_digits: *digits as u8 })
    }

    /// The alphabetic code.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.code).expect("a code is made of a str")
    }

    /// How many digits stand after the decimal point.
    pub const fn minor_digits(self) -> u32 {
        self.minor_digits as u32
    }

    /// How many minor units make one main unit: 100 for the euro, 1 for the yen.
    pub const fn minor_per_main(self) -> i64 {
        10_i64.pow(self.minor_digits())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_currency_knows_its_minor_digits() {
        for (code, digits, per_main) in
            [("JPY", 0, 1), ("EUR", 2, 100), ("USD", 2, 100), ("KWD", 3, 1000), ("CLF", 4, 10_000)]
        {
            let currency = Currency::from_code(code).unwrap();
            assert_eq!((currency.code(), currency.minor_digits()), (code, digits));
            assert_eq!(currency.minor_per_main(), per_main);
        }
    }

    #[test]
    fn what_is_not_an_active_code_is_no_currency() {
        for text in ["", "US", "USDX", "usd", "XXX", "XAU", "DEM", "EU ", "€€", "AED AFN"] {
            assert_eq!(Currency::from_code(text), None, "{text}");
        }
    }

    #[test]
    fn every_code_stands_in_the_table_once() {
        let codes: Vec<&str> = ACTIVE.iter().flat_map(|(_, codes)| codes.split_ascii_whitespace()).collect();
        assert_eq!(codes.iter().collect::<HashSet<_>>().len(), codes.len());
        assert!(codes.iter().all(|code| code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())));
        assert!(150 < codes.len(), "{}", codes.len());
    }
}
