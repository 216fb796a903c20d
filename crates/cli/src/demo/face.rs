//! How the demonstration shows itself: a screen, a line a second, or not at all.

use std::io::{self, IsTerminal};
use std::time::Duration;

use gemba::Client;
use gemba::light::Light;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::demo::overseer::{Loss, oversee};
use crate::demo::pay::Acknowledged;
use crate::demo::screen::{self, Hands};
use crate::demo::stage::Books;
use crate::demo::tally::Counts;
use crate::demo::watch::Seen;
use crate::demo::{Phase, until};

/// What a face reads, and what its keys reach.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) counts: watch::Receiver<Counts>,
    pub(crate) seen: watch::Receiver<Seen>,
    /// Counted up by whoever kills a worker.
    pub(crate) killed: watch::Sender<u64>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) inspector: Client,
    pub(crate) stops: mpsc::Sender<()>,
    pub(crate) acknowledged: mpsc::Receiver<Acknowledged>,
    pub(crate) books: Books,
    pub(crate) rate: u32,
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    /// Nothing: the JSON object at the end is all.
    Silent,
    /// A line a second, for logs and pipes.
    Lines,
    /// The whole terminal.
    Screen,
}

impl Face {
    /// The face that fits: a screen needs a terminal at both ends.
    pub(crate) fn choose(json: bool) -> Self {
        if json {
            Self::Silent
        } else if io::stdout().is_terminal() && io::stdin().is_terminal() {
            Self::Screen
        } else {
            Self::Lines
        }
    }

    /// Shows what the ports tell, in tasks that end when the demonstration is over.
    pub(crate) fn start(self, ports: Ports, tasks: &mut JoinSet<()>) -> io::Result<()> {
        if self == Self::Silent {
            return Ok(());
        }
        let (found, loss) = watch::channel(None);
        tasks.spawn(oversee(ports.books, ports.acknowledged, found, ports.phase.clone()));
        let feed = Feed {
            counts: ports.counts,
            seen: ports.seen,
            killed: ports.killed.subscribe(),
            loss,
            phase: ports.phase,
            rate: ports.rate,
            started: Instant::now(),
        };
        if self == Self::Screen {
            tasks.spawn(screen::open(feed, Hands::new(ports.inspector, ports.killed), ports.stops)?);
        } else {
            tasks.spawn(lines(feed));
        }
        Ok(())
    }
}

/// Everything there is to show, as it stands now.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    pub(crate) counts: watch::Receiver<Counts>,
    pub(crate) seen: watch::Receiver<Seen>,
    pub(crate) killed: watch::Receiver<u64>,
    pub(crate) loss: watch::Receiver<Option<Loss>>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) rate: u32,
    pub(crate) started: Instant,
}

async fn lines(feed: Feed) {
    let mut phase = feed.phase.clone();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            biased;
            () = until(&mut phase, Phase::Over) => return,
            _ = ticks.tick() => {}
        }
        let light = feed.seen.borrow().board.as_ref().map(|board| board.overall);
        let (counts, killed, loss) =
            (feed.counts.borrow().clone(), *feed.killed.borrow(), *feed.loss.borrow());
        println!("{}", line(feed.started.elapsed(), light, &counts, killed, loss));
    }
}

/// One line of status.
fn line(
    elapsed: Duration,
    light: Option<Light>,
    counts: &Counts,
    killed: u64,
    found: Option<Loss>,
) -> String {
    let light = light.map_or("? unknown".to_owned(), |light| format!("{} {}", light.glyph(), light.word()));
    let lost = found.map_or("?".to_owned(), |loss| (loss.lost + loss.charged_twice).to_string());
    format!(
        "{:>4} s {light} sent {} answered {} p50 {:.1} ms p99 {:.1} ms killed {killed} lost {lost}",
        elapsed.as_secs(),
        counts.submitted,
        counts.answered(),
        counts.p50_ms,
        counts.p99_ms
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_status_fits_80_columns() {
        let counts = Counts {
            submitted: 200_000,
            succeeded: 199_990,
            p50_ms: 4.1,
            p99_ms: 12.04,
            ..Counts::default()
        };
        let loss = Some(Loss { lost: 0, charged_twice: 0 });
        let text = line(Duration::from_secs(1_000), Some(Light::Green), &counts, 5_000, loss);
        assert_eq!(
            text,
            "1000 s ● normal sent 200000 answered 199990 p50 4.1 ms p99 12.0 ms killed 5000 lost 0"
        );
        assert!(
            line(Duration::ZERO, None, &Counts::default(), 0, None).starts_with("   0 s ? unknown sent 0")
        );
    }
}
