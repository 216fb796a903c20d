//! What is measured: the rows, who stands in each, and what the design asks of ours.

/// A contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Gemba,
    Erlang,
    Kameo,
    Ractor,
    /// Its calls have a time-out, as everybody else's.
    RactorTimed,
    RactorSupervisor,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gemba => "gemba",
            Self::Erlang => "erlang",
            Self::Kameo => "kameo",
            Self::Ractor => "ractor",
            Self::RactorTimed => "ractor-timed",
            Self::RactorSupervisor => "ractor-supervisor",
        }
    }
}

/// What the design asks of a figure of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// At most so many times this contender's.
    TimesAtMost(f64, Side),
    /// At least so many times this contender's.
    TimesAtLeast(f64, Side),
}

/// One figure of a row.
#[derive(Debug)]
pub(crate) struct Figure {
    /// Its name in a contender's answer.
    pub key: &'static str,
    pub unit: &'static str,
    pub more_is_better: bool,
    pub targets: &'static [Target],
}

/// One row: what every contender in it does.
#[derive(Debug)]
pub(crate) struct Row {
    /// `#` stands for the scale, or without one for the size.
    pub title: &'static str,
    pub case: &'static str,
    pub size: u64,
    /// For `--quick`.
    pub small: u64,
    pub scale: u64,
    /// For `--quick`.
    pub small_scale: u64,
    /// Who, and what part of the size a slow one does.
    pub sides: &'static [(Side, u64)],
    pub figures: &'static [Figure],
}

impl Row {
    /// How much is done, and at which scale.
    pub(crate) fn sizes(&self, quick: bool) -> (u64, u64) {
        if quick { (self.small, self.small_scale) } else { (self.size, self.scale) }
    }
}

const ALL_MESSAGES: &[(Side, u64)] =
    &[(Side::Gemba, 1), (Side::Erlang, 1), (Side::Kameo, 1), (Side::Ractor, 1), (Side::RactorTimed, 1)];
const UNTIMED: &[(Side, u64)] = &[(Side::Gemba, 1), (Side::Erlang, 1), (Side::Kameo, 1), (Side::Ractor, 1)];
const SUPERVISORS: &[(Side, u64)] =
    &[(Side::Gemba, 1), (Side::Erlang, 1), (Side::Kameo, 1), (Side::RactorSupervisor, 1)];
/// ractor-supervisor sleeps 10 ms in each restart of a group.
const GROUPS: &[(Side, u64)] =
    &[(Side::Gemba, 1), (Side::Erlang, 1), (Side::Kameo, 1), (Side::RactorSupervisor, 10)];
const EVERYBODY: &[(Side, u64)] =
    &[(Side::Gemba, 1), (Side::Erlang, 1), (Side::Kameo, 1), (Side::Ractor, 1), (Side::RactorSupervisor, 1)];
const BOTH: &[(Side, u64)] = &[(Side::Gemba, 1), (Side::Erlang, 1)];

const fn less(key: &'static str, unit: &'static str, targets: &'static [Target]) -> Figure {
    Figure { key, unit, more_is_better: false, targets }
}

const fn more(targets: &'static [Target]) -> Figure {
    Figure { key: "per_s", unit: "1/s", more_is_better: true, targets }
}

const P99: Figure = less("p99_us", "µs", &[]);
const WITHOUT_UNWINDING: &[Figure] =
    &[less("p50_us", "µs", &[Target::AtMost(5.0)]), less("p99_us", "µs", &[Target::AtMost(35.0)])];
const UNWINDING: &[Figure] =
    &[less("p50_us", "µs", &[Target::AtMost(10.0)]), less("p99_us", "µs", &[Target::AtMost(35.0)])];
const OF_A_GROUP: &[Figure] = &[less("p50_us", "µs", &[]), P99];
const POOL: &[Figure] = &[more(&[]), less("p50_us", "µs", &[]), P99];

const fn row(
    title: &'static str,
    case: &'static str,
    (size, small): (u64, u64),
    sides: &'static [(Side, u64)],
    figures: &'static [Figure],
) -> Row {
    Row { title, case, size, small, scale: 0, small_scale: 0, sides, figures }
}

const fn scaled(mut row: Row, scale: u64, small_scale: u64) -> Row {
    row.scale = scale;
    row.small_scale = small_scale;
    row
}

const CALLS: (u64, u64) = (500_000, 10_000);
const CRASHES: (u64, u64) = (2000, 100);
const GROUP_CRASHES: (u64, u64) = (1000, 100);
const CHILDREN: (u64, u64) = (100_000, 1000);
const JOBS: (u64, u64) = (300_000, 10_000);
const WORN: u64 = 10_000;
const CROWD: u64 = 100_000;

