//! Alerts: from changes of lights to who is told what, and when nobody needs to be.
//!
//! One incident per station: it opens when the station leaves green and closes when it has been green for a
//! while. Each light of an incident is told once, to the routes of that light; it is told again when nobody
//! acknowledges it, and its end is told to whoever was told of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::board::STATIONS_MAX;
use crate::light::Light;
use crate::name::Name;
use crate::receipt::{Event, Receipt, Seq};
use crate::time::Timestamp;
use crate::view::BoardView;

mod incident;
mod outbox;
mod routes;
mod rules;
mod silence;

pub use outbox::{GIVE_UP_AFTER, Next, OUTBOX_MAX, Outbox};
pub use routes::Routes;
pub use rules::{AlertRules, AlertRulesBuilder, AlertRulesError};
pub use silence::{SILENCE_MAX, SILENCES_MAX};

use incident::{Fact, Incident};
use silence::Silence;

/// Incidents that are remembered: those of every station the board knows, and as many that are just over.
const INCIDENTS_MAX: usize = 2 * STATIONS_MAX;

/// What a notice is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// A station got a worse light.
    Firing,
    /// It still has it, and nobody has acknowledged it for long.
    Repeated,
    /// Nobody has acknowledged it in time: others are told.
    Escalated,
    /// It is green again, and has been for a while.
    Resolved,
}

impl NoticeKind {
    /// The kind in one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Repeated => "repeated",
            Self::Escalated => "escalated",
            Self::Resolved => "resolved",
        }
    }
}

/// What someone is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What for.
    pub kind: NoticeKind,
    /// The node.
    pub node: Name,
    /// The station.
    pub station: Name,
    /// The worst light that was told in this incident.
    pub light: Light,
    /// Why it has it, in words.
    pub why: Arc<str>,
    /// When the incident began, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// When this was decided, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The receipt it follows from; the chain of causes begins there.
    pub receipt: Seq,
    /// When the fact behind it happened, in the node's own time: the latency of the delivery counts from here.
    pub fact_at: Timestamp,
}

impl Notice {
    /// What makes it the same incident to those who are told: node and station.
    pub fn fingerprint(&self) -> String {
        format!("gemba/{}/{}", self.node, self.station)
    }
}

/// A notice and the routes it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a notice nobody sends tells nobody"]
pub struct Delivery {
    /// The notice.
    pub notice: Arc<Notice>,
    /// The routes, in order of their names.
    pub routes: Vec<Name>,
}

/// The alerts of one node. Pure: it is given receipts and the time, and returns what is to be sent.
#[derive(Debug, Clone)]
#[doc(alias = "andon")]
pub struct Alerts {
    node: Name,
    rules: AlertRules,
    routes: Routes,
    incidents: BTreeMap<Name, Incident>,
    silences: Vec<Silence>,
    /// How many notices were made in the minute that began then.
    minute: (Timestamp, u32),
    /// Whether the node is on its way down: what goes out then goes out on purpose.
    is_stopping: bool,
}

impl Alerts {
    /// Alerts of a node on which all is green.
    pub const fn new(node: Name, rules: AlertRules, routes: Routes) -> Self {
        let minute = (Timestamp::START, 0);
        Self {
            node,
            rules,
            routes,
            incidents: BTreeMap::new(),
            silences: Vec::new(),
            minute,
            is_stopping: false,
        }
    }

    /// Takes note of a receipt: a light, an acknowledgement, a silence. Others say nothing here.
    ///
    /// Ask [`advance`](Self::advance) afterwards what is to be sent.
    pub fn apply(&mut self, receipt: &Receipt) {
        if let Event::LightChanged { station, to, why, .. } = &receipt.event {
            self.light_changed(station, *to, why, receipt.into());
        }
        if let Event::NodeStopping { .. } = &receipt.event {
            self.is_stopping = true;
        }
        if let Event::AlertAcknowledged { station, by } = &receipt.event
            && let Some(incident) = self.incidents.get_mut(station)
        {
            incident.acknowledge(by);
        }
        if let Event::AlertsSilenced { stations, for_ms, .. } = &receipt.event {
            let until = receipt.at + Duration::from_millis(*for_ms).min(SILENCE_MAX);
            silence::add(&mut self.silences, Silence { stations: stations.clone(), until });
        }
    }

