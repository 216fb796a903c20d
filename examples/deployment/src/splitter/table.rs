//! Which version a request goes to: shares of the traffic, and the instances behind each.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName, header};
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
    /// The header by which a caller chooses the version, if it has a share: for whoever tries the new one out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_by: Option<String>,
    /// The versions. None: every request is refused.
    pub versions: Vec<Share>,
}

impl Table {
    /// Everything that is wrong with it, by field.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let named = match &self.sticky {
            Sticky::Random => None,
            Sticky::Header(name) | Sticky::Cookie(name) => Some(("sticky", name)),
        };
        for (field, name) in named.into_iter().chain(self.chosen_by.as_ref().map(|name| ("chosen_by", name)))
        {
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                let detail = format!("is '{name}', which is no name; give letters, digits and hyphens");
                faults.push((field.to_owned(), detail));
            }
        }
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

    /// The version that a request asks for by its header: its place.
    pub fn asked(&self, headers: &HeaderMap) -> Option<usize> {
        let asked = headers.get(self.chosen_by.as_deref()?)?.as_bytes();
        self.versions.iter().position(|share| share.version.as_bytes() == asked && 0 < share.weight)
    }

    /// Where `point` falls: the place of the version.
    pub fn pick(&self, point: Point) -> Option<usize> {
        let mut rest = u32::try_from(scaled(point.version, u64::from(WHOLE))).unwrap_or(0);
        self.versions.iter().position(|share| {
            let is_here = rest < share.weight;
            rest = rest.saturating_sub(share.weight);
            is_here
        })
    }
}

/// Where a request falls among versions, and among the instances of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// The version, as a part of 2^64.
    pub version: u64,
    /// The instance, as a part of 2^64.
    pub instance: u64,
}

impl Point {
    /// The point of a key: always the same.
    pub fn of(key: &[u8]) -> Self {
        // The high half decides the version, the low one the instance.
        let hash = xxh3_64(key);
        Self { version: hash, instance: hash << 32 }
    }

    /// Which of `instances`.
    pub fn place(self, instances: usize) -> usize {
        scaled(self.instance, instances as u64) as usize
    }
}

/// That part of `whole`, by the upper half of the point.
fn scaled(point: u64, whole: u64) -> u64 {
    ((point >> 32) * whole) >> 32
}

impl Sticky {
    /// The point of a request whose caller stays with one version, if it is known.
    pub fn point(&self, headers: &HeaderMap) -> Option<Point> {
        let key = match self {
            Self::Random => None,
            Self::Header(name) => headers.get(name).map(axum::http::HeaderValue::as_bytes),
            Self::Cookie(name) => cookie(headers, name),
        };
        key.map(Point::of)
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
        Table { generation: 1, versions: shares.iter().enumerate().map(share).collect(), ..Table::default() }
    }

    #[test]
    fn all_faults_of_a_table_are_told_at_once() {
        assert!(table(&[500, 9_500]).faults().is_empty());
        assert!(Table::default().faults().is_empty(), "a splitter in the morning");
        let mut wrong = table(&[500, 9_501]);
        wrong.versions[0].instances.clear();
        wrong.sticky = Sticky::Cookie("a b".to_owned());
        wrong.chosen_by = Some(String::new());
        let faults = wrong.faults();
        assert_eq!(faults.len(), 4, "{faults:?}");
        let fields: Vec<_> = faults.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["sticky", "chosen_by", "versions[0].instances", "versions"]);
    }

    #[test]
    fn each_version_gets_its_share() {
        let table = table(&[500, 2_500, 7_000]);
        let mut counts = [0u32; 3];
        for point in 0..1_000_000u64 {
            counts[table.pick(Point::of(&point.to_le_bytes())).unwrap()] += 1;
        }
        for (count, share) in counts.into_iter().zip([50_000, 250_000, 700_000]) {
            // Five standard deviations of a binomial at most.
            assert!(count.abs_diff(share) < 2_300, "{count} of {share}");
        }
        let at = |version| Point { version, instance: 0 };
        assert_eq!((table.pick(at(0)), table.pick(at(u64::MAX))), (Some(0), Some(2)));
    }

    #[test]
    fn a_growing_share_gives_nobody_back() {
        let (small, large) = (table(&[500, 9_500]), table(&[2_500, 7_500]));
        for point in (0..10_000u64).map(|point| Point::of(&point.to_le_bytes())) {
            assert!(small.pick(point) != Some(0) || large.pick(point) == Some(0));
        }
    }

    #[test]
    fn one_with_all_takes_all_and_one_with_nothing_takes_none() {
        let table = table(&[0, 10_000]);
        for version in [0, 1, u64::MAX / 2, u64::MAX] {
            assert_eq!(table.pick(Point { version, instance: 0 }), Some(1));
        }
    }

    #[test]
    fn a_caller_is_known_by_header_or_cookie() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", "ann".parse().unwrap());
        headers.insert(header::COOKIE, "theme=dark; user=ann".parse().unwrap());
        let by = [Sticky::Header("x-user".to_owned()), Sticky::Cookie("user".to_owned())];
        for sticky in by {
            assert_eq!(sticky.point(&headers), Some(Point::of(b"ann")), "{sticky:?}");
        }
        assert_eq!(
            Sticky::Cookie("other".to_owned()).point(&headers),
            None,
            "whoever has none is drawn anew"
        );
    }

    #[test]
    fn a_version_can_be_asked_for_if_it_has_a_share() {
        let mut table = table(&[0, 500, 9_500]);
        let mut headers = HeaderMap::new();
        headers.insert("x-try", "v1".parse().unwrap());
        assert_eq!(table.asked(&headers), None, "not unless that is set");
        table.chosen_by = Some("x-try".to_owned());
        assert_eq!(table.asked(&headers), Some(1));
        for other in ["v0", "v9", ""] {
            headers.insert("x-try", other.parse().unwrap());
            assert_eq!(table.asked(&headers), None, "{other:?}");
        }
    }
}
