//! Small versions of the experiments: what must hold for every seed, within seconds.

use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::time::Timestamp;
use gemba_sim::client::Client;
use gemba_sim::contenders::Contender;
use gemba_sim::engine::Run;
use gemba_sim::experiments::determinism::{DECISIONS_OF_SEED_7, decisions};
use gemba_sim::experiments::{
    Experiment, Scale, ab_test, breaker, burn_rate, burst, canary, determinism, drift, goodput, priority,
    rate, scaling, table,
};
use gemba_sim::outcome::{Outcome, TierCounts};
use gemba_sim::workload::{Model, Phase, Trouble, Workload};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn run(contender: Contender, workload: &Workload, client: Client) -> Outcome {
    let (model, measured_from) = (Model::default(), Timestamp::from_secs(3));
    Run { model, workload, client, seed: 1, measured_from, sizing: None }
        .through(&mut *contender.controller(&model))
}

fn steady(times: f64, seconds: u64) -> Workload {
    let model = Model::default();
    Workload::poisson(&model, &[model.phase(secs(seconds), times)], 1)
}

#[test]
fn a_seed_gives_the_same_decisions_on_every_machine() {
    assert_eq!(decisions(7), decisions(7));
    assert_ne!(decisions(7), decisions(8));
    assert_eq!(
        decisions(7),
        DECISIONS_OF_SEED_7,
        "a decision has changed; if that is meant, so is the constant"
    );
}

#[test]
fn overload_costs_no_goodput_and_the_critical_tier_notices_nothing() {
    let workload = steady(3.0, 15);
    let ours = run(Contender::Ours, &workload, Client::ONCE);
    assert!(0.95 < ours.goodput(), "{}", ours.goodput());
    assert!(0.995 < ours.served(Tier::Critical), "{}", ours.served(Tier::Critical));
    let calm = run(Contender::Ours, &steady(0.7, 15), Client::ONCE);
    assert!(ours.latency_ms(0.99) < 1.4 * calm.latency_ms(0.99));
    let seeds = run(Contender::Seeds, &workload, Client::ONCE);
    assert!(seeds.goodput() < 0.05, "the control: {}", seeds.goodput());
}

#[test]
fn nothing_is_shed_without_need() {
    let outcome = run(Contender::Ours, &steady(0.7, 20), Client::ONCE);
    assert_eq!(outcome.tiers.map(|tier| tier.shed), [0; 3]);
}

#[test]
fn at_its_baseline_a_pool_answers_all_but_one_in_ten_thousand_in_time() {
    let deadline = Duration::from_secs(4);
    let model = Model { workers: 152, deadline, ..Model::default() };
    let workload = Workload::poisson(&model, &[model.phase(secs(300), 0.7)], 1);
    let measured_from = Timestamp::from_secs(3);
    let outcome =
        Run { model, workload: &workload, client: Client::ONCE, seed: 1, measured_from, sizing: None }
            .through(&mut *Contender::Ours.controller(&model));
    let sum = |of: fn(&TierCounts) -> u64| outcome.tiers.iter().map(of).sum::<u64>();
    let (offered, good) = (sum(|tier| tier.offered), sum(|tier| tier.good));
    // 2 500 signals a second for 300 s.
    assert!(2_450 * 297 < offered, "{offered}");
    assert!((offered - good) * 10_000 <= offered, "{good} of {offered}");
}

#[test]
fn the_lower_tiers_get_their_share_of_a_pool_that_the_critical_one_fills() {
    let model = Model::default();
    let workload = Workload::poisson(&model, &[Phase { lasts: secs(15), load: [2.0, 2.0, 2.0] }], 1);
    let outcome = run(Contender::Ours, &workload, Client::ONCE);
    let capacity = model.capacity_per_s() * outcome.measured.as_secs_f64();
    let [critical, normal, batch] = outcome.tiers.map(|tier| tier.good as f64 / capacity);
    assert!(0.9 < critical, "{critical}");
    assert!(0.015 < normal && 0.015 < batch && 0.04 < normal + batch, "{normal} {batch}");
}

#[test]
fn a_spike_is_over_when_it_ends() {
    let model = Model::default();
    let phases = [model.phase(secs(5), 0.7), model.phase(secs(3), 10.0), model.phase(secs(10), 0.7)];
    let workload = Workload::poisson(&model, &phases, 1);
    let recovery = run(Contender::Ours, &workload, Client::ONCE).recovery(secs(8));
    assert!(recovery.is_some_and(|after| after <= secs(1)), "{recovery:?}");
    assert_eq!(run(Contender::NoControl, &workload, Client::ONCE).recovery(secs(8)), None);
}

