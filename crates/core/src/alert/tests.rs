//! Tests of alerts: experiment E19, and what an incident may go through.

use proptest::collection::vec;
use proptest::prelude::{prop_assert, proptest};

use super::*;
use crate::view::StationView;
use Light::{Green, Purple, Red, Yellow};
use NoticeKind::{Escalated, Firing, Repeated, Resolved};

/// Alerts with their own time: log and Slack from yellow, PagerDuty from red, the pager from purple.
struct Desk {
    alerts: Alerts,
    now: Timestamp,
    seq: u64,
}

type Heard = Vec<(String, NoticeKind, Light, String)>;

impl Desk {
    fn new() -> Self {
        Self::with(AlertRules::default())
    }

    fn with(rules: AlertRules) -> Self {
        let name = |name: &str| name.parse::<Name>().unwrap();
        let routes =
            Routes::new().from(Yellow, name("slack")).from(Red, name("duty")).from(Purple, name("page"));
        Self { alerts: Alerts::new(name("n1"), rules, routes), now: Timestamp::from_secs(10), seq: 0 }
    }

    fn record(&mut self, event: Event) -> Heard {
        self.seq += 1;
        let path = "/plant/board".parse().unwrap();
        let receipt = Receipt {
            seq: Seq(self.seq),
            at: self.now,
            unix_ms: self.now.as_millis(),
            cause: None,
            path,
            event,
        };
        self.alerts.apply(&receipt);
        self.hear()
    }

    fn light(&mut self, station: &str, to: Light) -> Heard {
        let station = station.parse().unwrap();
        self.record(Event::LightChanged { station, from: Green, to, why: format!("it is {to}").into() })
    }

    fn acknowledge(&mut self, station: &str) -> Heard {
        self.record(Event::AlertAcknowledged { station: station.parse().unwrap(), by: "ann".into() })
    }

    fn silence(&mut self, stations: &str, seconds: u64) -> Heard {
        let (stations, by, why) = (stations.into(), "ann".into(), "maintenance".into());
        self.record(Event::AlertsSilenced { stations, for_ms: seconds * 1000, by, why })
    }

    fn hear(&mut self) -> Heard {
        let heard = |delivery: Delivery| {
            let routes: Vec<_> = delivery.routes.iter().map(Name::as_str).collect();
            let Notice { station, kind, light, .. } = &*delivery.notice;
            (station.to_string(), *kind, *light, routes.join(" "))
        };
        self.alerts.advance(self.now, self.now.as_millis()).into_iter().map(heard).collect()
    }

    /// Lets seconds pass one by one.
    fn pass(&mut self, seconds: u64) -> Heard {
        let second = |_| {
            self.now = self.now + Duration::from_secs(1);
            self.hear()
        };
        (0..seconds).flat_map(second).collect()
    }
}

fn heard(station: &str, kind: NoticeKind, light: Light, routes: &str) -> (String, NoticeKind, Light, String) {
    (station.to_owned(), kind, light, routes.to_owned())
}

#[test]
fn each_light_goes_to_its_routes_once_and_the_end_to_all_of_them() {
    let mut desk = Desk::new();
    assert_eq!(desk.light("pool:a", Yellow), [heard("pool:a", Firing, Yellow, "slack")]);
    assert_eq!(desk.light("pool:a", Red), [heard("pool:a", Firing, Red, "duty slack")]);
    assert_eq!(desk.light("pool:a", Yellow), [], "a better light is no news until it is green");
    assert_eq!(desk.light("pool:a", Red), []);
    assert_eq!(desk.light("pool:a", Purple), [heard("pool:a", Firing, Purple, "duty page slack")]);
    assert_eq!(desk.light("pool:a", Green), []);
    assert_eq!(desk.pass(29), [], "it is not believed at once");
    assert_eq!(desk.pass(1), [heard("pool:a", Resolved, Purple, "duty page slack")]);
    assert_eq!(desk.pass(24 * 3600), []);
    assert_eq!(desk.alerts.incidents.len(), 0, "it is forgotten");
}

#[test]
fn ten_thousand_events_of_one_fault_are_one_notice() {
    let mut desk = Desk::new();
    let mut all = Vec::new();
    for number in 0..10_000 {
        all.extend(desk.light("pool:a", if number % 2 == 0 { Red } else { Yellow }));
    }
    assert_eq!(all, [heard("pool:a", Firing, Red, "duty slack")]);
}

