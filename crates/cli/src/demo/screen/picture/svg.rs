//! A terminal's buffer as an SVG that needs nothing but itself.
//!
//! Every run of equal style is stretched to its columns, so that any font aligns. Frames and bars are drawn
//! as shapes: letters would leave gaps between the rows.

use std::fmt::Write;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

/// Size of a cell, in pixels.
const CELL_WIDTH: f64 = 8.4;
const CELL_HEIGHT: f64 = 18.0;

/// From the upper edge of a row to the line its letters stand on.
const BASELINE: f64 = 13.2;

/// Space around the cells.
const MARGIN: f64 = 16.0;

const PAPER: &str = "#0d1117";
const INK: &str = "#e6edf3";

/// How strong a faint run is.
const FAINT: f64 = 0.55;

const FONTS: &str = "ui-monospace, SFMono-Regular, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', \
                     'Liberation Mono', monospace";

/// What the cells of a run have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    fg: Color,
    bg: Color,
    modifier: Modifier,
    shape: Shape,
}

/// How a cell's symbol is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Letters that every monospace font has.
    Text,
    /// A symbol that often comes from another font, as wide as that likes: centred in its cell.
    Symbol,
    /// A part of a frame: whether its lines go left, right, up, down.
    Frame([bool; 4]),
    /// A part of a bar: full or not.
    Bar(bool),
}

/// Draws `buffer`; `title` tells those who cannot see it what it shows.
pub(crate) fn svg(buffer: &Buffer, title: &str) -> String {
    let area = buffer.area;
    let (columns, rows) = (f64::from(area.width) * CELL_WIDTH, f64::from(area.height) * CELL_HEIGHT);
    let (width, height) = (columns + 2.0 * MARGIN, rows + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-labelledby=\"title\">\n\
         <title id=\"title\">{}</title>\n\
         <rect x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"8\" fill=\"{PAPER}\" stroke=\"#30363d\"/>\n\
         <g transform=\"translate({MARGIN} {MARGIN})\" font-family=\"{FONTS}\" font-size=\"14\" fill=\"{INK}\">\n",
        escaped(title),
        width - 1.0,
        height - 1.0
    );
    for y in 0..area.height {
        let cells: Vec<&Cell> = (0..area.width).map(|x| &buffer[(area.x + x, area.y + y)]).collect();
        let top = f64::from(y) * CELL_HEIGHT;
        each_run(
            &cells,
            |one, next| paper(one) == paper(next),
            |run, left| draw_paper(&mut svg, run, left, top),
        );
        each_run(&cells, joins, |run, left| draw_ink(&mut svg, run, left, top));
    }
    svg + "</g>\n</svg>\n"
}

/// Calls `draw` with each run of cells that join, and where it begins.
fn each_run(cells: &[&Cell], joins: impl Fn(&Cell, &Cell) -> bool, mut draw: impl FnMut(&[&Cell], f64)) {
    let mut column = 0;
    for run in cells.chunk_by(|one, next| joins(one, next)) {
        draw(run, column as f64 * CELL_WIDTH);
        column += run.len();
    }
}

/// Whether a cell continues the run of the cell before it.
fn joins(one: &Cell, next: &Cell) -> bool {
    look(one) == look(next)
        && match look(one).shape {
            Shape::Symbol => false,
            Shape::Frame([_, _, up, down]) => !up && !down,
            Shape::Text | Shape::Bar(_) => true,
        }
}

fn look(cell: &Cell) -> Look {
    let shape = match cell.symbol() {
        "─" => Shape::Frame([true, true, false, false]),
        "│" => Shape::Frame([false, false, true, true]),
        "┌" => Shape::Frame([false, true, false, true]),
        "┐" => Shape::Frame([true, false, false, true]),
        "└" => Shape::Frame([false, true, true, false]),
        "┘" => Shape::Frame([true, false, true, false]),
        "█" => Shape::Bar(true),
        "░" => Shape::Bar(false),
        symbol if symbol.chars().all(|character| character <= '\u{ff}') => Shape::Text,
        _ => Shape::Symbol,
    };
    Look { fg: cell.fg, bg: cell.bg, modifier: cell.modifier, shape }
}

