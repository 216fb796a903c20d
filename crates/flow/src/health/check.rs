//! Checks of a node's health, as their owner writes them down.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use gemba_core::health::{
    CheckRules, Found, Health, HealthError, HealthErrors, HealthRules, HealthRulesBuilder,
};
use gemba_core::name::{Name, NameError};
use gemba_core::time::Timestamp;
use tokio::task::JoinHandle;

use super::machine;

/// The share of all processors above which, over a minute, they are saturated. Source: S4-AND-03.
const PROCESSOR_MAX: f64 = 0.85;

/// The memory that the machine should still be able to give. Source: S4-LIM-03.
const MEMORY_FREE_MIN: u64 = 50 * 1_000_000;

/// The room that should be left on the disk.
const DISK_FREE_MIN: u64 = 256 * 1_000_000;

/// The share of a pool's queue from which on it is about to overflow.
const QUEUE_MAX: f64 = 0.9;

/// A question about something the node needs, and how much the answer counts.
///
/// It is asked every few seconds, beside all others. One that does not answer in time fails, as does one that
/// panics; one that still hangs is not asked again until it has ended, so that none pile up.
///
/// # Units and limits
///
/// A weight of 1 and 100 ms to answer, unless it says otherwise; see [`CheckRules`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gemba_flow::Check;
///
/// let gateway = Check::tcp("gateway", "gateway.internal:443").weight(3).within(Duration::from_secs(1));
/// let stock = Check::new("stock", || async {
///     // Whatever says whether it is well: a query, a request, a file.
///     Ok::<_, std::io::Error>("12 000 rows")
/// });
/// # let _ = (gateway, stock);
/// ```
#[derive(Clone)]
#[must_use = "a check is asked only if the plant has it"]
pub struct Check {
    name: String,
    weight: u32,
    must_pass: bool,
    within: Duration,
    look: Look,
}

/// How a check finds out.
#[derive(Clone)]
pub(crate) enum Look {
    Async(Arc<dyn Fn() -> BoxFuture<'static, Found> + Send + Sync>),
    Blocking(Arc<dyn Fn() -> Found + Send + Sync>),
}

impl Look {
    /// Begins to find out. What blocks has a thread of its own.
    pub(super) fn begin(&self) -> JoinHandle<Found> {
        match self.clone() {
            Self::Async(look) => tokio::spawn(async move { look().await }),
            Self::Blocking(look) => tokio::task::spawn_blocking(move || look()),
        }
    }
}

impl Check {
    /// A check that says what it sees, or what is wrong.
    pub fn new<F, T, E>(name: &str, look: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: fmt::Display,
        E: fmt::Display,
    {
        let look = Arc::new(look);
        let ask = move || -> BoxFuture<'static, Found> {
            let look = look.clone();
            Box::pin(async move { found(look().await) })
        };
        Self::of(name, Look::Async(Arc::new(ask)))
    }

