//! What one sees of the demonstration: a picture on a terminal, else each step as a line.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use crate::demo::DemoOptions;
use crate::demo::load::Tallied;
use crate::view::{RegionView, ServiceView, StepView, VersionView};

/// How often the picture is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// How long the keyboard is waited for before it is asked whether anybody still listens.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Steps that are shown.
const STEPS: usize = 12;

/// Columns of a bar that stands for everything.
const BAR: usize = 30;

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

/// The last steps, each once.
#[derive(Debug, Default)]
struct Steps(Vec<StepView>);

impl Steps {
    /// The last step, if it is new.
    fn note(&mut self, view: &ServiceView) -> Option<&StepView> {
        let step = view.last.as_ref().filter(|step| self.0.last() != Some(step))?;
        self.0.push(step.clone());
        self.0.last()
    }
}

struct Scene {
    view: ServiceView,
    tallied: Tallied,
    steps: Steps,
    began: Instant,
    seconds: u64,
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

fn draw(frame: &mut Frame<'_>, scene: &Scene) {
    let regions = scene.view.regions.len() as u16 * 6;
    let rows = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(regions.max(6)),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .split(frame.area());
    frame.render_widget(
        Paragraph::new(headline(scene)).block(Block::bordered().title(" deployment ")),
        rows[0],
    );
    let lines: Vec<Line<'_>> = scene.view.regions.iter().flat_map(region_lines).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" regions ")), rows[1]);
    let steps = &scene.steps.0[scene.steps.0.len().saturating_sub(STEPS)..];
    let lines: Vec<Line<'_>> = steps
        .iter()
        .map(|step| {
            let colour = match step.light {
                gemba::light::Light::Green => Color::Green,
                gemba::light::Light::Yellow => Color::Yellow,
                gemba::light::Light::Red => Color::Red,
                gemba::light::Light::Purple => Color::Magenta,
            };
            let glyph = Span::styled(step.light.glyph(), Style::new().fg(colour));
            Line::from(vec![glyph, Span::raw(format!(" {}", step.what))])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" steps ")), rows[2]);
    frame.render_widget(Paragraph::new(" q quits"), rows[3]);
}

fn headline(scene: &Scene) -> String {
    let now = match &scene.view.delivery {
        Some(delivery) => format!(
            "{} → {}  {} in {}, stage {}/{}, {:.1} s left",
            delivery.from.as_deref().unwrap_or("nothing"),
            delivery.to,
            delivery.state,
            delivery.region,
            delivery.stage.0,
            delivery.stage.1,
            delivery.left_ms as f64 / 1e3
        ),
        None => format!("{} runs", scene.view.stable.as_deref().unwrap_or("nothing")),
    };
    let (elapsed, tallied) = (scene.began.elapsed().as_secs(), &scene.tallied);
    format!(
        "{elapsed}/{} s  {now}  │ {} requests, {}/s, {} failed, p99 {:.1} ms",
        scene.seconds,
        tallied.requests(),
        tallied.per_second,
        tallied.failures.len(),
        tallied.p99_ms
    )
}

fn region_lines(region: &RegionView) -> Vec<Line<'_>> {
    let mut lines = vec![Line::from(format!("{} at {}", region.region, region.address))];
    lines.extend(
        region
            .versions
            .iter()
            .filter(|version| 0.0 < version.share || 0 < version.instances.1)
            .map(version_line),
    );
    lines.push(Line::default());
    lines
}

fn version_line(version: &VersionView) -> Line<'_> {
    let full = ((version.share * BAR as f64).ceil() as usize).min(BAR);
    let share = if version.requests == 0 { 0.0 } else { version.failures as f64 / version.requests as f64 };
    Line::from(format!(
        "  {:<6} {}{} {:>5.1} %  {}/{} ready  {:>7} requests  {:>5.2} % failed  p99 {:.1} ms",
        version.version,
        "█".repeat(full),
        "░".repeat(BAR - full),
        version.share * 100.0,
        version.instances.0,
        version.instances.1,
        version.requests,
        share * 100.0,
        version.p99_ms
    ))
}

#[cfg(test)]
mod tests {
    use gemba::light::Light;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    #[test]
    fn the_picture_shows_shares_failures_and_the_last_steps() {
        let version = VersionView {
            version: "v3".to_owned(),
            share: 0.05,
            instances: (2, 2),
            requests: 200,
            failures: 20,
            ..VersionView::default()
        };
        let region = RegionView {
            region: "us-west".to_owned(),
            address: "127.0.0.1:8001".to_owned(),
            trouble: None,
            versions: vec![version],
        };
        let last = StepView {
            delivery: "7".to_owned(),
            unix_ms: 1,
            light: Light::Red,
            what: "v3 back to 0 %: it fails".to_owned(),
        };
        let view = ServiceView { regions: vec![region], last: Some(last), ..ServiceView::default() };
        let mut steps = Steps::default();
        assert!(steps.note(&view).is_some() && steps.note(&view).is_none(), "each step once");
        let scene = Scene { view, tallied: Tallied::default(), steps, began: Instant::now(), seconds: 60 };
        let mut terminal = Terminal::new(TestBackend::new(110, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &scene)).unwrap();
        let buffer = terminal.backend().buffer();
        let text: String = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
        for words in
            ["us-west at 127.0.0.1:8001", "██░", "5.0 %", "10.00 % failed", "■ v3 back to 0 %: it fails"]
        {
            assert!(text.contains(words), "{words} in {text}");
        }
    }
}
