//! The board in examples, and against what must hold of it whatever is done to it.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::select;

use super::*;
use crate::admission::Tier;

const P: PullerId = PullerId(1);
const Q: PullerId = PullerId(2);
const SECOND: Duration = Duration::from_secs(1);

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn card(id: u64, tier: Tier, arrived: Timestamp) -> Card {
    Card { id: CardId(id), tier, cost: 1, arrived, deliveries: 0 }
}

/// A board with so many cards that came at second 0, and two who may pull.
fn board(rules: KanbanRulesBuilder, cards: u64) -> Kanban {
    let mut board = Kanban::new(rules.build().unwrap(), at(0));
    board.join(P, 1);
    board.join(Q, 1);
    for id in 1..=cards {
        board.add(card(id, Tier::Normal, at(0)), at(0));
    }
    board
}

fn delivered(board: &mut Kanban, now: Timestamp) -> Vec<Delivery> {
    std::iter::from_fn(|| board.deliver(now)).collect()
}

#[test]
fn work_that_waits_meets_whoever_asks_in_either_order() {
    let mut board = board(KanbanRules::builder(), 1);
    assert_eq!(board.deliver(at(0)), None, "nobody asks");
    board.pull(P, 1).unwrap();
    let first = board.deliver(at(0)).unwrap();
    assert_eq!((first.card, first.puller, first.deliveries), (CardId(1), P, 1));
    board.pull(Q, 1).unwrap();
    assert_eq!(board.deliver(at(1)), None, "nothing waits");
    board.add(card(2, Tier::Normal, at(1)), at(1));
    assert_eq!(board.deliver(at(1)).unwrap().puller, Q);
}

#[test]
fn cards_in_work_never_exceed_the_limit_and_one_that_is_done_makes_room() {
    let mut board = board(KanbanRules::builder().wip_max(2), 5);
    board.pull(P, 5).unwrap();
    let first = delivered(&mut board, at(0));
    assert_eq!(first.len(), 2);
    board.finish(first[0].lease, at(1)).unwrap();
    assert_eq!(delivered(&mut board, at(1)).len(), 1);
    assert_eq!(board.counts().working, 2);
}

#[test]
fn a_card_is_done_once_and_who_comes_late_is_told() {
    let mut board = board(KanbanRules::builder(), 1);
    board.pull(P, 1).unwrap();
    let lease = board.deliver(at(0)).unwrap().lease;
    let done = board.finish(lease, at(3)).unwrap();
    assert_eq!((done.lead, done.work, done.deliveries), (3 * SECOND, 3 * SECOND, 1));
    assert_eq!(board.finish(lease, at(3)), Err(KanbanError::LeaseOver));
    assert_eq!(board.give_back(lease, None, at(3)), Err(KanbanError::LeaseOver));
    assert_eq!(board.counts().done, 1);
}

#[test]
fn a_lease_that_ends_gives_the_card_to_somebody_else_and_the_first_worker_is_told() {
    let mut board = board(KanbanRules::builder().lease(10 * SECOND), 1);
    board.pull(P, 1).unwrap();
    board.pull(Q, 1).unwrap();
    let first = board.deliver(at(0)).unwrap();
    assert_eq!(board.next_wake(), Some(at(10)));
    assert_eq!(board.expire(at(9)), []);
    assert_eq!(board.expire(at(10)), [Returned::Again { card: CardId(1), at: at(10) }]);
    let second = board.deliver(at(10)).unwrap();
    assert_eq!((second.puller, second.deliveries), (Q, 2));
    assert_eq!(board.finish(first.lease, at(10)), Err(KanbanError::LeaseOver));
    assert!(board.finish(second.lease, at(11)).is_ok());
}

#[test]
fn a_lease_can_be_extended_as_long_as_it_holds() {
    let mut board = board(KanbanRules::builder().lease(10 * SECOND), 1);
    board.pull(P, 1).unwrap();
    let lease = board.deliver(at(0)).unwrap().lease;
    assert_eq!(board.extend(lease, at(9)), Ok(at(19)));
    assert_eq!(board.expire(at(18)), []);
    assert_eq!(board.expire(at(19)).len(), 1);
    assert_eq!(board.extend(lease, at(19)), Err(KanbanError::LeaseOver));
}