/// All rows, in the order of the report.
pub(crate) const ROWS: &[Row] = &[
    row(
        "call round trip, 1 caller",
        "call-1",
        CALLS,
        ALL_MESSAGES,
        &[less("p50_us", "µs", &[Target::TimesAtMost(1.1, Side::Ractor)]), P99],
    ),
    row(
        "calls, 64 callers",
        "call-64",
        CALLS,
        ALL_MESSAGES,
        &[more(&[Target::TimesAtLeast(1.0 / 1.1, Side::Ractor)])],
    ),
    row(
        "casts, one sender to one receiver, mailbox of the default size",
        "cast",
        (5_000_000, 50_000),
        UNTIMED,
        &[more(&[Target::TimesAtLeast(1.5, Side::Erlang), Target::TimesAtLeast(3.0, Side::Ractor)])],
    ),
    row("crash by error", "one_for_one-error", CRASHES, EVERYBODY, WITHOUT_UNWINDING),
    row("crash by kill", "one_for_one-kill", CRASHES, EVERYBODY, WITHOUT_UNWINDING),
    row("crash by panic", "one_for_one-panic", CRASHES, EVERYBODY, UNWINDING),
    row("one_for_all of 10, error", "one_for_all-error", GROUP_CRASHES, GROUPS, OF_A_GROUP),
    row("one_for_all of 10, kill", "one_for_all-kill", GROUP_CRASHES, GROUPS, OF_A_GROUP),
    row("one_for_all of 10, panic", "one_for_all-panic", GROUP_CRASHES, GROUPS, OF_A_GROUP),
    row("rest_for_one, first of 10, error", "rest_for_one-error", GROUP_CRASHES, GROUPS, OF_A_GROUP),
    row("rest_for_one, first of 10, kill", "rest_for_one-kill", GROUP_CRASHES, GROUPS, OF_A_GROUP),
    row("rest_for_one, first of 10, panic", "rest_for_one-panic", GROUP_CRASHES, GROUPS, OF_A_GROUP),
    scaled(
        row("after # restarts in the window, error", "worn-error", CRASHES, SUPERVISORS, WITHOUT_UNWINDING),
        WORN,
        100,
    ),
    scaled(
        row("after # restarts in the window, kill", "worn-kill", CRASHES, SUPERVISORS, WITHOUT_UNWINDING),
        WORN,
        100,
    ),
    scaled(
        row("after # restarts in the window, panic", "worn-panic", CRASHES, SUPERVISORS, UNWINDING),
        WORN,
        100,
    ),
    scaled(
        row("among # siblings, error", "crowd-error", GROUP_CRASHES, SUPERVISORS, WITHOUT_UNWINDING),
        CROWD,
        1000,
    ),
    scaled(
        row("among # siblings, kill", "crowd-kill", GROUP_CRASHES, SUPERVISORS, WITHOUT_UNWINDING),
        CROWD,
        1000,
    ),
    scaled(row("among # siblings, panic", "crowd-panic", GROUP_CRASHES, SUPERVISORS, UNWINDING), CROWD, 1000),
    row(
        "restarts sustained, # in the window",
        "sustained",
        (30_000, 1000),
        EVERYBODY,
        &[more(&[Target::AtLeast(50_000.0)])],
    ),
    row(
        "# servers under a dynamic supervisor",
        "children-servers",
        CHILDREN,
        EVERYBODY,
        &[
            less("start_ms", "ms", &[Target::TimesAtMost(1.0, Side::Erlang)]),
            less("bytes", "B each", &[]),
            less("stop_ms", "ms", &[]),
        ],
    ),
    row(
        "# tasks under a dynamic supervisor",
        "children-tasks",
        CHILDREN,
        BOTH,
        &[less("start_ms", "ms", &[]), less("bytes", "B each", &[]), less("stop_ms", "ms", &[])],
    ),
    row(
        "# tasks under a dynamic supervisor",
        "children-tasks",
        (1_000_000, 2000),
        BOTH,
        &[
            less("start_ms", "ms", &[]),
            less("bytes", "B each", &[Target::AtMost(2000.0), Target::TimesAtMost(1.0, Side::Erlang)]),
            less("stop_ms", "ms", &[]),
        ],
    ),
    row(
        "job through a pool of 10, 1 client",
        "pool-1",
        JOBS,
        UNTIMED,
        &[more(&[]), less("p50_us", "µs", &[Target::AtMost(4.0)]), P99],
    ),
    row("job through a pool of 10, 10 clients", "pool-10", JOBS, UNTIMED, POOL),
    row(
        "job through a pool of 10, 64 clients",
        "pool-64",
        JOBS,
        UNTIMED,
        &[more(&[Target::AtLeast(760_000.0)]), less("p50_us", "µs", &[]), P99],
    ),
    row("job through a pool of 10, 100 clients", "pool-100", JOBS, UNTIMED, POOL),
];
