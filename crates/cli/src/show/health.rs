//! What the checks of a node found, as text: each with its answer, its weight, and how long it took.

use gemba::health::{CheckState, CheckView, HealthState, HealthView, MachineView};
use gemba::light::Light;

use crate::show::text::{Page, clean, left, right, span, wrap};

/// Width of a check's name.
const CHECK: usize = 16;

/// Prints the health of a node.
pub(crate) fn health(view: &HealthView, page: Page) -> String {
    let light = match view.state {
        HealthState::Healthy => Light::Green,
        HealthState::Unknown => Light::Yellow,
        HealthState::Degraded => Light::Red,
    };
    let receipt = view.receipt.map(|seq| format!(" · receipt {seq}")).unwrap_or_default();
    let mut lines = vec![format!(
        "{} · {:.0} % of the checks fail, {:.0} % may{receipt}",
        page.light(light, &format!("{} {}", light.glyph(), view.state)),
        view.failing_ratio * 100.0,
        view.degraded_above * 100.0,
    )];
    if !view.checks.is_empty() {
        lines.push(String::new());
        lines.push(page.heading(&format!(
            "{} {} {} {} {}  SAYS",
            left("CHECK", CHECK),
            left("STATE", 9),
            right("WEIGHT", 6),
            right("TOOK", 7),
            right("AGE", 5)
        )));
        lines.extend(view.checks.iter().flat_map(|check| row(check, page)));
    }
    lines.extend(machine(&view.machine));
    lines.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn row(check: &CheckView, page: Page) -> Vec<String> {
    let light = match (check.state, check.must_pass) {
        (CheckState::Passing, _) => Light::Green,
        (CheckState::Failing, true) => Light::Red,
        (CheckState::Failing, false) | (CheckState::Unknown, _) => Light::Yellow,
    };
    let state = left(&format!("{} {}", light.glyph(), check.state), 9);
    let weight = if check.must_pass { "must".to_owned() } else { check.weight.to_string() };
    let took = format!("{:.1}ms", check.took_us as f64 / 1e3);
    let head = format!(
        "{} {} {} {} {}  ",
        left(check.name.as_str(), CHECK),
        page.light(light, &state),
        right(&weight, 6),
        right(&took, 7),
        right(&check.age_ms.map_or("–".to_owned(), span), 5)
    );
    let indent = CHECK + 1 + 9 + 1 + 6 + 1 + 7 + 1 + 5 + 2;
    let says = wrap(&clean(&check.says), page.width - indent);
    let line = |(index, part): (usize, &String)| match index {
        0 => format!("{head}{part}"),
        _ => format!("{}{part}", " ".repeat(indent)),
    };
    says.iter().enumerate().map(line).collect()
}

/// What was read of the machine, as far as it tells.
fn machine(machine: &MachineView) -> Option<String> {
    let mut parts = Vec::new();
    let percent = |ratio: f64| format!("{:.0} %", ratio * 100.0);
    if let Some(now) = machine.processor_now_ratio {
        let minute = machine.processor_ratio.map(|minute| format!(" ({} in a minute)", percent(minute)));
        parts.push(format!("processors {}{}", percent(now), minute.unwrap_or_default()));
    }
    if let Some(bytes) = machine.memory_bytes {
        parts.push(format!("memory {} MB", bytes / 1_000_000));
    }
    if let Some(connections) = machine.connections {
        parts.push(format!("{connections} connections"));
    }
    (!parts.is_empty()).then(|| format!("\n{}", parts.join(" · ")))
}

#[cfg(test)]
mod tests {
    use gemba::receipt::Seq;
    use unicode_width::UnicodeWidthStr;

    use super::*;

    fn check(name: &str, state: CheckState, says: &str) -> CheckView {
        CheckView {
            name: name.parse().unwrap(),
            state,
            weight: 1,
            must_pass: false,
            says: says.into(),
            took_us: 1_234,
            within_ms: 100,
            age_ms: Some(2_000),
        }
    }

    #[test]
    fn the_checks_say_what_they_found_and_how_they_count() {
        let mut disk = check("disk", CheckState::Failing, "0.1 GB free");
        disk.must_pass = true;
        let mut late = check("gateway", CheckState::Unknown, "it has not answered yet");
        (late.age_ms, late.took_us) = (None, 0);
        let view = HealthView {
            state: HealthState::Degraded,
            failing_ratio: 0.334,
            degraded_above: 0.5,
            checks: vec![check("queue", CheckState::Passing, "3 of 1024 in pool payment"), disk, late],
            machine: MachineView {
                processor_now_ratio: Some(0.12),
                processor_ratio: Some(0.3),
                memory_bytes: Some(48_000_000),
                connections: Some(7),
                ..MachineView::default()
            },
            receipt: Some(Seq(42)),
        };
        let text = health(&view, Page::PLAIN);
        let expected = "\
■ degraded · 33 % of the checks fail, 50 % may · receipt #42

CHECK            STATE     WEIGHT    TOOK   AGE  SAYS
queue            ● passing      1   1.2ms    2s  3 of 1024 in pool payment
disk             ■ failing   must   1.2ms    2s  0.1 GB free
gateway          ▲ unknown      1   0.0ms     –  it has not answered yet

processors 12 % (30 % in a minute) · memory 48 MB · 7 connections
";
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.width() <= 80));
    }

    #[test]
    fn of_a_node_without_checks_nothing_is_known() {
        let text = health(&HealthView::default(), Page::PLAIN);
        assert_eq!(text, "▲ unknown · 0 % of the checks fail, 0 % may\n");
    }
}
