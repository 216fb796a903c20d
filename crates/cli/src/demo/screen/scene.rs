//! What the screen shows and how keys change it; pure.

use std::time::Duration;

use gemba::name::{ActorPath, Name};
use gemba::view::ActorView;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::demo::Phase;
use crate::demo::face::Feed;
use crate::demo::overseer::Loss;
use crate::demo::screen::hands::Ask;
use crate::demo::tally::Counts;
use crate::demo::watch::Seen;

/// The line whose cord the keys pull.
const LINE: &str = "payment";

/// Who is selected at first: a worker of that line, so that there is somebody to kill at once.
const FIRST: &str = "/plant/pools/payment/workers/1";

/// Rows that a page key moves.
const PAGE: usize = 10;

/// Everything on the screen.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) seen: Seen,
    pub(crate) counts: Counts,
    pub(crate) killed: u64,
    pub(crate) loss: Option<Loss>,
    pub(crate) phase: Phase,
    pub(crate) elapsed: Duration,
    pub(crate) rate: u32,
    /// The selected actor. By path, so that it stays selected when rows come and go.
    pub(crate) selected: ActorPath,
    /// Whether the picture stands still; the payments go on.
    pub(crate) paused: bool,
    pub(crate) help: bool,
    /// What the last key did.
    pub(crate) note: Option<String>,
    pub(crate) colour: bool,
}

/// What a key asks of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    /// End the demonstration.
    Quit,
    /// Ask the node.
    Ask(Ask),
}

impl Scene {
    /// An empty scene.
    pub(crate) fn new(rate: u32, colour: bool) -> Self {
        Self {
            seen: Seen::default(),
            counts: Counts::default(),
            killed: 0,
            loss: None,
            phase: Phase::Running,
            elapsed: Duration::ZERO,
            rate,
            selected: ActorPath::new(FIRST).expect("the path is a constant that is a path"),
            paused: false,
            help: false,
            note: None,
            colour,
        }
    }

    /// Takes what is new, unless the picture is paused.
    pub(crate) fn update(&mut self, feed: &Feed) {
        self.phase = *feed.phase.borrow();
        if self.paused {
            return;
        }
        self.seen = feed.seen.borrow().clone();
        self.counts = feed.counts.borrow().clone();
        self.killed = *feed.killed.borrow();
        self.loss = *feed.loss.borrow();
        self.elapsed = feed.started.elapsed();
    }

    /// Shows what somebody says.
    pub(crate) fn note(&mut self, note: String) {
        self.note = Some(note);
    }

    /// The rows of the tree: how deep, and who.
    pub(crate) fn rows(&self) -> Vec<(usize, &ActorView)> {
        let Some(tree) = &self.seen.tree else {
            return Vec::new();
        };
        let depth = |path: &ActorPath| if path.is_root() { 0 } else { path.as_str().matches('/').count() };
        tree.root.iter().map(|actor| (depth(&actor.path), actor)).collect()
    }

    /// The number of the selected row; the first if the actor is gone.
    pub(crate) fn cursor(&self) -> usize {
        self.rows().iter().position(|(_, actor)| actor.path == self.selected).unwrap_or(0)
    }

    /// Understands a key, and ignores one without a meaning. Capital letters change something for good:
    /// shift means sure.
    #[allow(clippy::wildcard_enum_match_arm, reason = "a keyboard has many keys and this screen few")]
    pub(crate) fn press(&mut self, key: KeyEvent) -> Option<Deed> {
        self.note = None;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Some(Deed::Quit),
            KeyCode::Char('q') => return Some(Deed::Quit),
            KeyCode::Char('?') => self.help = !self.help,
            KeyCode::Esc => self.help = false,
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char('j') | KeyCode::Down => self.step(1, true),
            KeyCode::Char('k') | KeyCode::Up => self.step(1, false),
            KeyCode::PageDown => self.step(PAGE, true),
            KeyCode::PageUp => self.step(PAGE, false),
            KeyCode::Home => self.step(usize::MAX, false),
            KeyCode::End => self.step(usize::MAX, true),
            KeyCode::Char('X') => return Some(Deed::Ask(Ask::Kill(self.selected.clone()))),
            KeyCode::Char('x') => self.note("shift means sure: X kills the selected actor".to_owned()),
            KeyCode::Char('c') => return Some(Deed::Ask(Ask::Pull(line()))),
            KeyCode::Char('C' | 'r') => return Some(Deed::Ask(Ask::Reset(line()))),
            _ => {}
        }
        None
    }

    fn step(&mut self, rows: usize, down: bool) {
        let cursor = self.cursor();
        let all = self.rows();
        let Some(last) = all.len().checked_sub(1) else {
            return;
        };
        let next = if down { cursor.saturating_add(rows).min(last) } else { cursor.saturating_sub(rows) };
        self.selected = all[next].1.path.clone();
    }
}

