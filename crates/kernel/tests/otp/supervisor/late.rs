//! Reports that come after something else has happened, and answers that nobody waits for.

use std::time::Duration;

use gemba_core::receipt::{Event, Receipt, Seq};
use gemba_kernel::{Context, Server, Shutdown, Stop, Supervisor, server, task};
use tokio::sync::watch;
use tokio::time::Instant;

use super::stage::{Asked, Trace, dynamic_stage, receipt_where, stage};

const SECOND: Duration = Duration::from_secs(1);

/// Lets everything run that can.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Declines its first start, after a moment; all others hang.
struct Once(watch::Sender<u32>);

impl Server for Once {
    type Msg = ();

    async fn init(&mut self, _: &mut Context<()>) -> Result<(), Stop> {
        self.0.send_modify(|starts| *starts += 1);
        if *self.0.borrow() > 1 {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        Err(Stop::ignore())
    }

    async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
        Ok(())
    }
}

/// A supervisor that gives up as soon as it has started, and hangs in its next start.
fn stillborn(starts: &watch::Sender<u32>) -> Supervisor {
    let starts = starts.clone();
    Supervisor::one_for_one("sub")
        .intensity(0, SECOND)
        .shutdown(Shutdown::Within(SECOND))
        .child(task("crashes", |_| async { Err(Stop::error("at once")) }))
        .child(server("once", move || Once(starts.clone())))
}

#[tokio::test(start_paused = true)]
async fn a_life_that_ended_before_its_start_was_told_does_not_hold_up_the_stop_of_the_next() {
    let starts = watch::Sender::new(0);
    let stage = stage(Supervisor::one_for_one("top")).await;
    assert!(stage.top.start_child(stillborn(&starts)).await.unwrap().is_some());
    starts.subscribe().wait_for(|starts| *starts == 2).await.unwrap();
    assert_eq!(stage.list().await, "sub=Starting");
    let asked = Instant::now();
    stage.top.terminate_child("sub").await.unwrap();
    assert_eq!(asked.elapsed(), SECOND, "its shutdown time, and not that of a start");
    assert_eq!(stage.list().await, "sub=Down");
}

/// Starts exactly a second after it is let go.
struct Slow(watch::Receiver<bool>);

impl Server for Slow {
    type Msg = ();

    async fn init(&mut self, _: &mut Context<()>) -> Result<(), Stop> {
        self.0.wait_for(|go| *go).await?;
        tokio::time::sleep(SECOND).await;
        Ok(())
    }

    async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_comes_when_it_was_given_up_leaves_no_place_behind() {
    let stage = dynamic_stage(Supervisor::dynamic("top")).await;
    let (go, gate) = watch::channel(false);
    let slow = server("slow", move || Slow(gate.clone())).shutdown(Shutdown::Within(SECOND));
    stage.top.start_child_soon(slow);
    assert_eq!(stage.list().await, "slow=Starting");
    let lets_go = async {
        // The stop's time runs first, so that it is over first.
        settle().await;
        go.send(true)
    };
    let (stopped, _) = tokio::join!(stage.top.terminate_child("slow"), lets_go);
    assert_eq!((stopped, stage.top.counts().await), (Ok(()), [0; 4]));
    let path = "/top/slow".parse().unwrap();
    settle().await;
    let told = stage.node.system().journal().after(Seq(0), Some(&path), usize::MAX).receipts;
    assert!(matches!(told.last().unwrap().event, Event::ChildStartFailed { .. }), "it was given up");
    assert!(stage.node.system().tree().root.find(&path).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_child_refused_where_nobody_waits_is_in_the_journal() {
    let trace = Trace::default();
    let stage = dynamic_stage(Supervisor::dynamic("top").children_max(1)).await;
    stage.top.start_child(trace.spec("a")).await.unwrap();
    stage.top.start_child(trace.spec("b")).await.unwrap_err();
    for (n, (name, path, why)) in [
        ("a", "/top/a", "a child called 'a' runs already"),
        ("c", "/top/c", "takes no more"),
        ("no/name", "/top", "no/name"),
    ]
    .into_iter()
    .enumerate()
    {
        stage.top.start_child_soon(trace.spec(name));
        let failed = |receipt: &Receipt| matches!(receipt.event, Event::ChildStartFailed { .. });
        let system = stage.node.system();
        let receipt = receipt_where(system, "a refusal", n, failed).await;
        assert_eq!(receipt.path.as_str(), path);
        assert!(receipt.event.to_string().contains(why), "{}", receipt.event);
    }
    assert_eq!(trace.take(), "+a");
}
