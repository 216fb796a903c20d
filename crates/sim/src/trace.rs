//! Arrivals that were recorded: a file of comma-separated values, one signal a line.

use std::fmt;
use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::time::Timestamp;

use crate::workload::Arrival;

/// Signals a trace may hold: about 160 MB of them.
pub const SIGNALS_MAX: usize = 5_000_000;

/// Bad lines that are told one by one.
const FAULTS_SHOWN: usize = 10;

/// Characters of a value that are told: a line without commas may be the whole file.
const VALUE_SHOWN: usize = 40;

/// The longest time a trace may cover: a day. Each 10 ms of it are an event.
const SPAN_MAX: Duration = Duration::from_secs(86_400);

/// The latest moment, in milliseconds: the year 2286, if they are counted from 1970.
const AT_MS_MAX: f64 = 1e13;

/// The longest work, in milliseconds: an hour.
const SERVICE_MS_MAX: f64 = 3_600_000.0;

/// What is wrong with one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct TraceError {
    /// Its number, the first being 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: Fault,
}

/// What can be wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The first line does not name a column that is needed.
    #[error("there is no column '{column}'; name the columns in the first line, as at_ms,service_ms,tier")]
    NoColumn {
        /// The column.
        column: &'static str,
    },
    /// A line has too few or too many values.
    #[error("{found} values for {columns} columns")]
    Values {
        /// How many it has.
        found: usize,
        /// How many columns there are.
        columns: usize,
    },
    /// A number is none, or out of range.
    #[error("{column} is '{value}'; give a number from 0 to {most}")]
    Number {
        /// The column.
        column: &'static str,
        /// What stands there, 40 characters of it at most.
        value: String,
        /// The largest that may.
        most: u64,
    },
    /// A tier is none.
    #[error("tier is '{value}'; give critical, normal or batch")]
    Tier {
        /// What stands there, 40 characters of it at most.
        value: String,
    },
    /// There are too many.
    #[error("this is more than {SIGNALS_MAX} signals; cut the trace")]
    TooMany,
    /// It takes too long.
    #[error("the last signal comes {span:?} after the first; {SPAN_MAX:?} is the limit, cut the trace")]
    Span {
        /// How much later.
        span: Duration,
    },
    /// There is nothing to simulate.
    #[error("no signal follows")]
    Empty,
}

/// All that is wrong with a trace; the first lines of it are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceErrors {
    /// The first faults.
    pub first: Vec<TraceError>,
    /// How many there are.
    pub count: usize,
}

impl fmt::Display for TraceErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} fault(s) in the trace", self.count)?;
        self.first.iter().try_for_each(|fault| write!(f, "\n  {fault}"))?;
        let rest = self.count - self.first.len();
        if 0 < rest { write!(f, "\n  and {rest} more") } else { Ok(()) }
    }
}

impl std::error::Error for TraceErrors {}

impl TraceErrors {
    fn add(&mut self, line: usize, what: Fault) {
        self.count += 1;
        if self.first.len() < FAULTS_SHOWN {
            self.first.push(TraceError { line, what });
        }
    }
}

/// Where the columns are.
#[derive(Debug, Clone, Copy)]
struct Columns {
    at: usize,
    service: usize,
    tier: Option<usize>,
    count: usize,
}

/// Reads a trace.
///
/// The first line names the columns, in any order: `at_ms`, when the signal arrived, in milliseconds from any
/// moment on; `service_ms`, how long its work took; and, if there are tiers, `tier`, which is `critical`,
/// `normal` (as without the column) or `batch`. Other columns are left alone. Lines may come in any order;
/// empty ones and those that begin with `#` are left out.
///
/// # Errors
///
/// [`TraceErrors`] names the bad lines; mend them all at once.
///
/// # Examples
///
/// ```
/// let arrivals = gemba_sim::trace::parse("at_ms,service_ms,tier\n0.5,42,critical\n3,40,batch\n")?;
/// assert_eq!(arrivals.len(), 2);
/// let error = gemba_sim::trace::parse("at_ms,service_ms\n1,fast\n").unwrap_err();
/// assert_eq!(error.first[0].line, 2);
/// # Ok::<(), gemba_sim::trace::TraceErrors>(())
/// ```
pub fn parse(text: &str) -> Result<Vec<Arrival>, TraceErrors> {
    let mut lines = text
        // Spreadsheets mark their files so.
        .trim_start_matches('\u{feff}')
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let (header, names) = lines.next().unwrap_or((1, ""));
    let columns = columns(names)
        .map_err(|what| TraceErrors { first: vec![TraceError { line: header, what }], count: 1 })?;
    let (mut arrivals, mut faults) = (Vec::new(), TraceErrors { first: Vec::new(), count: 0 });
    for (number, line) in lines {
        if SIGNALS_MAX <= arrivals.len() {
            faults.add(number, Fault::TooMany);
            break;
        }
        match arrival(line, columns) {
            Ok(arrival) => arrivals.push(arrival),
            Err(what) => faults.add(number, what),
        }
    }
    if arrivals.is_empty() && faults.count == 0 {
        faults.add(header, Fault::Empty);
    }
    if 0 < faults.count {
        return Err(faults);
    }
    arrivals.sort_by_key(|arrival| arrival.at);
    // Time begins with the first arrival, whatever clock the trace was taken from.
    let (began, last) = (arrivals[0].at, arrivals[arrivals.len() - 1].at);
    if SPAN_MAX < last.since(began) {
        faults.add(header, Fault::Span { span: last.since(began) });
        return Err(faults);
    }
    for arrival in &mut arrivals {
        arrival.at = Timestamp::START + arrival.at.since(began);
    }
    Ok(arrivals)
}

