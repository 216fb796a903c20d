//! The monthly review: what the node's own facts answer, and what a person has to.

use std::collections::BTreeMap;
use std::sync::Arc;

use gemba::alert::NoticeKind;
use gemba::bottleneck::Finding;
use gemba::light::Light;
use gemba::receipt::{BreakerState, Event, Receipt, Seq};
use gemba::six_sigma::{Criterion, Quality, Recall, RecallFacts};
use gemba::view::{BoardView, LineView, PoolView, StudyView};
use serde::Serialize;

mod checklist;
mod lights;

pub(crate) use checklist::{Answer, Question};
pub(crate) use lights::Lights;

/// How many seconds an alert may wait for a person. Source: FLOW.md, andon.
pub(crate) const ACKNOWLEDGE_S: f64 = 300.0;

/// A review: facts, and the questions they answer.
#[derive(Debug, Serialize)]
pub(crate) struct Review {
    pub(crate) from_unix_ms: u64,
    pub(crate) to_unix_ms: u64,
    /// Receipts that were too old to be remembered: what they would have shown is not in here.
    pub(crate) forgotten: u64,
    pub(crate) node: Option<Arc<str>>,
    pub(crate) lines: Vec<LineView>,
    pub(crate) pools: Vec<PoolView>,
    pub(crate) studies: Vec<StudyView>,
    pub(crate) bottlenecks: Vec<Finding>,
    pub(crate) lights: Lights,
    pub(crate) counts: Counts,
    pub(crate) recalls: Vec<(Recall, Criterion)>,
    pub(crate) checklist: Vec<Question>,
}

/// How often what happened.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Counts {
    /// Exits of children by the first words of their reason.
    pub(crate) exits: BTreeMap<String, u64>,
    pub(crate) restarts: u64,
    pub(crate) gave_up: u64,
    pub(crate) breaker_trips: BTreeMap<String, u64>,
    pub(crate) cords: u64,
    pub(crate) surges: u64,
    pub(crate) resizes: u64,
    pub(crate) regressions: u64,
    pub(crate) alerts: u64,
    pub(crate) escalations: u64,
    pub(crate) undelivered: u64,
    /// Seconds from an alert to its acknowledgement.
    pub(crate) acknowledged_s: Vec<f64>,
}

impl Counts {
    fn new(receipts: &[Arc<Receipt>]) -> Self {
        let mut counts = Self::default();
        let mut open = BTreeMap::new();
        for receipt in receipts {
            counts.add(receipt, &mut open);
        }
        counts
    }

    /// `open` holds when each station's alert that waits for a person was told.
    fn add(&mut self, receipt: &Receipt, open: &mut BTreeMap<String, u64>) {
        if let Event::ChildExited { reason, .. } = &receipt.event
            && !reason.is_clean()
        {
            let reason = reason.to_string();
            let class = reason.split([':', '(']).next().unwrap_or_default().trim().to_owned();
            *self.exits.entry(class).or_default() += 1;
        }
        let count = |kind: &str| u64::from(receipt.event.kind() == kind);
        self.restarts += count("child_restarted");
        self.gave_up += count("supervisor_gave_up");
        self.cords += count("cord_pulled");
        self.surges += count("surge_started");
        self.resizes += count("pool_resized");
        self.regressions += count("regression_found");
        self.undelivered += count("delivery_failed");
        if let Event::BreakerMoved { breaker, to: BreakerState::Open, .. } = &receipt.event {
            *self.breaker_trips.entry(breaker.to_string()).or_default() += 1;
        }
        if let Event::Alerted { station, notice, .. } = &receipt.event {
            self.alerts += u64::from(*notice == NoticeKind::Firing);
            self.escalations += u64::from(*notice == NoticeKind::Escalated);
            if *notice == NoticeKind::Firing {
                open.insert(station.to_string(), receipt.unix_ms);
            }
        }
        if let Event::AlertAcknowledged { station, .. } = &receipt.event
            && let Some(told) = open.remove(station.as_str())
        {
            self.acknowledged_s.push(receipt.unix_ms.saturating_sub(told) as f64 / 1e3);
        }
    }
}

impl Review {
    /// A review from the board and every receipt that is remembered, oldest first.
    pub(crate) fn new(board: &BoardView, receipts: &[Arc<Receipt>], forgotten: u64) -> Self {
        let to_unix_ms = board.taken_unix_ms;
        let from_unix_ms = receipts.first().map_or(to_unix_ms, |receipt| receipt.unix_ms);
        let node = receipts.iter().find_map(|receipt| {
            if let Event::NodeStarted { node } = &receipt.event { Some(node.as_str().into()) } else { None }
        });
        let quality = board.studies.iter().fold(Quality::default(), |all, study| Quality {
            defects: all.defects + study.quality.defects,
            opportunities: all.opportunities + study.quality.opportunities,
        });
        // What no fact says stays open: a person answers it.
        let facts = RecallFacts { quality, ..RecallFacts::default() };
        let mut review = Self {
            from_unix_ms,
            to_unix_ms,
            forgotten,
            node,
            lines: board.lines.clone(),
            pools: board.pools.clone(),
            studies: board.studies.clone(),
            bottlenecks: board.bottlenecks.clone(),
            lights: Lights::new(board, receipts, from_unix_ms),
            counts: Counts::new(receipts),
            recalls: Recall::ALL.map(|recall| (recall, recall.judge(&facts))).to_vec(),
            checklist: Vec::new(),
        };
        review.checklist = checklist::answer(&review, quality);
        review
    }
}

/// A light that lets no one work as they should.
pub(crate) fn is_down(light: Light) -> bool {
    Light::Red <= light
}

/// The receipt to begin `gemba why` with.
pub(crate) type Start = Seq;

#[cfg(test)]
pub(crate) mod tests;
