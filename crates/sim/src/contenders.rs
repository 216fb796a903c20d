//! The controllers that are compared.

use std::time::Duration;

use gemba_core::wait::WaitRules;

use crate::controller::Controller;
use crate::workload::Model;

pub mod adaptive;
pub mod codel;
pub mod fixed;
pub mod ours;

/// When those that know nothing better ask a refused caller to come back: as `gemba_flow` does.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Who takes part in a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// The ceiling and the wait gate.
    Ours,
    /// An unbounded queue.
    NoControl,
    /// 1200 in flight, 960 of them for all tiers.
    Seeds,
    /// A bounded queue, one place per worker.
    BoundedOne,
    /// A bounded queue, four places per worker.
    BoundedFour,
    /// As many as workers, and no queue.
    Tower,
    /// Netflix's Gradient2.
    Gradient2,
    /// Netflix's Vegas.
    Vegas,
    /// Netflix's AIMD.
    Aimd,
    /// CoDel with adaptive LIFO.
    CoDel,
}

impl Contender {
    /// All of them, ours first.
    pub const ALL: [Self; 10] = [
        Self::Ours,
        Self::NoControl,
        Self::Seeds,
        Self::BoundedOne,
        Self::BoundedFour,
        Self::Tower,
        Self::Gradient2,
        Self::Vegas,
        Self::Aimd,
        Self::CoDel,
    ];

    /// What it is called in tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::NoControl => "no control",
            Self::Seeds => "1200/960",
            Self::BoundedOne => "queue K=W",
            Self::BoundedFour => "queue K=4W",
            Self::Tower => "tower",
            Self::Gradient2 => "Gradient2",
            Self::Vegas => "Vegas",
            Self::Aimd => "AIMD",
            Self::CoDel => "CoDel+LIFO",
        }
    }

    /// A fresh controller for the model.
    pub fn controller(self, model: &Model) -> Box<dyn Controller> {
        match self {
            Self::Ours => Box::new(ours::Ours::new(model, WaitRules::default())),
            Self::NoControl => Box::new(fixed::Fixed::none()),
            Self::Seeds => Box::new(fixed::Fixed::seeds()),
            Self::BoundedOne => Box::new(fixed::Fixed::bounded("queue K=W", model.workers)),
            Self::BoundedFour => Box::new(fixed::Fixed::bounded("queue K=4W", 4 * model.workers)),
            Self::Tower => Box::new(fixed::Fixed::tower()),
            Self::Gradient2 => Box::new(adaptive::Adaptive::gradient2()),
            Self::Vegas => Box::new(adaptive::Adaptive::vegas()),
            Self::Aimd => Box::new(adaptive::Adaptive::aimd(model.deadline)),
            Self::CoDel => Box::new(codel::CoDel::new()),
        }
    }
}
