//! Watches that the table of a splitter is never followed by an older one.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::host;
use crate::torture::stage::Ground;
use crate::torture::witness;

/// How often each splitter is asked.
const LOOK: Duration = Duration::from_millis(25);

/// What was seen of the splitters' tables.
#[derive(Debug, Default)]
pub(crate) struct Generations {
    /// The last number of each life of a splitter.
    last: HashMap<String, u64>,
    /// How many different numbers there were.
    pub(crate) seen: u64,
    /// Each step back, in words.
    pub(crate) back: Vec<String>,
}

impl Generations {
    fn note(&mut self, region: &str, life: String, generation: u64) {
        let last = self.last.insert(life, generation);
        self.seen += u64::from(last != Some(generation));
        if let Some(last) = last
            && generation < last
        {
            self.back.push(format!("the table of {region} went back from {last} to {generation}"));
        }
    }
}

/// Watches until it is stopped.
#[derive(Debug)]
pub(crate) struct Fence {
    stop: watch::Sender<bool>,
    task: JoinHandle<Generations>,
}

impl Fence {
    /// Watches the splitters of these regions.
    pub(crate) fn watch(grounds: Vec<Ground>) -> Self {
        let (stop, stopping) = watch::channel(false);
        Self { stop, task: tokio::spawn(look(grounds, stopping)) }
    }

    /// What was seen.
    pub(crate) async fn stop(self) -> Generations {
        self.stop.send_replace(true);
        self.task.await.unwrap_or_default()
    }
}

async fn look(grounds: Vec<Ground>, mut stopping: watch::Receiver<bool>) -> Generations {
    let (client, mut generations) = (host::client(None), Generations::default());
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return generations,
            _ = ticks.tick() => {}
        }
        for ground in &grounds {
            // One that is dead has no table.
            if let Ok((life, generation)) = witness::generation(&client, ground.admin).await {
                generations.note(ground.name, life, generation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_is_one_within_a_life() {
        let mut generations = Generations::default();
        for (life, generation) in [("a", 1), ("a", 2), ("a", 2), ("b", 0), ("b", 5)] {
            generations.note("us-west", life.to_owned(), generation);
        }
        assert_eq!((generations.seen, generations.back.len()), (4, 0));
        generations.note("us-west", "b".to_owned(), 4);
        assert_eq!(generations.back, ["the table of us-west went back from 5 to 4"]);
    }
}
