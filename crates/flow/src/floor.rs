//! The floor of a plant: its lines, pools and limits, which outlive the actors that govern them.

use std::sync::Arc;

use gemba_core::affinity::Affinity;
use gemba_core::baseline::{Baselines, Comparison};
use gemba_core::board::{Board, BoardRules};
use gemba_core::bottleneck::Finding;
use gemba_core::burn_rate::{BurnRate, Objective};
use gemba_core::burst::Burst;
use gemba_core::cost::Ledger;
use gemba_core::forecast::Forecast;
use gemba_core::health::{HealthRules, HealthView};
use gemba_core::intake::Intake;
use gemba_core::jidoka::{Jidoka, JidokaRules};
use gemba_core::ladder::{Ladder, Measure};
use gemba_core::lending::Lending;
use gemba_core::light::Light;
use gemba_core::receipt::Seq;
use gemba_core::time::Timestamp;
use gemba_core::view::{ArrivalsView, CostView, LineView, StudyView};
use gemba_kernel::Publisher;

use crate::balancer::Routes;
use crate::burst::Levelling;
use crate::health::Wellness;
use crate::kaizen::{Levels, Measuring};
use crate::line::LineCell;
use crate::meter::Counts;
use crate::permit::Ceiling;
use crate::pool::PoolCell;

/// What the actors of one plant share: the cells, and what they publish for each other.
#[derive(Debug)]
pub(crate) struct Floor {
    pub lines: Vec<Arc<LineCell>>,
    pub pools: Vec<Arc<PoolCell>>,
    /// For each line, the pools that can do its work.
    pub serves: Vec<Vec<usize>>,
    pub ceiling: Arc<Ceiling>,
    pub routes: Arc<Routes>,
    /// Published by kaizen each second.
    pub line_views: Publisher<Vec<LineView>>,
    /// What each line takes and why; published by the regulator, so that its next life goes on from there.
    pub stances: Publisher<Vec<Jidoka>>,
    /// What each line has shown; published by kaizen, so that its next life goes on from there.
    pub learnt: Publisher<Vec<Learnt>>,
    /// The same of the node: its processors, memory and connections.
    pub node_levels: Publisher<Levels>,
    /// What the board shows of that, and where most of the time goes.
    pub studies: Publisher<Vec<StudyView>>,
    pub bottlenecks: Publisher<Vec<Finding>>,
    /// How each line was when it was good; kept in a file if there is one.
    pub baselines: Publisher<Baselines>,
    /// What pools have lent each other; published by the balancer, so that its next life goes on from there.
    pub lending: Publisher<Lending>,
    /// Which keys belong to which pool; published by the balancer, so that its next life goes on from there.
    pub affinity: Publisher<Affinity>,
    /// What burst goes by; set by the regulator, and in force across restarts, as are the rules of lines.
    pub levelling: Publisher<Levelling>,
    pub jidoka: Publisher<JidokaRules>,
    /// What kaizen goes by, likewise.
    pub measuring: Publisher<Measuring>,
    /// How checks are weighed, likewise, and how they are unless somebody says otherwise.
    pub checking: Publisher<HealthRules>,
    pub checking_built: HealthRules,
    /// What the monitor knows of the checks; published by it, so that its next life goes on from there.
    pub health: Publisher<Wellness>,
    pub health_view: Publisher<HealthView>,
    /// Published by burst.
    pub arrivals: Publisher<ArrivalsView>,
    /// Published by burst.
    pub cost: Publisher<CostView>,
    /// What burst has learnt; published by it, so that its next life goes on from there.
    pub surge: Publisher<Surge>,
    /// What the board shows, and why; published by it, so that its next life goes on from there.
    pub andon: Publisher<Andon>,
}

/// The lights, and the newest receipt that was folded into them.
#[derive(Debug, Clone)]
pub(crate) struct Andon {
    pub board: Board,
    pub read: Seq,
}

impl Default for Andon {
    fn default() -> Self {
        Self { board: Board::new(BoardRules::default()), read: Seq(0) }
    }
}

/// What burst has learnt, and the receipt of the surge that is on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surge {
    pub burst: Option<Burst>,
    pub ledger: Option<Ledger>,
    /// Surge cost when the present surge began, in millionths.
    pub cost_before: u64,
    /// One for each pool.
    pub pools: Vec<PoolSurge>,
    pub receipt: Option<Seq>,
}

/// What burst knows of one pool.
#[derive(Debug, Clone)]
pub(crate) struct PoolSurge {
    pub forecast: Forecast,
    /// Jobs that came to the pool, over all lives of its dispatcher.
    pub arrived: u64,
    /// How many of them the present life has told of.
    pub told: u64,
    /// Its size while there was no surge.
    pub calm: u32,
    /// Its size when the surge began to fade.
    pub held: u32,
}

/// How far a line has climbed on its ladders, of failures, of signals out of time and of its figures, how fast it
/// burns its budget, what it takes and refuses, how it stands against its baseline.
#[derive(Debug, Clone)]
pub(crate) struct Learnt {
    pub failures: Ladder,
    pub late: Ladder,
    pub levels: Levels,
    pub burn: BurnRate,
    pub intake: Intake,
    pub comparison: Option<Comparison>,
    pub regressed: Option<Seq>,
    /// The receipts of the last steps of its ladders: of failures, and of signals out of time.
    pub steps: [Option<Seq>; 2],
}

impl Learnt {
    /// Nothing yet.
    pub(crate) fn new(rules: &Measuring, objective: Objective, now: Timestamp) -> Self {
        let ladder = rules.ladder;
        let mut burn = BurnRate::new(objective, now);
        burn.set_rules(objective, rules.burn);
        Self {
            failures: Ladder::new(ladder, now),
            // They stop nothing unless the rules say so, and a breaker opens where most calls are late.
            late: Ladder::new(ladder.at_worst(Light::Red), now),
            levels: Levels::new(&Measure::OF_LINE, rules),
            burn,
            intake: Intake::new(now),
            comparison: None,
            regressed: None,
            steps: [None; 2],
        }
    }

    /// Goes by other rules from now on; what each part does with what it knows is said there.
    pub(crate) fn set_rules(&mut self, rules: &Measuring, now: Timestamp) {
        self.failures.set_rules(rules.ladder, now);
        self.late.set_rules(rules.ladder, now);
        self.levels.set_rules(&Measure::OF_LINE, rules);
    }
}

impl Floor {
    /// The names of all lines, for an error that helps.
    pub(crate) fn line_names(&self) -> String {
        self.lines.iter().map(|line| line.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The names of all pools, likewise.
    pub(crate) fn pool_names(&self) -> String {
        self.pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Sets how long workers of each pool may be at one job: the longest deadline of the lines it serves, and what
    /// follows.
    pub(crate) fn set_patience(&self) {
        for (index, pool) in self.pools.iter().enumerate() {
            let served = self.lines.iter().zip(&self.serves).filter(|(_, serves)| serves.contains(&index));
            let longest = served.map(|(line, _)| line.rules().patience()).max();
            pool.patience.publish(longest.unwrap_or_default());
        }
    }

    /// What a pool has done since the node started, for all its lines.
    pub(crate) fn done_in(&self, pool: &PoolCell) -> Counts {
        let mut counts = Counts::default();
        for line in &self.lines {
            counts.add(&line.meter.of_pool(pool.hash));
        }
        counts
    }

    /// Signals that came since the node started, refused ones included.
    pub(crate) fn arrived(&self) -> u64 {
        self.lines.iter().map(|line| line.meter.counts().arrived).sum()
    }
}
