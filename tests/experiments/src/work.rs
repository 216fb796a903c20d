//! The work itself: sleep, or keep a processor busy.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A piece of work.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Waits, as for a downstream.
    Sleep(Duration),
    /// Keeps a processor busy for as long as this would take if nobody else wanted it.
    Spin(Duration),
    /// Waits, and longer if it begins in a bad time.
    SleepIn { time: Duration, from: Instant, to: Instant, slower: f64 },
    /// Is done.
    None,
}

impl Work {
    /// Does it; how long it took.
    pub(crate) async fn run(self) -> Duration {
        let begun = Instant::now();
        match self {
            Self::Sleep(time) => tokio::time::sleep(time).await,
            Self::SleepIn { time, from, to, slower } => {
                let is_slow = (from..to).contains(&begun);
                tokio::time::sleep(if is_slow { time.mul_f64(slower) } else { time }).await;
            }
            Self::None => {}
            Self::Spin(time) => {
                let rounds = (time.as_secs_f64() * rounds_per_s()) as u64;
                let _ = tokio::task::spawn_blocking(move || spin(rounds)).await;
            }
        }
        begun.elapsed()
    }
}

/// Keeps this thread busy for that many rounds.
pub(crate) fn spin(rounds: u64) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for round in 0..rounds {
        state = black_box(state.rotate_left(7) ^ round);
    }
}

/// Rounds of [`spin`] a second, on a processor of one's own: the best of some tries.
pub(crate) fn rounds_per_s() -> f64 {
    const ROUNDS: u64 = 2_000_000;
    static PER_S: OnceLock<f64> = OnceLock::new();
    *PER_S.get_or_init(|| {
        let tries = (0..20).map(|_| {
            let begun = Instant::now();
            spin(ROUNDS);
            begun.elapsed().as_secs_f64()
        });
        ROUNDS as f64 / tries.fold(f64::INFINITY, f64::min)
    })
}
