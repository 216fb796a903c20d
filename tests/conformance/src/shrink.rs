//! Makes a scenario that fails smaller while it still fails.

use gemba_core::supervision::{AutoShutdown, Restart};
use gemba_kernel::Shutdown;

use crate::model::{Child, How, OnStop, Outcome, Scenario, Step, Sup};

/// How many smaller scenarios are tried at most.
const TRIES_MAX: usize = 400;

/// The smallest scenario found for which `fails` still holds.
pub(crate) fn shrink<E>(
    scenario: Scenario,
    mut fails: impl FnMut(&Scenario) -> Result<bool, E>,
) -> Result<Scenario, E> {
    let mut best = scenario;
    let mut tries = 0;
    'again: loop {
        for candidate in smaller(&best) {
            if tries == TRIES_MAX {
                return Ok(best);
            }
            tries += 1;
            if fails(&candidate)? {
                best = candidate;
                continue 'again;
            }
        }
        return Ok(best);
    }
}

/// Scenarios one cut smaller, big cuts first.
fn smaller(scenario: &Scenario) -> Vec<Scenario> {
    let mut found = Vec::new();
    let steps = scenario.steps.len();
    for size in [steps / 2, 1] {
        if size == 0 {
            continue;
        }
        for from in (0..steps).rev().step_by(size) {
            let mut cut = scenario.clone();
            cut.steps.drain(from..(from + size).min(steps));
            found.push(cut);
        }
    }
    for top in smaller_sups(&scenario.top) {
        found.push(Scenario { top, ..scenario.clone() });
    }
    for (index, step) in scenario.steps.iter().enumerate() {
        for step in smaller_steps(step, scenario.is_dynamic()) {
            let mut cut = scenario.clone();
            cut.steps[index] = step;
            found.push(cut);
        }
    }
    found
}

fn smaller_sups(sup: &Sup) -> Vec<Sup> {
    let mut found = Vec::new();
    let dynamic = sup.strategy == gemba_core::supervision::Strategy::Dynamic;
    for index in 0..sup.children.len() {
        if !dynamic {
            let mut cut = sup.clone();
            cut.children.remove(index);
            found.push(cut);
            for child in smaller_children(&sup.children[index]) {
                let mut cut = sup.clone();
                cut.children[index] = child;
                found.push(cut);
            }
        }
    }
    let marked = sup.children.iter().any(|child| child.significant);
    if sup.auto_shutdown != AutoShutdown::Never && !marked {
        found.push(Sup { auto_shutdown: AutoShutdown::Never, ..sup.clone() });
    }
    found
}

fn smaller_children(child: &Child) -> Vec<Child> {
    let mut found = Vec::new();
    if let Some(below) = &child.below {
        found.push(Child { below: None, ..child.clone() });
        found.extend(
            smaller_sups(below).into_iter().map(|below| Child { below: Some(below), ..child.clone() }),
        );
    }
    if !child.starts.is_empty() {
        found.push(Child { starts: Vec::new(), ..child.clone() });
        let mut shorter = child.clone();
        shorter.starts.pop();
        found.push(shorter);
        for index in 0..child.starts.len() {
            let start = child.starts[index];
            if start.hangs || start.then != Outcome::Ok {
                let mut plain = child.clone();
                plain.starts[index].hangs = false;
                if !start.hangs {
                    plain.starts[index].then = Outcome::Ok;
                }
                found.push(plain);
            }
        }
    }
    if child.significant {
        found.push(Child { significant: false, ..child.clone() });
    } else if child.restart != Restart::Permanent {
        found.push(Child { restart: Restart::Permanent, ..child.clone() });
    }
    // A task stays one: the lives of an id are counted in one way.
    if child.on_stop != OnStop::Shutdown && !child.is_task() {
        found.push(Child { on_stop: OnStop::Shutdown, shutdown: Shutdown::Infinity, ..child.clone() });
    } else if child.shutdown != Shutdown::Infinity && child.on_stop == OnStop::Shutdown {
        found.push(Child { shutdown: Shutdown::Infinity, ..child.clone() });
    }
    found
}

fn smaller_steps(step: &Step, dynamic: bool) -> Vec<Step> {
    match step {
        Step::EndBoth { first, second } => {
            [first, second].map(|(id, how)| Step::End { id: id.clone(), how: *how }).into()
        }
        Step::End { id, how } if *how != How::Error => vec![Step::End { id: id.clone(), how: How::Error }],
        Step::StartChild { sup, child } => smaller_children(child)
            .into_iter()
            // All children of a dynamic supervisor have the rules of its template.
            .filter(|smaller| !dynamic || Child { starts: child.starts.clone(), ..smaller.clone() } == *child)
            .map(|child| Step::StartChild { sup: sup.clone(), child })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::generate;

    #[test]
    fn what_does_not_matter_is_cut_away() {
        let kills = |scenario: &Scenario| {
            scenario.steps.iter().any(|step| matches!(step, Step::End { how: How::Kill, .. }))
        };
        let mut tried = 0;
        for seed in (0..200).filter(|seed| kills(&generate::scenario(*seed))) {
            let small =
                shrink(generate::scenario(seed), |scenario| Ok::<_, Infallible>(kills(scenario))).unwrap();
            assert_eq!(small.steps.len(), 1, "{small}");
            assert!(small.is_dynamic() || small.top.children.is_empty(), "{small}");
            tried += 1;
        }
        assert!(tried > 10);
    }

    #[test]
    fn a_scenario_that_cannot_shrink_stays() {
        let scenario = generate::scenario(3);
        let same = shrink(scenario.clone(), |candidate| Ok::<_, Infallible>(*candidate == scenario)).unwrap();
        assert_eq!(same, scenario);
    }
}
