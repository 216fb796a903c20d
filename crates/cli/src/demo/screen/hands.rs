//! Carries out what keys ask for, one thing at a time, and says how it went.

use gemba::name::{ActorPath, Name};
use gemba::{Client, ClientError};
use tokio::sync::{mpsc, watch};

use crate::demo::killer::{BY, is_worker};
use crate::exit::sentence;

/// Requests that may wait; pressing a key more often than that does nothing more.
const ASKS_MAX: usize = 8;

/// What can be asked of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Kill this actor.
    Kill(ActorPath),
    /// Stop this line.
    Pull(Name),
    /// Let this line run.
    Reset(Name),
}

/// Whoever carries it out.
#[derive(Debug)]
pub(crate) struct Hands {
    asks: mpsc::Sender<Ask>,
    said: mpsc::Receiver<String>,
}

impl Hands {
    /// Hands that reach the node of `client` until they are dropped, and count the workers they kill.
    pub(crate) fn new(client: Client, killed: watch::Sender<u64>) -> Self {
        let (asks, mut inbox) = mpsc::channel(ASKS_MAX);
        let (sayings, said) = mpsc::channel(ASKS_MAX);
        tokio::spawn(async move {
            while let Some(ask) = inbox.recv().await {
                let saying = carry_out(&client, &ask, &killed).await.unwrap_or_else(|error| sentence(&error));
                if sayings.send(saying).await.is_err() {
                    return;
                }
            }
        });
        Self { asks, said }
    }

    /// Takes on `ask`, unless too much waits already.
    pub(crate) fn carry_out(&self, ask: Ask) {
        let _ = self.asks.try_send(ask);
    }

    /// How the next request went.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub(crate) async fn said(&mut self) -> String {
        match self.said.recv().await {
            Some(saying) => saying,
            // The task ends after these hands do.
            None => std::future::pending().await,
        }
    }
}

async fn carry_out(client: &Client, ask: &Ask, killed: &watch::Sender<u64>) -> Result<String, ClientError> {
    Ok(match ask {
        Ask::Kill(path) => {
            let receipt = client.kill(path, BY).await?;
            if is_worker(path) {
                killed.send_modify(|killed| *killed += 1);
            }
            format!("killed {path} (receipt {receipt})")
        }
        Ask::Pull(line) => {
            let receipt = client.pull_cord(line, BY, Some("pulled from the demo's screen")).await?;
            format!("pulled the cord of line {line} (receipt {receipt}); C lets it run again")
        }
        Ask::Reset(line) => {
            format!("reset the cord of line {line} (receipt {})", client.reset_cord(line, BY).await?)
        }
    })
}
