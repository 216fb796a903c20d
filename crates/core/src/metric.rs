//! The table of all metrics; `docs/metrics.md` is printed from it.

/// What a metric counts like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows only.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

impl Kind {
    /// Prometheus' word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric: its name, labels from closed sets, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// `gemba_<part>_<what>_<unit>`.
    pub name: &'static str,
    /// What it counts like.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, for people.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $($(#[$doc])* #[doc = $help] pub const $id: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        /// Every metric, in the order of the table.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

metrics! {
    ACTORS = Gauge "gemba_actors" ["kind", "state"] "Actors in the tree.";
    MAILBOX_MESSAGES = Gauge "gemba_actor_mailbox_messages" ["kind"] "Messages waiting in mailboxes.";
    HANDLED = Counter "gemba_actor_messages_total" ["kind"] "Messages handled.";
    EXITS = Counter "gemba_supervisor_exits_total" ["reason"] "Children that ended.";
    RESTARTS = Counter "gemba_supervisor_restarts_total" [] "Children started again after an exit, group restarts included.";
    GAVE_UP = Counter "gemba_supervisor_gave_up_total" [] "Supervisors that reached their restart intensity.";
    STUCK = Counter "gemba_actor_stuck_handlers_total" [] "Handlers that ran longer than their limit.";
    RECEIPTS = Counter "gemba_journal_receipts_total" [] "Receipts written.";
    SIGNALS = Counter "gemba_line_signals_total" ["line", "outcome"] "Signals by how they ended.";
    SUCCESS = Gauge "gemba_line_success_ratio" ["line"] "Successes among what was worked on in the last 10 s; what it was last while nothing is.";
    LATENCY = Histogram "gemba_line_duration_seconds" ["line"] "Time from arrival to answer of what was worked on: what was refused, rejected or given up by its caller is left out.";
    PHASE = Histogram "gemba_line_phase_seconds" ["line", "phase"] "Time in a phase (receive, evaluate, queue, execute, respond, follow_up), of about 100 signals a second.";
    FOLLOW_UPS = Counter "gemba_line_follow_ups_total" ["line", "outcome"] "What followed successes, by how it ended.";
    DEFECTS = Counter "gemba_line_defects_total" ["line", "class"] "Signals that failed or ran out of time, by the class of what went wrong; at most 16 classes a line.";
    OBJECTIVE = Counter "gemba_line_objective_answers_total" ["line", "tier", "answer"] "Answers of a tier that has an objective: in_time or slow. It is met while at most 1 % are slow.";
    RECEIPTS_SKIPPED = Counter "gemba_line_receipts_skipped_total" ["line"] "Signals that left no receipt although the line wants one, because more came than it may write in a second.";
    OPERATION = Histogram "gemba_operation_duration_seconds" ["operation", "outcome"] "Time of an operation that is no line, by how it ended: done, failed or cancelled.";
    IN_FLIGHT = Gauge "gemba_line_in_flight_signals" ["line"] "Signals in flight.";
    LIMIT = Gauge "gemba_admission_limit_signals" ["limit"] "Signals in flight at which a tier is warned (soft) or refused.";
    ADMITTED_IN_FLIGHT = Gauge "gemba_admission_in_flight_signals" [] "Signals that hold a permit.";
    LOAD = Gauge "gemba_admission_load_ratio" ["tier"] "Signals in flight over the limit of the tier: 1 is full.";
    SOFT_PASSED = Counter "gemba_admission_soft_limit_passed_total" ["tier"] "Times more was in flight than the soft limit of the tier; normal speaks for batch, whose limit is the same.";
    RATE_LIMITED = Counter "gemba_line_rate_limited_total" ["line", "scope"] "Signals refused because the rate of the line or of their key was used up.";
    RATE_KEYS = Gauge "gemba_line_rate_keys" ["line"] "Keys whose rate is remembered.";
    WORKERS = Gauge "gemba_pool_workers" ["pool", "state"] "Workers of a pool.";
    STAND_INS = Gauge "gemba_pool_stand_in_workers" ["pool"] "Workers of a pool, beyond its size, that stand in for those that hang.";
    QUEUED = Gauge "gemba_pool_queued_jobs" ["pool"] "Jobs that wait for a worker.";
    UTILIZATION = Gauge "gemba_pool_utilization_ratio" ["pool"] "Busy time over worker time in the last window.";
    UTILIZATION_BAND = Gauge "gemba_pool_utilization_band" ["pool", "band"] "1 for the band its utilization is in, 0 for the others: idle (below 20 %), light, good (60 to 80 %), busy, full (above 95 %).";
    ROUTED = Counter "gemba_pool_routed_jobs_total" ["pool"] "Jobs that were sent to a pool, those it turned away included.";
    POOL_SIGNALS = Counter "gemba_pool_signals_total" ["pool", "outcome"] "Signals a pool worked on by how they ended, of all lines.";
    POOL_LATENCY = Histogram "gemba_pool_duration_seconds" ["pool"] "Time from arrival to answer of the signals a pool worked on.";
    NEEDED = Gauge "gemba_pool_needed_workers" ["pool"] "The most workers a pool needed within its shrink window.";
    POOL_HEALTH = Gauge "gemba_pool_health" ["pool", "class"] "1 for the class of health a pool is in, 0 for the others.";
    POOL_ALIVE = Gauge "gemba_pool_alive_workers" ["pool"] "Workers of a pool that answered when they were asked last, or were at work.";
    BALANCE = Gauge "gemba_balancer_balance_ratio" [] "How evenly the pools are loaded: 1 is level.";
    MOVES = Counter "gemba_balancer_moves_total" ["from", "to"] "Workers' worth of capacity that pools lent each other.";
    BREAKER = Gauge "gemba_breaker_state" ["breaker", "state"] "1 for the state a breaker is in, 0 for the others.";
    DOWNSTREAM = Gauge "gemba_downstream_calls" ["line", "what"] "Calls to the downstream of a line: in flight, and the limit that adapts to it.";
    BREAKER_MOVES = Counter "gemba_breaker_transitions_total" ["breaker", "to"] "Changes of a breaker's state.";
    POOL_RESIZES = Counter "gemba_pool_resizes_total" ["pool", "direction"] "Changes of a pool's size.";
    ARRIVALS = Gauge "gemba_burst_arrivals_per_second" ["window"] "Arrivals per second, refused ones included.";
    SURGES = Counter "gemba_burst_surges_total" [] "Surges begun.";
    SURGE_TIME = Counter "gemba_burst_surge_seconds_total" [] "Time in surges, their withdrawal included; over the surges begun it is how long one lasts.";
    COST = Gauge "gemba_pool_cost_units" ["workers"] "What workers within (baseline) and beyond (surge) the maxima of their pools have cost.";
    LIGHT = Gauge "gemba_andon_light" ["light"] "1 for the light the whole node shows, 0 for the others.";
    WELL = Gauge "gemba_node_well" [] "1 while the node is well: under 1 % refused, no critical pool, no short pool beside an idle one.";
    STATION_LIGHT = Gauge "gemba_station_light" ["station"] "The light of a station of the board: 0 green, 1 yellow, 2 red, 3 purple.";
    LINE_STATE = Gauge "gemba_line_state" ["line", "state"] "1 for the state a line is in (running, slowed, stopped, draining), 0 for the others.";
    POOL_BOUNDS = Gauge "gemba_pool_bound_workers" ["pool", "bound"] "Fewest (min) and most (max) workers a pool may have now, with what it was lent, a surge not counted.";
    ALERTS = Counter "gemba_alert_notices_total" ["light", "notice"] "Notices sent out, each to the routes of its light.";
    ALERTS_UNDELIVERED = Counter "gemba_alert_undelivered_total" ["route"] "Notices a route gave up on.";
    ALERT_LATENCY = Histogram "gemba_alert_delivery_seconds" ["route"] "Time from the change of a light to its delivery.";
    ALERT_RETRIES = Counter "gemba_alert_retries_total" ["route"] "Deliveries that failed and were tried again.";
    BURN = Gauge "gemba_line_burn_rate_ratio" ["line", "window"] "How many times faster than sustainable the error budget burns.";
    P95_BASELINE = Gauge "gemba_line_baseline_p95_seconds" ["line"] "95th percentile of the baseline.";
    P95_RATIO = Gauge "gemba_line_p95_ratio" ["line"] "95th percentile of the last window over that of the baseline.";
    DPMO = Gauge "gemba_line_defects_per_million" ["line"] "Failures among what was worked on since the node started, per million.";
    QUEUE_CARDS = Gauge "gemba_queue_cards" ["queue", "column"] "Cards of a durable queue: todo, resting, working and dead.";
    QUEUE_OLDEST = Gauge "gemba_queue_oldest_seconds" ["queue"] "How long the oldest card that is not done has been there.";
    QUEUE_LEAD = Histogram "gemba_queue_lead_seconds" ["queue"] "Time from the arrival of a card to its end.";
    QUEUE_STALLED = Gauge "gemba_queue_stalled" ["queue"] "1 while the limit is reached, cards wait, and nothing finishes.";
    CARDS_DEAD = Counter "gemba_queue_dead_cards_total" ["queue"] "Cards set aside because they were delivered as often as they may be.";
    FEED_SIGNALS = Counter "gemba_feed_signals_total" ["feed", "end"] "Signals that came from a source: done, refused and put back, failed, or set aside.";
    FEED_WINDOW = Gauge "gemba_feed_window" ["feed"] "How many signals a source may be asked for at once; 0 while the line refuses.";
    ROLLOUT_STEPS = Counter "gemba_rollout_steps_total" ["service", "light"] "Steps of rollouts: green as they go on, yellow held, red taken back.";
    ROLLOUTS_WAITING = Gauge "gemba_rollouts_waiting" [] "Deliveries that wait for their turn.";
    HEALTH = Gauge "gemba_health_state" ["state"] "1 for the state the node's checks say it is in, 0 for the others.";
    HEALTH_FAILING = Gauge "gemba_health_failing_ratio" [] "Share of the weight of the checks that fails.";
    CHECK_FAILING = Gauge "gemba_health_check_failing" ["check"] "1 while a check fails.";
    CHECK_TIME = Histogram "gemba_health_check_seconds" ["check"] "How long a check took to answer, its deadline if it did not.";
    PROCESSOR = Gauge "gemba_machine_processor_ratio" ["window"] "Share of all processors in use, over the last period (now) and the last minute.";
    MEMORY = Gauge "gemba_machine_memory_bytes" ["what"] "Memory of the process, and of the machine: available and total.";
    CONNECTIONS = Gauge "gemba_machine_connections" [] "Established TCP connections of the process.";
    LADDER_STEPS = Counter "gemba_ladder_steps_total" ["of", "measure", "to"] "Steps of a ladder to a light, up or down: of a line, or of the node, and of which figure.";
    CORDS = Counter "gemba_andon_cord_pulls_total" ["line"] "Times a line's cord was pulled.";
}

/// The page `docs/metrics.md`.
pub fn markdown() -> String {
    use std::fmt::Write;
    let mut page = String::from(
        "# Metrics\n\nPrinted from `crates/core/src/metric.rs`; a test compares the two.\n\n\
         | metric | kind | labels | says |\n| --- | --- | --- | --- |\n",
    );
    for metric in ALL {
        let labels = if metric.labels.is_empty() {
            "–".to_owned()
        } else {
            metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ")
        };
        writeln!(page, "| `{}` | {} | {labels} | {} |", metric.name, metric.kind.word(), metric.help)
            .expect("writing to a string cannot fail");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for metric in ALL {
            assert!(metric.name.starts_with("gemba_"), "{}", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
