//! How long it takes from a fact to the arrival of its alert, over a whole node and a local receiver.
//!
//! `cargo run --release -p gemba --example alert_latency` pulls the cords of 200 lines, one after another at
//! uneven times, and prints the time from the receipt of each pull to the arrival of its alert; it fails where
//! the 99th percentile is not below a second. A second route that never answers runs beside.

use std::error::Error;
use std::time::Duration;

use gemba::alert::AlertRules;
use gemba::control::Control;
use gemba::light::Light;
use gemba::{Action, AlertRoutes, JobContext, LineSpec, Node, Plant, PoolSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;

const LINES: usize = 200;
const TARGET: Duration = Duration::from_secs(1);

struct Nothing;

impl Action for Nothing {
    type Input = ();
    type Output = ();
    type Error = std::convert::Infallible;

    async fn run(&self, (): (), _: &JobContext) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A receiver that says when each request was there.
async fn receiver(answers: bool) -> std::io::Result<(String, mpsc::Receiver<Instant>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (sender, arrivals) = mpsc::channel(LINES);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 16 * 1024];
                // Small requests from this machine arrive in one piece.
                while stream.read(&mut buffer).await.is_ok_and(|read| 0 < read) {
                    if answers {
                        let _ = sender.send(Instant::now()).await;
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                }
            });
        }
    });
    Ok((url, arrivals))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (url, mut arrivals) = receiver(true).await?;
    let (hung, _never) = receiver(false).await?;
    let routes = AlertRoutes::new()
        .rules(AlertRules::builder().notices_per_minute(u32::MAX).build()?)
        .webhook("ops", Light::Yellow, &url)
        .webhook("hung", Light::Yellow, &hung);
    let builder = Node::builder("latency").alerts(routes);
    let mut plant = Plant::builder(builder.system()).pool(PoolSpec::new("work").workers(1, 1));
    for number in 0..LINES {
        plant.line(LineSpec::<_, ()>::new(&format!("line{number}"), Nothing).pool("work"));
    }
    let node = builder.child(plant.build()?).start().await?;
    let mut took = Vec::new();
    for number in 0..LINES {
        // Uneven, so that the board's own period is met at all its phases.
        tokio::time::sleep(Duration::from_millis(20 + (number as u64 * 37) % 101)).await;
        let begun = Instant::now();
        let (by, why) = ("experiment".into(), "latency".into());
        node.system().control(Control::PullCord { line: format!("line{number}").parse()?, by, why }).await?;
        let arrived = arrivals.recv().await.ok_or("the receiver is gone")?;
        took.push(arrived - begun);
    }
    took.sort_unstable();
    let quantile = |share: f64| took[((LINES as f64 * share).ceil() as usize).clamp(1, LINES) - 1];
    println!("{LINES} alerts: p50 {:?}, p99 {:?}, max {:?}", quantile(0.5), quantile(0.99), quantile(1.0));
    node.stop("done").await?;
    if TARGET <= quantile(0.99) {
        return Err(format!("p99 is not below {TARGET:?}").into());
    }
    Ok(())
}
