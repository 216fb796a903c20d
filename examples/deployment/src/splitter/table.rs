//! Which version a request goes to: shares of the traffic, and the instances behind each.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;

use axum::http::{HeaderMap, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Shares are told in ten thousandths.
pub const WHOLE: u32 = 10_000;

/// Versions of a service that may take traffic at once: today's, the next one, and one that is on its way out.
pub const VERSIONS_MAX: usize = 8;

/// Instances of a version.
pub const INSTANCES_MAX: usize = 256;

/// What keeps a caller with one version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// Nothing: each request is drawn anew.
    #[default]
    Random,
    /// The value of this header, if it is there.
    Header(String),
    /// The value of this cookie, if it is there.
    Cookie(String),
}

/// One version and its share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The version.
    pub version: String,
    /// What it gets of the requests, in ten thousandths.
    pub weight: u32,
    /// Its instances.
    pub instances: Vec<SocketAddr>,
}

/// A table of shares. A growing share takes callers from those listed behind it and gives none back, so what is new
/// stands first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its number. A splitter takes no table older than its own: the late word of somebody who has been replaced.
    pub generation: u64,
    /// What keeps a caller with one version.
    #[serde(default)]
    pub sticky: Sticky,
    /// The versions. None: every request is refused.
    pub versions: Vec<Share>,
}

impl Table {
    /// Everything that is wrong with it, by field.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        if VERSIONS_MAX < self.versions.len() {
            faults.push((
                "versions".to_owned(),
                format!("are {}; {VERSIONS_MAX} is the limit", self.versions.len()),
            ));
        }
        for (index, share) in self.versions.iter().enumerate() {
            if 0 < share.weight && share.instances.is_empty() {
                let field = format!("versions[{index}].instances");
                faults.push((field, format!("are none, and {} has a share; name one", share.version)));
            }
            if INSTANCES_MAX < share.instances.len() {
                faults
                    .push((format!("versions[{index}].instances"), format!("are more than {INSTANCES_MAX}")));
            }
        }
        let whole: u64 = self.versions.iter().map(|share| u64::from(share.weight)).sum();
        if !self.versions.is_empty() && whole != u64::from(WHOLE) {
            faults
                .push(("versions".to_owned(), format!("have shares of {whole} together; make them {WHOLE}")));
        }
        faults
    }

    /// Where `point` falls: the place of the version.
    pub fn pick(&self, point: u64) -> Option<usize> {
        // The high half decides the version, the low one the instance.
        let mut rest = u32::try_from(((point >> 32) * u64::from(WHOLE)) >> 32).unwrap_or(0);
        self.versions.iter().position(|share| {
            let is_here = rest < share.weight;
            rest = rest.saturating_sub(share.weight);
            is_here
        })
    }
}

impl Sticky {
    /// The point of a request: the same for the same caller, or drawn.
    pub fn point(&self, headers: &HeaderMap) -> u64 {
        let key = match self {
            Self::Random => None,
            Self::Header(name) => headers.get(name).map(axum::http::HeaderValue::as_bytes),
            Self::Cookie(name) => cookie(headers, name),
        };
        // Each state has keys of its own, from the system's randomness.
        key.map_or_else(|| RandomState::new().hash_one(()), xxh3_64)
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(shares: &[u32]) -> Table {
        let share = |(index, share): (usize, &u32)| Share {
            version: format!("v{index}"),
            weight: *share,
            instances: vec![([127, 0, 0, 1], 1).into()],
        };
        Table {
            generation: 1,
            sticky: Sticky::Random,
            versions: shares.iter().enumerate().map(share).collect(),
        }
    }

    #[test]
    fn all_faults_of_a_table_are_told_at_once() {
        assert!(table(&[500, 9_500]).faults().is_empty());
        assert!(Table::default().faults().is_empty(), "a splitter in the morning");
        let mut wrong = table(&[500, 9_501]);
        wrong.versions[0].instances.clear();
        let faults = wrong.faults();
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert_eq!(faults[0].0, "versions[0].instances");
    }

    #[test]
    fn each_version_gets_its_share() {
        let table = table(&[500, 2_500, 7_000]);
        let mut counts = [0u32; 3];
        for point in 0..1_000_000u64 {
            counts[table.pick(xxh3_64(&point.to_le_bytes())).unwrap()] += 1;
        }
        for (count, share) in counts.into_iter().zip([50_000, 250_000, 700_000]) {
            // Five standard deviations of a binomial at most.
            assert!(count.abs_diff(share) < 2_300, "{count} of {share}");
        }
        assert_eq!(table.pick(0), Some(0));
        assert_eq!(table.pick(u64::MAX), Some(2));
    }

    #[test]
    fn a_growing_share_gives_nobody_back() {
        let (small, large) = (table(&[500, 9_500]), table(&[2_500, 7_500]));
        for point in (0..10_000u64).map(|point| xxh3_64(&point.to_le_bytes())) {
            assert!(small.pick(point) != Some(0) || large.pick(point) == Some(0));
        }
    }

    #[test]
    fn one_with_all_takes_all_and_one_with_nothing_takes_none() {
        let table = table(&[0, 10_000]);
        for point in [0, 1, u64::MAX / 2, u64::MAX] {
            assert_eq!(table.pick(point), Some(1));
        }
    }

    #[test]
    fn a_caller_is_known_by_header_or_cookie() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", "ann".parse().unwrap());
        headers.insert(header::COOKIE, "theme=dark; user=ann".parse().unwrap());
        let by = [Sticky::Header("x-user".to_owned()), Sticky::Cookie("user".to_owned())];
        for sticky in by {
            assert_eq!(sticky.point(&headers), xxh3_64(b"ann"), "{sticky:?}");
        }
        let drawn = |_| Sticky::Cookie("other".to_owned()).point(&headers);
        assert_ne!(drawn(1), drawn(2), "whoever has none is drawn anew");
    }
}
