//! The demonstration as a picture of any width from 80 columns on.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};
use tokio::time::Instant;

use gemba::light::Light;

use crate::demo::load::Tallied;
use crate::view::{RegionView, ServiceView, StepView, VersionView};

/// Columns of a bar that stands for everything, at most.
const BAR_MAX: usize = 40;

/// Columns of what stands beside a bar, and the frame.
const BESIDE_BAR: usize = 55;

/// What is drawn.
pub(super) struct Scene {
    pub(super) view: ServiceView,
    pub(super) tallied: Tallied,
    pub(super) steps: Steps,
    pub(super) began: Instant,
    pub(super) seconds: u64,
}

/// The steps so far, each once.
#[derive(Debug, Default)]
pub(super) struct Steps(Vec<StepView>);

impl Steps {
    /// The last step, if it is new.
    pub(super) fn note(&mut self, view: &ServiceView) -> Option<&StepView> {
        let step = view.last.as_ref().filter(|step| self.0.last() != Some(step))?;
        self.0.push(step.clone());
        self.0.last()
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, scene: &Scene) {
    let width = usize::from(frame.area().width);
    let bar = width.saturating_sub(BESIDE_BAR).min(BAR_MAX);
    let regions: Vec<Line<'_>> =
        scene.view.regions.iter().flat_map(|region| region_lines(region, bar)).collect();
    let rows = Layout::vertical([
        Constraint::Length(4),
        // Two versions of each of two regions, so that nothing moves when one comes or goes.
        Constraint::Length((regions.len() as u16).max(8) + 2),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .split(frame.area());
    let titled = |lines: Vec<Line<'static>>, title: &'static str| {
        Paragraph::new(lines).block(Block::bordered().title(title))
    };
    frame.render_widget(titled(headline(scene), " deployment "), rows[0]);
    frame.render_widget(Paragraph::new(regions).block(Block::bordered().title(" regions ")), rows[1]);
    let (inner_width, inner_height) =
        (width.saturating_sub(2), usize::from(rows[2].height.saturating_sub(2)));
    let lines: Vec<Line<'static>> =
        scene.steps.0.iter().flat_map(|step| step_lines(step, inner_width)).collect();
    let last = lines[lines.len().saturating_sub(inner_height)..].to_vec();
    frame.render_widget(titled(last, " steps "), rows[2]);
    frame.render_widget(Paragraph::new(" q quits"), rows[3]);
}

/// What goes on, and what callers get.
fn headline(scene: &Scene) -> Vec<Line<'static>> {
    let now = match &scene.view.delivery {
        Some(delivery) => delivery.to_string(),
        None => format!("{} runs", scene.view.stable.as_deref().unwrap_or("nothing")),
    };
    let tallied = &scene.tallied;
    vec![
        Line::from(format!("{}/{} s  {now}", scene.began.elapsed().as_secs(), scene.seconds)),
        Line::from(format!(
            "{} requests, {}/s, {} failed, p99 {:.1} ms",
            tallied.requests(),
            tallied.per_second,
            tallied.failures.len(),
            tallied.p99_ms
        )),
    ]
}

fn region_lines(region: &RegionView, bar: usize) -> Vec<Line<'static>> {
    let address = format!("{} at {}", region.region, region.address);
    let wide = 10 + bar;
    let mut lines = vec![Line::from(format!(
        "{address:<wide$} {:>7} {:>6} {:>9} {:>9} {:>7}",
        "share", "ready", "requests", "failed", "p99 ms"
    ))];
    lines.extend(
        region
            .versions
            .iter()
            .filter(|version| 0.0 < version.share || 0 < version.instances.1)
            .map(|version| version_line(version, bar)),
    );
    lines.push(Line::default());
    lines
}

fn version_line(version: &VersionView, bar: usize) -> Line<'static> {
    let full = ((version.share * bar as f64).ceil() as usize).min(bar);
    let failed = if version.requests == 0 { 0.0 } else { version.failures as f64 / version.requests as f64 };
    let ready = format!("{}/{}", version.instances.0, version.instances.1);
    let requests = version.requests;
    Line::from(format!(
        "  {:<7} {}{} {:>5.1} % {ready:>6} {requests:>9} {:>7.2} % {:>7.1}",
        version.version,
        "█".repeat(full),
        "░".repeat(bar - full),
        version.share * 100.0,
        failed * 100.0,
        version.p99_ms
    ))
}

/// A step in as many lines as it needs, the light before the first.
fn step_lines(step: &StepView, width: usize) -> Vec<Line<'static>> {
    let colour = match step.light {
        Light::Green => Color::Green,
        Light::Yellow => Color::Yellow,
        Light::Red => Color::Red,
        Light::Purple => Color::Magenta,
    };
    let mut lines: Vec<String> = vec![String::new()];
    for word in step.what.split(' ') {
        let line = lines.last_mut().expect("there is always one");
        if !line.is_empty() && width < 3 + line.chars().count() + word.chars().count() {
            lines.push(word.to_owned());
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    let mut light = Span::styled(step.light.glyph(), Style::new().fg(colour));
    let each = lines.into_iter().map(|text| {
        let before = std::mem::replace(&mut light, Span::raw(" "));
        Line::from(vec![before, Span::raw(format!(" {text}"))])
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn scene() -> Scene {
        let version = VersionView {
            version: "v3".to_owned(),
            share: 0.05,
            instances: (2, 2),
            requests: 1_234_567,
            failures: 123_457,
            p99_ms: 1_234.5,
            ..VersionView::default()
        };
        let region = RegionView {
            region: "us-west".to_owned(),
            address: "127.0.0.1:65535".to_owned(),
            trouble: None,
            versions: vec![version],
        };
        let what = "v3 back to 0 %: us-west: aborted: it fails more often than the baseline (69 requests of v3 seen)";
        let last =
            StepView { delivery: "7".to_owned(), unix_ms: 1, light: Light::Red, what: what.to_owned() };
        let view = ServiceView { regions: vec![region], last: Some(last), ..ServiceView::default() };
        let mut steps = Steps::default();
        assert!(steps.note(&view).is_some() && steps.note(&view).is_none(), "each step once");
        Scene { view, tallied: Tallied::default(), steps, began: Instant::now(), seconds: 60 }
    }

    fn rows(scene: &Scene, width: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, 24)).unwrap();
        terminal.draw(|frame| draw(frame, scene)).unwrap();
        let symbols: Vec<_> =
            terminal.backend().buffer().content().iter().map(ratatui::buffer::Cell::symbol).collect();
        symbols.chunks(width.into()).map(<[&str]>::concat).collect()
    }

    #[test]
    fn eighty_columns_show_every_figure_and_all_of_a_step() {
        for width in [80, 110] {
            let text = rows(&scene(), width).join("\n");
            for words in [
                "us-west at 127.0.0.1:65535",
                "██░",
                "  5.0 %    2/2   1234567   10.00 %  1234.5",
                "  share  ready  requests    failed  p99 ms",
                "■ v3 back to 0 %: us-west: aborted: it fails more often than the baseline",
                "requests of v3 seen)",
            ] {
                assert!(text.contains(words), "{words} in\n{text}");
            }
        }
    }
}
