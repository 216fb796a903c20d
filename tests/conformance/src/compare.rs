//! Compares two traces as OTP promises; each rule is written down in `docs/conformance.md`.

use std::collections::BTreeMap;

use crate::model::{Scenario, Step};
use crate::trace::{At, Event, Section, Trace, Verdict};

/// Tells the first difference between what Erlang did and what we did, if there is one.
pub(crate) fn difference(scenario: &Scenario, otp: &Trace, ours: &Trace) -> Option<String> {
    if otp.0.len() != ours.0.len() {
        return Some(format!("{} sections, not {}", ours.0.len(), otp.0.len()));
    }
    let mut from = 0;
    while from < otp.0.len() {
        let held = otp.0[from..].iter().take_while(|section| section.busy).count();
        let to = (from + held).min(otp.0.len() - 1);
        let (left, right) = (&otp.0[from..=to], &ours.0[from..=to]);
        let found =
            if held == 0 { settled(scenario, &left[0], &right[0]) } else { held_up(scenario, left, right) };
        if let Some(found) = found {
            return Some(found);
        }
        from = to + 1;
    }
    None
}

/// Nothing hung: everything is the same, and in the same order, but for ends that come together.
fn settled(scenario: &Scenario, otp: &Section, ours: &Section) -> Option<String> {
    let at = otp.at;
    let (left, right) = (together(scenario, otp), together(scenario, ours));
    if left != right {
        let differ = left.iter().zip(&right).position(|(left, right)| left != right);
        let index = differ.unwrap_or(left.len().min(right.len()));
        let told = |event: Option<&Event>| event.map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let (left, right) = (told(left.get(index)), told(right.get(index)));
        return Some(format!("{at:?}: OTP has '{left}' where ours has '{right}'"));
    }
    if otp.answers != ours.answers {
        return Some(format!("{at:?}: OTP answers {:?}, ours {:?}", otp.answers, ours.answers));
    }
    snapshots(otp, ours)
}

fn snapshots(otp: &Section, ours: &Section) -> Option<String> {
    (otp.snapshot != ours.snapshot)
        .then(|| format!("{:?}: OTP shows {:?}, ours {:?}", otp.at, otp.snapshot, ours.snapshot))
}

/// Rules T1 and T2: the ends of a dynamic supervisor's children, and of those whose supervisor was killed,
/// have no order among themselves.
fn together(scenario: &Scenario, section: &Section) -> Vec<Event> {
    let killed = match section.at {
        At::Step(index) => match scenario.steps.get(index) {
            Some(Step::KillSup { id }) => Some(format!("{id}.")),
            _ => None,
        },
        At::Start | At::End => None,
    };
    let free = |event: &Event| match event {
        Event::Terminated(id, n, reason) => {
            *n > 0
                && (scenario.is_dynamic()
                    || reason == "killed"
                        && killed.as_ref().is_some_and(|below| is_below(scenario, below, id)))
        }
        Event::Init(..) | Event::Started(..) => false,
    };
    let mut events = section.events.clone();
    let mut from = 0;
    while from < events.len() {
        let run = events[from..].iter().take_while(|event| free(event)).count();
        events[from..from + run].sort();
        from += run.max(1);
    }
    events
}

/// Whether the child stands under the supervisor of this prefix, from the beginning or added later.
fn is_below(scenario: &Scenario, prefix: &str, id: &str) -> bool {
    id.starts_with(prefix)
        || scenario.steps.iter().any(|step| {
            matches!(step, Step::StartChild { sup, child } if child.id == id && prefix.strip_suffix('.') == Some(sup))
        })
}

