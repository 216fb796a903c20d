//! When the manager dies, drawn from the seed.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What it is in the middle of when it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// Whatever comes.
    Anything,
    /// A request for a delivery is on its way to it.
    Asked,
    /// It has just accepted one.
    Accepted,
    /// It has just accepted one that supersedes another.
    Superseded,
    /// It starts instances.
    Starting,
    /// A step is written, and hardly done.
    Written,
    /// A splitter was told shares, and hardly more.
    Told,
    /// A version is being taken back.
    TakenBack,
    /// A delivery is over, and the instances of a version drain.
    Draining,
    /// A person's order is on its way to it.
    Ordered,
    /// It has itself just been started.
    StartingUp,
}

impl Moment {
    /// All of them.
    pub(crate) const ALL: [Self; 11] = [
        Self::Anything,
        Self::Asked,
        Self::Accepted,
        Self::Superseded,
        Self::Starting,
        Self::Written,
        Self::Told,
        Self::TakenBack,
        Self::Draining,
        Self::Ordered,
        Self::StartingUp,
    ];

    /// Its name in a report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Anything => "at any moment",
            Self::Asked => "with a request on its way",
            Self::Accepted => "just after it accepted",
            Self::Superseded => "just after a newer one",
            Self::Starting => "while instances start",
            Self::Written => "a step written, not done",
            Self::Told => "a splitter just told",
            Self::TakenBack => "while taking back",
            Self::Draining => "while instances drain",
            Self::Ordered => "with an order on its way",
            Self::StartingUp => "while it starts itself",
        }
    }
}

/// Who dies with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    /// An instance.
    Instance,
    /// The splitter of a region.
    Splitter,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// When the manager dies.
    pub(crate) moment: Moment,
    /// Who dies just before it, or while it is dead.
    pub(crate) victim: Option<(Victim, bool)>,
}

/// One in so many faults takes an instance along, and one a splitter.
const INSTANCES_EVERY: u64 = 5;
const SPLITTERS_EVERY: u64 = 8;

/// The faults of a run: each moment as often as every other, in an order of chance.
pub(crate) fn plan(faults: usize, dice: &mut Dice) -> Vec<Fault> {
    let mut plan = Vec::with_capacity(faults);
    while plan.len() < faults {
        let mut moments = Moment::ALL.to_vec();
        while !moments.is_empty() && plan.len() < faults {
            let moment = moments.swap_remove(dice.below(moments.len() as u64) as usize);
            let victim = if dice.one_in(INSTANCES_EVERY) {
                Some(Victim::Instance)
            } else {
                dice.one_in(SPLITTERS_EVERY).then_some(Victim::Splitter)
            };
            plan.push(Fault { moment, victim: victim.map(|victim| (victim, dice.one_in(2))) });
        }
    }
    plan
}

/// Numbers of chance: the same seed, the same numbers.
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    seed: u64,
    drawn: u64,
}

impl Dice {
    /// The numbers of a seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.drawn += 1;
        xxh3_64_with_seed(&self.drawn.to_le_bytes(), self.seed) % end
    }

    /// Whether it is one in so many.
    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    /// One of them.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan_and_every_moment_is_in_it() {
        let of = |seed, faults| plan(faults, &mut Dice::new(seed));
        assert_eq!(of(7, 50), of(7, 50));
        assert_ne!(of(7, 50), of(8, 50));
        for moment in Moment::ALL {
            let often = of(7, 50).iter().filter(|fault| fault.moment == moment).count();
            assert!((4..=5).contains(&often), "{moment:?}: {often}");
        }
        for victim in [Victim::Instance, Victim::Splitter] {
            assert!(of(7, 50).iter().any(|fault| fault.victim.is_some_and(|(who, _)| who == victim)));
        }
    }
}