#[test]
fn a_flap_of_ten_minutes_is_at_most_three_notices_whatever_its_pace() {
    for period in [1, 7, 20, 29, 31, 45, 60, 90, 150, 299] {
        let mut desk = Desk::new();
        let mut all = Vec::new();
        let end = desk.now + Duration::from_secs(600);
        while desk.now < end {
            all.extend(desk.light("breaker:a", Red));
            desk.acknowledge("breaker:a");
            all.extend(desk.pass(period));
            all.extend(desk.light("breaker:a", Green));
            all.extend(desk.pass(period));
        }
        assert!((1..=3).contains(&all.len()), "every {period} s: {all:?}");
        let rest = desk.pass(3600);
        let resolved = all.iter().chain(&rest).filter(|(_, kind, ..)| *kind == Resolved).count();
        let firing = all.iter().chain(&rest).filter(|(_, kind, ..)| *kind == Firing).count();
        assert_eq!(resolved, firing, "every {period} s: whoever was told is told of the end");
    }
}

#[test]
fn an_alert_nobody_acknowledges_is_escalated_and_one_that_is_is_left_alone() {
    let mut desk = Desk::new();
    desk.light("line:a", Red);
    assert_eq!(desk.pass(299), []);
    let page = heard("line:a", Escalated, Red, "duty page slack");
    assert_eq!(desk.pass(601), vec![page; 3]);
    assert_eq!(desk.pass(3600), [], "three times are enough");
    let mut desk = Desk::new();
    desk.light("line:a", Red);
    desk.pass(299);
    assert_eq!(desk.acknowledge("line:a"), []);
    assert_eq!(desk.pass(24 * 3600), []);
    // A worse light is news again, for him too.
    assert_eq!(desk.light("line:a", Purple).len(), 1);
    assert_eq!(desk.pass(300), [heard("line:a", Escalated, Purple, "duty page slack")]);
}

#[test]
fn a_yellow_light_is_repeated_but_wakes_nobody() {
    let mut desk = Desk::new();
    desk.light("pool:a", Yellow);
    assert_eq!(desk.pass(4 * 3600 - 1), []);
    assert_eq!(desk.pass(1), [heard("pool:a", Repeated, Yellow, "slack")]);
    assert_eq!(desk.pass(4 * 3600), [heard("pool:a", Repeated, Yellow, "slack")]);
}

#[test]
fn a_red_node_speaks_for_what_is_on_it() {
    let mut desk = Desk::new();
    assert_eq!(desk.light("node", Red), [heard("node", Firing, Red, "duty slack")]);
    assert_eq!(desk.light("pool:a", Red), []);
    assert_eq!(desk.light("pool:b", Yellow), []);
    assert_eq!(desk.light("line:a", Purple).len(), 1, "what is worse than the node is said");
    assert_eq!(desk.light("pool:b", Green), []);
    // What outlasts the node's own trouble is told then; what was never told has no end to tell of.
    assert_eq!(desk.light("node", Green), [heard("pool:a", Firing, Red, "duty slack")]);
    assert_eq!(desk.pass(30), [heard("node", Resolved, Red, "duty slack")]);
}

#[test]
fn lights_that_changed_in_lost_receipts_are_taken_from_the_board() {
    let mut desk = Desk::new();
    for station in ["line:a", "line:b", "line:c", "line:d"] {
        assert_eq!(desk.light(station, Red).len(), 1);
    }
    desk.pass(100);
    let shown = |name: &str, light: Light, since: Timestamp| StationView {
        name: name.parse().unwrap(),
        light,
        why: format!("it is {light}").into(),
        since_unix_ms: since.as_millis(),
        receipt: Some(Seq(77)),
    };
    let (now, before) = (desk.now, Timestamp::from_secs(20));
    let stations = vec![
        shown("line:d", Purple, now),
        shown("line:new", Red, before),
        shown("line:b", Red, before),
        shown("line:a", Green, before),
        shown("line:e", Green, before),
    ];
    let board = BoardView { stations, receipt: Seq(99), ..BoardView::default() };
    desk.alerts.reconcile(&board, now, now.as_millis());
    let told = desk.alerts.clone().advance(now, now.as_millis());
    let lost = told.iter().find(|one| one.notice.station.as_str() == "line:new").unwrap();
    assert_eq!((lost.notice.receipt, lost.notice.fact_at), (Seq(77), before), "its delay is not hidden");
    assert_eq!(
        desk.hear(),
        [
            heard("line:d", Firing, Purple, "duty page slack"),
            heard("line:new", Firing, Red, "duty slack"),
            heard("line:a", Resolved, Red, "duty slack"),
        ],
        "it has been green for long, and nobody knew"
    );
    assert_eq!(desk.pass(30), [heard("line:c", Resolved, Red, "duty slack")], "the board has forgotten it");
    desk.alerts.reconcile(&board, desk.now, desk.now.as_millis());
    assert_eq!(desk.hear(), [], "the same board is no news");
}

