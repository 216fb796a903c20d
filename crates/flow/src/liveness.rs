//! The roll call of a pool: which of its workers are alive, all asked at once.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use gemba_core::exit::Incarnation;
use gemba_core::name::ActorPath;
use gemba_core::sys::StatusView;
use gemba_kernel::System;

/// What each worker had in hand when it was asked: which message, and for how long; `None` for one that waits.
#[derive(Debug, Default)]
pub(crate) struct Roll(HashMap<(ActorPath, Incarnation), Option<(u64, Duration)>>);

impl Roll {
    /// Asks all workers at once. Each has [`STATE_TIMEOUT`](gemba_kernel::STATE_TIMEOUT) to say something; what it
    /// has in hand is read without it, so one that works does not hold up the answer. One that is gone, or that
    /// somebody suspended, is missing.
    pub(crate) async fn call(system: &System, workers: &[ActorPath]) -> Self {
        let ask = async |path: &ActorPath| system.sys(path).ok()?.status().await.ok();
        let answers = join_all(workers.iter().map(ask)).await;
        let awake = answers.into_iter().flatten().filter(|status| !status.suspended);
        let in_hand = |status: StatusView| {
            let message = status.busy.map(|busy| (busy.message, Duration::from_millis(busy.for_ms)));
            ((status.path, status.incarnation), message)
        };
        Self(awake.map(in_hand).collect())
    }

    /// How many are alive: all that answered, but those that have had the same message in hand since `before` and
    /// for longer than `patience`.
    pub(crate) fn alive(&self, before: &Self, patience: Duration) -> u32 {
        let hangs = |(life, now): (&(ActorPath, Incarnation), &Option<(u64, Duration)>)| {
            let then = before.0.get(life).copied().flatten().map(|(message, _)| message);
            now.is_some_and(|(message, lasted)| then == Some(message) && patience < lasted)
        };
        self.0.iter().filter(|(life, now)| !hangs((life, now))).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker: its path, its life, and which message it has had in hand for how many seconds.
    type Said = (&'static str, u64, Option<(u64, u64)>);

    fn roll(workers: &[Said]) -> Roll {
        let worker = |(path, life, in_hand): &Said| {
            let in_hand = in_hand.map(|(message, seconds)| (message, Duration::from_secs(seconds)));
            ((path.parse().unwrap(), Incarnation(*life)), in_hand)
        };
        Roll(workers.iter().map(worker).collect())
    }

    #[test]
    fn who_has_had_the_same_message_in_hand_since_the_last_call_is_not_alive() {
        let seven = Some((7, 5));
        let before = roll(&[("/a", 1, seven), ("/b", 2, seven), ("/c", 3, None), ("/d", 4, seven)]);
        let later = Some((7, 35));
        let now = roll(&[("/a", 1, later), ("/b", 2, Some((8, 35))), ("/c", 3, None), ("/d", 5, later)]);
        let patience = Duration::from_secs(30);
        assert_eq!(now.alive(&before, patience), 3, "/a hangs");
        assert_eq!(now.alive(&before, 2 * patience), 4, "jobs take as long as that");
        assert_eq!(now.alive(&Roll::default(), patience), 4);
    }
}
