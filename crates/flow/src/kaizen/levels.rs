//! The figures of one line, or of the node, that are held against thresholds.

use std::sync::Arc;

use gemba_core::jidoka::{Defect, JidokaRules};
use gemba_core::ladder::{LadderRules, Level, LevelRules, LevelStep, Measure};
use gemba_core::light::Light;
use gemba_core::name::Name;
use gemba_core::receipt::{Event, Seq};

use super::KaizenMsg;
use gemba_kernel::Context;

/// How high they stand, and the receipt of each one's last step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Levels(Vec<(Level, Option<Seq>)>);

impl Levels {
    pub(crate) fn new(measures: &[Measure], levels: &LevelRules, clearing: LadderRules) -> Self {
        let watched = measures.iter().filter_map(|measure| Some((*measure, levels.of(*measure)?)));
        Self(watched.map(|(measure, limits)| (Level::new(measure, limits, clearing), None)).collect())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes note of each figure that is known, and leaves a receipt of each step.
    pub(crate) fn observe(
        &mut self,
        line: Option<&Name>,
        known: impl Fn(Measure) -> Option<u64>,
        jidoka: &JidokaRules,
        ctx: &Context<KaizenMsg>,
    ) {
        for (level, last) in &mut self.0 {
            let measure = level.measure();
            let Some(value) = known(measure) else { continue };
            let worst = if jidoka.drives(measure.cause()) { Light::Purple } else { Light::Red };
            let Some(step) = level.observe(value, worst, ctx.now()) else { continue };
            let LevelStep { measure, from, to, value, limit } = step;
            let event = Event::LevelMoved { line: line.cloned(), measure, from, to, value, limit };
            *last = Some(ctx.system().record(*last, ctx.path(), event));
        }
    }

    /// What is wrong because of them.
    pub(crate) fn defects(&self) -> impl Iterator<Item = Defect> {
        self.0.iter().map(|(level, _)| {
            let (measure, light) = (level.measure(), level.light());
            let why: Arc<str> = format!("{measure}: {light}").into();
            Defect { cause: measure.cause(), light, why }
        })
    }

    /// The newest step that moves a line.
    pub(crate) fn step(&self, jidoka: &JidokaRules) -> Option<Seq> {
        let drives = self.0.iter().filter(|(level, _)| jidoka.drives(level.measure().cause()));
        drives.filter_map(|(_, step)| *step).max()
    }
}
