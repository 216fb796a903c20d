//! How fast the tiers of each line are, and what went wrong in it, as tables of a review.

use std::fmt::Write;

use gemba::view::{DefectView, LineView, ObjectiveView};

use crate::show::text::clean;

/// Each tier with an objective, and whether it is met.
pub(crate) fn write_objectives(to: &mut String, lines: &[LineView]) -> std::fmt::Result {
    if lines.iter().all(|line| line.objectives.is_empty()) {
        return Ok(());
    }
    writeln!(
        to,
        "\n| line | tier | 99 % within | answers | slow | met |\n| --- | --- | ---: | ---: | ---: | --- |"
    )?;
    for line in lines {
        for ObjectiveView { tier, p99_ms_max, in_time, slow, met } in &line.objectives {
            let met = match met {
                None => "too few to say",
                Some(true) => "yes",
                Some(false) => "**no**",
            };
            writeln!(
                to,
                "| {} | {tier} | {p99_ms_max} ms | {} | {slow} | {met} |",
                line.name,
                in_time + slow
            )?;
        }
    }
    Ok(())
}

/// What went wrong in each line, the most frequent first, and what share it and those above it have of all: a few
/// classes mostly make up most of it.
pub(crate) fn write_defects(to: &mut String, lines: &[LineView]) -> std::fmt::Result {
    writeln!(to, "\n## Defects\n")?;
    if lines.iter().all(|line| line.defects.is_empty()) {
        return writeln!(to, "Nothing failed since the node started.");
    }
    writeln!(to, "| line | what went wrong | how often | share so far |\n| --- | --- | ---: | ---: |")?;
    for line in lines {
        let all: u64 = line.defects.iter().map(|defect| defect.count).sum();
        let mut so_far = 0;
        for DefectView { class, count } in &line.defects {
            so_far += count;
            let share = so_far as f64 / all as f64 * 100.0;
            writeln!(to, "| {} | {} | {count} | {share:.0} % |", line.name, clean(class))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::board_sample;

    #[test]
    fn the_most_frequent_defect_is_first_and_a_tier_that_is_slow_is_told() {
        let lines = board_sample().lines;
        let mut page = String::new();
        write_defects(&mut page, &lines).unwrap();
        let rows: Vec<_> = page.lines().filter(|row| row.starts_with("| payment")).collect();
        assert_eq!(
            rows,
            [
                "| payment | no_answer | 21 | 68 % |",
                "| payment | worker_died | 7 | 90 % |",
                "| payment | timed_out | 3 | 100 % |",
            ]
        );
        let mut page = String::new();
        write_objectives(&mut page, &lines).unwrap();
        assert!(page.contains("| payment | critical | 100 ms | 2308 | 108 | **no** |"), "{page}");
        assert!(page.contains("| payment | normal | 500 ms | 3 | 0 | too few to say |"), "{page}");
    }

    #[test]
    fn a_node_without_a_failure_says_so() {
        let mut page = String::new();
        write_defects(&mut page, &[]).unwrap();
        write_objectives(&mut page, &[]).unwrap();
        assert_eq!(page, "\n## Defects\n\nNothing failed since the node started.\n");
    }
}
