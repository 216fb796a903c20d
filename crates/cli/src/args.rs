//! What can be typed after `gemba`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum, value_parser};
use gemba::alert::SILENCE_MAX;
use gemba::name::{ActorPath, Name};
use gemba::receipt::BreakerState;
use gemba::sim::client::Client as Callers;
use gemba::{Client, INSPECT};

/// Looks at running nodes, operates them, and runs the demonstration.
#[derive(Debug, Parser)]
#[command(name = "gemba", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 no node answers, 4 the node refused (token).\n\
     Colours are left out when NO_COLOR is set or the output is not a terminal.";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the payment system under load, kill workers, and compare the books at the end
    Demo(DemoArgs),
    /// Show the supervision tree
    Tree(TreeArgs),
    /// Show lights, lines, pools and breakers
    Board(BoardArgs),
    /// Show what the checks of a node found; fails unless it is healthy
    Health(HealthArgs),
    /// Show what happened, the newest last
    Receipts(ReceiptsArgs),
    /// Kill an actor; its supervisor decides what follows
    Kill(KillArgs),
    /// Stop all below a supervisor, and start none of it until `resume`
    Halt(HaltArgs),
    /// Let a halted supervisor run again
    Resume(ResumeArgs),
    /// Stop a line, or let it run again
    Cord(CordArgs),
    /// Open a breaker, let probes through it, or close it
    Breaker(BreakerArgs),
    /// Run flow control in virtual time, ours beside others: docs/simulate.md
    Simulate(SimulateArgs),
    /// Acknowledge an alert, or silence some for a while
    Alerts(AlertsArgs),
    /// Move a worker's worth of capacity from an idle pool to an overloaded one now
    Rebalance(RebalanceArgs),
    /// Read the configuration of the service again: all of it is applied, or every fault is told
    Reload(ReloadArgs),
    /// Let keys belong to a pool for five minutes, or end such a group
    Affinity(AffinityArgs),
    /// Take how a line is now for what it is compared with
    Baseline(BaselineArgs),
    /// Show the chain of causes that led to a receipt, the first cause last
    Why(WhyArgs),
    /// Write the monthly review of a node, in Markdown
    Review(ReviewArgs),
    /// Be one of the demonstration's other processes
    #[command(hide = true)]
    Payment {
        /// End when standard input does.
        #[arg(long)]
        leashed: bool,
        /// Which one.
        #[command(subcommand)]
        command: gemba_payment::cli::Command,
    },
}

/// How the demonstration goes.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct DemoArgs {
    /// End after so many seconds; 0 goes on until q or Ctrl-C
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seconds: u64,
    /// Payments a second, sent by the clock whether or not answers come
    #[arg(long, value_name = "R", default_value_t = 200, value_parser = value_parser!(u32).range(1..=RATE_MAX))]
    pub(crate) rate: u32,
    /// Where customers, amounts and victims come from
    #[arg(long, value_name = "S", default_value_t = 7)]
    pub(crate) seed: u64,
    /// Kill a worker every so many milliseconds; 0 kills none
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    pub(crate) kill_every: u64,
    /// Where the service's inspector listens; another port is taken if this one is
    #[arg(long, value_name = "ADDR", default_value_t = INSPECT)]
    pub(crate) inspect: SocketAddr,
    /// Show nothing, and end with one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// The highest rate one client process keeps to.
const RATE_MAX: i64 = 10_000;

