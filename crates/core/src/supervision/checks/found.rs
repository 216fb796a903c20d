//! What the properties have found, one test each.

use crate::exit::{ExitReason, Incarnation};
use crate::receipt::Seq;
use crate::supervision::{
    AutoShutdown, ChildKey, ChildKind, ChildRules, ChildStatus, Command, Flags, Intensity, Restart, Strategy,
    Supervision,
};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_secs(100);
const CRASH: ExitReason = ExitReason::Killed;

/// A supervisor that has been told to start children with these rules.
fn starting<const N: usize>(flags: Flags, rules: [ChildRules; N]) -> (Supervision, [ChildKey; N]) {
    let mut supervision = Supervision::new(flags);
    let mut number = 0;
    let keys = rules.map(|rules| {
        number += 1;
        supervision.add(super::name(number), rules).unwrap()
    });
    supervision.start();
    (supervision, keys)
}

/// The same, and they run as incarnations 1, 2, ….
fn running<const N: usize>(flags: Flags, rules: [ChildRules; N]) -> (Supervision, [ChildKey; N]) {
    let (mut supervision, keys) = starting(flags, rules);
    for (key, life) in keys.iter().zip(1..) {
        supervision.started(*key, Incarnation(life), NOW);
    }
    (supervision, keys)
}

fn exit(supervision: &mut Supervision, key: ChildKey, life: u64, reason: &ExitReason) -> Vec<Command> {
    supervision.exited(key, Incarnation(life), reason, Seq(1), NOW)
}

fn fail(supervision: &mut Supervision, key: ChildKey) -> Vec<Command> {
    supervision.start_failed(key, &CRASH, Seq(1), NOW)
}

const PERMANENT: ChildRules = of(Restart::Permanent);
const TRANSIENT: ChildRules = of(Restart::Transient);
const TEMPORARY: ChildRules = of(Restart::Temporary);

const fn of(restart: Restart) -> ChildRules {
    ChildRules { restart, significant: false, kind: ChildKind::Worker }
}

const fn significant(rules: ChildRules) -> ChildRules {
    ChildRules { significant: true, ..rules }
}

fn all_significant(strategy: Strategy) -> Flags {
    Flags { auto_shutdown: AutoShutdown::AllSignificant, ..Flags::new(strategy) }
}

#[test]
fn requests_about_a_stranger_change_nothing() {
    let (mut supervision, [key]) = running(Flags::new(Strategy::OneForOne), [TEMPORARY]);
    assert_eq!(exit(&mut supervision, key, 1, &CRASH), [Command::Forget(key)]);
    assert_eq!(supervision.restart_child(key), Ok(vec![]));
    assert_eq!(supervision.delete_child(key), Ok(vec![]));
}

#[test]
fn a_supervisor_ends_once_though_somebody_left_behind_ends_later() {
    let (mut supervision, [key]) = running(Flags::new(Strategy::OneForOne), [PERMANENT]);
    assert_eq!(supervision.shutdown(ExitReason::Shutdown), [Command::Stop(key)]);
    assert_eq!(supervision.stop_failed(key), [Command::End(ExitReason::Shutdown)]);
    assert_eq!(exit(&mut supervision, key, 1, &CRASH), []);
    assert!(supervision.is_ending());
}

#[test]
fn a_group_goes_on_though_a_member_is_over_before_its_start_is_told() {
    let flags = Flags::new(Strategy::OneForAll);
    let (mut supervision, [a, b]) = running(flags, [TRANSIENT, PERMANENT]);
    assert_eq!(exit(&mut supervision, b, 2, &CRASH), [Command::Stop(a)]);
    assert_eq!(exit(&mut supervision, a, 1, &ExitReason::Shutdown), [Command::Start(a)]);
    assert_eq!(exit(&mut supervision, a, 3, &ExitReason::Normal), []);
    assert_eq!(supervision.started(a, Incarnation(3), NOW), [Command::Start(b)]);
}

#[test]
fn an_old_farewell_is_not_taken_for_that_of_a_life_that_starts_or_stops() {
    let (mut supervision, [key]) = running(Flags::new(Strategy::OneForOne), [PERMANENT]);
    assert_eq!(exit(&mut supervision, key, 1, &CRASH), [Command::Start(key)]);
    assert_eq!(exit(&mut supervision, key, 1, &CRASH), []);
    assert_eq!(supervision.shutdown(ExitReason::Shutdown), [Command::Stop(key)]);
    assert_eq!(supervision.started(key, Incarnation(2), NOW), [Command::Stop(key)]);
    assert_eq!(exit(&mut supervision, key, 1, &CRASH), [], "life 2 still stops");
    assert_eq!(exit(&mut supervision, key, 2, &CRASH), [Command::End(ExitReason::Shutdown)]);
}

