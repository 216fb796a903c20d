//! What earlier lives left running: the clues to it, what follows from them, and the doing of it.
//!
//! What follows is decided from the clues alone; a life may have ended between any two of the files it writes.

use std::fs;
use std::path::Path;

use crate::before::{self, Before};
use crate::error::ProcessError;
use crate::identity::{self, Identity};
use crate::running::Running;
use crate::spec::ProcessSpec;
use crate::starting;

/// What earlier lives left running.
#[derive(Default)]
pub(crate) struct Found {
    /// What runs from the same spec.
    pub same: Option<Running>,
    /// What runs from another one, and goes on until its successor is ready.
    pub before: Option<Before>,
}

/// What files and descriptors say, of those that run.
#[derive(Debug, Clone, Default)]
struct Clues {
    /// Who serves until another one is ready.
    before: Option<Identity>,
    /// Who was started last, as far as that was written down.
    written: Option<Identity>,
    /// Who was started last, by a life that ended before it wrote the number down.
    unwritten: Option<Identity>,
}

/// What is to be done with them.
#[derive(Debug, PartialEq, Eq, Default)]
struct Decision {
    same: Option<Identity>,
    before: Option<Identity>,
    stop: Vec<Identity>,
}

impl Clues {
    /// Reads them; those in `leaving` were told to stop.
    fn read(home: &Path, leaving: &[u32]) -> Self {
        let before = before::read(home);
        let written = Identity::read(&identity::pid_file(home)).filter(Identity::is_alive);
        let known = [&before, &written].into_iter().flatten().map(|known| known.pid);
        let known: Vec<u32> = known.chain(leaving.iter().copied()).collect();
        Self { unwritten: starting::newcomer(home, &known), before, written }
    }

    /// What follows, where the process of the spec `wanted` is to run, and takes over from another one or not.
    fn decide(self, wanted: u64, hands_over: bool) -> Decision {
        let mut decision = Decision::default();
        // In the order of their starts: the first one serves, and the others are not ready yet.
        let mut all: Vec<Identity> = Vec::with_capacity(3);
        for one in [self.before, self.written, self.unwritten].into_iter().flatten() {
            if !all.contains(&one) {
                all.push(one);
            }
        }
        for (place, one) in all.into_iter().enumerate() {
            if one.spec == wanted && decision.same.is_none() {
                decision.same = Some(one);
            } else if place == 0 && hands_over {
                decision.before = Some(one);
            } else {
                decision.stop.push(one);
            }
        }
        decision
    }
}

/// The processes that earlier lives left running. One from another spec is stopped, unless it hands over.
///
/// Whatever fails, and wherever it is dropped: nothing but those that are to stop has ended, and the next life finds
/// the rest.
pub(crate) async fn find(spec: &ProcessSpec, home: &Path) -> Result<Found, ProcessError> {
    let file = |source| ProcessError::file(home, source);
    fs::create_dir_all(home).map_err(file)?;
    let leaving = before::see_all_off(home, spec.stop_within).map_err(file)?;
    let decision = Clues::read(home, &leaving).decide(spec.fingerprint(), spec.hands_over);
    let same = adopt(decision.same)?;
    let before = adopt(decision.before)?.map(|(running, identity)| Before { running, identity });
    for one in decision.stop {
        if let Some((mut one, Identity { pid, .. })) = adopt(Some(one))? {
            let stopped = one.stop(spec.stop_within).await;
            stopped.map_err(|source| ProcessError::out_of_reach(pid, source))?;
        }
    }
    // In this order: nobody who runs is in no file at any time.
    if let Some(before) = &before {
        before.stays(home).map_err(file)?;
    }
    match &same {
        Some((_, same)) => same.write(home, &identity::pid_file(home)).map_err(file)?,
        None => identity::forget(home),
    }
    if before.is_none() {
        before::forget(home);
    }
    starting::done(home);
    Ok(Found { same: same.map(|(running, _)| running), before })
}

/// A process that goes on whatever becomes of this life; `None` if it is over.
fn adopt(identity: Option<Identity>) -> Result<Option<(Running, Identity)>, ProcessError> {
    let Some(identity) = identity else { return Ok(None) };
    let adopted =
        Running::adopt(&identity).map_err(|source| ProcessError::out_of_reach(identity.pid, source))?;
    Ok(adopted.map(|mut running| {
        running.release();
        (running, identity)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: u64 = 1;
    const OTHER: u64 = 2;

    fn one(pid: u32, spec: u64) -> Identity {
        Identity::for_test(pid, spec)
    }

    /// Everything that files can say: each is there or not, from the spec that is wanted or another one; and the file
    /// of the one that was started last may still have the one that serves.
    fn all_clues() -> Vec<Clues> {
        let each = |pid| [None, Some(one(pid, WANTED)), Some(one(pid, OTHER))];
        let mut all = Vec::new();
        for before in each(1) {
            for written in each(2).into_iter().chain([before.clone()]) {
                for unwritten in each(3) {
                    all.push(Clues { before: before.clone(), written: written.clone(), unwritten });
                }
            }
        }
        all
    }

    #[test]
    fn nobody_is_forgotten_and_one_that_serves_goes_on_until_another_one_is_ready() {
        for clues in all_clues() {
            for hands_over in [false, true] {
                let Decision { same, before, stop } = clues.clone().decide(WANTED, hands_over);
                let known = [clues.before.clone(), clues.written.clone(), clues.unwritten.clone()];
                let mut known: Vec<_> = known.into_iter().flatten().collect();
                known.dedup();
                let serves = known.first().cloned();
                let mut decided: Vec<_> = [same.clone(), before.clone()].into_iter().flatten().collect();
                decided.extend(stop.clone());
                decided.sort_by_key(|one| one.pid);
                assert_eq!(decided, known, "each once: {clues:?}");
                assert!(same.as_ref().is_none_or(|same| same.spec == WANTED), "{clues:?}");
                assert_eq!(same.is_some(), known.iter().any(|one| one.spec == WANTED), "{clues:?}");
                assert!(before.is_none() || hands_over && before == serves, "{clues:?}");
                if hands_over {
                    assert!(serves.is_none_or(|serves| !stop.contains(&serves)), "{clues:?}");
                }
            }
        }
    }

    #[test]
    fn a_newcomer_is_no_match_for_the_one_that_serves() {
        let clues = Clues {
            before: Some(one(1, WANTED)),
            written: Some(one(1, WANTED)),
            unwritten: Some(one(3, OTHER)),
        };
        let decision = clues.decide(WANTED, true);
        let back = Decision { same: Some(one(1, WANTED)), before: None, stop: vec![one(3, OTHER)] };
        assert_eq!(decision, back, "back to the old spec");
        let clues = Clues { before: Some(one(1, OTHER)), written: Some(one(2, WANTED)), unwritten: None };
        let on = Decision { same: Some(one(2, WANTED)), before: Some(one(1, OTHER)), stop: vec![] };
        assert_eq!(clues.decide(WANTED, true), on, "the takeover goes on");
    }
}
