//! The rules of supervision, in OTP's words: strategy, restart type, intensity.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exit::ExitReason;
use crate::name::Name;
use crate::time::Timestamp;

/// Which siblings are restarted with a child that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// None.
    OneForOne,
    /// All.
    OneForAll,
    /// Those that started after it.
    RestForOne,
    /// None; children are added and removed while it runs (OTP: `simple_one_for_one`).
    Dynamic,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneForOne => "one_for_one",
            Self::OneForAll => "one_for_all",
            Self::RestForOne => "rest_for_one",
            Self::Dynamic => "dynamic",
        })
    }
}

/// When a child that ended is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// When it ended abnormally.
    Transient,
    /// Never; its place is given up.
    Temporary,
}

impl Restart {
    pub(super) const fn applies_to(self, reason: &ExitReason) -> bool {
        match self {
            Self::Permanent => true,
            Self::Transient => !reason.is_clean(),
            Self::Temporary => false,
        }
    }
}

/// How many restarts a supervisor makes within a period before it gives up and ends itself.
///
/// # Units and limits
///
/// Default: 3 restarts in 5 s, as Elixir's; Erlang's is 1 in 5 s. The restart that would be one too many is
/// not made. `restarts: 0` means that the first crash ends the supervisor. A restart of several children
/// together counts once, and a restart whose start fails counts each time it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intensity {
    /// Restarts allowed within the period.
    pub restarts: u32,
    /// The period; a restart counts for exactly so long.
    pub period: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self { restarts: 3, period: Duration::from_secs(5) }
    }
}

/// Whether the end of significant children ends their supervisor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoShutdown {
    /// No child is significant.
    #[default]
    Never,
    /// The first significant child that ends by itself, and is not restarted, ends the supervisor.
    AnySignificant,
    /// The last one does.
    AllSignificant,
}

/// How long a supervisor waits before it restarts a child that keeps failing.
///
/// # Units and limits
///
/// The first restart in a row is made at once, the second after `first`, each further one after twice the
/// time before, up to `max`; a jitter takes up to half of it away, so that siblings do not return together.
/// A child that has run for `healthy_after` begins anew. Default: no wait, as in OTP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// The wait before the second restart in a row.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
    /// How long a life has to last to end the row.
    pub healthy_after: Duration,
}

impl Backoff {
    /// Waits from `first`, doubled each time, up to `max`; a life of `max` ends the row.
    pub const fn exponential(first: Duration, max: Duration) -> Self {
        Self { first, max, healthy_after: max }
    }

    /// The wait before restart number `tries` in a row, from 1. `seed` makes the jitter.
    pub fn delay(&self, tries: u32, seed: u64) -> Duration {
        if self.first.is_zero() || tries <= 1 {
            return Duration::ZERO;
        }
        let doublings = (tries - 2).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.max);
        let nanos = u64::try_from(full.as_nanos()).unwrap_or(u64::MAX);
        full.saturating_sub(Duration::from_nanos(scatter(seed) % (nanos / 2 + 1)))
    }
}

/// Spreads a number over all 64 bits (the finaliser of `SplitMix64`).
const fn scatter(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What a supervisor that gives up ends with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GiveUp {
    /// With [`ExitReason::GaveUp`], which is abnormal: a transient supervisor is restarted by its own.
    #[default]
    Abnormally,
    /// With [`ExitReason::Shutdown`], as in OTP: a transient supervisor that gives up stays down, silently.
    Cleanly,
}

/// How many children a supervisor takes unless told otherwise: 1 048 576.
pub const CHILDREN_MAX: usize = 1 << 20;

/// The rules of one supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// Which siblings it restarts.
    pub strategy: Strategy,
    /// How many restarts it makes.
    pub intensity: Intensity,
    /// Whether significant children end it.
    pub auto_shutdown: AutoShutdown,
    /// How long it waits between restarts.
    pub backoff: Backoff,
    /// What it ends with when it gives up.
    pub give_up: GiveUp,
    /// How many children it takes; default [`CHILDREN_MAX`].
    pub children_max: usize,
}

impl Flags {
    /// The default rules with this strategy.
    pub fn new(strategy: Strategy) -> Self {
        Self {
            strategy,
            intensity: Intensity::default(),
            auto_shutdown: AutoShutdown::default(),
            backoff: Backoff::default(),
            give_up: GiveUp::default(),
            children_max: CHILDREN_MAX,
        }
    }
}

/// Whether a child has children of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildKind {
    /// It works.
    #[default]
    Worker,
    /// It supervises.
    Supervisor,
}

/// The rules of one child.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChildRules {
    /// When it is started again.
    pub restart: Restart,
    /// Whether its end may end the supervisor.
    pub significant: bool,
    /// How it is counted.
    pub kind: ChildKind,
}

impl From<Restart> for ChildRules {
    fn from(restart: Restart) -> Self {
        Self { restart, ..Self::default() }
    }
}

