//! The picture of the screen in the README: drawn by the screen's own code, and compared by a test.

mod moment;
mod svg;

use std::fs;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::demo::screen::render::draw;

/// Where the picture is kept.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/demo.svg");

/// What is said instead to those who cannot see it.
const TITLE: &str = "The screen of gemba demo: 300 payments a second, 21 workers killed and restarted, \
                     a yellow light, no payment lost and none charged twice";

fn picture() -> String {
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| draw(frame, &moment::under_load())).unwrap();
    svg::svg(terminal.backend().buffer(), TITLE)
}

#[test]
fn the_picture_in_the_documentation_is_what_the_screen_draws() {
    let drawn = picture();
    if std::env::var_os("BLESS").is_some() {
        fs::write(FILE, &drawn).unwrap();
    }
    let kept = fs::read_to_string(FILE).unwrap_or_default();
    assert!(kept == drawn, "docs/demo.svg is out of date; run BLESS=1 cargo test -p gemba-cli picture");
}

#[test]
fn the_title_of_the_picture_says_what_it_shows() {
    let scene = moment::under_load();
    let tree = scene.seen.tree.as_ref().unwrap();
    let restarts: u64 = tree.root.iter().map(|actor| actor.restarts).sum();
    assert_eq!((scene.rate, scene.killed, scene.seen.restarts, restarts), (300, 21, 21, 21));
    assert!(TITLE.contains("300 payments") && TITLE.contains("21 workers"), "{TITLE}");
}
