//! Who shows the demonstration: a picture on a terminal, else each step as a line.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use crate::demo::DemoOptions;
use crate::demo::load::Tallied;
use crate::demo::picture::{Scene, Steps, draw};
use crate::view::ServiceView;

/// How often the picture is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// How long the keyboard is waited for before it is asked whether anybody still listens.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// What one sees.
#[derive(Debug)]
pub(crate) struct Face {
    /// Told when somebody wants it to end.
    pub(crate) quit: Arc<Notify>,
    over: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Face {
    /// Each step as a line on stderr; none if it is quiet.
    pub(crate) fn plain(mut views: watch::Receiver<ServiceView>, is_quiet: bool) -> Self {
        let (over, mut ending) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut steps = Steps::default();
            loop {
                tokio::select! {
                    biased;
                    changed = views.changed() => if changed.is_err() { return },
                    _ = ending.wait_for(|over| *over) => return,
                }
                if let Some(step) = steps.note(&views.borrow_and_update())
                    && !is_quiet
                {
                    eprintln!("{} {}", step.light.glyph(), step.what);
                }
            }
        });
        Self { quit: Arc::new(Notify::new()), over, task }
    }

    /// A picture on the whole terminal.
    pub(crate) fn screen(
        views: watch::Receiver<ServiceView>,
        tallied: watch::Receiver<Tallied>,
        options: &DemoOptions,
    ) -> io::Result<Self> {
        let screen = Screen(ratatui::try_init()?);
        let quit = Arc::new(Notify::new());
        let (over, ending) = watch::channel(false);
        let (pressed, listening) = (quit.clone(), ending.clone());
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || read_keys(&pressed, &listening))?;
        let scene = Scene {
            view: ServiceView::default(),
            tallied: Tallied::default(),
            steps: Steps::default(),
            began: Instant::now(),
            seconds: options.seconds,
        };
        let task = tokio::spawn(draw_until(screen, scene, views, tallied, ending));
        Ok(Self { quit, over, task })
    }

    /// Gives the terminal back.
    pub(crate) async fn close(self) {
        self.over.send_replace(true);
        let _ = self.task.await;
    }
}

/// The terminal in raw mode; dropping it gives the terminal back.
struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

async fn draw_until(
    mut screen: Screen,
    mut scene: Scene,
    views: watch::Receiver<ServiceView>,
    tallied: watch::Receiver<Tallied>,
    mut ending: watch::Receiver<bool>,
) {
    let mut frames = interval(FRAME);
    loop {
        tokio::select! {
            biased;
            _ = ending.wait_for(|over| *over) => return,
            _ = frames.tick() => {}
        }
        scene.view = views.borrow().clone();
        scene.tallied = tallied.borrow().clone();
        let _ = scene.steps.note(&scene.view.clone());
        // A terminal that is gone cannot be drawn on; its end comes as a signal.
        let _ = screen.0.draw(|frame| draw(frame, &scene));
    }
}

/// Hears `q` and Ctrl-C until it is over.
fn read_keys(quit: &Notify, over: &watch::Receiver<bool>) {
    while !*over.borrow() {
        let key = match event::poll(KEY_WAIT) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(_) => return,
        };
        if let Ok(Event::Key(key)) = key
            && key.kind == KeyEventKind::Press
        {
            let is_control_c =
                key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if key.code == KeyCode::Char('q') || is_control_c {
                quit.notify_one();
            }
        }
    }
}
