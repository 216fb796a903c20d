//! The figures of one line, or of the node, that are held against thresholds.

use std::sync::Arc;

use gemba_core::jidoka::{Defect, JidokaRules};
use gemba_core::ladder::{Level, LevelStep, Measure};
use gemba_core::light::Light;
use gemba_core::name::Name;
use gemba_core::receipt::{Event, Seq};

use super::{KaizenMsg, Measuring};
use gemba_kernel::Context;

/// How high they stand, and the receipt of each one's last step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Levels(Vec<(Level, Option<Seq>)>);

impl Levels {
    pub(crate) fn new(measures: &[Measure], rules: &Measuring) -> Self {
        let mut levels = Self::default();
        levels.set_rules(measures, rules);
        levels
    }

    /// Holds these figures against other thresholds from now on.
    pub(crate) fn set_rules(&mut self, measures: &[Measure], Measuring { levels, ladder, .. }: &Measuring) {
        for (level, _) in &mut self.0 {
            level.set_rules(levels.of(level.measure()), *ladder);
        }
        for measure in measures {
            let known = self.0.iter().any(|(level, _)| level.measure() == *measure);
            if let Some(limits) = levels.of(*measure).filter(|_| !known) {
                self.0.push((Level::new(*measure, limits, *ladder), None));
            }
        }
        self.0.retain(|(level, _)| !level.is_over());
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
            // What is watched no more goes out, known or not.
            let value = known(measure).or((!level.is_watched()).then_some(0));
            let Some(value) = value else { continue };
            let worst = if jidoka.drives(measure.cause()) { Light::Purple } else { Light::Red };
            let Some(step) = level.observe(value, worst, ctx.now()) else { continue };
            let LevelStep { measure, from, to, value, limit } = step;
            let event = Event::LevelMoved { line: line.cloned(), measure, from, to, value, limit };
            *last = Some(ctx.system().record(*last, ctx.path(), event));
        }
        self.0.retain(|(level, _)| !level.is_over());
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