/// The colours of a cell's ink and paper.
fn ink_and_paper(cell: &Cell) -> (&'static str, &'static str) {
    let (ink, paper) = (colour(cell.fg, INK), colour(cell.bg, PAPER));
    if cell.modifier.contains(Modifier::REVERSED) { (paper, ink) } else { (ink, paper) }
}

fn paper(cell: &Cell) -> &'static str {
    ink_and_paper(cell).1
}

fn draw_paper(svg: &mut String, run: &[&Cell], left: f64, top: f64) {
    let paper = paper(run[0]);
    if paper != PAPER {
        let width = run.len() as f64 * CELL_WIDTH;
        rectangle(svg, [left, top, width, CELL_HEIGHT], &format!(" fill=\"{paper}\""));
    }
}

fn draw_ink(svg: &mut String, run: &[&Cell], left: f64, top: f64) {
    let look = look(run[0]);
    let width = run.len() as f64 * CELL_WIDTH;
    let ink = ink_and_paper(run[0]).0;
    let style = style(ink, look.modifier);
    match look.shape {
        Shape::Text => draw_words(svg, run, left, top, &style),
        Shape::Symbol => {
            let centred = format!(" text-anchor=\"middle\"{style}");
            draw_text(svg, left + width / 2.0, top, &centred, run[0].symbol());
        }
        Shape::Frame(ends) => draw_frame(svg, ends, [left, top, width], ink, look.modifier),
        Shape::Bar(is_full) => {
            let strength = if is_full { "" } else { " fill-opacity=\"0.25\"" };
            rectangle(svg, [left, top + 3.0, width, CELL_HEIGHT - 6.0], &(style + strength));
        }
    }
}

/// The words of a run, broken where there is more than one space: each column begins where it should even in
/// a font that is not monospaced, and no reader of the picture has to be told to keep spaces.
fn draw_words(svg: &mut String, run: &[&Cell], left: f64, top: f64, style: &str) {
    let text: String = run.iter().map(|cell| cell.symbol()).collect();
    let mut column = 0;
    for words in text.split("  ") {
        let indent = words.len() - words.trim_start().len();
        let shown = words.trim();
        if !shown.is_empty() {
            let length = shown.chars().count() as f64 * CELL_WIDTH;
            let stretched = format!(" textLength=\"{length:.1}\" lengthAdjust=\"spacingAndGlyphs\"");
            draw_text(svg, left + (column + indent) as f64 * CELL_WIDTH, top, &(stretched + style), shown);
        }
        column += words.chars().count() + 2;
    }
}

/// Lines from the middle of the cells to those of their edges that `ends` names.
fn draw_frame(
    svg: &mut String,
    ends: [bool; 4],
    [left, top, width]: [f64; 3],
    ink: &str,
    modifier: Modifier,
) {
    let [to_left, to_right, up, down] = ends;
    let (x, y) = (left + CELL_WIDTH / 2.0, top + CELL_HEIGHT / 2.0);
    let mut path = String::new();
    if to_left || to_right {
        let from = if to_left { left } else { x };
        let to = if to_right { left + width } else { x };
        write!(path, "M{from:.1} {y:.1}H{to:.1}").expect("writing to a string cannot fail");
    }
    if up || down {
        let from = if up { top } else { y };
        let to = if down { top + CELL_HEIGHT } else { y };
        write!(path, "M{x:.1} {from:.1}V{to:.1}").expect("writing to a string cannot fail");
    }
    let opacity = opacity(modifier);
    writeln!(svg, "<path d=\"{path}\" stroke=\"{ink}\"{opacity}/>").expect("writing to a string cannot fail");
}

fn rectangle(svg: &mut String, [x, y, width, height]: [f64; 4], style: &str) {
    writeln!(svg, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"{style}/>")
        .expect("writing to a string cannot fail");
}

fn draw_text(svg: &mut String, x: f64, top: f64, style: &str, text: &str) {
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{:.1}\"{style}>{}</text>", top + BASELINE, escaped(text))
        .expect("writing to a string cannot fail");
}