#[test]
fn retries_do_not_keep_a_pool_down_that_was_slow() {
    let model = Model::default();
    let trouble = Trouble { from: Timestamp::from_secs(5), to: Timestamp::from_secs(9), slower: 4.0 };
    let workload = Workload::poisson(&model, &[model.phase(secs(25), 0.8)], 1).with(trouble);
    for client in Client::ALL {
        let recovery = run(Contender::Ours, &workload, client).recovery(secs(9));
        assert!(recovery.is_some_and(|after| after <= secs(1)), "{}: {recovery:?}", client.name);
    }
    let never = run(Contender::NoControl, &workload, Client::IN_STEP).recovery(secs(9));
    assert_eq!(never, None, "the storm that the controllers are compared in");
}

#[test]
fn whoever_arrives_is_accounted_for() {
    let workload = steady(2.0, 8);
    for contender in Contender::ALL {
        let outcome = run(contender, &workload, Client::OURS);
        for tier in outcome.tiers {
            assert!(tier.good <= tier.offered, "{contender:?}");
        }
        let offered: u64 = outcome.tiers.iter().map(|tier| tier.offered).sum();
        assert!(offered <= outcome.attempts, "{contender:?}");
        let bins = outcome.between(Duration::ZERO, Duration::MAX, |bin| bin.offered);
        assert_eq!(bins, workload.arrivals.len() as u64, "{contender:?}");
    }
}

/// As little of each experiment as still shows something.
const LITTLE: Scale = Scale {
    seeds: 2,
    measured: secs(1),
    warm_up: secs(0),
    watched: secs(5),
    idle_signals: 500,
    steady: secs(900),
    steps: 2,
    days: 2,
    calls: 20_000,
    ab_tests: 20,
    rollouts: 20,
};

fn is_met(experiment: fn(&Scale) -> Vec<Experiment>, scale: &Scale) {
    let experiments = experiment(scale);
    assert!(experiments.iter().all(Experiment::is_as_known), "{}", table::print(&experiments));
}

#[test]
fn pools_hold_still_follow_a_step_and_pay_little_for_a_surge() {
    is_met(scaling::run, &Scale { seeds: 1, ..LITTLE });
}

#[test]
fn bursts_are_seen_in_time_and_days_and_nights_are_none() {
    is_met(burst::run, &LITTLE);
}

#[test]
fn a_breaker_does_what_its_rules_say_and_sees_what_fails() {
    is_met(breaker::run, &LITTLE);
}

#[test]
fn what_passes_is_the_rate_at_any_rate_of_calls() {
    is_met(rate::run, &LITTLE);
}

#[test]
fn incidents_are_told_with_precision_and_recall_of_at_least_95_percent() {
    is_met(burn_rate::run, &LITTLE);
}

#[test]
fn equal_arms_have_no_winner_and_a_planted_difference_is_found() {
    is_met(ab_test::run, &LITTLE);
}

#[test]
fn a_harmful_candidate_is_stopped_and_a_harmless_one_promoted() {
    is_met(canary::run, &LITTLE);
}

#[test]
fn a_downstream_that_stays_slow_does_not_move_the_limit_and_is_used_again_when_it_recovers() {
    is_met(drift::run, &LITTLE);
}

#[test]
fn every_experiment_prints_its_figures_and_what_it_missed() {
    // The spike and the storms are as long at any scale; the tests above have shorter ones.
    let experiments: Vec<_> =
        [goodput::run, priority::run, determinism::run].iter().flat_map(|run| run(&LITTLE)).collect();
    let numbers: Vec<_> = experiments.iter().map(|experiment| experiment.number).collect();
    assert_eq!(numbers, ["E1", "E2", "E3", "E5", "E26"]);
    let text = table::print(&experiments);
    let missed =
        experiments.iter().flat_map(|experiment| &experiment.rows).filter(|row| !row.is_met()).count();
    assert_eq!(text.matches("MISSED").count(), missed, "{text}");
    for (name, svg) in experiments.iter().flat_map(|experiment| &experiment.plots) {
        assert!(svg.contains("<polyline") && !svg.contains("NaN"), "{name}");
    }
}
