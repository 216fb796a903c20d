//! The andon board as text: the worst first, with why and since when.

use gemba::light::Light;
use gemba::pool_health::PoolHealth;
use gemba::receipt::BreakerState;
use gemba::verdict::Verdict;
use gemba::view::{
    AdmissionView, BoardView, BreakerView, DefectView, IntakeView, LineState, LineView, ObjectiveView,
    PoolView, StationView, TierView,
};

use crate::show::text::{Page, clean, clock, cut_front, dotted, left, right, span, wrap};

/// Width of a station's name.
const STATION: usize = 24;

/// Classes of what went wrong that are shown; a review shows all.
const DEFECTS_MAX: usize = 4;

/// Width of what stands before the counts of a line: its light, its state and its name.
const LINE: usize = 24;

/// How far the rows below a line are indented.
const BELOW: usize = 11;

/// Width of a pool's name.
const POOL: usize = 20;

/// Prints the whole board.
pub(crate) fn board(view: &BoardView, page: Page) -> String {
    let mut lines = vec![format!(
        "{} · {} UTC · receipt {}",
        page.light(view.overall, &format!("{} {}", view.overall.glyph(), view.overall.word())),
        &clock(view.taken_unix_ms)[..8],
        view.receipt
    )];
    lines.extend(verdict(view.verdict.as_ref(), page));
    section(&mut lines, "STATIONS", &view.stations, page, |station| {
        station_rows(station, view.taken_unix_ms, page)
    });
    section(&mut lines, "LINES", &view.lines, page, |line| line_rows(line, view.taken_unix_ms, page));
    if !view.pools.is_empty() {
        lines.push(String::new());
        lines.push(page.heading(&pool_cells(["POOL", "WORKERS", "RANGE", "BUSY", "QUEUED", "UTILIZATION"])));
        lines.extend(view.pools.iter().flat_map(|pool| pool_rows(pool, page)));
    }
    section(&mut lines, "BREAKERS", &view.breakers, page, |breaker| vec![breaker_row(breaker, page)]);
    lines.push(String::new());
    lines.extend(admission(&view.admission, page));
    lines.push(arrivals(view));
    lines.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Whether the node is well, and if not why, each reason in a line of its own.
fn verdict(verdict: Option<&Verdict>, page: Page) -> Vec<String> {
    match verdict {
        None => Vec::new(),
        Some(Verdict { well: true, .. }) => vec![page.light(Light::Green, "well")],
        Some(Verdict { why, .. }) => {
            let reasons = why.iter().flat_map(|why| wrap(&clean(why), page.width - 10).into_iter());
            let word = |row| if row == 0 { "not well: " } else { "          " };
            reasons.enumerate().map(|(row, why)| page.light(Light::Red, word(row)) + &why).collect()
        }
    }
}

fn section<T>(
    lines: &mut Vec<String>,
    title: &str,
    rows: &[T],
    page: Page,
    print: impl Fn(&T) -> Vec<String>,
) {
    if !rows.is_empty() {
        lines.push(String::new());
        lines.push(page.heading(title));
        lines.extend(rows.iter().flat_map(print));
    }
}

fn station_rows(station: &StationView, now: u64, page: Page) -> Vec<String> {
    let light = left(&format!("{} {}", station.light.glyph(), station.light.word()), 10);
    let since = right(&span(now.saturating_sub(station.since_unix_ms)), 5);
    let why_width = page.width - 10 - STATION - 5 - 3;
    wrap(&clean(&station.why), why_width)
        .iter()
        .enumerate()
        .map(|(row, why)| match row {
            0 => format!(
                "{} {} {} {since}",
                page.light(station.light, &light),
                left(&cut_front(station.name.as_str(), STATION), STATION),
                left(why, why_width)
            ),
            _ => format!("{} {why}", " ".repeat(10 + 1 + STATION)),
        })
        .collect()
}

fn line_rows(line: &LineView, now: u64, page: Page) -> Vec<String> {
    let light = match line.state {
        LineState::Running => Light::Green,
        LineState::Slowed => Light::Yellow,
        LineState::Stopped => Light::Red,
        LineState::Draining => Light::Purple,
    };
    let state = left(&format!("{} {}", light.glyph(), line.state), 10);
    let figures = [
        format!("{} in flight", line.in_flight),
        format!("{:.1}/s", line.throughput_per_s),
        format!("p50 {:.1} ms", line.p50_ms),
        format!("p99 {:.1} ms", line.p99_ms),
    ];
    let head = format!("{} {} ", page.light(light, &state), left(line.name.as_str(), 12));
    let mut rows = behind(&head, LINE, &figures, page);
    rows.extend(ends(line, page));
    rows.extend(refusals(line, page));
    rows.extend(missed(line));
    rows.extend(defects(line, page));
    if let Some(cord) = &line.cord {
        let since = span(now.saturating_sub(cord.since_unix_ms));
        let note = format!("cord pulled by {} {since} ago: {}", clean(&cord.by), clean(&cord.why));
        rows.extend(wrap(&note, page.width - BELOW).iter().map(|part| " ".repeat(BELOW) + part));
    }
    rows
}

/// Parts with dots between them behind a head of so many columns, in as many rows as it takes.
fn behind(head: &str, width: usize, parts: &[String], page: Page) -> Vec<String> {
    let lines = dotted(parts, page.width - width);
    let before = |row| if row == 0 { head.to_owned() } else { " ".repeat(width) };
    lines.iter().enumerate().map(|(row, line)| before(row) + line).collect()
}

/// The same below a line.
fn below(parts: &[String], page: Page) -> Vec<String> {
    behind(&" ".repeat(BELOW), BELOW, parts, page)
}

/// How its signals ended; what is rare is told when there is some.
fn ends(line: &LineView, page: Page) -> Vec<String> {
    let LineView { arrived, succeeded, rejected, refused, failed, timed_out, cancelled, .. } = line;
    let mut parts = vec![
        format!("{arrived} arrived"),
        format!("{succeeded} succeeded"),
        format!("{rejected} rejected"),
        format!("{refused} refused"),
        format!("{failed} failed"),
    ];
    if 0 < timed_out + cancelled {
        parts.extend([format!("{timed_out} timed out"), format!("{cancelled} cancelled")]);
    }
    below(&parts, page)
}

/// How many it refuses, in each window, once it has refused some lately.
fn refusals(line: &LineView, page: Page) -> Vec<String> {
    let rate =
        |view: &IntakeView| format!("{:.1} in {}", view.refused_per_s, span(u64::from(view.window_s) * 1000));
    let rates = line.intake.iter().map(rate).collect();
    let refuses = line.intake.iter().any(|view| 0.0 < view.refused_per_s);
    if refuses { below(&titled("refused per second: ", rates), page) } else { Vec::new() }
}

/// The tiers that are slower than they should be.
fn missed(line: &LineView) -> impl Iterator<Item = String> {
    line.objectives.iter().filter(|tier| tier.met == Some(false)).map(|view| {
        let ObjectiveView { tier, p99_ms_max, in_time, slow, .. } = view;
        format!("           {tier}: {slow} of {} took more than {p99_ms_max} ms, 1 % may", in_time + slow)
    })
}

/// What went wrong, the most frequent first.
fn defects(line: &LineView, page: Page) -> Vec<String> {
    let said = |defect: &DefectView| format!("{} {}", defect.count, clean(&defect.class));
    let said = line.defects.iter().take(DEFECTS_MAX).map(said).collect();
    below(&titled("went wrong: ", said), page)
}

/// The parts with a title before the first, if there is one.
fn titled(title: &str, mut parts: Vec<String>) -> Vec<String> {
    if let Some(first) = parts.first_mut() {
        first.insert_str(0, title);
    }
    parts
}

fn pool_cells(cells: [&str; 6]) -> String {
    let [name, workers, range, busy, queued, utilization] = cells;
    format!(
        "{} {} {} {} {}  {utilization}",
        left(&cut_front(name, POOL), POOL),
        right(workers, 7),
        right(range, 11),
        right(busy, 5),
        right(queued, 11)
    )
}

/// A pool; one that is not healthy says why.
fn pool_rows(pool: &PoolView, page: Page) -> Vec<String> {
    let mut rows = vec![pool_row(pool)];
    let PoolView { routed, succeeded, failed, timed_out, p50_ms, p99_ms, .. } = pool;
    let parts = [
        format!("{routed} routed"),
        format!("{succeeded} done"),
        format!("{} failed", failed + timed_out),
        format!("p50 {p50_ms:.1} ms"),
        format!("p99 {p99_ms:.1} ms"),
    ];
    rows.extend(behind("  ", 2, &parts, page));
    if pool.health != PoolHealth::Healthy {
        let light = pool.health.light();
        let class = left(&format!("{} {}", light.glyph(), pool.health), 10);
        let parts = wrap(&clean(&pool.health_why), page.width - 13);
        rows.extend(parts.iter().enumerate().map(|(row, why)| match row {
            0 => format!("  {} {why}", page.light(light, &class)),
            _ => format!("{}{why}", " ".repeat(13)),
        }));
    }
    if 0 < pool.stand_ins {
        rows.push(format!("  {} stand in for workers that hang", pool.stand_ins));
    }
    rows
}

fn pool_row(pool: &PoolView) -> String {
    let beyond = pool.surge + pool.stand_ins;
    let beyond = if beyond == 0 { String::new() } else { format!("+{beyond}") };
    pool_cells([
        pool.name.as_str(),
        &pool.workers.to_string(),
        &format!("{}–{}{beyond}", pool.workers_min, pool.workers_max),
        &pool.busy.to_string(),
        &format!("{}/{}", pool.queued, pool.queue_max),
        &format!("{} {:>3.0} % {}", bar(pool.utilization, 8), pool.utilization * 100.0, pool.band),
    ])
}

/// A ratio as a bar of `width` columns.
pub(crate) fn bar(ratio: f64, width: usize) -> String {
    let full = (ratio.clamp(0.0, 1.0) * width as f64).round() as usize;
    "█".repeat(full) + &"░".repeat(width - full)
}

fn breaker_row(breaker: &BreakerView, page: Page) -> String {
    let light = match breaker.state {
        BreakerState::Closed => Light::Green,
        BreakerState::HalfOpen => Light::Yellow,
        BreakerState::Open => Light::Red,
    };
    let state = left(&format!("{} {}", light.glyph(), breaker.state), 11);
    let retry = breaker.retry_in_ms.map(|ms| format!(" · probe in {}", span(ms))).unwrap_or_default();
    let failures = breaker.failures_in_a_row;
    format!(
        "{} {} {failures} failures in a row{retry}",
        page.light(light, &state),
        left(breaker.name.as_str(), STATION)
    )
}

/// How near each tier is to its limit.
fn admission(view: &AdmissionView, page: Page) -> Vec<String> {
    let tier = |tier: &TierView| format!("{} {:.0} % of {}", tier.tier, tier.load_ratio * 100.0, tier.hard);
    let mut parts: Vec<_> = view.tiers.iter().map(tier).collect();
    if !parts.is_empty() {
        parts.insert(0, format!("{} in flight", view.in_flight));
    }
    behind("", 0, &parts, page)
}

fn arrivals(view: &BoardView) -> String {
    let baseline = match view.arrivals.baseline_per_s {
        Some(baseline) => format!("baseline {baseline:.1}/s"),
        None => "no baseline yet".to_owned(),
    };
    let surge = if view.arrivals.surge { "surge" } else { "no surge" };
    format!(
        "arrivals {:.1}/s · {baseline} · {surge} · balance {:.2}",
        view.arrivals.fast_per_s, view.balance_ratio
    )
}

#[cfg(test)]
pub(crate) mod sample {
    use gemba::admission::{Limits, Tier};
    use gemba::band::Band;
    use gemba::receipt::Seq;
    use gemba::view::{ArrivalsView, CordView, CostView, DefectView, IntakeView, ObjectiveView};

    use super::*;

    fn line(now: u64) -> LineView {
        LineView {
            name: "payment".parse().unwrap(),
            state: LineState::Stopped,
            cord: Some(CordView { by: "ann".into(), why: "smoke".into(), since_unix_ms: now - 12_000 }),
            in_flight: 2,
            arrived: 2_400,
            refused: 12,
            rejected: 80,
            succeeded: 2_280,
            failed: 28,
            timed_out: 3,
            cancelled: 0,
            intake: [(10, 190.5, 0.0), (60, 195.25, 0.2), (300, 200.0, 1.25)]
                .map(|(window_s, accepted_per_s, refused_per_s)| IntakeView {
                    window_s,
                    accepted: 0,
                    refused: 0,
                    accepted_per_s,
                    refused_per_s,
                })
                .into(),
            success_ratio: Some(0.98),
            throughput_per_s: 198.25,
            p50_ms: 4.1,
            p99_ms: 12.0,
            objectives: vec![
                ObjectiveView {
                    tier: Tier::Critical,
                    p99_ms_max: 100,
                    in_time: 2_200,
                    slow: 108,
                    met: Some(false),
                },
                ObjectiveView { tier: Tier::Normal, p99_ms_max: 500, in_time: 3, slow: 0, met: None },
            ],
            defects: [("no_answer", 21), ("worker_died", 7), ("timed_out", 3)]
                .map(|(class, count)| DefectView { class: class.into(), count })
                .into(),
        }
    }

    /// A board on which something of everything is wrong.
    pub(crate) fn troubled() -> BoardView {
        let now = 50_531_123;
        let station = |name: &str, light, why: &str, ago| StationView {
            name: name.parse().unwrap(),
            light,
            why: why.into(),
            since_unix_ms: now - ago,
            receipt: Some(Seq(3)),
        };
        BoardView {
            overall: Light::Red,
            taken_unix_ms: now,
            receipt: Seq(1204),
            stations: vec![
                station(
                    "breaker:gateway",
                    Light::Red,
                    "open: 5 of 5 calls failed; every payment is refused at once",
                    102_000,
                ),
                station("line:payment", Light::Yellow, "cord pulled", 12_000),
                station(
                    "supervisor:plant.pools.payment.workers",
                    Light::Yellow,
                    "3 life 17 exited: killed",
                    6_000,
                ),
                station("node", Light::Green, "all as it should be", 3_600_000),
            ],
            lines: vec![line(now)],
            pools: vec![PoolView {
                name: "payment".parse().unwrap(),
                workers: 8,
                busy: 3,
                queued: 0,
                queue_max: 512,
                workers_min: 4,
                workers_max: 16,
                surge: 2,
                stand_ins: 1,
                utilization: 0.37,
                band: Band::Light,
                routed: 2_311,
                succeeded: 2_280,
                failed: 28,
                timed_out: 3,
                p50_ms: 4.2,
                p99_ms: 12.0,
                health: PoolHealth::Degraded,
                health_why: "6 of 8 workers answer".into(),
            }],
            breakers: vec![BreakerView {
                name: "gateway".parse().unwrap(),
                state: BreakerState::Open,
                failures_in_a_row: 5,
                retry_in_ms: Some(18_000),
            }],
            arrivals: ArrivalsView { fast_per_s: 200.1, baseline_per_s: None, ..ArrivalsView::default() },
            cost: CostView::default(),
            admission: Limits::default().view(480),
            verdict: Some(Verdict {
                well: false,
                why: vec![
                    "pool payment is critical: 97 % used, a wait of 1.2s, 1s is the most for \
                     whoever comes now"
                        .into(),
                    "12 of 812 signals refused in the last minute".into(),
                ],
            }),
            balance_ratio: 0.98,
            affinity: Vec::new(),
            studies: Vec::new(),
            bottlenecks: Vec::new(),
            health: gemba::health::HealthView::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use gemba::admission::Limits;
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn a_board_says_what_why_and_since_when() {
        let text = board(&sample::troubled(), Page::PLAIN);
        let expected = "\
■ critical · 14:02:11 UTC · receipt #1204
not well: pool payment is critical: 97 % used, a wait of 1.2s, 1s is the most
          for whoever comes now
          12 of 812 signals refused in the last minute

STATIONS
■ critical breaker:gateway          open: 5 of 5 calls failed; every          1m
                                    payment is refused at once
▲ warning  line:payment             cord pulled                              12s
▲ warning  …t.pools.payment.workers 3 life 17 exited: killed                  6s
● normal   node                     all as it should be                     1h00

LINES
■ stopped  payment      2 in flight · 198.2/s · p50 4.1 ms · p99 12.0 ms
           2400 arrived · 2280 succeeded · 80 rejected · 12 refused · 28 failed
           3 timed out · 0 cancelled
           refused per second: 0.0 in 10s · 0.2 in 1m · 1.2 in 5m
           critical: 108 of 2308 took more than 100 ms, 1 % may
           went wrong: 21 no_answer · 7 worker_died · 3 timed_out
           cord pulled by ann 12s ago: smoke

POOL                 WORKERS       RANGE  BUSY      QUEUED  UTILIZATION
payment                    8      4–16+3     3       0/512  ███░░░░░  37 % light
  2311 routed · 2280 done · 31 failed · p50 4.2 ms · p99 12.0 ms
  ▲ degraded 6 of 8 workers answer
  1 stand in for workers that hang

BREAKERS
■ open      gateway                  5 failures in a row · probe in 18s

480 in flight · critical 40 % of 1200 · normal 50 % of 960 · batch 50 % of 960
arrivals 200.1/s · no baseline yet · no surge · balance 0.98
";
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.width() <= 80));
    }

    #[test]
    fn a_board_keeps_to_its_page_however_much_was_done() {
        let mut view = sample::troubled();
        view.admission = Limits::default().view(1_200);
        let line = &mut view.lines[0];
        (line.arrived, line.succeeded, line.in_flight) = (1_200_000, 1_190_000, 1_200);
        (line.throughput_per_s, line.p50_ms, line.p99_ms) = (12_345.6, 1_234.5, 12_345.6);
        let pool = &mut view.pools[0];
        (pool.routed, pool.succeeded, pool.p50_ms, pool.p99_ms) = (12_000_000, 11_900_000, 1_234.5, 12_345.6);
        let text = board(&view, Page::PLAIN);
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        for row in ["           28 failed · 3 timed out · 0 cancelled", "batch 125 % of 960"] {
            assert!(text.lines().any(|line| line == row), "'{row}' is not in\n{text}");
        }
    }

    #[test]
    fn a_node_that_is_well_says_so_in_a_word() {
        let view = BoardView { verdict: Some(Verdict { well: true, why: vec![] }), ..BoardView::default() };
        assert_eq!(board(&view, Page::PLAIN).lines().nth(1), Some("well"));
    }

    #[test]
    fn an_empty_board_is_two_lines() {
        let text = board(&BoardView::default(), Page::PLAIN);
        assert_eq!(
            text,
            "● normal · 00:00:00 UTC · receipt #0\n\narrivals 0.0/s · no baseline yet · no surge · balance 0.00\n"
        );
    }
}
