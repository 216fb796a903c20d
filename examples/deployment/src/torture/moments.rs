//! The way to each moment at which the manager dies, and who dies with it.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::delivery::Delivery;
use crate::demo::stage::unix_ms;
use crate::policy::Strategy;
use crate::torture::plan::{Moment, Victim};
use crate::torture::play::{LOOK, PATIENCE, Pending, Player, Stuck};
use crate::torture::stage::{BAD, INSTANCES, REGIONS, SERVICE};
use crate::torture::witness::Process;

/// How long is waited for a step of a delivery, which may be held.
pub(crate) const STEP_MAX: Duration = Duration::from_secs(5);

impl Player {
    /// Brings everything to where the manager is to die.
    pub(crate) async fn lead_to(&mut self, moment: Moment) -> Result<Pending, Stuck> {
        match moment {
            Moment::Anything => {
                self.going().await?;
                self.meddle().await?;
                self.nap(2_500).await;
            }
            Moment::StartingUp => {
                self.going().await?;
                self.nap(1_000).await;
            }
            Moment::Asked => {
                self.rest().await?;
                let version = self.version()?;
                let asked = self.note_asked(version);
                let id = self.account.asked[asked].id.clone();
                let client = self.stage.client.clone();
                let asking =
                    tokio::spawn(
                        async move { client.begin(SERVICE, version, Strategy::Canary, Some(&id)).await },
                    );
                self.nap(12).await;
                return Ok(Pending::Delivery(asking, version));
            }
            Moment::Accepted => {
                self.rest().await?;
                self.begin().await?;
            }
            Moment::Superseded => {
                self.going().await?;
                self.nap(1_500).await;
                self.begin().await?;
                self.nap(20).await;
            }
            Moment::Starting => {
                self.rest().await?;
                self.begin().await?;
                self.nap(400).await;
            }
            Moment::Written => {
                self.going().await?;
                let (before, _) = self.witness.last_step()?;
                let _ = self.wait(STEP_MAX, |witness| Ok(before < witness.last_step()?.0)).await?;
            }
            Moment::Told => {
                self.going().await?;
                let tables = async || self.witness.tables().await.ok();
                let (before, began) = (tables().await, Instant::now());
                while tables().await == before && began.elapsed() < STEP_MAX {
                    sleep(LOOK).await;
                }
            }
            Moment::TakenBack => {
                self.rest().await?;
                let asked = self.note_asked(BAD);
                self.ask(asked, Strategy::Canary).await?;
                let back = format!("{BAD} back to 0 %");
                if !self.wait(PATIENCE, |witness| Ok(witness.last_step()?.1.starts_with(&back))).await? {
                    return Err(Stuck::Late(format!("{BAD} was not taken back within {PATIENCE:?}")));
                }
            }
            Moment::Draining => {
                self.going().await?;
                self.over().await?;
                self.nap(1_500).await;
            }
            Moment::Ordered => {
                self.going().await?;
                let _ =
                    self.wait(STEP_MAX, |witness| Ok(splits(witness.record()?.delivery.as_ref()))).await?;
                let order = self.dice.pick(&["pause", "promote", "abort"]);
                let order = if order == "promote" && self.is_going_to(BAD)? { "pause" } else { order };
                let (by, client) = (self.sign(), self.stage.client.clone());
                let ordering = tokio::spawn(async move { client.order_by(SERVICE, order, Some(&by)).await });
                self.nap(12).await;
                return Ok(Pending::Order(ordering));
            }
        }
        Ok(Pending::Nothing)
    }

    /// Gives an order to a delivery, now and then.
    async fn meddle(&mut self) -> Result<(), Stuck> {
        if self.dice.one_in(2) {
            return Ok(());
        }
        let _ = self.wait(STEP_MAX, |witness| Ok(splits(witness.record()?.delivery.as_ref()))).await?;
        if self.dice.one_in(2) && !self.is_going_to(BAD)? {
            return self.order("promote").await;
        }
        self.order("pause").await?;
        self.nap(300).await;
        if self.dice.one_in(2) { self.order("resume").await } else { Ok(()) }
    }

    fn is_going_to(&self, version: &str) -> Result<bool, Stuck> {
        Ok(self.witness.record()?.delivery.is_some_and(|delivery| delivery.to == version))
    }

    /// Kills it; a splitter's death is told with its time.
    pub(crate) async fn kill_victim(&mut self, victim: Option<Victim>) -> Result<Option<u64>, Stuck> {
        let process = match victim {
            None => return Ok(None),
            Some(Victim::Splitter) => {
                let region = self.dice.pick(&REGIONS);
                self.process(&format!("splitters/{SERVICE}.{region}"))
            }
            Some(Victim::Instance) => self.spare_instance().await,
        };
        let Some(pid) = process.and_then(|process| Pid::from_raw(i32::try_from(process.pid).ok()?)) else {
            return Ok(None);
        };
        let killed = unix_ms();
        kill_process(pid, Signal::KILL).map_err(std::io::Error::from)?;
        let is_splitter = victim == Some(Victim::Splitter);
        self.account.instance_kills += u64::from(!is_splitter);
        self.nap(300).await;
        Ok(is_splitter.then_some(killed))
    }

    /// An instance of a version that has others to answer in its place.
    async fn spare_instance(&mut self) -> Option<Process> {
        let tables = self.witness.tables().await.ok()?;
        let spare = REGIONS.iter().zip(&tables).flat_map(|(region, table)| {
            let whole = table.versions.iter().filter(|share| share.instances.len() == INSTANCES as usize);
            whole.map(move |share| format!("instances/{SERVICE}/{region}.{}", share.version))
        });
        let spare: Vec<_> = spare.collect();
        if spare.is_empty() {
            return None;
        }
        let number = 1 + self.dice.below(u64::from(INSTANCES));
        let version = self.dice.below(spare.len() as u64) as usize;
        self.process(&format!("{}.{number}", spare[version]))
    }

    fn process(&self, home: &str) -> Option<Process> {
        self.witness.processes().into_iter().find(|process| process.home == home)
    }
}

fn splits(delivery: Option<&Delivery>) -> bool {
    delivery.is_some_and(|delivery| delivery.rollout().is_some())
}