/// Rules H1 to H3: while something hangs OTP's supervisor waits and ours goes on, so what counts is the story
/// of each child, the order of the starts, each answer, and how things stand when nothing hangs any more.
fn held_up(scenario: &Scenario, otp: &[Section], ours: &[Section]) -> Option<String> {
    let at = otp[0].at;
    let (left, right) = (stories(otp), stories(ours));
    for id in left.keys().chain(right.keys()) {
        let (left, right) = (left.get(id), right.get(id));
        if left != right {
            return Some(format!("from {at:?} on: the story of {id} is {left:?} in OTP, {right:?} in ours"));
        }
    }
    let (left, right) = (answers(otp), answers(ours));
    if let Some(asked) =
        left.keys().chain(right.keys()).find(|asked| left.contains_key(*asked) != right.contains_key(*asked))
    {
        return Some(format!("from {at:?} on: {asked} is answered on one side only"));
    }
    for (asked, answer) in &left {
        if !allowed(scenario, otp, asked, answer, &right[asked]) {
            return Some(format!(
                "from {at:?} on: OTP answers {asked} with '{answer}', ours '{}'",
                right[asked]
            ));
        }
    }
    snapshots(otp.last()?, ours.last()?)
}

fn stories(sections: &[Section]) -> BTreeMap<&str, Vec<&Event>> {
    let mut stories: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in sections.iter().flat_map(|section| &section.events) {
        stories.entry(event.id()).or_default().push(event);
    }
    stories
}

fn answers(sections: &[Section]) -> BTreeMap<String, String> {
    sections.iter().flat_map(|section| section.answers.clone()).collect()
}