#[test]
fn a_child_that_was_left_behind_starts_in_its_turn() {
    let (mut supervision, [a, b]) = running(Flags::new(Strategy::OneForAll), [PERMANENT; 2]);
    assert_eq!(exit(&mut supervision, a, 1, &CRASH), [Command::Stop(b)]);
    assert_eq!(supervision.stop_failed(b), [Command::Start(a)]);
    assert_eq!(exit(&mut supervision, b, 2, &CRASH), [], "a has not started yet");
    assert_eq!(supervision.started(a, Incarnation(3), NOW), [Command::Start(b)]);
}

#[test]
fn a_temporary_child_that_was_left_behind_stays_gone() {
    let (mut supervision, [a, b]) = running(Flags::new(Strategy::OneForAll), [PERMANENT, TEMPORARY]);
    assert_eq!(supervision.terminate(b), [Command::Stop(b)]);
    assert_eq!(supervision.stop_failed(b), []);
    assert_eq!(exit(&mut supervision, a, 1, &CRASH), [Command::Start(a)]);
    assert_eq!(exit(&mut supervision, b, 2, &CRASH), [Command::Forget(b)]);
}

#[test]
fn a_terminated_child_whose_start_fails_after_all_is_not_tried_again() {
    let (mut supervision, [key]) = running(Flags::new(Strategy::OneForOne), [PERMANENT]);
    exit(&mut supervision, key, 1, &CRASH);
    assert_eq!(exit(&mut supervision, key, 2, &CRASH), [], "it ended before its start was told");
    assert_eq!(supervision.terminate(key), [], "nobody is there to be asked");
    assert_eq!(fail(&mut supervision, key), []);
    assert_eq!(supervision.status(key), Some(ChildStatus::Down));
}

#[test]
fn an_added_child_that_is_to_stop_and_fails_to_start_leaves_nothing_behind() {
    let (mut supervision, [_]) = running(Flags::new(Strategy::OneForOne), [PERMANENT]);
    let key = supervision.add(super::name(9), PERMANENT).unwrap();
    assert_eq!(supervision.start_child(key), [Command::Start(key)]);
    assert_eq!(supervision.terminate(key), [Command::Stop(key)]);
    assert_eq!(fail(&mut supervision, key), [Command::Forget(key)]);
}

#[test]
fn a_significant_child_that_has_still_to_start_is_not_over() {
    let (mut supervision, [a, b]) =
        starting(all_significant(Strategy::OneForOne), [significant(TRANSIENT); 2]);
    assert_eq!(exit(&mut supervision, a, 1, &ExitReason::Normal), []);
    assert_eq!(supervision.started(a, Incarnation(1), NOW), [Command::Start(b)]);
    assert_eq!(supervision.started(b, Incarnation(2), NOW), [Command::Ready], "the second one runs");
}

#[test]
fn a_significant_child_that_was_terminated_and_left_behind_does_not_count() {
    let (mut supervision, [a, b]) =
        running(all_significant(Strategy::OneForOne), [significant(TRANSIENT); 2]);
    assert_eq!(supervision.terminate(b), [Command::Stop(b)]);
    assert_eq!(supervision.stop_failed(b), []);
    let commands = exit(&mut supervision, a, 1, &ExitReason::Normal);
    assert_eq!(commands, [Command::End(ExitReason::Shutdown)]);
}

#[test]
fn a_significant_temporary_child_that_its_group_stops_does_not_count() {
    let rules = [significant(TRANSIENT), PERMANENT, significant(TEMPORARY)];
    let (mut supervision, [a, b, c]) = running(all_significant(Strategy::RestForOne), rules);
    assert_eq!(exit(&mut supervision, b, 2, &CRASH), [Command::Stop(c)]);
    assert_eq!(exit(&mut supervision, a, 1, &ExitReason::Normal), []);
    assert!(supervision.is_ending(), "a was the last significant child");
}

#[test]
fn a_supervisor_gives_up_once() {
    let never = Intensity { restarts: 0, ..Intensity::default() };
    let flags = Flags { intensity: never, ..Flags::new(Strategy::OneForOne) };
    let (mut supervision, [a, b, c]) = starting(flags, [PERMANENT; 3]);
    supervision.started(a, Incarnation(1), NOW);
    assert!(matches!(exit(&mut supervision, a, 1, &CRASH)[..], [Command::GaveUp(_)]));
    supervision.started(b, Incarnation(2), NOW);
    assert_eq!(exit(&mut supervision, b, 2, &CRASH), []);
    let commands = supervision.started(c, Incarnation(3), NOW);
    assert_eq!(commands, [Command::Ready, Command::Stop(c)]);
}