    /// Takes the lights as the board shows them: for when receipts were lost before they were read. A station that the
    /// board does not know is green.
    ///
    /// What was acknowledged or silenced in what was lost is not known: it is told once more rather than not at all.
    ///
    /// Ask [`advance`](Self::advance) afterwards what is to be sent.
    pub fn reconcile(&mut self, board: &BoardView, now: Timestamp, unix_ms: u64) {
        let mut dark: BTreeSet<Name> = self.incidents.keys().cloned().collect();
        for shown in &board.stations {
            dark.remove(&shown.name);
            let light = self.incidents.get(&shown.name).map_or(Light::Green, Incident::light);
            if light != shown.light {
                let age = Duration::from_millis(unix_ms.saturating_sub(shown.since_unix_ms));
                let at = Timestamp::START + now.since(Timestamp::START).saturating_sub(age);
                let receipt = shown.receipt.unwrap_or(board.receipt);
                let fact = Fact { receipt, at, unix_ms: shown.since_unix_ms };
                self.light_changed(&shown.name, shown.light, &shown.why, fact);
            }
        }
        let why: Arc<str> = "the board does not show it any more".into();
        for station in dark {
            let incident = self.incidents.get_mut(&station).expect("it was just listed");
            if incident.light() != Light::Green {
                incident.changed(Light::Green, &why, Fact { receipt: board.receipt, at: now, unix_ms });
            }
        }
    }

    fn light_changed(&mut self, station: &Name, to: Light, why: &Arc<str>, fact: Fact) {
        let open = self.incidents.len();
        match self.incidents.get_mut(station) {
            Some(incident) => incident.changed(to, why, fact),
            None if to == Light::Green => {}
            // The board knows half as many stations; what it forgets it turns green first.
            None if INCIDENTS_MAX <= open => {}
            None => {
                self.incidents.insert(station.clone(), Incident::new(to, why, fact));
            }
        }
    }

    /// What is to be sent now; to be called after each receipt and about every second.
    ///
    /// A node that was asked to stop sends nothing more: a stop on purpose is no incident.
    ///
    /// What the limit of notices a minute leaves out comes in a later minute, as it is then.
    pub fn advance(&mut self, now: Timestamp, unix_ms: u64) -> Vec<Delivery> {
        if self.is_stopping {
            return Vec::new();
        }
        self.silences.retain(|silence| now < silence.until);
        if Duration::from_secs(60) <= now.since(self.minute.0) {
            self.minute = (now, 0);
        }
        let node_light = self.node_light();
        let mut stations: Vec<_> =
            self.incidents.iter().map(|(name, one)| (Reverse(one.light()), name.clone())).collect();
        stations.sort_unstable();
        let mut deliveries = Vec::new();
        for (_, station) in stations {
            if self.rules.notices_per_minute() <= self.minute.1 {
                break;
            }
            let is_muted = self.is_silenced(&station) || is_inhibited(&station, &self.incidents, node_light);
            let incident = self.incidents.get_mut(&station).expect("it was just listed");
            let Some(kind) = incident.due(is_muted, &self.rules, now) else { continue };
            let told = incident.tell(kind, &self.routes, now);
            if told.routes.is_empty() {
                continue;
            }
            self.minute.1 += 1;
            let notice = Notice {
                kind,
                node: self.node.clone(),
                station,
                light: told.light,
                why: told.why,
                since_unix_ms: told.since_unix_ms,
                unix_ms,
                receipt: told.receipt,
                fact_at: told.fact_at,
            };
            deliveries.push(Delivery { notice: Arc::new(notice), routes: told.routes });
        }
        let rules = self.rules;
        self.incidents.retain(|_, incident| !incident.is_over(&rules, now));
        deliveries
    }

    /// The light of the station `node`.
    fn node_light(&self) -> Light {
        let node = self.incidents.iter().find(|(name, _)| name.as_str() == NODE);
        node.map_or(Light::Green, |(_, incident)| incident.light())
    }

    fn is_silenced(&self, station: &Name) -> bool {
        self.silences.iter().any(|silence| silence.covers(station))
    }

    /// Stations with an open incident, who has acknowledged it, and whether it is muted.
    pub fn open(&self) -> Vec<OpenAlert> {
        let node_light = self.node_light();
        let view = |(station, incident): (&Name, &Incident)| OpenAlert {
            station: station.clone(),
            light: incident.light(),
            told: incident.light_told(),
            acknowledged_by: incident.acknowledged_by().cloned(),
            is_muted: self.is_silenced(station) || is_inhibited(station, &self.incidents, node_light),
        };
        self.incidents.iter().filter(|(_, incident)| incident.light() != Light::Green).map(view).collect()
    }
}

/// An incident, for those who look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAlert {
    /// The station.
    pub station: Name,
    /// Its light.
    pub light: Light,
    /// The worst light anyone was told.
    pub told: Light,
    /// Who takes care of it.
    pub acknowledged_by: Option<Arc<str>>,
    /// Whether a silence or the node's own light keeps it quiet.
    pub is_muted: bool,
}

/// The station of the node as a whole.
const NODE: &str = "node";

/// A node that is red itself explains what is no worse on it: its pools, lines and breakers.
fn is_inhibited(station: &Name, incidents: &BTreeMap<Name, Incident>, node_light: Light) -> bool {
    Light::Red <= node_light
        && station.as_str() != NODE
        && incidents.get(station).is_some_and(|incident| incident.light() <= node_light)
}

/// Names in order, without doubles.
fn in_order(names: impl IntoIterator<Item = Name>) -> Vec<Name> {
    names.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests;