#[test]
fn a_puller_that_leaves_returns_what_it_had_at_once() {
    let mut board = board(KanbanRules::builder(), 3);
    board.pull(P, 2).unwrap();
    assert_eq!(delivered(&mut board, at(0)).len(), 2);
    board.pull(Q, 9).unwrap();
    assert_eq!(delivered(&mut board, at(0)).len(), 1);
    assert_eq!(board.leave(P, at(1)).len(), 2);
    let again = delivered(&mut board, at(1));
    assert_eq!(again.iter().map(|delivery| delivery.deliveries).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(board.pull(P, 1), Err(KanbanError::NotJoined));
}

#[test]
fn a_poison_card_is_set_aside_after_its_last_delivery_and_can_be_redriven_or_discarded() {
    let mut board = board(KanbanRules::builder().deliveries_max(3), 2);
    board.pull(P, 100).unwrap();
    let mut now = at(0);
    let mut deaths = 0;
    while board.counts().dead < 2 {
        for delivery in delivered(&mut board, now) {
            match board.give_back(delivery.lease, None, now).unwrap() {
                Returned::Dead { deliveries, .. } => {
                    deaths += 1;
                    assert_eq!(deliveries, 3);
                }
                Returned::Again { .. } => {}
            }
        }
        now = board.next_wake().unwrap_or(now);
    }
    assert_eq!((deaths, board.deliver(now)), (2, None));
    board.redrive(CardId(1), now).unwrap();
    assert_eq!(board.deliver(now).unwrap().deliveries, 1);
    board.discard(CardId(2)).unwrap();
    assert_eq!(board.discard(CardId(2)), Err(KanbanError::NotDead(CardId(2))));
    assert_eq!(board.counts().dead, 0);
}

#[test]
fn a_card_that_failed_rests_longer_each_time_or_as_long_as_its_worker_says() {
    let mut board = board(KanbanRules::builder(), 1);
    board.pull(P, 100).unwrap();
    let lease = board.deliver(at(0)).unwrap().lease;
    let said = board.give_back(lease, Some(7 * SECOND), at(0)).unwrap();
    assert_eq!(said, Returned::Again { card: CardId(1), at: at(7) });
    assert_eq!(board.deliver(at(6)), None);
    let lease = board.deliver(at(7)).unwrap().lease;
    let Returned::Again { at: second, .. } = board.give_back(lease, None, at(7)).unwrap() else { panic!() };
    let lease = board.deliver(second).unwrap().lease;
    let Returned::Again { at: third, .. } = board.give_back(lease, None, second).unwrap() else { panic!() };
    assert!(second.since(at(7)) < third.since(second));
}

#[test]
fn higher_tiers_go_first_and_a_lower_one_that_has_waited_long_goes_before_them() {
    let mut board = board(KanbanRules::builder().promote_after(10 * SECOND), 0);
    for (id, tier, came) in
        [(1, Tier::Batch, 0), (2, Tier::Normal, 1), (3, Tier::Critical, 2), (4, Tier::Critical, 30)]
    {
        board.add(card(id, tier, at(came)), at(came));
    }
    board.pull(P, 4).unwrap();
    let order: Vec<_> = delivered(&mut board, at(30)).iter().map(|delivery| delivery.card.0).collect();
    assert_eq!(order, [3, 2, 1, 4]);
}

#[test]
fn a_card_that_was_not_worked_on_keeps_its_deliveries_and_its_turn() {
    let mut board = board(KanbanRules::builder().deliveries_max(1), 2);
    board.pull(P, 100).unwrap();
    let mut now = at(0);
    for _ in 0..5 {
        let [first, second] = delivered(&mut board, now)[..] else { panic!("both come") };
        assert_eq!((first.card, first.deliveries, second.deliveries), (CardId(1), 1, 1));
        let back = board.put_back(first.lease, 3 * SECOND, now);
        assert_eq!(back, Ok(Returned::Again { card: CardId(1), at: now + 3 * SECOND }));
        let _ = board.put_back(second.lease, 3 * SECOND, now).unwrap();
        assert_eq!(board.put_back(first.lease, SECOND, now), Err(KanbanError::LeaseOver));
        assert_eq!(board.deliver(now), None);
        now = now + 3 * SECOND;
    }
}

#[test]
fn a_card_is_set_aside_at_once_where_another_delivery_would_change_nothing() {
    let mut board = board(KanbanRules::builder(), 1);
    board.pull(P, 2).unwrap();
    let lease = board.deliver(at(0)).unwrap().lease;
    assert_eq!(board.set_aside(lease, at(1)), Ok(Returned::Dead { card: CardId(1), deliveries: 1 }));
    assert_eq!(board.set_aside(lease, at(1)), Err(KanbanError::LeaseOver));
    assert_eq!((board.deliver(at(9)), board.counts().dead), (None, 1));
    board.redrive(CardId(1), at(9)).unwrap();
    assert_eq!(board.deliver(at(9)).unwrap().deliveries, 1);
}

#[test]
fn a_full_board_says_how_many_of_its_cards_are_dead() {
    let mut board = board(KanbanRules::builder().cards_max(2).deliveries_max(1), 2);
    board.pull(P, 1).unwrap();
    let lease = board.deliver(at(0)).unwrap().lease;
    assert_eq!(board.give_back(lease, None, at(0)), Ok(Returned::Dead { card: CardId(1), deliveries: 1 }));
    assert_eq!(board.has_room(1), Err(KanbanError::Full { cards: 2, dead: 1 }));
    board.discard(CardId(1)).unwrap();
    assert!(board.has_room(1).is_ok() && board.has_room(2).is_err());
}

#[test]
fn a_limit_changed_while_cards_are_in_work_takes_effect_without_a_stall() {
    let mut board = board(KanbanRules::builder().wip_max(1), 6);
    board.pull(P, 6).unwrap();
    assert_eq!(delivered(&mut board, at(0)).len(), 1);
    board.set_rules(KanbanRules::builder().wip_max(4).build().unwrap());
    let more = delivered(&mut board, at(0));
    assert_eq!(more.len(), 3);
    board.set_rules(KanbanRules::builder().wip_max(2).build().unwrap());
    board.finish(more[0].lease, at(1)).unwrap();
    board.finish(more[1].lease, at(1)).unwrap();
    assert_eq!((delivered(&mut board, at(1)), board.counts().working), (vec![], 2));
    board.finish(more[2].lease, at(1)).unwrap();
    assert_eq!(delivered(&mut board, at(1)).len(), 1);
}

#[test]
fn a_board_is_stalled_when_its_limit_is_reached_and_nothing_finishes() {
    let mut board = board(KanbanRules::builder().wip_max(1).stalled_after(60 * SECOND), 3);
    assert!(!board.is_stalled(at(1_000)), "nobody has asked");
    board.pull(P, 2).unwrap();
    let lease = board.deliver(at(0)).unwrap().lease;
    assert!(!board.is_stalled(at(59)) && board.is_stalled(at(60)));
    board.finish(lease, at(61)).unwrap();
    assert!(!board.is_stalled(at(61)));
    let _ = board.deliver(at(200)).unwrap();
    assert!(!board.is_stalled(at(201)), "it has just begun");
}

#[test]
fn a_card_that_turns_out_to_be_done_leaves_from_wherever_it_was() {
    let mut board = board(KanbanRules::builder().deliveries_max(1), 3);
    board.add_resting(card(4, Tier::Normal, at(0)), at(9), at(0));
    board.pull(P, 2).unwrap();
    let [first, _] = delivered(&mut board, at(0))[..] else { panic!() };
    let _ = board.give_back(first.lease, None, at(0)).unwrap();
    let before = board.counts();
    assert_eq!((before.todo, before.resting, before.working, before.dead), (1, 1, 1, 1));
    for id in 1..=5 {
        board.settle(CardId(id), at(1));
    }
    let after = board.counts();
    assert_eq!((after.todo, after.resting, after.working, after.dead, after.done), (0, 0, 0, 0, 4));
    assert_eq!(board.next_wake(), None);
}

#[test]
fn littles_law_holds_on_the_board() {
    // A card every 100 ms, each in work for 250 ms by one of four: two and a half on the board.
    let mut board = board(KanbanRules::builder().wip_max(4), 0);
    let mut held: Vec<(Timestamp, LeaseId)> = Vec::new();
    let mut now = at(0);
    for step in 0..100_000_u64 {
        now = Timestamp::from_nanos(step * 10_000_000);
        held.retain(|(since, lease)| {
            let goes_on = now.since(*since) < Duration::from_millis(250);
            if !goes_on {
                board.finish(*lease, now).unwrap();
            }
            goes_on
        });
        if step % 10 == 0 {
            board.add(card(step + 1, Tier::Normal, now), now);
            board.pull(P, 1).unwrap();
        }
        held.extend(std::iter::from_fn(|| board.deliver(now)).map(|delivery| (now, delivery.lease)));
    }
    let flow = board.take_flow(now);
    assert!((flow.mean_cards - 2.5).abs() < 0.01, "{flow:?}");
    assert!(flow.little() < 0.01, "{flow:?}");
    assert!(flow.efficiency > 0.99, "{flow:?}");
    assert_eq!(board.last_done().count(), RING);
}

#[derive(Debug, Clone)]
enum Step {
    Add(Tier, u32),
    Pull(u64, u32),
    Withdraw(u64),
    Leave(u64),
    Finish(usize),
    GiveBack(usize, Option<u64>),
    PutBack(usize, u64),
    SetAside(usize),
    Extend(usize),
    Wait(u64),
    Wip(u64),
    Redrive(u64),
    Discard(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let puller = || 1u64..5;
    let step = prop_oneof![
        6 => (select(&Tier::ALL[..]), 1u32..6).prop_map(|(tier, cost)| Step::Add(tier, cost)),
        4 => (puller(), 1u32..4).prop_map(|(id, cards)| Step::Pull(id, cards)),
        1 => puller().prop_map(Step::Withdraw),
        1 => puller().prop_map(Step::Leave),
        4 => (0usize..8).prop_map(Step::Finish),
        3 => (0usize..8, prop_oneof![Just(None), (0u64..5).prop_map(Some)])
            .prop_map(|(which, delay)| Step::GiveBack(which, delay)),
        2 => (0usize..8, 0u64..5).prop_map(|(which, delay)| Step::PutBack(which, delay)),
        1 => (0usize..8).prop_map(Step::SetAside),
        1 => (0usize..8).prop_map(Step::Extend),
        3 => (0u64..40).prop_map(Step::Wait),
        1 => (1u64..6).prop_map(Step::Wip),
        1 => (1u64..60).prop_map(Step::Redrive),
        1 => (1u64..60).prop_map(Step::Discard),
    ];
    vec(step, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_nothing_is_doubled_and_no_work_waits_for_an_idle_worker(steps in steps()) {
        const DELIVERIES: u32 = 3;
        let rules = KanbanRules::builder().wip_max(3).deliveries_max(DELIVERIES).lease(10 * SECOND);
        let mut rules = rules;
        let mut board = Kanban::new(rules.build().unwrap(), at(0));
        let (mut now, mut added, mut discarded, mut next) = (at(0), 0u64, 0u64, 1u64);
        let mut leases: Vec<LeaseId> = Vec::new();
        let mut finished = BTreeSet::new();
        let mut above = 0;
        for step in steps {
            match step {
                Step::Add(tier, cost) => {
                    board.add(Card { cost, ..card(next, tier, now) }, now);
                    (next, added) = (next + 1, added + 1);
                }
                Step::Pull(id, cards) => {
                    if board.pull(PullerId(id), cards).is_err() {
                        board.join(PullerId(id), id as u32);
                    }
                }
                Step::Withdraw(id) => board.withdraw(PullerId(id)),
                Step::Leave(id) => {
                    let _ = board.leave(PullerId(id), now);
                }
                Step::Finish(which) => {
                    if let Some(lease) = leases.get(which) {
                        let held = board.leased(*lease);
                        let done = board.finish(*lease, now);
                        prop_assert_eq!(done.ok().map(|done| done.card), held);
                        if let Some(card) = held {
                            prop_assert!(finished.insert(card), "{} done twice", card);
                        }
                    }
                }
                Step::GiveBack(which, delay) => {
                    if let Some(lease) = leases.get(which) {
                        let _ = board.give_back(*lease, delay.map(Duration::from_secs), now);
                    }
                }
                Step::PutBack(which, delay) => {
                    if let Some(lease) = leases.get(which) {
                        let _ = board.put_back(*lease, Duration::from_secs(delay), now);
                    }
                }
                Step::SetAside(which) => {
                    if let Some(lease) = leases.get(which) {
                        let _ = board.set_aside(*lease, now);
                    }
                }
                Step::Extend(which) => {
                    if let Some(lease) = leases.get(which) {
                        let _ = board.extend(*lease, now);
                    }
                }
                Step::Wait(secs) => now = now + Duration::from_secs(secs),
                Step::Wip(wip) => {
                    rules = rules.wip_max(wip);
                    board.set_rules(rules.build().unwrap());
                    above = board.counts().working;
                }
                Step::Redrive(id) => {
                    let _ = board.redrive(CardId(id), now);
                }
                Step::Discard(id) => discarded += u64::from(board.discard(CardId(id)).is_ok()),
            }
            let _ = board.expire(now);
            while let Some(delivery) = board.deliver(now) {
                prop_assert!(delivery.deliveries <= DELIVERIES);
                prop_assert!(!finished.contains(&delivery.card));
                leases.insert(0, delivery.lease);
                above = 0;
            }
            let counts = board.counts();
            prop_assert!(counts.working <= counts.wip_max.max(above), "{counts:?}");
            let idle = 0 < counts.wanted && 0 < counts.todo && counts.working < counts.wip_max;
            prop_assert!(!idle, "work waits while somebody asks: {counts:?}");
            let there = counts.todo + counts.resting + counts.working + counts.dead;
            prop_assert_eq!(there + counts.done + discarded, added);
            prop_assert!(board.next_wake().is_none_or(|wake| now < wake));
        }
    }
}