#[test]
fn a_silence_has_an_end_and_covers_what_it_names() {
    let mut desk = Desk::new();
    desk.silence("pool:*", 60);
    assert_eq!(desk.light("pool:a", Red), []);
    assert_eq!(desk.light("line:a", Yellow).len(), 1);
    assert_eq!(desk.alerts.open().iter().filter(|alert| alert.is_muted).count(), 1);
    assert_eq!(desk.pass(59), []);
    assert_eq!(desk.pass(1), [heard("pool:a", Firing, Red, "duty slack")]);
    let mut desk = Desk::new();
    desk.silence("pool:a", 3600);
    desk.light("pool:a", Red);
    assert_eq!(desk.silence("pool:a", 0), [heard("pool:a", Firing, Red, "duty slack")], "it can be ended");
}

#[test]
fn silences_are_bounded_in_number_and_length() {
    let mut desk = Desk::new();
    for number in 0..=SILENCES_MAX as u64 {
        desk.silence(&format!("pool:{number}"), 1000 + number);
    }
    assert_eq!(desk.alerts.silences.len(), SILENCES_MAX);
    assert_eq!(desk.light("pool:0", Red).len(), 1, "the one that would have ended first gave way");
    desk.silence("pool:z", u64::MAX / 2000);
    assert!(desk.alerts.silences.iter().all(|silence| silence.until <= desk.now + SILENCE_MAX));
}

#[test]
fn a_storm_of_stations_is_spread_over_minutes_and_nothing_of_it_is_lost() {
    let mut desk = Desk::with(AlertRules::builder().notices_per_minute(10).build().unwrap());
    let mut all = Vec::new();
    for number in 0..25 {
        all.extend(desk.light(&format!("pool:{number:02}"), if number == 24 { Red } else { Yellow }));
    }
    assert_eq!(all.len(), 10);
    let minutes: Vec<_> = (0..3).map(|_| desk.pass(60)).collect();
    assert_eq!(minutes.iter().map(Vec::len).collect::<Vec<_>>(), [10, 5, 0]);
    assert_eq!(minutes[0][0].0, "pool:24", "the worst first");
}

#[test]
fn a_light_without_routes_is_told_to_nobody_and_blocks_nothing() {
    let mut desk = Desk::new();
    desk.alerts.routes = Routes::new().from(Red, "duty".parse().unwrap());
    assert_eq!(desk.light("pool:a", Yellow), []);
    assert_eq!(desk.light("pool:a", Red), [heard("pool:a", Firing, Red, "duty")]);
    desk.light("pool:a", Green);
    assert_eq!(desk.pass(30), [heard("pool:a", Resolved, Red, "duty")]);
    assert_eq!(desk.light("pool:b", Yellow), []);
    desk.light("pool:b", Green);
    assert_eq!(desk.pass(1000), []);
    assert_eq!(desk.alerts.incidents.len(), 0);
}

#[test]
fn a_notice_says_since_when_and_because_of_what() {
    let mut desk = Desk::new();
    desk.light("pool:a", Yellow);
    desk.now = desk.now + Duration::from_secs(5);
    let receipt = Receipt {
        seq: Seq(77),
        at: desk.now,
        unix_ms: 15_000,
        cause: Some(Seq(76)),
        path: "/plant/board".parse().unwrap(),
        event: Event::LightChanged {
            station: "pool:a".parse().unwrap(),
            from: Yellow,
            to: Red,
            why: "full".into(),
        },
    };
    desk.alerts.apply(&receipt);
    let [delivery] = &desk.alerts.advance(desk.now, 15_010)[..] else { panic!("one notice") };
    let notice = &delivery.notice;
    assert_eq!((notice.since_unix_ms, notice.unix_ms, notice.receipt), (10_000, 15_010, Seq(77)));
    assert_eq!(
        (&*notice.why, notice.fact_at, notice.fingerprint()),
        ("full", desk.now, "gemba/n1/pool:a".to_owned())
    );
}

#[test]
fn a_stop_on_purpose_is_no_incident() {
    let mut desk = Desk::new();
    desk.record(Event::NodeStopping { why: "SIGTERM".into() });
    assert_eq!(desk.light("node", Purple), []);
    assert_eq!(desk.pass(600), []);
}

proptest! {
    #[test]
    fn whoever_hears_everything_knows_the_worst_light_in_the_end(steps in vec((0usize..3, 0usize..4, 0u64..900), 1..60)) {
        let mut desk = Desk::new();
        let stations = ["pool:a", "line:b", "breaker:c"];
        let mut lights = [Green; 3];
        let mut known = BTreeMap::new();
        let mut note = |heard: Heard| {
            for (station, kind, light, _) in heard {
                known.insert(station, if kind == Resolved { Green } else { light });
            }
        };
        for (station, light, seconds) in steps {
            lights[station] = Light::ALL[light];
            note(desk.light(stations[station], lights[station]));
            note(desk.pass(seconds));
        }
        note(desk.pass(1200));
        for (station, light) in stations.iter().zip(lights) {
            let told = known.get(*station).copied().unwrap_or_default();
            // A light that got better without turning green is still told as its worst.
            prop_assert!(if light == Green { told == Green } else { light <= told }, "{station} {light} {told}");
        }
    }
}
