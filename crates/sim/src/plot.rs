//! Lines on a pair of axes, as an SVG that needs nothing but itself.

use std::fmt::Write;

use crate::contenders::Contender;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;

/// Space for the axes' words, the title and the legend.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 52.0;

/// The first is drawn last and thickest; there is one for each contender, and one for what is offered.
const COLOURS: [&str; Contender::ALL.len() + 1] = [
    "#d62728", "#7f7f7f", "#8c564b", "#1f77b4", "#17becf", "#bcbd22", "#2ca02c", "#9467bd", "#e377c2",
    "#ff7f0e", "#393b79",
];

/// Steps that an axis has at most.
const STEPS_MAX: f64 = 8.0;

const WRITES: &str = "writing to a string cannot fail";

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What the legend calls it.
    pub name: &'static str,
    /// Its points, from left to right; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Some lines on a pair of axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// What the x axis is.
    pub x: String,
    /// What the y axis is; it begins at 0.
    pub y: String,
    /// Where the y axis ends; lines above are cut. `None` for the highest point.
    pub y_max: Option<f64>,
    /// Whether the x axis is logarithmic; then all of it is above 0.
    pub log_x: bool,
    /// The lines.
    pub series: Vec<Series>,
}

impl Plot {
    /// The picture.
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#24292f\">\n\
             <title>{0}</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{0}</text>\n",
            escaped(&self.title)
        );
        let frame = self.frame();
        self.draw_axes(&mut svg, &frame);
        for (place, series) in self.series.iter().enumerate().rev() {
            draw_line(&mut svg, series, place, &frame);
        }
        svg + "</svg>\n"
    }

    fn frame(&self) -> Frame {
        let points = || self.series.iter().flat_map(|series| &series.points).filter(|(_, y)| y.is_finite());
        let x_min = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
        let x_max = points().map(|(x, _)| *x).fold(f64::NEG_INFINITY, f64::max);
        let highest = points().map(|(_, y)| *y).fold(0.0, f64::max);
        let y_max = self.y_max.unwrap_or(highest).max(f64::MIN_POSITIVE);
        // Nothing to draw, or a single point, still has axes.
        let (x_min, x_max) = if x_min < x_max { (x_min, x_max) } else { (0.0, 1.0) };
        Frame { x_min, x_max, y_max, log_x: self.log_x && 0.0 < x_min }
    }

    fn draw_axes(&self, svg: &mut String, frame: &Frame) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for value in steps(0.0, frame.y_max) {
            let y = frame.y(value);
            writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#d0d7de\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                label(value)
            )
            .expect(WRITES);
        }
        for value in self.ticks(frame) {
            let x = frame.x(value);
            writeln!(
                svg,
                "<path d=\"M{x:.1} {bottom}v5\" stroke=\"#57606a\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                label(value)
            )
            .expect(WRITES);
        }
        let middle = f64::midpoint(TOP, bottom);
        write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text x=\"16\" y=\"{middle:.1}\" text-anchor=\"middle\" \
             transform=\"rotate(-90 16 {middle:.1})\">{}</text>\n",
            f64::midpoint(LEFT, right),
            HEIGHT - 14.0,
            escaped(&self.x),
            escaped(&self.y)
        )
        .expect(WRITES);
    }

    /// On a logarithmic axis the points themselves, because few round numbers lie between them.
    fn ticks(&self, frame: &Frame) -> Vec<f64> {
        if frame.log_x {
            let longest = self.series.iter().max_by_key(|series| series.points.len());
            return longest.map(|series| series.points.iter().map(|(x, _)| *x).collect()).unwrap_or_default();
        }
        steps(frame.x_min, frame.x_max)
    }
}

/// Round numbers from `least` to `most`, at most as many as there is room for.
fn steps(least: f64, most: f64) -> Vec<f64> {
    let rough = (most - least) / STEPS_MAX;
    let unit = libm::pow(10.0, libm::floor(libm::log10(rough)));
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * unit).into_iter().find(|step| rough <= *step);
    let step = step.unwrap_or(10.0 * unit);
    let first = libm::ceil(least / step);
    // The last step may miss the end of the axis by what a float cannot hold.
    let most = most + 1e-9 * step;
    (0..=STEPS_MAX as u32)
        .map(|number| (first + f64::from(number)) * step)
        .filter(|value| *value <= most)
        .collect()
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    x_min: f64,
    x_max: f64,
    y_max: f64,
    log_x: bool,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        let along = if self.log_x {
            libm::log(value / self.x_min) / libm::log(self.x_max / self.x_min)
        } else {
            (value - self.x_min) / (self.x_max - self.x_min)
        };
        LEFT + along * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (value / self.y_max).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }
}

