//! The play: deliveries and orders, the manager's deaths in the middle of them, and what must be true after each.

use std::collections::BTreeSet;
use std::time::Duration;

use gemba::rollout::State;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::client::{Client, ClientError};
use crate::demo::stage::{StageError, unix_ms};
use crate::policy::Strategy;
use crate::torture::moments::STEP_MAX;
use crate::torture::plan::{Dice, Fault, Moment};
use crate::torture::stage::{BAD, BROKEN, GOOD, SERVICE, Stage};
use crate::torture::verdict::{Answer, Asked, Ordered};
use crate::torture::witness::{self, Blind, Witness};

/// How often it is looked at what is waited for: often enough to see a step before it is done.
pub(crate) const LOOK: Duration = Duration::from_millis(1);

/// How often it is looked at what may be seen late: a look at every process of the system is not cheap.
const LOOK_CALMLY: Duration = Duration::from_millis(25);

/// How long the tables may take to be what the record says, after a manager was killed.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// How long a delivery may take to its end, a request for one to be accepted, and processes to end: far longer than
/// the settings of the stage allow, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long to wait before a refused request is made again.
const AGAIN: Duration = Duration::from_millis(50);

/// Ids that are asked for a second time at the end.
const ASKED_AGAIN: usize = 8;

/// Why the play cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stuck {
    #[error("the manager was killed and does not start")]
    Stage(#[from] StageError),
    #[error("it cannot be told what is true")]
    Blind(#[from] Blind),
    #[error("the system does not do its part")]
    System(#[from] std::io::Error),
    #[error("a request was not answered by a manager that runs")]
    Client(#[from] ClientError),
    #[error("{0}")]
    Late(String),
}

/// One death of the manager.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death {
    pub(crate) moment: Moment,
    /// From the kill until the tables were what the record says.
    pub(crate) recovery: Duration,
    /// Managers that were killed: two if the next one died at once.
    pub(crate) managers: u64,
}

/// What was done, and what was seen to be wrong.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) asked: Vec<Asked>,
    pub(crate) ordered: Vec<Ordered>,
    pub(crate) deaths: Vec<Death>,
    pub(crate) instance_kills: u64,
    /// When splitters were killed, and when everything was as before, in milliseconds since 1970.
    pub(crate) splitter_kills: Vec<(u64, u64)>,
    /// Why requests for deliveries were refused and made again, each time.
    pub(crate) refusals: Vec<String>,
    pub(crate) orphans: u64,
    pub(crate) wrong: Vec<String>,
}

/// What was on its way to the manager when it died.
pub(crate) enum Pending {
    Nothing,
    Delivery(JoinHandle<Result<String, ClientError>>, &'static str),
    Order(JoinHandle<Result<String, ClientError>>),
}

/// Who plays.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) stage: Stage,
    pub(crate) witness: Witness,
    pub(crate) account: Account,
    pub(crate) dice: Dice,
    seed: u64,
}

impl Player {
    /// A player on this stage.
    pub(crate) fn new(stage: Stage, seed: u64, dice: Dice) -> Result<Self, Blind> {
        let witness = Witness::new(&stage)?;
        Ok(Self { stage, witness, account: Account::default(), dice, seed })
    }

    /// Brings the first version up.
    pub(crate) async fn open(&mut self) -> Result<(), Stuck> {
        let asked = self.note_asked(GOOD[0]);
        self.ask(asked, Strategy::First).await?;
        self.close().await
    }

    /// One death of the manager, and what must be true after it.
    pub(crate) async fn strike(&mut self, fault: Fault) -> Result<(), Stuck> {
        let mut managers = 1;
        let pending = self.lead_to(fault.moment).await?;
        let before = fault.victim.filter(|(_, is_before)| *is_before);
        let mut splitter_killed = self.kill_victim(before.map(|(victim, _)| victim)).await?;
        let killed = Instant::now();
        self.stage.kill().await?;
        // Nothing moves now. A splitter that died with it has no table.
        if let Ok(tables) = self.witness.tables().await {
            self.account.wrong.extend(witness::unwritten(&self.witness.history()?, &tables));
        }
        if fault.moment == Moment::StartingUp {
            self.stage.spawn()?;
            self.nap(300).await;
            self.stage.kill().await?;
            managers += 1;
        }
        let after = fault.victim.filter(|(_, is_before)| !is_before);
        splitter_killed = self.kill_victim(after.map(|(victim, _)| victim)).await?.or(splitter_killed);
        self.stage.start().await?;
        self.settle(pending).await?;
        self.follow_record().await?;
        self.account.deaths.push(Death { moment: fault.moment, recovery: killed.elapsed(), managers });
        if let Some(killed) = splitter_killed {
            self.account.splitter_kills.push((killed, unix_ms()));
        }
        Ok(())
    }

    /// What was on its way is asked for again under its own id; an order is not given twice.
    async fn settle(&mut self, pending: Pending) -> Result<(), Stuck> {
        match pending {
            Pending::Nothing => {}
            Pending::Delivery(asking, version) => {
                let asked = self.account.asked.len() - 1;
                let answer = asking.await.expect("it does not panic, and nobody ends it");
                self.account.asked[asked].is_accepted = answer.is_ok();
                debug_assert_eq!(self.account.asked[asked].version, version);
                // Also after a yes: the same id is the same delivery.
                self.ask(asked, Strategy::Canary).await?;
            }
            Pending::Order(ordering) => {
                let answer = match ordering.await.expect("it does not panic, and nobody ends it") {
                    Ok(_) => Answer::Done,
                    Err(ClientError::Problem(_)) => Answer::Refused,
                    Err(ClientError::Silent(_)) => Answer::None,
                };
                if let Some(ordered) = self.account.ordered.last_mut() {
                    ordered.answer = answer;
                }
            }
        }
        Ok(())
    }

    /// Waits until the splitters do what the record says.
    async fn follow_record(&mut self) -> Result<(), Stuck> {
        let began = Instant::now();
        let mut why = "a splitter does not answer".to_owned();
        while began.elapsed() < RECOVERY_MAX {
            let before = self.witness.record()?;
            // One that was killed has to come back first.
            if let Ok(tables) = self.witness.tables().await {
                match witness::difference(&before, &tables) {
                    None if self.witness.record()? == before => return Ok(()),
                    None => {}
                    Some(differs) => why = differs,
                }
            }
            sleep(LOOK).await;
        }
        Err(Stuck::Late(format!("{RECOVERY_MAX:?} after the manager started again, {why}")))
    }

    /// Nothing is delivered, and exactly what should run does.
    pub(crate) async fn rest(&mut self) -> Result<(), Stuck> {
        if self.witness.record()?.delivery.is_some() && self.dice.one_in(2) {
            self.order("abort").await?;
        }
        self.over().await?;
        let stable = self.witness.record()?.stable;
        let homes = witness::homes_of(stable.as_deref());
        let is_there = |witness: &Witness| Ok(witness::misfits(&witness.processes(), &homes).is_empty());
        if !self.wait_calmly(is_there).await? {
            let misfits = witness::misfits(&self.witness.processes(), &homes);
            self.account.orphans += misfits.len() as u64;
            return Err(Stuck::Late(format!("{PATIENCE:?} after the last delivery, {}", misfits.join(", "))));
        }
        let told = |witness: &Witness| {
            let processes = witness.processes();
            Ok(processes.iter().all(|process| witness.written_pid(&process.home) == Some(process.pid)))
        };
        if !self.wait_calmly(told).await? {
            return Err(Stuck::Late("a process runs whose number its manager did not write down".to_owned()));
        }
        self.follow_record().await
    }

    /// Waits until nothing is delivered and nothing waits; lets go on what is paused.
    pub(crate) async fn over(&mut self) -> Result<(), Stuck> {
        let began = Instant::now();
        loop {
            let (delivery, waiting) = (self.witness.record()?.delivery, self.witness.waiting()?);
            if delivery.is_none() && waiting == 0 {
                return Ok(());
            }
            if PATIENCE < began.elapsed() {
                let goes_on = delivery.map_or("nothing".to_owned(), |delivery| delivery.id);
                return Err(Stuck::Late(format!(
                    "after {PATIENCE:?}, {goes_on} is still delivered, and {waiting} wait"
                )));
            }
            if let Some(delivery) = delivery
                && delivery.rollout().is_some_and(|rollout| rollout.state() == State::Paused)
            {
                self.order("resume").await?;
            }
            sleep(LOOK_CALMLY).await;
        }
    }

    /// Something is delivered.
    pub(crate) async fn going(&mut self) -> Result<(), Stuck> {
        if self.witness.record()?.delivery.is_none() {
            self.rest().await?;
            self.begin().await?;
        }
        Ok(())
    }

    /// Asks for the next delivery.
    pub(crate) async fn begin(&mut self) -> Result<(), Stuck> {
        let version = self.version()?;
        let asked = self.note_asked(version);
        self.ask(asked, Strategy::Canary).await
    }

    /// Mostly a good version; none that runs, is delivered or waits already.
    pub(crate) fn version(&mut self) -> Result<&'static str, Stuck> {
        // What waits is read first: it leaves the queue in the write that makes it the one that is delivered.
        let waits = 0 < self.witness.waiting()?;
        let waiting = self.account.asked.last().filter(|_| waits).map(|asked| asked.version.as_str());
        let record = self.witness.record()?;
        let delivered = record.delivery.as_ref().map(|delivery| delivery.to.as_str());
        let taken = [record.stable.as_deref(), delivered, waiting];
        let is_free = |version: &&str| !taken.contains(&Some(*version));
        let good: Vec<_> = GOOD.into_iter().filter(is_free).collect();
        let drawn = match self.dice.below(10) {
            4.. if !good.is_empty() => self.dice.pick(&good),
            0 => BROKEN,
            _ => BAD,
        };
        let found = [drawn, BAD, BROKEN].into_iter().chain(good).find(is_free);
        Ok(found.expect("five versions, of which three at most are taken"))
    }

    pub(crate) fn note_asked(&mut self, version: &str) -> usize {
        let number = self.account.asked.len();
        let id = format!("torture-{}-{number}", self.seed);
        self.account.asked.push(Asked { id, version: version.to_owned(), is_accepted: false });
        number
    }

    /// Asks for a delivery until it is accepted.
    pub(crate) async fn ask(&mut self, asked: usize, strategy: Strategy) -> Result<(), Stuck> {
        let Asked { id, version, .. } = self.account.asked[asked].clone();
        let began = Instant::now();
        loop {
            match self.stage.client.begin(SERVICE, &version, strategy, Some(&id)).await {
                Ok(_) => {
                    self.account.asked[asked].is_accepted = true;
                    return Ok(());
                }
                Err(ClientError::Problem(problem)) if began.elapsed() < PATIENCE => {
                    self.account.refusals.extend(reasons(&problem));
                }
                Err(ClientError::Problem(problem)) => {
                    let why = reasons(&problem).join(", ");
                    return Err(Stuck::Late(format!("{version} is refused for {PATIENCE:?}: {why}")));
                }
                Err(silent) => return Err(silent.into()),
            }
            sleep(AGAIN).await;
        }
    }

    pub(crate) fn sign(&mut self) -> String {
        let by = format!("person {}", self.account.ordered.len());
        self.account.ordered.push(Ordered { by: by.clone(), answer: Answer::None });
        by
    }

    /// Gives an order to a manager that runs.
    pub(crate) async fn order(&mut self, order: &str) -> Result<(), Stuck> {
        let by = self.sign();
        let ordering = self.stage.client.order_by(SERVICE, order, Some(&by)).await;
        self.settle(Pending::Order(tokio::spawn(async { ordering }))).await
    }

    /// Waits for the end of the last delivery, and for rest.
    pub(crate) async fn close(&mut self) -> Result<(), Stuck> {
        self.over().await?;
        self.rest().await
    }

    /// The same ids once more, of old and of new deliveries: none of them is begun again.
    pub(crate) async fn ask_again(&mut self) -> Result<(), Stuck> {
        let before = self.witness.history()?;
        for _ in 0..ASKED_AGAIN {
            let asked = self.dice.below(self.account.asked.len() as u64) as usize;
            let Asked { id, version, .. } = self.account.asked[asked].clone();
            if let Err(error) = self.stage.client.begin(SERVICE, &version, Strategy::Canary, Some(&id)).await
            {
                self.account.wrong.push(format!("delivery {id} is over, and asking for it again: {error}"));
            }
        }
        if self.witness.history()? != before {
            self.account.wrong.push("a delivery that was over began again".to_owned());
        }
        Ok(())
    }

    /// Everything ends, in the middle of a delivery, and the manager is killed meanwhile; then it all ends.
    pub(crate) async fn down(&mut self) -> Result<(), Stuck> {
        self.begin().await?;
        self.nap(2_000).await;
        let before = self.witness.writes()?;
        let client: Client = self.stage.client.clone();
        let ending = tokio::spawn(async move { client.down().await });
        if self.dice.one_in(2) {
            let _ = self.wait(STEP_MAX, |witness| Ok(witness.writes()? != before)).await?;
        } else {
            self.nap(1_500).await;
        }
        self.stage.kill().await?;
        let _ = ending.await;
        self.stage.start().await?;
        self.stage.client.down().await?;
        let is_empty = self.wait_calmly(|witness| Ok(witness.processes().is_empty())).await?;
        if !is_empty {
            let left = witness::misfits(&self.witness.processes(), &BTreeSet::new());
            self.account.orphans += left.len() as u64;
            self.account.wrong.push(format!("after everything has ended, {}", left.join(", ")));
        }
        self.stage.stop().await?;
        Ok(())
    }

    /// Waits for something to be true; tells whether it came to be.
    pub(crate) async fn wait(
        &self,
        within: Duration,
        is_true: impl Fn(&Witness) -> Result<bool, Blind>,
    ) -> Result<bool, Blind> {
        self.wait_looking(LOOK, within, is_true).await
    }

    /// The same for what may be seen late.
    async fn wait_calmly(&self, is_true: impl Fn(&Witness) -> Result<bool, Blind>) -> Result<bool, Blind> {
        self.wait_looking(LOOK_CALMLY, PATIENCE, is_true).await
    }

    async fn wait_looking(
        &self,
        every: Duration,
        within: Duration,
        is_true: impl Fn(&Witness) -> Result<bool, Blind>,
    ) -> Result<bool, Blind> {
        let began = Instant::now();
        while !is_true(&self.witness)? {
            if within < began.elapsed() {
                return Ok(false);
            }
            sleep(every).await;
        }
        Ok(true)
    }

    /// A time of chance, below so many milliseconds.
    pub(crate) async fn nap(&mut self, below_ms: u64) {
        // In tenths, which is how short the ways between two steps are.
        sleep(Duration::from_micros(100 * self.dice.below(10 * below_ms))).await;
    }
}

/// The rules of a refusal that were violated, or what it says instead.
fn reasons(problem: &Value) -> Vec<String> {
    let violations = problem["violations"].as_array().into_iter().flatten();
    let rules: Vec<_> =
        violations.filter_map(|violation| violation["rule"].as_str().map(str::to_owned)).collect();
    if rules.is_empty() { vec![problem["detail"].as_str().unwrap_or("no reason").to_owned()] } else { rules }
}