fn line() -> Name {
    Name::new(LINE).expect("the line's name is a constant that is a name")
}

#[cfg(test)]
pub(crate) mod sample {
    use std::sync::Arc;

    use super::*;
    use crate::show::{board_sample, receipts_sample, tree_sample};

    /// A scene with something of everything.
    pub(crate) fn busy() -> Scene {
        let mut scene = Scene::new(200, true);
        scene.seen.tree = Some(Arc::new(tree_sample()));
        scene.seen.board = Some(Arc::new(board_sample()));
        scene.seen.receipts = receipts_sample().into_iter().map(Arc::new).collect();
        scene.seen.restarts = 6;
        scene.counts =
            Counts { submitted: 2_400, succeeded: 2_398, p50_ms: 4.1, p99_ms: 12.0, ..Counts::default() };
        scene.killed = 6;
        scene.loss = Some(Loss::default());
        scene.elapsed = Duration::from_secs(12);
        scene
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(scene: &mut Scene, keys: &[KeyCode]) -> Vec<Deed> {
        keys.iter().filter_map(|code| scene.press(KeyEvent::new(*code, KeyModifiers::NONE))).collect()
    }

    #[test]
    fn arrows_move_within_the_tree() {
        let mut scene = sample::busy();
        for (keys, selected) in [
            (vec![KeyCode::Home], "/"),
            (vec![KeyCode::Up], "/"),
            (vec![KeyCode::Down], "/plant"),
            (vec![KeyCode::Char('j'), KeyCode::Char('j')], "/plant/pools"),
            (vec![KeyCode::Char('k')], "/plant/board"),
            (vec![KeyCode::End], "/plant/pools/payment/workers/2"),
            (vec![KeyCode::Down], "/plant/pools/payment/workers/2"),
            (vec![KeyCode::PageUp], "/"),
        ] {
            assert!(press(&mut scene, &keys).is_empty());
            assert_eq!(scene.selected.as_str(), selected, "{keys:?}");
        }
        let mut empty = Scene::new(1, false);
        assert!(press(&mut empty, &[KeyCode::Down, KeyCode::Up]).is_empty());
    }

    #[test]
    fn the_first_kill_needs_one_key() {
        let mut scene = Scene::new(1, false);
        scene.seen = sample::busy().seen;
        let selected = scene.rows()[scene.cursor()].1.path.clone();
        assert_eq!(selected.as_str(), FIRST, "the row that is marked");
        assert_eq!(press(&mut scene, &[KeyCode::Char('X')]), [Deed::Ask(Ask::Kill(selected))]);
    }

    #[test]
    fn only_capitals_kill() {
        let mut scene = sample::busy();
        press(&mut scene, &[KeyCode::Home, KeyCode::Down, KeyCode::Down]);
        assert_eq!(press(&mut scene, &[KeyCode::Char('x')]), []);
        assert!(scene.note.is_some(), "and the lower case letter says so");
        let board = ActorPath::new("/plant/board").unwrap();
        assert_eq!(press(&mut scene, &[KeyCode::Char('X')]), [Deed::Ask(Ask::Kill(board))]);
    }

    #[test]
    fn the_cord_is_pulled_and_reset_and_the_end_is_one_key_away() {
        let mut scene = sample::busy();
        let deeds = press(&mut scene, &[KeyCode::Char('c'), KeyCode::Char('C'), KeyCode::Char('r')]);
        let (pull, reset) = (Deed::Ask(Ask::Pull(line())), Deed::Ask(Ask::Reset(line())));
        assert_eq!(deeds, [pull, reset.clone(), reset]);
        assert_eq!(press(&mut scene, &[KeyCode::Char('q')]), [Deed::Quit]);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(scene.press(control_c), Some(Deed::Quit));
        press(&mut scene, &[KeyCode::Char('?')]);
        assert!(scene.help);
        press(&mut scene, &[KeyCode::Esc, KeyCode::Char('p')]);
        assert!(!scene.help && scene.paused);
    }
}
