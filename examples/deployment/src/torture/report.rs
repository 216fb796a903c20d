//! What the crash test found: figures, and every promise that was not kept.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::demo::load::{ANSWER_MAX, Tallied};
use crate::store::Past;
use crate::torture::TortureOptions;
use crate::torture::fence::Generations;
use crate::torture::play::Account;
use crate::torture::stage::{BAD, BROKEN};
use crate::torture::verdict::Verdict;

/// How long before the death of a splitter a request may have been sent that it took along: it was still waited for.
const ON_ITS_WAY_MS: u64 = ANSWER_MAX.as_millis() as u64;

/// Violations that are told one by one.
const TOLD: usize = 20;

/// The report. The names are those of the JSON object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    seed: u64,
    rate: u32,
    seconds: u64,
    /// Managers that were killed, by what they were in the middle of.
    kills: u64,
    kills_by_moment: BTreeMap<&'static str, u64>,
    instance_kills: u64,
    splitter_kills: u64,
    deliveries_accepted: u64,
    /// Deliveries by their end.
    ends: BTreeMap<&'static str, u64>,
    orders: u64,
    /// Requests for deliveries that were refused at first, and accepted later.
    refused_at_first: BTreeMap<String, u64>,
    tables_seen: u64,
    requests: u64,
    /// Failures of versions that should have answered.
    failed: u64,
    /// Failures of the version that is bad.
    failed_of_bad: u64,
    /// Failures while a splitter was dead.
    failed_of_dead_splitters: u64,
    lost: u64,
    doubled: u64,
    orphans: u64,
    recovery_p50_ms: u64,
    recovery_max_ms: u64,
    violations: Vec<String>,
}

/// What a report is made of.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) options: &'a TortureOptions,
    pub(crate) took: Duration,
    pub(crate) account: &'a Account,
    pub(crate) verdict: Verdict,
    pub(crate) history: &'a [Past],
    pub(crate) generations: Generations,
    pub(crate) tallied: &'a Tallied,
}

/// How a delivery ended, in a word.
fn end(past: &Past) -> &'static str {
    match (past.succeeded, past.why.as_deref().unwrap_or_default()) {
        (None, _) => "not ended",
        (Some(true), _) => "succeeded",
        (Some(false), _) if !past.is_begun => "not begun",
        (Some(false), why) if why.starts_with("superseded") => "superseded",
        (Some(false), why) if why.contains("by hand") => "aborted by hand",
        (Some(false), why) if why.contains("did not start") || why.contains("it failed") => {
            "instances failed"
        }
        (Some(false), _) if past.to == BAD => "bad, taken back",
        (Some(false), _) if past.to == BROKEN => "instances failed",
        (Some(false), _) => "good, taken back",
    }
}

impl Report {
    pub(crate) fn new(run: Run<'_>) -> Self {
        let Run { options, took, account, verdict, history, generations, tallied } = run;
        let mut violations = verdict.wrong;
        violations.extend(account.wrong.iter().cloned());
        violations.extend(generations.back);
        let (mut failed, mut of_bad, mut of_dead) = (0, 0, 0);
        for (sent, version) in &tallied.failures {
            let answered = version.as_deref().filter(|version| *version != "nobody");
            let in_window = |(killed, back): &(u64, u64)| (killed - ON_ITS_WAY_MS..=*back).contains(sent);
            if answered == Some(BAD) {
                of_bad += 1;
            } else if answered.is_none() && account.splitter_kills.iter().any(in_window) {
                of_dead += 1;
            } else {
                failed += 1;
                let who = answered.unwrap_or("nobody");
                violations.push(format!("a request to {who} failed, sent at {sent} ms"));
            }
        }
        if tallied.requests() == 0 {
            violations.push("nobody asked anything".to_owned());
        }
        let mut kills_by_moment = BTreeMap::new();
        for death in &account.deaths {
            *kills_by_moment.entry(death.moment.name()).or_default() += death.managers;
        }
        let mut ends = BTreeMap::new();
        for past in history {
            *ends.entry(end(past)).or_default() += 1;
        }
        let mut refused_at_first = BTreeMap::new();
        for why in &account.refusals {
            *refused_at_first.entry(why.clone()).or_default() += 1;
        }
        let mut recoveries: Vec<_> =
            account.deaths.iter().map(|death| death.recovery.as_millis() as u64).collect();
        recoveries.sort_unstable();
        Self {
            seed: options.seed,
            rate: options.rate,
            seconds: took.as_secs(),
            kills: account.deaths.iter().map(|death| death.managers).sum(),
            kills_by_moment,
            instance_kills: account.instance_kills,
            splitter_kills: account.splitter_kills.len() as u64,
            deliveries_accepted: account.asked.iter().filter(|asked| asked.is_accepted).count() as u64,
            ends,
            orders: account.ordered.len() as u64,
            refused_at_first,
            tables_seen: generations.seen,
            requests: tallied.requests(),
            failed,
            failed_of_bad: of_bad,
            failed_of_dead_splitters: of_dead,
            lost: verdict.lost,
            doubled: verdict.doubled,
            orphans: account.orphans,
            recovery_p50_ms: recoveries.get(recoveries.len() / 2).copied().unwrap_or(0),
            recovery_max_ms: recoveries.last().copied().unwrap_or(0),
            violations,
        }
    }

    /// The promises that were not kept.
    pub(crate) fn broken(&self) -> &[String] {
        &self.violations
    }

    /// The report in words.
    pub(crate) fn words(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<26} {value}");
        };
        line("manager killed", format!("{} times in {} s, seed {}", self.kills, self.seconds, self.seed));
        for (moment, times) in &self.kills_by_moment {
            line(&format!("  {moment}"), times.to_string());
        }
        line(
            "killed with it",
            format!("{} instances, {} splitters", self.instance_kills, self.splitter_kills),
        );
        line("deliveries accepted", self.deliveries_accepted.to_string());
        for (end, times) in &self.ends {
            line(&format!("  {end}"), times.to_string());
        }
        line("orders", self.orders.to_string());
        line("refused at first", self.refused_at_first.values().sum::<u64>().to_string());
        for (why, times) in &self.refused_at_first {
            line(&format!("  {why}"), times.to_string());
        }
        line("tables seen", self.tables_seen.to_string());
        let requests = format!(
            "{}, {} of the bad version failed, {} with a dead splitter",
            self.requests, self.failed_of_bad, self.failed_of_dead_splitters
        );
        line("requests", requests);
        for (name, count) in [
            ("failed", self.failed),
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("orphans", self.orphans),
        ] {
            line(name, count.to_string());
        }
        line("violations", self.violations.len().to_string());
        line("recovery", format!("p50 {} ms, max {} ms", self.recovery_p50_ms, self.recovery_max_ms));
        text
    }

    /// The first of what is wrong, a line each.
    pub(crate) fn complaints(&self) -> impl Iterator<Item = &String> {
        self.violations.iter().take(TOLD)
    }
}
