//! Confirmations: telling, at least once, how a payment ended.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use gemba::Signal;

use crate::plant::Lines;
use crate::store::Store;
use gemba::DatabaseError;

/// Confirmations delivered together at most.
pub const BATCH_MAX: usize = 256;

/// How long to wait before looking for new ones.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Something to be told about a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// Its place in the outbox.
    pub seq: i64,
    /// The payment.
    pub payment: Arc<str>,
    /// What happened to it: the word of its state.
    pub kind: Arc<str>,
    /// The payment as its customer sees it, as JSON.
    pub body: Arc<str>,
}

/// Delivers a confirmation to the payment's trail, and takes it off the outbox in the same transaction.
///
/// # Errors
///
/// [`DatabaseError`]; it is still in the outbox and will be delivered again.
pub async fn deliver(store: &Store, confirmation: &Confirmation) -> Result<(), DatabaseError> {
    store.outbox_done(confirmation).await
}

/// Sends whatever is in the outbox through its line until `shutdown` resolves.
///
/// # Cancel safety
///
/// What was not delivered stays in the outbox.
pub async fn run(store: Store, lines: Lines, shutdown: impl Future<Output = ()>) {
    let deliveries = async {
        loop {
            match deliver_batch(&store, &lines).await {
                // A full batch: there may be more.
                Ok(delivered) if BATCH_MAX / 2 <= delivered => {}
                Ok(_) => tokio::time::sleep(LOOK_EVERY).await,
                Err(error) => {
                    tracing::warn!(error = %crate::chain(&error), "confirmations wait for the store");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = shutdown => {}
        () = deliveries => {}
    }
}

/// Reads a batch and sends it; tells how many were delivered.
async fn deliver_batch(store: &Store, lines: &Lines) -> Result<usize, DatabaseError> {
    let (captured, others) =
        tokio::try_join!(store.next_outbox(true, BATCH_MAX / 2), store.next_outbox(false, BATCH_MAX / 2))?;
    // Together, so that they share a sync.
    let batch = captured.into_iter().chain(others);
    let sent = join_all(batch.map(|confirmation| send(lines, Arc::new(confirmation)))).await;
    Ok(sent.into_iter().filter(|delivered| *delivered).count())
}

/// Sends one through the line of its kind. What is not delivered stays in the outbox and is sent again.
async fn send(lines: &Lines, confirmation: Arc<Confirmation>) -> bool {
    let line = if &*confirmation.kind == "captured" { &lines.delivery } else { &lines.notification };
    let key = confirmation.payment.clone();
    line.submit(Signal::new(confirmation).key(key.as_bytes()), &()).await.is_ok()
}

#[cfg(test)]
mod tests {
    use gemba::Node;

    use super::*;
    use crate::gateway_client::{GatewayAnswer, GatewayClient};
    use crate::store::tests::{open, request, started, trail};

    async fn lines(store: &Store) -> (Node, Lines) {
        let node = Node::builder("test");
        let gateway = GatewayClient::new("http://127.0.0.1:9").unwrap();
        let (plant, lines) = crate::plant::tests::plant(node.system(), gateway, store);
        (node.child(plant).start().await.unwrap(), lines)
    }

    #[tokio::test]
    async fn whatever_is_in_the_outbox_is_delivered_and_then_gone() {
        let (_directory, store) = open();
        let (_node, lines) = lines(&store).await;
        let captured = started(&store, "a", request("c", "tok_ok")).await;
        let declined = started(&store, "b", request("c", "tok_declined")).await;
        store.finish(&captured, GatewayAnswer::Charged { charge: 1 }).await.unwrap();
        store.finish(&declined, GatewayAnswer::Declined { code: "card_declined".into() }).await.unwrap();
        assert_eq!(deliver_batch(&store, &lines).await.unwrap(), 2);
        assert_eq!(deliver_batch(&store, &lines).await.unwrap(), 0);
        assert_eq!(trail(&store, &captured).await.last().unwrap(), "confirmed");
        assert_eq!(trail(&store, &declined).await[2..], ["declined", "confirmed"]);
    }

    #[tokio::test]
    async fn it_ends_when_it_is_asked_to() {
        let (_directory, store) = open();
        let (_node, lines) = lines(&store).await;
        run(store, lines, std::future::ready(())).await;
    }
}
