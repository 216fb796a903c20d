//! Countries: the ISO 3166-1 alpha-2 codes that are assigned.

use std::fmt;

use serde::{Serialize, Serializer};

/// The codes. Source: ISO 3166-1, as assigned in 2025; user-assigned and reserved ones are left out.
const ASSIGNED: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ \
     BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER \
     ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM \
     IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF \
     MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK \
     PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD \
     TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

/// A country or territory with an assigned ISO 3166-1 code.
///
/// # Units and limits
///
/// Two upper-case letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// The country with this alpha-2 code, or `None` if none has it.
    ///
    /// # Examples
    ///
    /// ```
    /// use gemba_payment::country::Country;
    ///
    /// assert_eq!(Country::from_code("DE").unwrap().code(), "DE");
    /// assert!(Country::from_code("UK").is_none());
    /// ```
    pub fn from_code(code: &str) -> Option<Self> {
        let letters = code.as_bytes().try_into().ok()?;
        ASSIGNED.split_ascii_whitespace().any(|known| known == code).then_some(Self(letters))
    }

    /// The alpha-2 code.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a code is made of a str")
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_is_not_an_assigned_code_is_no_country() {
        assert_eq!(Country::from_code("GB").map(|country| country.code().to_owned()), Some("GB".to_owned()));
        for text in ["", "U", "USA", "us", "UK", "EU", "XX", "ZZ", "SU", "AN", "€", "D "] {
            assert_eq!(Country::from_code(text), None, "{text}");
        }
    }

    #[test]
    fn every_assigned_code_stands_in_the_table_once_and_in_order() {
        let codes: Vec<&str> = ASSIGNED.split_ascii_whitespace().collect();
        assert_eq!(codes.iter().collect::<HashSet<_>>().len(), 249, "as many as ISO 3166-1 has");
        assert!(codes.is_sorted());
        assert!(codes.iter().all(|code| code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase())));
    }
}
