//! Scenarios in Erlang's external term format.

use gemba_core::supervision::{AutoShutdown, Restart, Strategy};
use gemba_kernel::Shutdown;

use crate::model::{Child, How, OnStop, Outcome, Scenario, Start, Step, Sup};

/// An Erlang term, of the few kinds we send.
enum Term {
    Atom(&'static str),
    Int(u32),
    Text(String),
    Tuple(Vec<Term>),
    List(Vec<Term>),
}

/// One packet: the number under which the trace is to come back, the tree, the steps.
pub(crate) fn packet(number: u32, scenario: &Scenario) -> Vec<u8> {
    let steps = scenario.steps.iter().map(step).collect();
    let term = Term::Tuple(vec![Term::Int(number), sup(&scenario.top), Term::List(steps)]);
    let mut bytes = vec![131];
    write(&term, &mut bytes);
    bytes
}

fn write(term: &Term, bytes: &mut Vec<u8>) {
    match term {
        Term::Atom(name) => {
            bytes.extend([119, u8::try_from(name.len()).expect("atoms are short")]);
            bytes.extend(name.as_bytes());
        }
        Term::Int(n) => {
            bytes.push(98);
            bytes.extend(i32::try_from(*n).expect("numbers are small").to_be_bytes());
        }
        Term::Text(text) => {
            bytes.push(109);
            bytes.extend(length(text.len()));
            bytes.extend(text.as_bytes());
        }
        Term::Tuple(terms) => {
            bytes.extend([104, u8::try_from(terms.len()).expect("tuples are short")]);
            for term in terms {
                write(term, bytes);
            }
        }
        Term::List(terms) => {
            if !terms.is_empty() {
                bytes.push(108);
                bytes.extend(length(terms.len()));
                for term in terms {
                    write(term, bytes);
                }
            }
            bytes.push(106);
        }
    }
}

fn length(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("a scenario is small").to_be_bytes()
}

fn tuple(terms: impl Into<Vec<Term>>) -> Term {
    Term::Tuple(terms.into())
}

fn text(text: &str) -> Term {
    Term::Text(text.to_owned())
}

fn sup(sup: &Sup) -> Term {
    let strategy = match sup.strategy {
        Strategy::OneForOne => "one_for_one",
        Strategy::OneForAll => "one_for_all",
        Strategy::RestForOne => "rest_for_one",
        Strategy::Dynamic => "simple_one_for_one",
    };
    let auto_shutdown = match sup.auto_shutdown {
        AutoShutdown::Never => "never",
        AutoShutdown::AnySignificant => "any_significant",
        AutoShutdown::AllSignificant => "all_significant",
    };
    let children = sup.children.iter().map(child).collect();
    tuple([
        Term::Atom(strategy),
        Term::Int(sup.intensity),
        Term::Int(sup.period_s),
        Term::Atom(auto_shutdown),
        Term::List(children),
    ])
}

fn child(child: &Child) -> Term {
    let restart = match child.restart {
        Restart::Permanent => "permanent",
        Restart::Transient => "transient",
        Restart::Temporary => "temporary",
    };
    let on_stop = match child.on_stop {
        OnStop::Shutdown => "shutdown",
        OnStop::Normal => "normal",
        OnStop::ShutdownWith => "shutdown_with",
        OnStop::Error => "error",
        OnStop::Panic => "panic",
        OnStop::Ignore => "ignore",
        OnStop::Hang => "hang",
    };
    let shutdown = match child.shutdown {
        Shutdown::Brutal => Term::Atom("brutal_kill"),
        Shutdown::Within(limit) => Term::Int(u32::try_from(limit.as_millis()).expect("limits are short")),
        Shutdown::Infinity => Term::Atom("infinity"),
    };
    let kind = match &child.below {
        None => Term::Atom("worker"),
        Some(below) => tuple([Term::Atom("sup"), sup(below)]),
    };
    tuple([
        text(&child.id),
        Term::Atom(restart),
        Term::Atom(if child.significant { "true" } else { "false" }),
        shutdown,
        Term::Atom(on_stop),
        Term::List(child.starts.iter().copied().map(start).collect()),
        kind,
    ])
}

fn start(start: Start) -> Term {
    let then = Term::Atom(match start.then {
        Outcome::Ok => "ok",
        Outcome::Ignore => "ignore",
        Outcome::Error => "error",
        Outcome::Panic => "panic",
    });
    if start.hangs { tuple([Term::Atom("hang"), then]) } else { then }
}

fn how(how: How) -> Term {
    Term::Atom(match how {
        How::Normal => "normal",
        How::Shutdown => "shutdown",
        How::ShutdownWith => "shutdown_with",
        How::Error => "error",
        How::Panic => "panic",
        How::Kill => "kill",
    })
}

fn step(step: &Step) -> Term {
    let on = |kind: &'static str, sup: &str, id: &str| tuple([Term::Atom(kind), text(sup), text(id)]);
    match step {
        Step::End { id, how: How::Kill } => tuple([Term::Atom("kill"), text(id)]),
        Step::End { id, how: end } => tuple([Term::Atom("exit"), text(id), how(*end)]),
        Step::EndBoth { first, second } => {
            tuple([Term::Atom("both"), text(&first.0), how(first.1), text(&second.0), how(second.1)])
        }
        Step::StartChild { sup, child: spec } => tuple([Term::Atom("start"), text(sup), child(spec)]),
        Step::Terminate { sup, id } => on("terminate", sup, id),
        Step::Restart { sup, id } => on("restart", sup, id),
        Step::Delete { sup, id } => on("delete", sup, id),
        Step::Spec { sup, id } => on("spec", sup, id),
        Step::Which { sup } => tuple([Term::Atom("which"), text(sup)]),
        Step::Count { sup } => tuple([Term::Atom("count"), text(sup)]),
        Step::Noise { sup } => tuple([Term::Atom("noise"), text(sup)]),
        Step::KillSup { id } => tuple([Term::Atom("killsup"), text(id)]),
        Step::Release { nth } => tuple([Term::Atom("release"), Term::Int(*nth)]),
        Step::Wait(time) => {
            tuple([Term::Atom("wait"), Term::Int(u32::try_from(time.as_millis()).expect("waits are short"))])
        }
        Step::Shutdown => Term::Atom("shutdown"),
    }
}
