//! The supervision tree as an outline.

use std::fmt::Write;

use gemba::light::Light;
use gemba::view::{ActorState, ActorView, TreeView};

use crate::show::text::{Page, clean, cut, left, right, span};

/// Widths of the columns after the name, each with the space before it.
const TAIL: usize = 13 + 13 + 9 + 9 + 6;

/// Prints the tree down to `depth` levels below the root.
pub(crate) fn tree(view: &TreeView, depth: Option<usize>, page: Page) -> String {
    let name_width = page.width - TAIL;
    let mut text = format!("node {} · {} actors\n", view.node, view.actors);
    let heading = format!(
        "{} {} {} {} {} {}",
        left("PATH", name_width),
        left("KIND", 12),
        left("STATE", 12),
        right("RESTARTS", 8),
        right("MAILBOX", 8),
        right("UP", 5)
    );
    line(&mut text, &page.heading(&heading));
    branch(&mut text, &view.root, 0, depth.unwrap_or(usize::MAX), page);
    text
}

fn branch(text: &mut String, actor: &ActorView, level: usize, depth: usize, page: Page) {
    let is_cut = level == depth && !actor.children.is_empty();
    row(text, actor, level, is_cut, page);
    if let Some(exit) = actor.last_exit.as_ref().filter(|exit| !exit.reason.is_clean()) {
        let note =
            format!("{}↳ {} {}", "  ".repeat(level + 1), exit.incarnation, clean(&exit.reason.to_string()));
        line(text, &page.faint(&cut(&note, page.width)));
    }
    if !is_cut {
        for child in &actor.children {
            branch(text, child, level + 1, depth, page);
        }
    }
}

fn row(text: &mut String, actor: &ActorView, level: usize, is_cut: bool, page: Page) {
    let mut name = format!("{}{}", "  ".repeat(level), actor.path.name());
    if is_cut {
        write!(name, " (+{})", actor.iter().count() - 1).expect("writing to a string cannot fail");
    }
    let light = state_light(actor.state);
    let state = left(&format!("{} {}", light.glyph(), actor.state), 12);
    let mailbox =
        actor.mailbox.map_or("–".to_owned(), |mailbox| format!("{}/{}", mailbox.depth, mailbox.capacity));
    line(
        text,
        &format!(
            "{} {} {} {} {} {}",
            left(&name, page.width - TAIL),
            left(&kind(actor), 12),
            page.light(light, &state),
            right(&actor.restarts.to_string(), 8),
            right(&mailbox, 8),
            right(&span(actor.uptime_ms), 5)
        ),
    );
}

/// A supervisor's strategy says more than that it is one.
fn kind(actor: &ActorView) -> String {
    use gemba::supervision::Strategy;
    match actor.strategy {
        Some(Strategy::OneForOne) => "one_for_one".to_owned(),
        Some(Strategy::OneForAll) => "one_for_all".to_owned(),
        Some(Strategy::RestForOne) => "rest_for_one".to_owned(),
        Some(Strategy::Dynamic) => "dynamic".to_owned(),
        None => actor.kind.to_string(),
    }
}

/// The light an actor's state would show.
pub(crate) const fn state_light(state: ActorState) -> Light {
    match state {
        ActorState::Running => Light::Green,
        ActorState::Starting | ActorState::Stopping => Light::Yellow,
        ActorState::Halted | ActorState::Unkillable | ActorState::Down => Light::Red,
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
pub(crate) mod sample {
    use gemba::exit::{ExitReason, Incarnation};
    use gemba::supervision::Strategy;
    use gemba::view::{ActorKind, ExitView, MailboxView};

    use super::*;

    /// An actor that has run for a minute without trouble.
    pub(crate) fn actor(path: &str, kind: ActorKind, children: Vec<ActorView>) -> ActorView {
        ActorView {
            path: path.parse().unwrap(),
            kind,
            strategy: (kind == ActorKind::Supervisor).then_some(Strategy::OneForOne),
            state: ActorState::Running,
            incarnation: Some(Incarnation(1)),
            restarts: 0,
            uptime_ms: 61_000,
            mailbox: (kind == ActorKind::Server).then_some(MailboxView { depth: 0, capacity: 1024 }),
            handled: 0,
            busy_ms: 0,
            last_exit: None,
            children,
        }
    }

    /// A small plant with one crash behind it.
    pub(crate) fn plant() -> TreeView {
        let mut worker = actor("/plant/pools/payment/workers/1", ActorKind::Server, Vec::new());
        worker.restarts = 2;
        worker.uptime_ms = 830;
        worker.last_exit = Some(ExitView {
            incarnation: Incarnation(17),
            reason: ExitReason::Panic {
                message: "card\u{1b}reader on fire".into(),
                location: Some("src/w.rs:7".into()),
            },
            unix_ms: 0,
        });
        let mut lost = actor("/plant/pools/payment/workers/2", ActorKind::Task, Vec::new());
        lost.state = ActorState::Down;
        lost.uptime_ms = 0;
        let mut workers = actor("/plant/pools/payment/workers", ActorKind::Supervisor, vec![worker, lost]);
        workers.strategy = Some(Strategy::Dynamic);
        let mut pool = actor("/plant/pools/payment", ActorKind::Supervisor, vec![workers]);
        pool.strategy = Some(Strategy::RestForOne);
        let pools = actor("/plant/pools", ActorKind::Supervisor, vec![pool]);
        let mut board = actor("/plant/board", ActorKind::Server, Vec::new());
        board.mailbox = Some(MailboxView { depth: 12, capacity: 16_384 });
        let mut plant = actor("/plant", ActorKind::Supervisor, vec![board, pools]);
        plant.strategy = Some(Strategy::OneForAll);
        TreeView::new("n1".parse().unwrap(), 0, actor("/", ActorKind::Supervisor, vec![plant]))
    }
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn a_tree_is_an_outline_of_80_columns() {
        let text = tree(&sample::plant(), None, Page::PLAIN);
        let expected = "\
node n1 · 8 actors
PATH                           KIND         STATE        RESTARTS  MAILBOX    UP
/                              one_for_one  ● running           0        –    1m
  plant                        one_for_all  ● running           0        –    1m
    board                      server       ● running           0 12/16384    1m
    pools                      one_for_one  ● running           0        –    1m
      payment                  rest_for_one ● running           0        –    1m
        workers                dynamic      ● running           0        –    1m
          1                    server       ● running           2   0/1024 830ms
            ↳ life 17 panicked at src/w.rs:7: card reader on fire
          2                    task         ■ down              0        –   0ms
";
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.width() <= 80));
    }

    #[test]
    fn a_depth_counts_what_it_hides() {
        let text = tree(&sample::plant(), Some(2), Page::PLAIN);
        assert!(text.contains("    pools (+4)  "), "{text}");
        assert!(!text.contains("workers"), "{text}");
        assert!(tree(&sample::plant(), Some(0), Page::PLAIN).contains("/ (+7)"));
    }

    #[test]
    fn colours_change_nothing_but_the_colour() {
        let plain = tree(&sample::plant(), None, Page::PLAIN);
        let coloured = tree(&sample::plant(), None, Page { colour: true, ..Page::PLAIN });
        assert_ne!(plain, coloured);
        let mut stripped = coloured;
        for code in [0, 1, 2, 31, 32, 33, 35] {
            stripped = stripped.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_eq!(stripped, plain);
    }
}