/// Why the rules of a supervisor, or of a child under it, cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// The period is zero.
    #[error("a period of 0 counts no restart; give the intensity a period above 0")]
    Period,
    /// A back-off shrinks.
    #[error("a back-off from {first:?} to {max:?} shrinks; make the first wait the shorter one")]
    Backoff {
        /// The first wait.
        first: Duration,
        /// The longest wait.
        max: Duration,
    },
    /// The supervisor takes nobody.
    #[error("it takes 0 children; allow 1 at least")]
    ChildrenMax,
    /// A dynamic supervisor waits for all its children.
    #[error(
        "auto-shutdown 'all_significant' has no meaning where children come and go; use 'any_significant'"
    )]
    AllOfDynamic,
    /// A permanent child never ends for good.
    #[error("it is significant and permanent: it never ends for good; make it transient or temporary")]
    SignificantPermanent,
    /// A significant child under a supervisor that does not mind.
    #[error("it is significant, but its supervisor never shuts down by itself; set auto_shutdown there")]
    SignificantNever,
}

impl Flags {
    /// Everything that is wrong with these rules.
    #[doc(alias = "sup_flags")]
    pub fn check(&self) -> Vec<RuleError> {
        let mut errors = Vec::new();
        if self.intensity.period.is_zero() {
            errors.push(RuleError::Period);
        }
        if self.backoff.max < self.backoff.first {
            errors.push(RuleError::Backoff { first: self.backoff.first, max: self.backoff.max });
        }
        if self.children_max == 0 {
            errors.push(RuleError::ChildrenMax);
        }
        if self.strategy == Strategy::Dynamic && self.auto_shutdown == AutoShutdown::AllSignificant {
            errors.push(RuleError::AllOfDynamic);
        }
        errors
    }
}

impl ChildRules {
    /// What is wrong with these rules under a supervisor with this auto-shutdown.
    #[doc(alias = "check_childspecs")]
    pub const fn check(self, auto_shutdown: AutoShutdown) -> Option<RuleError> {
        match (self.significant, self.restart, auto_shutdown) {
            (true, Restart::Permanent, _) => Some(RuleError::SignificantPermanent),
            (true, _, AutoShutdown::Never) => Some(RuleError::SignificantNever),
            (..) => None,
        }
    }
}

/// A child of one supervisor, in the order of their starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey(pub(super) u64);

impl ChildKey {
    /// Where the child stands among its siblings; the first is 0.
    pub const fn order(self) -> u64 {
        self.0
    }
}

/// What a supervisor does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Start a new life of the child and report [`started`](super::Supervision::started),
    /// [`ignored`](super::Supervision::ignored) or [`start_failed`](super::Supervision::start_failed).
    Start(ChildKey),
    /// Ask the child to stop, kill it after its time limit, and report
    /// [`exited`](super::Supervision::exited) or [`stop_failed`](super::Supervision::stop_failed).
    Stop(ChildKey),
    /// Call [`retry`](super::Supervision::retry) at that time, and serve whatever waits before.
    Retry {
        /// The child to be started again.
        key: ChildKey,
        /// Tells this retry from an earlier one of the same child.
        generation: u32,
        /// When.
        at: Timestamp,
    },
    /// Call [`resume`](super::Supervision::resume) at that time: a group waits for its restart.
    Resume {
        /// When.
        at: Timestamp,
    },
    /// Remove the child's place: nobody will start it again.
    Forget(ChildKey),
    /// All children have started for the first time.
    Ready,
    /// The restarts within the period are used up: what was left to do about it is under way.
    GaveUp(ExitReason),
    /// End the supervisor: no child is left.
    End(ExitReason),
}

/// How a child stands, as an operator or its own siblings see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildStatus {
    /// It does not run, and nobody is about to start it.
    Down,
    /// It will be started again.
    Restarting,
    /// Its start is under way.
    Starting,
    /// It runs.
    Running,
    /// It has been asked to stop.
    Stopping,
    /// It did not stop when it was killed, and holds its place until it is gone.
    Unkillable,
}

/// How many children a supervisor has (OTP: `count_children`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildCounts {
    /// Children with a place, running or not.
    pub specs: usize,
    /// Those that run.
    pub active: usize,
    /// Those with children of their own, running or not.
    pub supervisors: usize,
    /// All others, running or not.
    pub workers: usize,
}

/// Why a supervisor does not carry out a request about one of its children.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChildRefusal {
    /// There is a child of this name, and it runs.
    #[error("a child called '{name}' runs already; give each child of a supervisor its own name")]
    AlreadyStarted {
        /// The name.
        name: Name,
    },
    /// There is a child of this name that does not run.
    #[error("a child called '{name}' exists and is down; restart it, or delete it first")]
    AlreadyPresent {
        /// The name.
        name: Name,
    },
    /// The child runs.
    #[error("child '{name}' runs; terminate it first")]
    Running {
        /// The name.
        name: Name,
    },
    /// The child is about to be started again.
    #[error("child '{name}' is being restarted; wait for it, or terminate it first")]
    Restarting {
        /// The name.
        name: Name,
    },
    /// The supervisor is halted.
    #[error("the supervisor is halted; let it run again first")]
    Halted,
    /// The supervisor takes no more children.
    #[error("the supervisor has {limit} children, and takes no more; raise children_max or spread them")]
    Full {
        /// How many it takes.
        limit: usize,
    },
}