/// Rules H2 to H4: whether our answer, given at once, is as good as OTP's, given after the release.
fn allowed(scenario: &Scenario, otp: &[Section], asked: &str, answer: &str, ours: &str) -> bool {
    if answer == ours {
        return true;
    }
    let Ok(index) = asked.parse::<usize>() else { return false };
    let Some(position) = otp.iter().position(|section| section.at == At::Step(index)) else { return false };
    // What is asked before anything hangs is answered by both at once.
    if position == 0 || ours == "timeout" {
        return false;
    }
    // H4: it was ending already. That nothing was started or stopped is told by the stories.
    if answer == "gone" {
        return true;
    }
    match scenario.steps.get(index) {
        // H2: both are right at their time.
        Some(Step::Which { .. } | Step::Count { .. } | Step::Spec { .. }) => ours != "gone",
        // H3: whether a child whose start hangs runs, or is about to, is known after its release.
        Some(Step::StartChild { .. } | Step::Restart { .. } | Step::Delete { .. }) => {
            let one_of = |words: [&str; 2]| words.contains(&answer) && words.contains(&ours);
            otp[position].verdict == Verdict::Hot
                && (one_of(["already_started", "already_present"]) || one_of(["running", "restarting"]))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use gemba_core::supervision::{AutoShutdown, Restart, Strategy};
    use gemba_kernel::Shutdown;

    use super::*;
    use crate::model::{Child, OnStop, Sup, TOP};

    fn child(id: &str) -> Child {
        Child {
            id: id.to_owned(),
            restart: Restart::Permanent,
            significant: false,
            shutdown: Shutdown::Infinity,
            on_stop: OnStop::Shutdown,
            starts: Vec::new(),
            below: None,
        }
    }

    fn scenario(strategy: Strategy, steps: Vec<Step>) -> Scenario {
        let children = vec![child("a"), child("b")];
        let auto_shutdown = AutoShutdown::Never;
        Scenario { seed: 0, top: Sup { strategy, intensity: 1, period_s: 1, auto_shutdown, children }, steps }
    }

    fn differs(scenario: &Scenario, otp: &str, ours: &str) -> bool {
        difference(scenario, &Trace::parse(otp).unwrap(), &Trace::parse(ours).unwrap()).is_some()
    }

    #[test]
    fn every_kind_of_difference_is_told() {
        let asked = Step::Terminate { sup: TOP.to_owned(), id: "a".to_owned() };
        let scenario = scenario(Strategy::OneForOne, vec![asked]);
        let otp = "S 0 do\nt a 1 shutdown\ni b 2\ns b 2\na 0 ok\nE idle\nw top a:down:worker | 1 0 0 1\n";
        assert!(!differs(&scenario, otp, otp));
        for (what, ours) in [
            ("a reason", otp.replace("1 shutdown", "1 killed")),
            ("an event that lacks", otp.replace("s b 2\n", "")),
            ("one too many", otp.replace("s b 2\n", "s b 2\ni b 3\n")),
            ("the order", otp.replace("t a 1 shutdown\ni b 2\n", "i b 2\nt a 1 shutdown\n")),
            ("another life", otp.replace("s b 2\n", "s b 3\n")),
            ("an answer", otp.replace("a 0 ok", "a 0 not_found")),
            ("no answer", otp.replace("a 0 ok\n", "")),
            ("a list", otp.replace("a:down", "a:run")),
            ("a count", otp.replace("| 1 0 0 1", "| 1 1 0 1")),
            ("a supervisor that is gone", otp.replace("w top a:down:worker | 1 0 0 1\n", "")),
            ("a section", format!("{otp}S end do\nE idle\n")),
        ] {
            assert!(differs(&scenario, otp, &ours), "{what}");
            assert!(differs(&scenario, &ours, otp), "{what}, the other way round");
        }
    }

    #[test]
    fn ends_without_an_order_among_themselves_may_come_in_any() {
        let (one, two) = ("t a 1 shutdown\nt b 1 killed\n", "t b 1 killed\nt a 1 shutdown\n");
        let told = |ends: &str| format!("S end do\n{ends}t top 0 shutdown\nE idle\n");
        assert!(!differs(&scenario(Strategy::Dynamic, Vec::new()), &told(one), &told(two)));
        assert!(differs(&scenario(Strategy::OneForOne, Vec::new()), &told(one), &told(two)));
        let late = format!("S end do\nt top 0 shutdown\n{one}E idle\n");
        assert!(differs(&scenario(Strategy::Dynamic, Vec::new()), &told(one), &late), "children end first");

        let killed = scenario(Strategy::OneForOne, vec![Step::KillSup { id: "c".to_owned() }]);
        let (one, two) = ("t c.1 1 killed\nt c.2 1 killed\n", "t c.2 1 killed\nt c.1 1 killed\n");
        let told = |ends: &str| format!("S 0 do\n{ends}t c 0 killed\ns c 0\nE idle\n");
        assert!(!differs(&killed, &told(one), &told(two)));
        let elsewhere = told(one).replace("c.", "d.");
        assert!(differs(&killed, &elsewhere, &told(two).replace("c.", "d.")), "only below the killed one");
    }

    #[test]
    fn while_something_hangs_each_child_has_the_same_story() {
        let which = Step::Which { sup: TOP.to_owned() };
        let restart = Step::Restart { sup: TOP.to_owned(), id: "a".to_owned() };
        let delete = Step::Delete { sup: TOP.to_owned(), id: "b".to_owned() };
        let end = Step::Release { nth: 0 };
        let scenario = scenario(Strategy::OneForOne, vec![end, which, restart, delete]);
        let otp = "S 0 do\ni a 2\nE busy\nS 1 do\nE busy\nS 2 hot\nE busy\nS 3 do\nE busy\nS end rel a\ns a 2\n\
                   i b 2\ns b 2\na 1 which a:run:worker\na 2 running\na 3 ok\nE idle\nw top - | 0 0 0 0\n";
        let ours = "S 0 do\ni a 2\nE busy\nS 1 do\na 1 which a:Starting:worker\ni b 2\ns b 2\nE busy\nS 2 hot\n\
                    a 2 restarting\nE busy\nS 3 do\na 3 ok\nE busy\nS end rel a\ns a 2\nE idle\nw top - | 0 0 0 0\n";
        assert!(!differs(&scenario, otp, ours));
        for (what, ours) in [
            ("a story", ours.replace("s b 2\n", "s b 2\nt b 2 killed\n")),
            ("an event that lacks", ours.replace("s a 2\n", "")),
            ("an answer that depends on nothing that hangs", ours.replace("a 3 ok", "a 3 running")),
            ("an answer no moment explains", ours.replace("a 2 restarting", "a 2 not_found")),
            ("a question without an answer", ours.replace("a 1 which a:Starting:worker\n", "")),
            ("an answer that never came", ours.replace("a 3 ok", "a 3 timeout")),
            ("how things stand afterwards", ours.replace("| 0 0 0 0", "| 1 0 0 1")),
        ] {
            assert!(differs(&scenario, otp, &ours), "{what}");
        }
    }
}
