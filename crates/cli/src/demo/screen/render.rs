//! Draws a scene on 80 columns and 24 rows, or more; pure.

use gemba::light::Light;
use gemba::receipt::BreakerState;
use gemba::view::{ActorView, BoardView, BreakerView, LineState, PoolView};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use crate::demo::Phase;
use crate::demo::screen::scene::Scene;
use crate::show::{bar, clean, clock, cut, left, right, span, state_light};

/// The least size a scene is drawn at.
const WIDTH_MIN: u16 = 80;
const HEIGHT_MIN: u16 = 24;

/// Width of the panel with lines, pools and breakers.
const PANEL: u16 = 36;

/// Where all pools are: left out where there is little room.
const POOLS: &str = "/plant/pools/";

/// The same, as the names of supervisors' lights begin.
const POOL_LIGHTS: &str = "supervisor:plant.pools.";

/// Height of the receipts, with their frame.
const RECEIPTS: u16 = 7;

/// What may be overlooked, and what may not: without colours, which mean lights.
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD).remove_modifier(Modifier::DIM);

const KEYS: [(&str, &str); 7] = [
    ("↑↓", " select"),
    ("X", " kill"),
    ("c", " cord"),
    ("C", " reset"),
    ("p", " pause"),
    ("?", " help"),
    ("q", " quit"),
];

const HELP: [&str; 8] = [
    "↑ ↓ j k       select an actor",
    "X (shift)     kill it",
    "c             pull the cord of line payment",
    "C or r        reset the cord",
    "p             pause the picture",
    "?             this help",
    "q, Ctrl-C     stop, wait for answers, compare",
    "q once more   stop at once, compare nothing",
];

/// Draws the whole scene.
pub(crate) fn draw(frame: &mut Frame<'_>, scene: &Scene) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let text = format!(
            "{}×{} is too small; make the terminal {WIDTH_MIN}×{HEIGHT_MIN} or larger",
            area.width, area.height
        );
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let [header, lights, middle, receipts, footer] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(RECEIPTS),
        Constraint::Length(1),
    ])
    .areas(area);
    let [tree, panel] = Layout::horizontal([Constraint::Min(0), Constraint::Length(PANEL)]).areas(middle);
    frame.render_widget(Paragraph::new(header_lines(scene, header.width)), header);
    frame.render_widget(Paragraph::new(lights_line(scene, lights.width)), lights);
    draw_box(frame, tree, [" tree ", " ↻ restarts · waiting "], tree_lines(scene, tree));
    draw_box(frame, panel, [" floor ", ""], panel_lines(scene, panel));
    draw_box(frame, receipts, [" receipts ", ""], receipt_lines(scene, receipts));
    frame.render_widget(Paragraph::new(footer_line(scene, footer.width)), footer);
    if scene.help {
        draw_help(frame, middle);
    }
}

/// A box with its title at the left and what its last columns mean at the right.
fn draw_box(frame: &mut Frame<'_>, area: Rect, [title, legend]: [&str; 2], lines: Vec<Line<'_>>) {
    let block = Block::bordered()
        .border_style(FAINT)
        .title(Line::styled(title, STRONG))
        .title(Line::styled(legend, FAINT).right_aligned());
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// What matters most comes first; what is cut at 80 columns matters least.
fn header_lines(scene: &Scene, width: u16) -> Vec<Line<'static>> {
    let overall = match &scene.seen.board {
        Some(board) => {
            lamp(scene, board.overall, &format!("{} {}", board.overall.glyph(), board.overall.word()))
        }
        None => Span::raw("? unknown"),
    };
    let doing = match scene.phase {
        Phase::Running if scene.paused => " paused",
        Phase::Running => "",
        Phase::Stopping => " waiting for the last answers",
        Phase::Over => " over",
    };
    let counts = &scene.counts;
    let loss = scene.loss.map_or("lost ? twice ?".to_owned(), |loss| {
        format!("lost {} twice {}", loss.lost, loss.charged_twice)
    });
    let answers = format!(
        "  {}/s  answered {}/{}  p50 {:.1} p99 {:.1} ms  {loss}",
        scene.rate,
        counts.answered(),
        counts.submitted,
        counts.p50_ms,
        counts.p99_ms
    );
    let rest = format!(
        "{} s{doing} · killed {} restarts {} · refused {} failed {} rejected {} declined {}",
        scene.elapsed.as_secs(),
        scene.killed,
        scene.seen.restarts,
        counts.refused,
        counts.failed,
        counts.rejected,
        counts.declined
    );
    vec![
        Line::from(vec![overall.patch_style(STRONG), Span::raw(answers)]),
        Line::raw(cut(&rest, usize::from(width))),
    ]
}

