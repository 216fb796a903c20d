//! Kills a worker now and then, to see whether anybody notices.

use std::time::Duration;

use gemba::name::ActorPath;
use gemba::view::{ActorState, TreeView};
use gemba::{Client, ClientError};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::demo::seed::Dice;
use crate::demo::watch::Seen;
use crate::demo::{Phase, until};

/// Who stands in the receipts.
pub(crate) const BY: &str = "gemba demo";

/// How many workers are tried before a kill is left out: a victim may be restarting just now.
const TRIES_MAX: usize = 5;

/// Kills a worker, chosen by `dice`, every `period` while the demonstration runs; publishes how many it killed.
pub(crate) async fn hunt(
    client: Client,
    period: Duration,
    mut dice: Dice,
    seen: watch::Receiver<Seen>,
    killed: watch::Sender<u64>,
    mut phase: watch::Receiver<Phase>,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once; nothing is killed before anything works.
    ticks.tick().await;
    loop {
        tokio::select! {
            biased;
            () = until(&mut phase, Phase::Stopping) => return,
            _ = ticks.tick() => {}
        }
        let Some(tree) = seen.borrow().tree.clone() else { continue };
        let workers = workers(&tree);
        for _ in 0..TRIES_MAX.min(workers.len()) {
            let victim = workers[dice.below(workers.len() as u64) as usize];
            match client.kill(victim, BY).await {
                Ok(_) => {
                    killed.send_modify(|killed| *killed += 1);
                    break;
                }
                // It is gone or restarting: the tree was a moment old.
                Err(ClientError::NotFound { .. } | ClientError::Failed { .. }) => {}
                // The inspector itself has trouble, which the watcher tells.
                Err(_) => break,
            }
        }
    }
}

/// Whether a worker of a pool stands there: `/plant/pools/POOL/workers/WORKER`.
pub(crate) fn is_worker(path: &ActorPath) -> bool {
    let segments: Vec<_> = path.as_str().split('/').collect();
    matches!(segments[..], ["", "plant", "pools", _, "workers", _])
}

/// The running workers of all pools.
fn workers(tree: &TreeView) -> Vec<&ActorPath> {
    let running = tree.root.iter().filter(|actor| actor.state == ActorState::Running);
    running.map(|actor| &actor.path).filter(|path| is_worker(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::tree_sample;

    #[test]
    fn only_running_workers_are_hunted() {
        let tree = tree_sample();
        let found: Vec<_> = workers(&tree).iter().map(|path| path.as_str()).collect();
        assert_eq!(found, ["/plant/pools/payment/workers/1"], "the second is down, the others no workers");
    }
}
