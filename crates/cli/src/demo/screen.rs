//! The demonstration on a whole terminal: keys in, pictures out, and the terminal given back at the end.

mod hands;
#[cfg(test)]
mod picture;
mod render;
mod scene;

use std::io;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::demo::face::Feed;
use crate::demo::screen::scene::{Deed, Scene};
use crate::demo::{Phase, until};
use crate::show::colours_are_wanted;

pub(crate) use hands::Hands;

/// How often the picture is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// How long the keyboard is waited for before it is asked whether anybody still listens.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Keys that may wait to be understood.
const KEYS_MAX: usize = 64;

/// The terminal in raw mode. Dropping it gives the terminal back; a panic does so too, by the hook that
/// ratatui sets.
struct Screen {
    terminal: DefaultTerminal,
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Takes over the terminal; the returned future shows `feed` until the demonstration is over.
pub(crate) fn open(
    feed: Feed,
    hands: Hands,
    stops: mpsc::Sender<()>,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let screen = Screen { terminal: ratatui::try_init()? };
    let (pressed, keys) = mpsc::channel(KEYS_MAX);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || read_keys(&pressed))?;
    Ok(run(screen, feed, keys, hands, stops))
}

async fn run(
    mut screen: Screen,
    feed: Feed,
    mut keys: mpsc::Receiver<KeyEvent>,
    mut hands: Hands,
    stops: mpsc::Sender<()>,
) {
    let mut phase = feed.phase.clone();
    let mut scene = Scene::new(feed.rate, colours_are_wanted());
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = until(&mut phase, Phase::Over) => return,
            Some(key) = keys.recv() => match scene.press(key) {
                // A second request that finds the channel full is one that was made already.
                Some(Deed::Quit) => drop(stops.try_send(())),
                Some(Deed::Ask(ask)) => hands.carry_out(ask),
                None => {}
            },
            said = hands.said() => scene.note(said),
            _ = frames.tick() => scene.update(&feed),
        }
        // A terminal that is gone cannot be drawn on; SIGHUP ends the demonstration.
        let _ = screen.terminal.draw(|frame| render::draw(frame, &scene));
    }
}

/// Hands on key presses until nobody listens.
fn read_keys(pressed: &mpsc::Sender<KeyEvent>) {
    while !pressed.is_closed() {
        let key = match event::poll(KEY_WAIT) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(_) => return,
        };
        if let Ok(Event::Key(key)) = key
            && key.kind == KeyEventKind::Press
            && pressed.blocking_send(key).is_err()
        {
            return;
        }
    }
}