fn lights_line(scene: &Scene, width: u16) -> Line<'static> {
    let Some(board) = &scene.seen.board else {
        let trouble = scene.seen.trouble.as_deref().unwrap_or("waiting for the board");
        return Line::raw(cut(&clean(trouble), usize::from(width)));
    };
    let mut spans = Vec::new();
    let mut room = usize::from(width);
    for station in &board.stations {
        let name = station.name.as_str();
        let text = format!("{} {} ", station.light.glyph(), name.strip_prefix(POOL_LIGHTS).unwrap_or(name));
        let columns = text.chars().count();
        if room < columns {
            break;
        }
        room -= columns;
        spans.push(lamp(scene, station.light, &text));
    }
    if spans.is_empty() { Line::raw("no station has a light yet") } else { Line::from(spans) }
}

fn tree_lines(scene: &Scene, area: Rect) -> Vec<Line<'static>> {
    let (width, height) = inner(area);
    let rows = scene.rows();
    if rows.is_empty() {
        return vec![Line::raw("waiting for the tree")];
    }
    let cursor = scene.cursor();
    // The selected row is kept in the middle, as far as the ends allow.
    let first = cursor.saturating_sub(height / 2).min(rows.len().saturating_sub(height));
    let shown = rows.iter().enumerate().skip(first).take(height);
    shown.map(|(row, (depth, actor))| tree_line(scene, *depth, actor, row == cursor, width)).collect()
}

/// Name, state, restarts and waiting messages of one actor.
fn tree_line(
    scene: &Scene,
    depth: usize,
    actor: &ActorView,
    is_selected: bool,
    width: usize,
) -> Line<'static> {
    let light = state_light(actor.state);
    let name = left(&format!("{}{}", "  ".repeat(depth), actor.path.name()), width - 24);
    let restarts = if actor.restarts == 0 { String::new() } else { format!("↻{}", actor.restarts) };
    let depth = actor.mailbox.map_or(String::new(), |mailbox| mailbox.depth.to_string());
    let state = left(&format!("{} {}", light.glyph(), actor.state), 12);
    let line = Line::from(vec![
        Span::raw(name),
        Span::raw(" "),
        // Reversed, a colour would be a patch in the bar that marks the row.
        if is_selected { Span::raw(state) } else { lamp(scene, light, &state) },
        Span::raw(right(&restarts, 6)),
        Span::raw(right(&depth, 5)),
    ]);
    if is_selected { line.style(Style::new().add_modifier(Modifier::REVERSED)) } else { line }
}

fn panel_lines(scene: &Scene, area: Rect) -> Vec<Line<'static>> {
    let (width, height) = inner(area);
    let Some(board) = &scene.seen.board else {
        return vec![Line::raw("waiting for the board")];
    };
    let mut lines = line_rows(scene, board, width);
    lines.extend(board.pools.iter().map(|pool| pool_row(pool, width)));
    lines.extend(board.breakers.iter().map(|breaker| breaker_row(scene, breaker, width)));
    let in_flight: u64 = board.lines.iter().map(|line| line.in_flight).sum();
    let surge = if board.arrivals.surge { " · surge" } else { "" };
    let whole = format!("{in_flight} in flight · balance {:.2}{surge}", board.balance_ratio);
    lines.push(Line::raw(cut(&whole, width)));
    lines.truncate(height);
    lines
}

fn line_rows(scene: &Scene, board: &BoardView, width: usize) -> Vec<Line<'static>> {
    let mut rows = Vec::new();
    for line in &board.lines {
        let light = match line.state {
            LineState::Running => Light::Green,
            LineState::Slowed => Light::Yellow,
            LineState::Stopped => Light::Red,
            LineState::Draining => Light::Purple,
        };
        rows.push(Line::from(vec![
            Span::raw(left(line.name.as_str(), width - 21)),
            lamp(scene, light, &left(&format!(" {} {}", light.glyph(), line.state), 12)),
            Span::raw(right(&format!("{:.0}/s", line.throughput_per_s), 9)),
        ]));
        if let Some(cord) = &line.cord {
            let note = format!("  cord pulled by {}: {}", clean(&cord.by), clean(&cord.why));
            rows.push(Line::raw(cut(&note, width)));
        }
    }
    rows
}