fn style(ink: &str, modifier: Modifier) -> String {
    let mut style = if ink == INK { String::new() } else { format!(" fill=\"{ink}\"") };
    if modifier.contains(Modifier::BOLD) {
        style.push_str(" font-weight=\"bold\"");
    }
    if modifier.contains(Modifier::ITALIC) {
        style.push_str(" font-style=\"italic\"");
    }
    if modifier.contains(Modifier::UNDERLINED) {
        style.push_str(" text-decoration=\"underline\"");
    }
    style + &opacity(modifier)
}

fn opacity(modifier: Modifier) -> String {
    if modifier.contains(Modifier::DIM) { format!(" opacity=\"{FAINT}\"") } else { String::new() }
}

/// The colour as it is on dark paper; `reset` is the one that is meant if none is named.
fn colour(colour: Color, reset: &'static str) -> &'static str {
    match colour {
        Color::Reset => reset,
        Color::Black => PAPER,
        Color::Red | Color::LightRed => "#ff7b72",
        Color::Green | Color::LightGreen => "#3fb950",
        Color::Yellow | Color::LightYellow => "#e3b341",
        Color::Blue | Color::LightBlue => "#58a6ff",
        Color::Magenta | Color::LightMagenta => "#bc8cff",
        Color::Cyan | Color::LightCyan => "#39c5cf",
        Color::Gray => "#b1bac4",
        Color::DarkGray => "#6e7681",
        Color::White => "#ffffff",
        Color::Rgb(..) | Color::Indexed(_) => panic!("the screen uses the colours that terminals name"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    fn drawn(text: &str, style: Style) -> String {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 1));
        buffer.set_string(0, 0, text, style);
        svg(&buffer, "a < b")
    }

    #[test]
    fn a_picture_of_letters_is_as_long_as_its_columns() {
        let svg = drawn(" a<b", Style::new().fg(Color::Green));
        let text = "<text x=\"8.4\" y=\"13.2\" textLength=\"25.2\" lengthAdjust=\"spacingAndGlyphs\" \
                    fill=\"#3fb950\">a&lt;b</text>";
        assert!(svg.contains(text), "{svg}");
        assert!(svg.contains("<title id=\"title\">a &lt; b</title>"), "{svg}");
    }

    #[test]
    fn a_picture_of_columns_begins_each_where_it_is() {
        let svg = drawn("a   b c", Style::new());
        assert!(svg.contains("<text x=\"0.0\"") && svg.contains(">a</text>"), "{svg}");
        assert!(svg.contains("<text x=\"33.6\"") && svg.contains(">b c</text>"), "{svg}");
    }

    #[test]
    fn a_picture_of_a_selection_swaps_ink_and_paper() {
        let svg = drawn("ab", Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD));
        assert!(svg.contains(&format!("width=\"16.8\" height=\"18.0\" fill=\"{INK}\"/>")), "{svg}");
        assert!(svg.contains(&format!("fill=\"{PAPER}\" font-weight=\"bold\">ab</text>")), "{svg}");
    }

    #[test]
    fn a_picture_of_frames_and_bars_has_shapes_instead_of_letters() {
        let svg = drawn("┌──┐││█░", Style::new());
        assert!(!svg.contains("<text"), "{svg}");
        assert_eq!(svg.matches("<path").count(), 5, "{svg}");
        assert!(svg.contains("d=\"M4.2 9.0H8.4M4.2 9.0V18.0\""), "the corner: {svg}");
        assert!(svg.contains("d=\"M8.4 9.0H25.2\""), "the edge is one line: {svg}");
    }

    #[test]
    fn a_picture_of_symbols_keeps_each_in_its_cell() {
        let svg = drawn("↑↓", Style::new());
        assert!(svg.contains("<text x=\"4.2\" y=\"13.2\" text-anchor=\"middle\">↑</text>"), "{svg}");
        assert!(svg.contains("<text x=\"12.6\" y=\"13.2\" text-anchor=\"middle\">↓</text>"), "{svg}");
    }
}