#[test]
fn the_last_significant_child_is_the_last_though_another_one_was_still_to_start() {
    let rules = [significant(TRANSIENT), significant(TRANSIENT)];
    let one_is_down = || {
        let (mut supervision, [a, b]) = running(all_significant(Strategy::OneForOne), rules);
        exit(&mut supervision, b, 2, &ExitReason::Normal);
        assert_eq!(supervision.restart_child(b), Ok(vec![Command::Start(b)]));
        assert_eq!(exit(&mut supervision, a, 1, &ExitReason::Normal), [], "b may come to run");
        (supervision, b)
    };
    let end = [Command::End(ExitReason::Shutdown)];
    let (mut fails, b) = one_is_down();
    assert_eq!(fail(&mut fails, b), end);
    let (mut declines, b) = one_is_down();
    assert_eq!(declines.ignored(b), end);
    let (mut stops, b) = one_is_down();
    assert_eq!(stops.terminate(b), [Command::Stop(b)]);
    assert_eq!(fail(&mut stops, b), end);
    let (mut runs, b) = one_is_down();
    assert_eq!(runs.started(b, Incarnation(3), NOW), []);
    assert_eq!(runs.terminate(b), [Command::Stop(b)]);
    assert_eq!(exit(&mut runs, b, 3, &ExitReason::Shutdown), [], "its end is nobody's cause");
    assert!(!runs.is_ending());
}

#[test]
fn a_significant_child_that_will_be_tried_again_is_not_over() {
    let (mut supervision, [a, b]) =
        running(all_significant(Strategy::OneForOne), [significant(TRANSIENT); 2]);
    assert_eq!(exit(&mut supervision, b, 2, &CRASH), [Command::Start(b)]);
    assert_eq!(exit(&mut supervision, a, 1, &ExitReason::Normal), []);
    assert!(matches!(fail(&mut supervision, b)[..], [Command::Retry { .. }]));
    assert_eq!(supervision.retry(b, 1, NOW), [Command::Start(b)]);
    assert_eq!(supervision.ignored(b), [], "a's end was decided before");
}

#[test]
fn who_has_ended_while_all_start_is_the_last_if_those_behind_it_decline() {
    let (mut supervision, [a, b]) =
        starting(all_significant(Strategy::OneForOne), [significant(TRANSIENT); 2]);
    assert_eq!(exit(&mut supervision, a, 1, &ExitReason::Normal), []);
    assert_eq!(supervision.started(a, Incarnation(1), NOW), [Command::Start(b)]);
    assert_eq!(supervision.ignored(b), [Command::Ready, Command::End(ExitReason::Shutdown)]);
}

#[test]
fn a_child_that_is_terminated_before_its_turn_ends_nobody_else() {
    let rules = [significant(TRANSIENT), PERMANENT, significant(TRANSIENT), PERMANENT];
    let (mut supervision, [a, b, c, d]) = running(all_significant(Strategy::RestForOne), rules);
    exit(&mut supervision, b, 2, &CRASH);
    exit(&mut supervision, d, 4, &ExitReason::Shutdown);
    exit(&mut supervision, c, 3, &ExitReason::Shutdown);
    assert_eq!(exit(&mut supervision, a, 1, &ExitReason::Normal), [], "c is to start behind b");
    assert_eq!(supervision.terminate(c), []);
    assert_eq!(supervision.started(b, Incarnation(5), NOW), [Command::Start(d)]);
    assert!(matches!(fail(&mut supervision, d)[..], [Command::Retry { .. }]));
    assert!(!supervision.is_ending());
}

#[test]
fn a_child_that_was_left_behind_comes_back_though_one_behind_it_fails_to_start() {
    let (mut supervision, [a, b]) = running(Flags::new(Strategy::RestForOne), [PERMANENT; 2]);
    assert_eq!(supervision.stop_failed(a), []);
    assert_eq!(exit(&mut supervision, b, 2, &CRASH), [Command::Start(b)]);
    assert_eq!(exit(&mut supervision, a, 1, &CRASH), [], "it waits for b's start");
    let retry = Command::Retry { key: b, generation: 1, at: NOW };
    assert_eq!(fail(&mut supervision, b), [retry, Command::Start(a)]);
}
