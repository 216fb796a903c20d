//! What the rows share: waiting for a receipt instead of sleeping.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::receipt::{Receipt, Seq};
use gemba_kernel::Node;

/// Waits for the receipt number `n` (from 0) of this kind, with a deadline of virtual time.
pub(crate) async fn receipt(node: &Node, kind: &str, n: usize) -> Arc<Receipt> {
    let mut newest = node.system().journal().subscribe();
    tokio::time::timeout(Duration::from_secs(3600), async {
        loop {
            let all = node.system().journal().after(Seq(0), None, usize::MAX).receipts;
            if let Some(found) = all.iter().filter(|receipt| receipt.event.kind() == kind).nth(n) {
                return found.clone();
            }
            newest.changed().await.expect("the node holds the journal");
        }
    })
    .await
    .unwrap_or_else(|_| panic!("no receipt {kind} {n}"))
}
