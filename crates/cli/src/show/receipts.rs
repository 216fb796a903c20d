//! Receipts as a log, each with its cause.

use gemba::receipt::Receipt;
use gemba::view::ReceiptsView;

use crate::show::text::{Page, clean, clock, right, wrap};

/// Width of number and time, with the spaces after them.
const HEAD: usize = 8 + 1 + 12 + 2;

/// Prints a page of receipts, oldest first.
pub(crate) fn receipts(view: &ReceiptsView, page: Page) -> String {
    let mut text = String::new();
    if 0 < view.forgotten {
        text.push_str(&page.faint(&format!("{} older receipts are forgotten", view.forgotten)));
        text.push('\n');
    }
    for receipt in &view.receipts {
        for (row, part) in wrap(&fact(receipt), page.width - HEAD).iter().enumerate() {
            match row {
                0 => text.push_str(&page.faint(&head(receipt))),
                _ => text.push_str(&" ".repeat(HEAD)),
            }
            text.push_str(part);
            text.push('\n');
        }
    }
    text
}

pub(super) fn head(receipt: &Receipt) -> String {
    format!("{} {}  ", right(&receipt.seq.to_string(), 8), clock(receipt.unix_ms))
}

/// Whom it is about, what happened, and because of what.
pub(super) fn fact(receipt: &Receipt) -> String {
    let cause = receipt.cause.map(|cause| format!(" ← {cause}")).unwrap_or_default();
    format!("{} {}{cause}", receipt.path, clean(&receipt.event.to_string()))
}

#[cfg(test)]
pub(crate) mod sample {
    use gemba::exit::{ExitReason, Incarnation};
    use gemba::receipt::{Event, Seq};
    use gemba::time::Timestamp;

    use super::*;

    /// A kill, the exit it caused, and the restart after that.
    pub(crate) fn crash() -> Vec<Receipt> {
        let events = [
            Event::KillRequested { by: "ann".into() },
            Event::ChildExited { incarnation: Incarnation(17), reason: ExitReason::Killed },
            Event::ChildRestarted { incarnation: Incarnation(41), restarts: 2 },
        ];
        let receipt = |(index, event)| Receipt {
            seq: Seq(11 + index),
            at: Timestamp::START,
            unix_ms: 50_531_123 + index,
            cause: (0 < index).then_some(Seq(10 + index)),
            path: "/plant/pools/payment/workers/3".parse().unwrap(),
            event,
        };
        (0_u64..).zip(events).map(receipt).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gemba::receipt::Seq;
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn a_receipt_names_its_cause_and_is_never_cut() {
        let view = ReceiptsView {
            receipts: sample::crash().into_iter().map(Arc::new).collect(),
            next: Seq(13),
            forgotten: 4,
        };
        let text = receipts(&view, Page::PLAIN);
        let expected = "\
4 older receipts are forgotten
     #11 14:02:11.123  /plant/pools/payment/workers/3 kill asked for by ann
     #12 14:02:11.124  /plant/pools/payment/workers/3 life 17 exited: killed ←
                       #11
     #13 14:02:11.125  /plant/pools/payment/workers/3 restarted as life 41
                       (restart 2) ← #12
";
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.width() <= 80));
    }
}