/// Which node.
#[derive(Debug, ClapArgs)]
pub(crate) struct NodeArgs {
    /// Address of the node's inspector
    #[arg(long, env = "GEMBA_URL", default_value = "http://127.0.0.1:4040")]
    pub(crate) url: String,
    /// Bearer token; the node prints it when it starts
    // A text: what is refused here would be printed whole.
    #[arg(long, env = "GEMBA_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Print JSON as the API gives it
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TreeArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Show so many levels below the root
    #[arg(long, value_name = "N")]
    pub(crate) depth: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BoardArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ReceiptsArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Begin after this number; without it, with the newest
    #[arg(long, value_name = "N")]
    pub(crate) after: Option<u64>,
    /// Only this actor and those below it
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<ActorPath>,
    /// At most so many at once
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = page_size)]
    pub(crate) limit: usize,
    /// Go on printing until interrupted
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KillArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// The actor, as `gemba tree` shows it: /plant/pools/payment/workers/3
    pub(crate) path: ActorPath,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct HaltArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// The supervisor, as `gemba tree` shows it: /plant/pools/payment
    pub(crate) path: ActorPath,
    /// Why, for the receipt and the light
    #[arg(long)]
    pub(crate) why: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// The supervisor
    pub(crate) path: ActorPath,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CordArgs {
    /// Pull or reset.
    #[command(subcommand)]
    pub(crate) action: CordAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CordAction {
    /// Stop a line: it refuses every signal until the cord is reset
    Pull {
        #[command(flatten)]
        node: NodeArgs,
        /// The line, as `gemba board` shows it
        line: Name,
        /// Why; it stands on the board and in the receipt
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Let a stopped line run again
    Reset {
        #[command(flatten)]
        node: NodeArgs,
        /// The line
        line: Name,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BreakerArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// The breaker, as `gemba board` shows it
    pub(crate) breaker: Name,
    /// Its state from now on
    pub(crate) to: BreakerTo,
    /// Why; it stands in the receipt
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: Option<String>,
}

/// The state of a breaker as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum BreakerTo {
    /// No call goes through, until it is forced to another state
    Open,
    /// A few calls go through, and decide what follows
    HalfOpen,
    /// Every call goes through
    Closed,
}

impl From<BreakerTo> for BreakerState {
    fn from(to: BreakerTo) -> Self {
        match to {
            BreakerTo::Open => Self::Open,
            BreakerTo::HalfOpen => Self::HalfOpen,
            BreakerTo::Closed => Self::Closed,
        }
    }
}

/// What is simulated, and with what.
#[derive(Debug, ClapArgs)]
pub(crate) struct SimulateArgs {
    /// What happens.
    #[command(subcommand)]
    pub(crate) scenario: SimulateScenario,
    /// Where arrivals and work come from; the same seed gives the same output on every machine
    #[arg(long, global = true, value_name = "S", default_value_t = 7)]
    pub(crate) seed: u64,
    /// Workers of the pool
    #[arg(long, global = true, value_name = "N", default_value_t = 23)]
    pub(crate) workers: u32,
    /// Most workers, if the pool may grow and shrink between the two
    #[arg(long, global = true, value_name = "N")]
    pub(crate) workers_max: Option<u32>,
    /// Mean service time in milliseconds; a trace brings its own
    #[arg(long, global = true, value_name = "MS", default_value = "42.5", value_parser = millis)]
    pub(crate) service_ms: Duration,
    /// Standard deviation of service times over their mean; a trace brings its own
    #[arg(long, global = true, value_name = "CV", default_value_t = 1.0)]
    pub(crate) cv: f64,
    /// How long a signal may take, in milliseconds
    #[arg(long, global = true, value_name = "MS", default_value = "500", value_parser = millis)]
    pub(crate) deadline_ms: Duration,
    /// Compare with all controllers, not only with four
    #[arg(long, global = true)]
    pub(crate) all: bool,
    /// In which form it is printed.
    #[command(flatten)]
    pub(crate) form: FormArgs,
}

/// In which form a simulation is printed, if not as figures; one at most.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct FormArgs {
    /// Print one JSON object: ours, and the others in it
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print what happened when, as comma-separated values
    #[arg(long, global = true)]
    pub(crate) csv: bool,
    /// Print a plot
    #[arg(long, global = true)]
    pub(crate) svg: bool,
}

/// The scenarios.
#[derive(Debug, Subcommand)]
pub(crate) enum SimulateScenario {
    /// A steady load
    Overload {
        /// Arrivals, in times of what the workers can do
        #[arg(long, value_name = "X", default_value_t = 2.0)]
        times: f64,
        /// How long it is measured, after 15 s
        #[arg(long, value_name = "N", default_value = "60", value_parser = seconds)]
        seconds: Duration,
    },
    /// A load of 0.7, a higher one for a while, and 0.7 again
    Spike {
        /// The higher one, in times of what the workers can do
        #[arg(long, value_name = "X", default_value_t = 10.0)]
        times: f64,
        /// How long it lasts
        #[arg(long, value_name = "N", default_value = "10", value_parser = seconds)]
        seconds: Duration,
    },
    /// A load of 0.8, work that is slow for a while, and callers who try again three times
    RetryStorm {
        /// By which factor work is slower
        #[arg(long, value_name = "X", default_value_t = 4.0)]
        slower: f64,
        /// For how long
        #[arg(long, value_name = "N", default_value = "10", value_parser = seconds)]
        seconds: Duration,
        /// How callers try again
        #[arg(long, value_enum, default_value_t = Retries::InStep)]
        client: Retries,
    },
    /// A load of 0.8 and work that is slow for a while
    BrownOut {
        /// By which factor work is slower
        #[arg(long, value_name = "X", default_value_t = 4.0)]
        slower: f64,
        /// For how long
        #[arg(long, value_name = "N", default_value = "30", value_parser = seconds)]
        seconds: Duration,
    },
    /// Your own arrivals and service times: a CSV file with the columns at_ms, service_ms and, if you like, tier
    Trace {
        /// The file
        file: PathBuf,
    },
}

/// How callers try again.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Retries {
    /// All after the same pauses
    InStep,
    /// After pauses that are drawn
    Jitter,
    /// In step, but only a tenth as often as they succeed
    Budget,
    /// With jitter and budget, and when a refusal asks them to
    Ours,
}

