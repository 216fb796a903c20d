//! The seam between a delivery and what carries it out: what is to be in a region, and what was found there.
//!
//! ```text
//!               Wanted: instances of each version, shares with their generation
//! conductor ───────────────────────────────────────────────────────────────────► adapter of a region
//!           ◄───────────────────────────────────────────────────────────────────
//!               Found: what is ready or failed · shares in force · counts and latencies
//! ```
//!
//! Both are states, not orders: whoever starts again reads what is wanted and looks at what is. [`process`] and
//! `static` put our own splitter in front of instances of this machine, and are asked within a tick; [`command`] and
//! `kubernetes` are [`remote`]: they work in lanes of their own, so that nobody waits for a slow script or cluster.
//!
//! [`process`]: crate::instances

pub mod command;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod remote;
pub mod settings;

use std::collections::BTreeMap;
use std::time::Duration;

use gemba::Supervisor;

use crate::adapter::command::Scripts;
use crate::adapter::remote::{Patience, Remote};
use crate::fleet::{Region, Service};

/// How long instances behind scripts are kept when they have no share any more: as behind our own splitter.
const DRAIN: Duration = Duration::from_secs(1);

/// The lanes that drive a region, if it is driven in lanes.
pub(crate) fn remote(service: &Service, region: &Region) -> Option<(Remote, Supervisor)> {
    let name = format!("{}.{}", service.name, region.name);
    let ready_within = Duration::from_millis(service.ready_within_ms);
    if let Some(settings) = &region.command {
        let scripts = Scripts::new(service.name.as_str(), region.name.as_str(), settings.clone());
        return Some(Remote::new(&name, move || scripts.clone(), Patience { ready_within, drain: DRAIN }));
    }
    #[cfg(feature = "kubernetes")]
    if let Some(settings) = &region.kubernetes {
        let patience = Patience { ready_within, drain: Duration::from_millis(settings.drain_ms) };
        let (service, settings) = (service.clone(), settings.clone());
        return Some(Remote::new(&name, move || kubernetes::Cluster::new(&service, &settings), patience));
    }
    None
}

/// The shares of the versions of a region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shares {
    /// Its number; it never goes back. Whoever finds a greater one in force is not the manager any more.
    pub generation: u64,
    /// Each version and what it gets of the requests, in ten thousandths: all of them together, or nothing at all.
    pub versions: Vec<(String, u32)>,
}

/// What is to be in a region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The delivery that wants it; empty before the first.
    pub delivery: String,
    /// The generation of what is wanted: that of the shares, or when this manager began. It never goes back.
    pub generation: u64,
    /// How many instances of which version are to be ready. Those of other versions end when they have drained.
    pub instances: BTreeMap<String, u32>,
    /// The shares; none leaves them as they are, and nothing ends.
    pub shares: Option<Shares>,
}

/// How a version stands in a region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its instances that are ready.
    pub ready: u32,
    /// All of them.
    pub all: u32,
    /// How often they failed, and why at last.
    pub failures: Option<(u64, String)>,
}

/// Why an adapter could not do or tell something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Trouble {
    /// What, and what to do about it.
    pub what: String,
    /// Whether trying again may help without anybody's doing.
    pub is_passing: bool,
    /// How long to wait before that, if it was told.
    pub again_after: Option<Duration>,
}

impl Trouble {
    /// Trying again may help.
    pub fn passing(what: impl Into<String>) -> Self {
        Self { what: what.into(), is_passing: true, again_after: None }
    }

    /// Somebody has to do something first.
    pub fn lasting(what: impl Into<String>) -> Self {
        Self { what: what.into(), is_passing: false, again_after: None }
    }
}
