//! E26: whether a seed gives the same decisions again.

use std::time::Duration;

use gemba_core::time::Timestamp;

use super::{Experiment, Row, Scale, Spread, Target};
use crate::client::Client;
use crate::contenders::Contender;
use crate::engine::Run;
use crate::workload::{Model, Trouble, Workload};

/// The digest of [`decisions`] from seed 7, on every machine; a change of a decision changes it.
pub const DECISIONS_OF_SEED_7: u64 = 0x6c4c_2395_cd4a_0c3a;

/// Runs E26.
pub fn run(scale: &Scale) -> Vec<Experiment> {
    let differing = (1..=scale.seeds).filter(|seed| decisions(*seed) != decisions(*seed)).count();
    let alike = (1..=scale.seeds).filter(|seed| decisions(*seed) == decisions(seed + 1)).count();
    let elsewhere = u32::from(decisions(7) != DECISIONS_OF_SEED_7);
    let row = |case: &str, figure, count: f64| Row {
        case: case.to_owned(),
        figure,
        target: Target::AtMost(0.0),
        ours: Spread::of(vec![count]),
        others: Vec::new(),
        known: None,
    };
    let rows = vec![
        row("each seed twice", "digests that differ", differing as f64),
        row("neighbouring seeds", "digests that are equal", alike as f64),
        row("seed 7, another machine", "digests that differ", f64::from(elsewhere)),
    ];
    vec![Experiment { number: "E26", title: "determinism", rows, plots: Vec::new() }]
}

/// The digest of all decisions of ten seconds of overload, slow work and retries.
pub fn decisions(seed: u64) -> u64 {
    let model = Model::default();
    let trouble = Trouble { from: Timestamp::from_secs(3), to: Timestamp::from_secs(5), slower: 3.0 };
    let workload =
        Workload::poisson(&model, &[model.phase(Duration::from_secs(10), 1.3)], seed).with(trouble);
    let run = Run {
        model,
        workload: &workload,
        client: Client::OURS,
        seed,
        measured_from: Timestamp::START,
        sizing: None,
    };
    run.through(&mut *Contender::Ours.controller(&model)).decisions
}