fn draw_line(svg: &mut String, series: &Series, place: usize, frame: &Frame) {
    let colour = COLOURS[place % COLOURS.len()];
    let width = if place == 0 { 3.0 } else { 1.5 };
    let points = series.points.iter().filter(|(_, y)| y.is_finite());
    let points: Vec<_> = points.map(|(x, y)| format!("{:.1},{:.1}", frame.x(*x), frame.y(*y))).collect();
    let legend = TOP + 10.0 + 18.0 * place as f64;
    let from = WIDTH - RIGHT + 14.0;
    write!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>\n\
         <path d=\"M{from} {:.1}h18\" stroke=\"{colour}\" stroke-width=\"{width}\"/>\
         <text x=\"{:.1}\" y=\"{legend:.1}\">{}</text>\n",
        points.join(" "),
        legend - 4.0,
        from + 24.0,
        escaped(series.name)
    )
    .expect(WRITES);
}

fn label(value: f64) -> String {
    // Small values get three digits that count: the ticks of a small axis differ in the last of them.
    let magnitude = libm::floor(libm::log10(value.abs().max(1e-9)));
    let places = if 100.0 <= value.abs() { 0 } else { (2.0 - magnitude).max(2.0) as usize };
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>) -> Plot {
        Plot {
            title: "a < b".to_owned(),
            x: "x".to_owned(),
            y: "y".to_owned(),
            y_max: Some(2.0),
            log_x: false,
            series: vec![Series { name: "one", points }],
        }
    }

    #[test]
    fn a_line_goes_from_corner_to_corner_and_is_cut_at_the_top() {
        let svg = plot(vec![(0.0, 0.0), (1.0, f64::INFINITY), (5.0, 1.0), (10.0, 9.0)]).svg();
        assert!(svg.contains("points=\"64.0,368.0 337.0,206.0 610.0,44.0\""), "{svg}");
        assert!(svg.contains("<title>a &lt; b</title>") && svg.ends_with("</svg>\n"), "{svg}");
    }

    #[test]
    fn logarithmic_steps_are_even() {
        let plot = Plot { log_x: true, ..plot(vec![(1.0, 0.0), (10.0, 0.0), (100.0, 0.0)]) };
        let frame = plot.frame();
        assert!((frame.x(10.0) - f64::midpoint(frame.x(1.0), frame.x(100.0))).abs() < 1e-6);
        assert_eq!(plot.ticks(&frame), [1.0, 10.0, 100.0]);
    }

    #[test]
    fn steps_are_round_and_within_the_axis() {
        assert_eq!(steps(0.0, 89.0), [0.0, 20.0, 40.0, 60.0, 80.0]);
        assert_eq!(steps(-5.0, 15.0), [-5.0, 0.0, 5.0, 10.0, 15.0]);
        assert_eq!(steps(0.0, 1.2).len(), 7);
        assert_eq!(steps(0.0, 812.0).last(), Some(&800.0));
    }

    #[test]
    fn ticks_of_a_small_axis_read_differently() {
        let labels = steps(0.0, 0.035).into_iter().map(label).collect::<Vec<_>>();
        assert_eq!(labels, ["0", "0.005", "0.01", "0.015", "0.02", "0.025", "0.03", "0.035"]);
        assert_eq!(label(0.000_15), "0.00015");
    }

    #[test]
    fn every_line_has_a_colour_of_its_own() {
        let series = vec![Series { name: "one", points: Vec::new() }; COLOURS.len()];
        let svg = Plot { series, ..plot(Vec::new()) }.svg();
        for colour in COLOURS {
            assert_eq!(svg.matches(colour).count(), 2, "a line and its legend in {colour}");
        }
    }

    #[test]
    fn nothing_to_draw_still_has_axes() {
        let svg = plot(Vec::new()).svg();
        assert!(svg.contains("points=\"\"") && !svg.contains("NaN"), "{svg}");
        assert_eq!(label(0.5), "0.5");
        assert_eq!(label(1000.0), "1000");
        assert_eq!(label(20.0), "20");
    }
}