fn pool_row(pool: &PoolView, width: usize) -> Line<'static> {
    let load = format!("{}/{} busy", pool.busy, pool.workers);
    Line::raw(format!(
        "{}{} {} {:>3.0}%",
        left(pool.name.as_str(), width - 21),
        right(&load, 11),
        bar(pool.utilization, 4),
        pool.utilization * 100.0
    ))
}

fn breaker_row(scene: &Scene, breaker: &BreakerView, width: usize) -> Line<'static> {
    let light = match breaker.state {
        BreakerState::Closed => Light::Green,
        BreakerState::HalfOpen => Light::Yellow,
        BreakerState::Open => Light::Red,
    };
    let retry = breaker.retry_in_ms.map(|ms| format!(" {}", span(ms))).unwrap_or_default();
    Line::from(vec![
        Span::raw(left(breaker.name.as_str(), width - 21)),
        lamp(scene, light, &format!(" {} breaker {}{retry}", light.glyph(), breaker.state)),
    ])
}

fn receipt_lines(scene: &Scene, area: Rect) -> Vec<Line<'static>> {
    let (width, height) = inner(area);
    let receipts = &scene.seen.receipts;
    if receipts.is_empty() {
        return vec![Line::raw("nothing has happened yet")];
    }
    let newest = receipts.iter().skip(receipts.len().saturating_sub(height));
    newest
        .map(|receipt| {
            let head = format!("{} {} ", receipt.seq, &clock(receipt.unix_ms)[..8]);
            let path = receipt.path.as_str();
            let place = path.strip_prefix(POOLS).unwrap_or(path);
            let fact = format!("{place} {}", clean(&receipt.event.to_string()));
            let fact = cut(&fact, width.saturating_sub(head.len()));
            Line::from(vec![Span::styled(head, FAINT), Span::raw(fact)])
        })
        .collect()
}

/// What the last key did, or what is wrong, or which keys there are.
fn footer_line(scene: &Scene, width: u16) -> Line<'static> {
    let text = match (&scene.note, &scene.seen.trouble) {
        (Some(note), _) => clean(note),
        (None, Some(trouble)) => format!("this picture is old: {}", clean(trouble)),
        (None, None) => return keys_line(),
    };
    Line::raw(cut(&text, usize::from(width)))
}

/// Each key, and what it does.
fn keys_line() -> Line<'static> {
    let parts = KEYS.into_iter().enumerate().flat_map(|(index, (key, deed))| {
        let gap = if index == 0 { "" } else { " · " };
        [Span::styled(gap, FAINT), Span::styled(key, STRONG), Span::raw(deed)]
    });
    parts.collect()
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let [row] = Layout::vertical([Constraint::Length(HELP.len() as u16 + 2)])
        .flex(ratatui::layout::Flex::Center)
        .areas(area);
    let [area] = Layout::horizontal([Constraint::Length(52)]).flex(ratatui::layout::Flex::Center).areas(row);
    let lines: Vec<_> = HELP.iter().map(|text| Line::raw(format!(" {text}"))).collect();
    let block = Block::bordered().title(" keys ").title_alignment(Alignment::Center);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// `text` in the colour of `light`. The text itself has the glyph and the word.
fn lamp(scene: &Scene, light: Light, text: &str) -> Span<'static> {
    let colour = match light {
        Light::Green => Color::Green,
        Light::Yellow => Color::Yellow,
        Light::Red => Color::Red,
        Light::Purple => Color::Magenta,
    };
    let style = if scene.colour { Style::new().fg(colour) } else { Style::new() };
    Span::styled(text.to_owned(), style)
}