impl From<Retries> for Callers {
    fn from(retries: Retries) -> Self {
        match retries {
            Retries::InStep => Self::IN_STEP,
            Retries::Jitter => Self::SPREAD,
            Retries::Budget => Self::THRIFTY,
            Retries::Ours => Self::OURS,
        }
    }
}

fn millis(text: &str) -> Result<Duration, String> {
    duration(text, 1e3, "milliseconds")
}

fn seconds(text: &str) -> Result<Duration, String> {
    duration(text, 1.0, "seconds")
}

fn duration(text: &str, per_second: f64, unit: &str) -> Result<Duration, String> {
    let number = text.parse::<f64>().ok().map(|number| number / per_second);
    let duration = number.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| format!("give a number of {unit}"))
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AlertsArgs {
    /// Acknowledge or silence.
    #[command(subcommand)]
    pub(crate) action: AlertsAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlertsAction {
    /// Take care of what a station shows: its alert is neither repeated nor escalated
    Acknowledge {
        #[command(flatten)]
        node: NodeArgs,
        /// The station, as `gemba board` shows it: line:payment
        station: Name,
    },
    /// Hear nothing of some stations for a while
    Silence {
        #[command(flatten)]
        node: NodeArgs,
        /// A station, or the beginning of names with a * behind it: pool:*
        stations: String,
        /// For so many minutes, a week at most; 0 ends a silence
        #[arg(long, value_name = "MINUTES", value_parser = value_parser!(u64).range(..=SILENCE_MAX.as_secs() / 60))]
        minutes: u64,
        /// Why; it stands in the receipt
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RebalanceArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AffinityArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// The group's name; one of the same name is replaced
    pub(crate) group: Name,
    /// The pool, as `gemba board` shows it
    #[arg(long, required_unless_present = "clear", requires = "key")]
    pub(crate) pool: Option<Name>,
    /// A key that belongs there; may be given several times
    #[arg(long, value_name = "KEY", requires = "pool")]
    pub(crate) key: Vec<String>,
    /// Why; it stands in the receipt
    #[arg(long, value_name = "TEXT", requires = "pool")]
    pub(crate) why: Option<String>,
    /// End the group
    #[arg(long, conflicts_with = "pool")]
    pub(crate) clear: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BaselineArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// The line, as `gemba board` shows it
    pub(crate) line: Name,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// The number of the receipt, as `gemba receipts` shows it
    #[arg(value_parser = receipt_number)]
    pub(crate) receipt: u64,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ReviewArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// With or without the # that stands before it everywhere.
fn receipt_number(text: &str) -> Result<u64, String> {
    let number = text.strip_prefix('#').unwrap_or(text).parse();
    number.ok().filter(|number| 0 < *number).ok_or_else(|| "give the number of a receipt, such as 42".into())
}

fn page_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(limit @ 1..=Client::RECEIPTS_MAX) => Ok(limit),
        Ok(_) | Err(_) => {
            Err(format!("give a number from 1 to {}; page on with --after", Client::RECEIPTS_MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn wrong_values_are_refused_where_they_are_typed() {
        for line in [
            "gemba kill plant/board",
            "gemba halt plant/pools",
            "gemba cord pull two/words",
            "gemba breaker payment",
            "gemba breaker payment ajar",
            "gemba receipts --limit 0",
            "gemba receipts --limit 1001",
            "gemba tree --depth -1",
            "gemba nonsense",
            "gemba demo --rate 0",
            "gemba demo --rate 10001",
            "gemba why 0",
            "gemba why first",
            "gemba alerts silence pool:*",
            "gemba alerts silence pool:* --minutes 10081",
            "gemba demo --inspect somewhere",
            "gemba simulate",
            "gemba simulate overload --seconds -1",
            "gemba simulate spike --service-ms many",
            "gemba simulate retry-storm --client shy",
            "gemba simulate trace",
            "gemba affinity large",
            "gemba affinity large --pool work",
            "gemba affinity large --key ann",
            "gemba affinity large --pool work --key ann --clear",
        ] {
            assert!(Args::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
        for line in [
            "gemba demo --seconds 20 --rate 500 --kill-every 200 --seed 7 --json",
            "gemba kill /plant/board --url http://127.0.0.1:1",
            "gemba halt /plant/pools/payment --why smoke",
            "gemba resume /plant/pools/payment",
            "gemba cord pull payment --why smoke",
            "gemba breaker payment half-open --why mended",
            "gemba receipts --limit 1000 --after 7 --path / --follow --json",
            "gemba simulate overload --times 10 --seed 7 --json",
            "gemba simulate --workers 4 brown-out --slower 3 --seconds 5 --service-ms 12.5 --cv 0 --csv",
            "gemba simulate retry-storm --client ours --deadline-ms 2000 --all",
            "gemba simulate trace arrivals.csv --svg",
            "gemba why #42 --json",
            "gemba review",
            "gemba health --json",
            "gemba alerts acknowledge line:payment",
            "gemba alerts silence pool:* --minutes 30 --why maintenance",
            "gemba baseline payment",
            "gemba rebalance",
            "gemba reload --json",
            "gemba affinity large --pool work --key ann --key ben --why vip",
            "gemba affinity large --clear",
            "gemba tree --token sixteen-letters! --depth 2",
        ] {
            assert!(Args::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_the_page_of_trouble_tells_people_to_type_can_be_typed() {
        let page = include_str!("../../../docs/trouble.md");
        let quoted = page.split('`').skip(1).step_by(2);
        let mut seen = 0;
        for line in quoted.filter(|line| line.starts_with("gemba ")) {
            // Words in quotes are one; what a pipe leads to is somebody else's.
            let ours = line.split_once(" | ").map_or(line, |(ours, _)| ours);
            let words: Vec<_> = ours
                .split('"')
                .enumerate()
                .flat_map(|(n, part)| if n % 2 == 0 { part.split_whitespace().collect() } else { vec![part] })
                .collect();
            // "`gemba why` on the receipt" leaves out which.
            let whole = if matches!(words[..], [_, "why" | "kill" | "halt"]) { continue } else { words };
            assert!(Args::try_parse_from(whole).is_ok(), "{line}");
            seen += 1;
        }
        assert!(10 < seen, "{seen} commands were found");
    }
}