fn columns(names: &str) -> Result<Columns, Fault> {
    let names: Vec<_> = names.split(',').map(str::trim).collect();
    let place = |column| names.iter().position(|name| *name == column);
    let needed = |column| place(column).ok_or(Fault::NoColumn { column });
    Ok(Columns {
        at: needed("at_ms")?,
        service: needed("service_ms")?,
        tier: place("tier"),
        count: names.len(),
    })
}

fn arrival(line: &str, columns: Columns) -> Result<Arrival, Fault> {
    let values: Vec<_> = line.split(',').map(str::trim).collect();
    if values.len() != columns.count {
        return Err(Fault::Values { found: values.len(), columns: columns.count });
    }
    let at = millis("at_ms", values[columns.at], AT_MS_MAX)?;
    let service = millis("service_ms", values[columns.service], SERVICE_MS_MAX)?;
    let tier = columns.tier.map_or(Ok(Tier::Normal), |place| tier(values[place]))?;
    Ok(Arrival { at: Timestamp::START + at, tier, service })
}

fn millis(column: &'static str, value: &str, most: f64) -> Result<Duration, Fault> {
    match value.parse::<f64>() {
        Ok(millis) if (0.0..=most).contains(&millis) => Ok(Duration::from_secs_f64(millis / 1e3)),
        Ok(_) | Err(_) => Err(Fault::Number { column, value: shown(value), most: most as u64 }),
    }
}

fn tier(value: &str) -> Result<Tier, Fault> {
    let named = Tier::ALL.into_iter().find(|tier| tier.word() == value);
    named.ok_or_else(|| Fault::Tier { value: shown(value) })
}

/// The beginning of a value, with an ellipsis where something is missing.
fn shown(value: &str) -> String {
    match value.char_indices().nth(VALUE_SHOWN) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_lines_may_come_in_any_order() {
        let text = "\u{feff}# from production\n tier , id,service_ms,at_ms\n\nbatch,7,40,1010\r\ncritical,8,42.5,1000\n";
        let arrivals = parse(text).unwrap();
        let expected = |at, tier, service| Arrival {
            at: Timestamp::START + Duration::from_millis(at),
            tier,
            service: Duration::from_micros(service),
        };
        assert_eq!(arrivals, [expected(0, Tier::Critical, 42_500), expected(10, Tier::Batch, 40_000)]);
        assert_eq!(parse("service_ms,at_ms\n1,2").unwrap()[0].tier, Tier::Normal);
    }

    #[test]
    fn every_bad_line_is_named() {
        let text = "at_ms,service_ms,tier\n1,2\n-1,2,batch\n1,fast,batch\n1,NaN,batch\n1,2,vip\n1,2,batch\n";
        let error = parse(text).unwrap_err();
        let lines: Vec<_> = error.first.iter().map(|fault| fault.line).collect();
        assert_eq!((lines, error.count), (vec![2, 3, 4, 5, 6], 5));
        let told = error.to_string();
        for part in [
            "5 fault(s)",
            "line 2: 2 values for 3 columns",
            "line 3: at_ms is '-1'; give a number from 0 to 10000000000000",
            "line 4: service_ms is 'fast'; give a number from 0 to 3600000",
            "line 6: tier is 'vip'",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn of_a_long_value_the_beginning_is_told() {
        let text = format!("at_ms,service_ms\n1,{}\n", "é".repeat(1_000));
        let told = parse(&text).unwrap_err().to_string();
        assert!(told.contains(&format!("service_ms is '{}…'", "é".repeat(VALUE_SHOWN))), "{told}");
    }

    #[test]
    fn a_trace_without_its_columns_or_signals_is_none() {
        assert_eq!(parse("").unwrap_err().first[0].what, Fault::NoColumn { column: "at_ms" });
        assert_eq!(parse("at_ms,ms\n").unwrap_err().first[0].what, Fault::NoColumn { column: "service_ms" });
        assert_eq!(parse("at_ms,service_ms\n").unwrap_err().first[0].what, Fault::Empty);
        let long = "at_ms,service_ms\n1700000000000,1\n1700086400001,1\n";
        assert!(parse(long).unwrap_err().to_string().contains("after the first; 86400s is the limit"));
        assert!(parse(&long.replace("0001,", "0000,")).is_ok(), "a day, from any moment on");
        let many = "at_ms,service_ms\n".to_owned() + &"x,y\n".repeat(12);
        assert!(parse(&many).unwrap_err().to_string().ends_with("and 2 more"));
    }
}
