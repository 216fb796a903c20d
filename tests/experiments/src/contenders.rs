//! Those that are compared: all do the same work, and differ in whom they let.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use gemba::admission::Tier;
use gemba::sim::contenders::adaptive::Adaptive;
use gemba::sim::contenders::codel::CoDel;

use crate::trace::Model;
use crate::work::Work;

mod desk;
mod factory;
pub(crate) mod ours;
mod queue;
mod shed;

/// One attempt of one signal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub number: u32,
    pub attempt: u8,
    pub tier: Tier,
    pub tenant: u8,
    pub due: Instant,
    pub work: Work,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Its work was done, and took this long.
    Served { took: Duration },
    /// Nothing was done.
    Refused { retry_after: Duration },
    /// Its time was up, or nobody answered.
    Late,
}

/// When those that know nothing better ask a refused caller to come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long those run before they are measured that do not find their limit by trying.
const WARM_UP: Duration = Duration::from_secs(3);

pub(crate) const REFUSED: End = End::Refused { retry_after: RETRY_AFTER };

pub(crate) type Call = Pin<Box<dyn Future<Output = End> + Send>>;

/// Decides whether an attempt is served, and serves it.
pub(crate) trait Contender: Send + Sync {
    fn call(&self, job: Job) -> Call;
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    NoControl,
    Seeds,
    Bounded,
    BoundedFour,
    Tower,
    Gradient2,
    CoDel,
    Factory,
    /// Ours with three pools, one of them slow.
    Pools {
        slow: bool,
    },
    /// Ours with a worker that hangs.
    Hung {
        hung: bool,
    },
}

impl Kind {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::NoControl => "no control",
            Self::Seeds => "1200/960",
            Self::Bounded => "K = W",
            Self::BoundedFour => "K = 4W",
            Self::Tower => "tower",
            Self::Gradient2 => "Gradient2",
            Self::CoDel => "CoDel+LIFO",
            Self::Factory => "ractor factory",
            Self::Pools { slow: true } => "one pool slow",
            Self::Pools { slow: false } => "no pool slow",
            Self::Hung { hung: true } => "one hung",
            Self::Hung { hung: false } => "none hung",
        }
    }

    /// How long before it is measured it has to run: whoever finds its limit by trying needs `full`, the others
    /// as long as it takes to know how long work takes and to fill a queue.
    pub(crate) fn warm_up(self, full: Duration) -> Duration {
        match self {
            Self::Gradient2 | Self::CoDel => full,
            Self::Ours
            | Self::NoControl
            | Self::Seeds
            | Self::Bounded
            | Self::BoundedFour
            | Self::Tower
            | Self::Factory
            | Self::Pools { .. }
            | Self::Hung { .. } => full.min(WARM_UP),
        }
    }

    pub(crate) async fn start(self, model: &Model) -> Box<dyn Contender> {
        let workers = model.workers;
        match self {
            Self::Ours => Box::new(ours::start(model).await),
            Self::NoControl => Box::new(queue::Fifo::unbounded(workers)),
            Self::Seeds => Box::new(queue::Fifo::seeds(workers)),
            Self::Bounded => Box::new(queue::Bounded::start(workers, workers as usize)),
            Self::BoundedFour => Box::new(queue::Bounded::start(workers, 4 * workers as usize)),
            Self::Tower => Box::new(shed::Tower::new(workers)),
            Self::Gradient2 => Box::new(desk::start(Adaptive::gradient2(), workers)),
            Self::CoDel => Box::new(desk::start(CoDel::new(), workers)),
            Self::Factory => Box::new(factory::start(workers).await),
            Self::Pools { slow } => Box::new(ours::start_pools(model, slow).await),
            Self::Hung { hung } => Box::new(ours::start_hung(model, hung).await),
        }
    }
}