    /// A check that blocks its thread while it looks, as what reads a file does.
    pub fn blocking<T: fmt::Display, E: fmt::Display>(
        name: &str,
        look: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Self {
        Self::of(name, Look::Blocking(Arc::new(move || found(look()))))
    }

    /// Whether something listens at `address`, as `host:port`. The connection is closed at once.
    pub fn tcp(name: &str, address: impl Into<String>) -> Self {
        let address: Arc<str> = address.into().into();
        Self::new(name, move || {
            let address = address.clone();
            async move {
                tokio::net::TcpStream::connect(&*address)
                    .await
                    .map(|_| format!("{address} answers"))
                    .map_err(|error| format!("{address}: {error}"))
            }
        })
    }

    fn of(name: &str, look: Look) -> Self {
        let CheckRules { weight, must_pass, within, .. } = CheckRules::new(placeholder());
        Self { name: name.to_owned(), weight, must_pass, within, look }
    }

    /// How much it counts.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// The node is degraded when this fails, whatever its weight.
    pub fn must_pass(mut self) -> Self {
        self.must_pass = true;
        self
    }

    /// How long it may take, at most as long as the time between two looks.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    fn rules(&self) -> Result<CheckRules, NameError> {
        let Self { weight, must_pass, within, .. } = *self;
        Ok(CheckRules { name: Name::new(&self.name)?, weight, must_pass, within })
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

fn placeholder() -> Name {
    Name::new("check").expect("a valid literal")
}

fn found<T: fmt::Display, E: fmt::Display>(found: Result<T, E>) -> Found {
    match found {
        Ok(says) => Ok(says.to_string().into()),
        Err(why) => Err(why.to_string().into()),
    }
}

/// What is checked about a node, and how often.
///
/// # Units and limits
///
/// By default `processor` (85 % over a minute), `memory` (50 MB that the machine can still give), `disk` (256 MB
/// left where the process was started) and `queue` (no pool's queue nine tenths full), every 5 s; what a check
/// weighs and when the node is degraded stands at [`HealthRules`].
#[derive(Debug, Clone)]
pub struct HealthSpec {
    rules: HealthRulesBuilder,
    machine: bool,
    disk: PathBuf,
    checks: Vec<Check>,
}

impl Default for HealthSpec {
    fn default() -> Self {
        Self { rules: HealthRules::builder(), machine: true, disk: ".".into(), checks: Vec::new() }
    }
}

impl HealthSpec {
    /// The checks of the machine and of the queues.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check.
    pub fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// How often checks are asked, and how they are weighed.
    pub fn rules(mut self, rules: HealthRulesBuilder) -> Self {
        self.rules = rules;
        self
    }

    /// How they are weighed unless a configuration says otherwise; `None` if these rules cannot be.
    pub(crate) fn own_rules(&self) -> Option<HealthRules> {
        self.rules.build().ok()
    }

    /// The disk that has to have room, by any folder on it.
    pub fn disk(mut self, folder: impl Into<PathBuf>) -> Self {
        self.disk = folder.into();
        self
    }

    /// Leaves the machine alone: neither processor, memory nor disk are read.
    pub fn without_machine(mut self) -> Self {
        self.machine = false;
        self
    }

    /// Checks everything, and says where each check gets its answers.
    pub(crate) fn build(&self) -> Result<(Health, Vec<Source>), HealthSpecError> {
        let rules = self.rules.build().map_err(HealthSpecError::Rules)?;
        let named = |name| CheckRules::new(Name::new(name).expect("a valid literal"));
        let (mut checks, mut sources) = (Vec::new(), Vec::new());
        if self.machine {
            checks.extend([named("processor"), named("memory")]);
            sources.extend([Source::Processor, Source::Memory]);
            let within = Duration::from_secs(1).min(rules.period());
            checks.push(CheckRules { within, ..named("disk") });
            sources.push(Source::Disk(disk(self.disk.clone())));
        }
        checks.push(named("queue"));
        sources.push(Source::Queue);
        for check in &self.checks {
            checks.push(check.rules().map_err(HealthSpecError::Name)?);
            sources.push(Source::Asked(check.look.clone()));
        }
        // The checks of the house answer within any period.
        for check in &mut checks[..sources.len() - self.checks.len()] {
            check.within = check.within.min(rules.period());
        }
        let health = Health::new(rules, checks, Timestamp::START).map_err(HealthSpecError::Rules)?;
        Ok((health, sources))
    }
}

fn disk(folder: PathBuf) -> Look {
    Look::Blocking(Arc::new(move || {
        let free = machine::disk_free(Path::new(&folder));
        let told = |free: u64| Arc::from(format!("{:.1} GB free", free as f64 / 1e9));
        match free {
            None => Ok("this system does not tell".into()),
            Some(free) if free < DISK_FREE_MIN => Err(told(free)),
            Some(free) => Ok(told(free)),
        }
    }))
}

/// What cannot be about the checks of a plant.
#[derive(Debug)]
pub(crate) enum HealthSpecError {
    Name(NameError),
    Rules(HealthErrors),
}

impl HealthSpecError {
    pub(crate) fn faults(self) -> Vec<Fault> {
        match self {
            Self::Name(error) => vec![Fault::Name(error)],
            Self::Rules(errors) => errors.0.into_iter().map(Fault::Rule).collect(),
        }
    }
}

/// One of them.
#[derive(Debug)]
pub(crate) enum Fault {
    Name(NameError),
    Rule(HealthError),
}

/// Where a check gets its answers.
#[derive(Clone)]
pub(crate) enum Source {
    Processor,
    Memory,
    Queue,
    Disk(Look),
    Asked(Look),
}

/// Whether the processors are saturated.
pub(super) fn processor(minute: Option<f64>, now: Option<f64>) -> Found {
    let percent = |ratio: f64| format!("{:.0} %", ratio * 100.0);
    match (minute, now) {
        (Some(minute), _) if PROCESSOR_MAX < minute => {
            Err(format!("{} over the last minute", percent(minute)).into())
        }
        (Some(minute), _) => Ok(format!("{} over the last minute", percent(minute)).into()),
        (None, Some(now)) => Ok(format!("{} now, not yet watched for a minute", percent(now)).into()),
        (None, None) => Ok("not read yet".into()),
    }
}

/// Whether the machine has memory left.
pub(super) fn memory(available: Option<u64>, own: Option<u64>) -> Found {
    let mega = |bytes: u64| bytes / 1_000_000;
    let own = own.map(|own| format!(", {} MB are ours", mega(own))).unwrap_or_default();
    match available {
        None => Ok(format!("this system does not tell{own}").into()),
        Some(free) if free < MEMORY_FREE_MIN => Err(format!("{} MB available{own}", mega(free)).into()),
        Some(free) => Ok(format!("{} MB available{own}", mega(free)).into()),
    }
}

/// Whether a queue is about to overflow: the fullest, of those given by name, depth and bound.
pub(super) fn queue<'a>(queues: impl Iterator<Item = (&'a str, u32, u32)>) -> Found {
    let full = |depth: u32, bound: u32| f64::from(depth) / f64::from(bound.max(1));
    let fullest = queues.max_by(|a, b| full(a.1, a.2).total_cmp(&full(b.1, b.2)));
    match fullest {
        None => Ok("there is no pool".into()),
        Some((pool, depth, bound)) => {
            let says = format!("{depth} of {bound} in pool {pool}").into();
            if QUEUE_MAX <= full(depth, bound) { Err(says) } else { Ok(says) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_its_threshold_fails_and_what_is_at_it_does_not() {
        assert!(processor(Some(0.85), None).is_ok());
        assert!(processor(Some(0.851), None).is_err());
        assert!(processor(None, Some(1.0)).is_ok(), "a moment is no minute");
        assert!(memory(Some(50_000_000), None).is_ok());
        assert!(memory(Some(49_999_999), None).is_err());
        assert!(queue([("a", 89, 100), ("b", 10, 1000)].into_iter()).is_ok());
        assert_eq!(queue([("a", 1, 100), ("b", 9, 10)].into_iter()), Err("9 of 10 in pool b".into()));
        assert!(queue(std::iter::empty()).is_ok());
    }

    #[test]
    fn a_plant_is_told_of_every_check_that_cannot_be() {
        let check = |name| Check::blocking(name, || Ok::<_, String>("fine"));
        let spec = HealthSpec::new()
            .check(check("disk"))
            .check(check("a").weight(0))
            .check(check("b").within(Duration::from_secs(6)));
        let faults = spec.build().err().map(HealthSpecError::faults).unwrap();
        assert_eq!(faults.len(), 3, "{faults:?}");
        let named = HealthSpec::new().check(check("two words"));
        assert!(matches!(named.build(), Err(HealthSpecError::Name(_))));
    }
}
