//! The chain of causes behind a receipt: five whys, or as many as it takes.

use std::sync::Arc;

use gemba::receipt::{Receipt, Seq};
use serde::Serialize;

use crate::show::receipts::{fact, head};
use crate::show::text::{Page, wrap};

/// What stands before each cause.
const WHY: &str = "why? ";

/// A receipt, what led to it, what led to that, and so on.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Chain {
    receipts: Vec<Arc<Receipt>>,
    /// The cause that nobody remembers any more, if the chain ends there.
    forgotten: Option<Seq>,
}

impl Chain {
    /// Adds the receipt that was found for `asked`, and says for which to ask next. A cause is older than what
    /// it led to, and the first receipt is number 1: the chain ends.
    pub(crate) fn add(&mut self, asked: Seq, found: Option<Arc<Receipt>>) -> Option<Seq> {
        let Some(receipt) = found.filter(|receipt| receipt.seq == asked) else {
            self.forgotten = Some(asked);
            return None;
        };
        let cause = receipt.cause.filter(|cause| (Seq(1)..receipt.seq).contains(cause));
        self.receipts.push(receipt);
        cause
    }
}

/// Prints the chain, the first cause last.
pub(crate) fn why(chain: &Chain, page: Page) -> String {
    let mut text = String::new();
    for (index, receipt) in chain.receipts.iter().enumerate() {
        let asks = if index == 0 { " ".repeat(WHY.len()) } else { WHY.to_owned() };
        let head = asks + &head(receipt);
        let indent = head.chars().count();
        for (row, part) in wrap(&fact(receipt), page.width.saturating_sub(indent)).iter().enumerate() {
            match row {
                0 => text.push_str(&page.faint(&head)),
                _ => text.push_str(&" ".repeat(indent)),
            }
            text.push_str(part);
            text.push('\n');
        }
    }
    let end = match chain.forgotten {
        Some(seq) if chain.receipts.is_empty() => format!("receipt {seq} is not written yet, or forgotten"),
        Some(seq) => format!("{WHY}{seq} is forgotten; the log may still have it"),
        None => "That is a first cause: nothing on this node led to it.".to_owned(),
    };
    text + &page.faint(&end) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::receipts_sample;

    #[test]
    fn the_chain_goes_back_to_the_first_cause() {
        let receipts: Vec<_> = receipts_sample().into_iter().map(Arc::new).collect();
        let find = |seq: Seq| receipts.iter().find(|receipt| receipt.seq == seq).cloned();
        let mut chain = Chain::default();
        let mut next = Some(Seq(13));
        while let Some(seq) = next {
            next = chain.add(seq, find(seq));
        }
        let expected = "          \
#13 14:02:11.125  /plant/pools/payment/workers/3 restarted as life 41
                            (restart 2) ← #12
why?      #12 14:02:11.124  /plant/pools/payment/workers/3 life 17 exited:
                            killed ← #11
why?      #11 14:02:11.123  /plant/pools/payment/workers/3 kill asked for by ann
That is a first cause: nothing on this node led to it.
";
        assert_eq!(why(&chain, Page::PLAIN), expected);
    }

    #[test]
    fn a_cause_that_is_forgotten_is_named() {
        let kill = Arc::new(receipts_sample().remove(1));
        let mut chain = Chain::default();
        assert_eq!(chain.add(Seq(12), Some(kill.clone())), Some(Seq(11)));
        assert_eq!(chain.add(Seq(11), Some(kill)), None, "the ring gives its oldest instead");
        assert!(why(&chain, Page::PLAIN).ends_with("why? #11 is forgotten; the log may still have it\n"));
        let odd = Receipt { cause: Some(Seq(0)), ..receipts_sample().remove(1) };
        assert_eq!(Chain::default().add(Seq(12), Some(Arc::new(odd))), None, "no receipt has the number 0");
        let mut chain = Chain::default();
        chain.add(Seq(99), None);
        assert_eq!(why(&chain, Page::PLAIN), "receipt #99 is not written yet, or forgotten\n");
    }
}