/// Width and height within a frame.
fn inner(area: Rect) -> (usize, usize) {
    (usize::from(area.width.saturating_sub(2)), usize::from(area.height.saturating_sub(2)))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;

    use super::*;
    use crate::demo::screen::scene::sample::busy;

    fn buffer(scene: &Scene, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, scene)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn picture(scene: &Scene, width: u16, height: u16) -> Vec<String> {
        let buffer = buffer(scene, width, height);
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(row).collect()
    }

    #[test]
    fn a_scene_fits_80_by_24() {
        let expected = "\
■ critical  200/s  answered 2398/2400  p50 4.1 p99 12.0 ms  lost 0 twice 0
12 s · killed 6 restarts 6 · refused 0 failed 0 rejected 0 declined 0
■ breaker:gateway ▲ line:payment ▲ payment.workers ● node
┌ tree ────────────── ↻ restarts · waiting ┐┌ floor ───────────────────────────┐
│/                  ● running              ││payment       ■ stopped      198/s│
│  plant            ● running              ││  cord pulled by ann: smoke       │
│    board          ● running            12││payment         3/8 busy █░░░  37%│
│    pools          ● running              ││gateway       ■ breaker open 18s  │
│      payment      ● running              ││2 in flight · balance 0.98        │
│        workers    ● running              ││                                  │
│          1        ● running       ↻2    0││                                  │
│          2        ■ down                 ││                                  │
│                                          ││                                  │
│                                          ││                                  │
│                                          ││                                  │
└──────────────────────────────────────────┘└──────────────────────────────────┘
┌ receipts ────────────────────────────────────────────────────────────────────┐
│#11 14:02:11 payment/workers/3 kill asked for by ann                          │
│#12 14:02:11 payment/workers/3 life 17 exited: killed                         │
│#13 14:02:11 payment/workers/3 restarted as life 41 (restart 2)               │
│                                                                              │
│                                                                              │
└──────────────────────────────────────────────────────────────────────────────┘
↑↓ select · X kill · c cord · C reset · p pause · ? help · q quit";
        assert_eq!(picture(&busy(), 80, 24).join("\n"), expected);
    }

    #[test]
    fn nothing_known_yet_is_said_in_words() {
        let text = picture(&Scene::new(200, true), 80, 24).join("\n");
        for words in ["? unknown", "waiting for the tree", "nothing has happened yet", "lost ? twice ?"] {
            assert!(text.contains(words), "{words} in {text}");
        }
    }

    #[test]
    fn any_size_is_drawn_and_a_small_one_is_refused_in_words() {
        assert!(picture(&busy(), 200, 60).join("\n").contains("declined 0"));
        let small = picture(&busy(), 79, 24);
        assert_eq!(small[0], "79×24 is too small; make the terminal 80×24 or larger");
        picture(&busy(), 1, 1);
    }

    #[test]
    fn the_selected_actor_is_shown_however_long_the_tree() {
        let mut scene = busy();
        scene.selected = "/plant/pools/payment/workers/2".parse().unwrap();
        // Eight actors in seven rows: the root has scrolled away.
        let mut terminal = Terminal::new(TestBackend::new(44, 9)).unwrap();
        let draw_tree = |frame: &mut Frame<'_>| {
            draw_box(frame, frame.area(), ["", ""], tree_lines(&scene, frame.area()));
        };
        terminal.draw(draw_tree).unwrap();
        let buffer = terminal.backend().buffer();
        let selected = (0..9).filter(|y| buffer[(1, *y)].modifier.contains(Modifier::REVERSED));
        assert_eq!(selected.collect::<Vec<_>>(), [7], "the last row within the frame");
    }

    #[test]
    fn without_colours_glyphs_and_words_remain() {
        let plain = Scene { colour: false, ..busy() };
        assert!(buffer(&plain, 80, 24).content().iter().all(|cell| cell.fg == Color::Reset));
        assert_eq!(picture(&plain, 80, 24), picture(&busy(), 80, 24));
        assert!(buffer(&busy(), 80, 24).content().iter().any(|cell| cell.fg == Color::Red));
    }

    #[test]
    fn help_and_notes_cover_what_they_must() {
        let mut scene = busy();
        scene.help = true;
        scene.note("killed /plant/board (receipt #9)".to_owned());
        let text = picture(&scene, 80, 24).join("\n");
        assert!(HELP.iter().all(|line| text.contains(line)), "{text}");
        assert!(text.ends_with("killed /plant/board (receipt #9)"), "{text}");
        scene.note = None;
        scene.seen.trouble = Some("no node answers".into());
        assert!(picture(&scene, 80, 24)[23].starts_with("this picture is old: no node answers"));
    }
}
