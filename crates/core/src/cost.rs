//! What workers cost, those of surges apart, and when permanent ones would be cheaper.

use std::time::Duration;

use crate::view::CostView;

/// How long costs are watched before they support advice: each hour of the week once.
const ADVICE_AFTER: Duration = Duration::from_secs(7 * 86_400);

const HOUR_NS: u128 = 3_600_000_000_000;

const YEAR_NS: u128 = 365 * 24 * HOUR_NS;

/// What a worker costs for an hour, in millionths of whatever the operator counts in.
///
/// # Units and limits
///
/// By default 1.00 for a worker within the pool's maximum and 2.00 for one beyond it. Source: FLOW.md, bursts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prices {
    /// A worker within the pool's maximum.
    pub baseline_micro_per_h: u64,
    /// A worker beyond it, there for a surge.
    pub surge_micro_per_h: u64,
}

impl Default for Prices {
    fn default() -> Self {
        Self { baseline_micro_per_h: 1_000_000, surge_micro_per_h: 2_000_000 }
    }
}

/// Worker time of one pool.
#[derive(Debug, Clone, Default)]
struct Account {
    baseline_ns: u128,
    /// How long there was a first, a second, a third … worker beyond the maximum.
    beyond_ns: Vec<u128>,
}

/// Adds up worker time as it is used, to the nanosecond, and puts a price on it when asked.
#[derive(Debug, Clone)]
#[doc(alias = "heijunka")]
pub struct Ledger {
    prices: Prices,
    watched_ns: u128,
    accounts: Vec<Account>,
}

impl Ledger {
    /// An empty ledger for so many pools.
    pub fn new(prices: Prices, pools: usize) -> Self {
        Self { prices, watched_ns: 0, accounts: vec![Account::default(); pools] }
    }

    /// Goes on at other prices; what was used before is priced anew, too.
    pub const fn set_prices(&mut self, prices: Prices) {
        self.prices = prices;
    }

    /// Books `elapsed` time during which pool by pool, in the order of the plant, there were as many
    /// workers within the maximum and as many beyond it.
    pub fn book(&mut self, pools: impl IntoIterator<Item = (u32, u32)>, elapsed: Duration) {
        let elapsed = elapsed.as_nanos();
        self.watched_ns += elapsed;
        for (account, (within, beyond)) in self.accounts.iter_mut().zip(pools) {
            account.baseline_ns += elapsed * u128::from(within);
            let beyond = beyond as usize;
            if account.beyond_ns.len() < beyond {
                account.beyond_ns.resize(beyond, 0);
            }
            account.beyond_ns[..beyond].iter_mut().for_each(|used| *used += elapsed);
        }
    }

    /// What the workers beyond the maximum have cost so far, in millionths.
    pub fn surge_micro(&self) -> u64 {
        let used = self.accounts.iter().flat_map(|account| &account.beyond_ns).sum();
        price(used, self.prices.surge_micro_per_h)
    }

    /// What the board shows of it.
    ///
    /// A worker beyond the maximum is worth being permanent if it is needed for a larger part of the time
    /// than the prices are apart: at 1.00 against 2.00, for more than half of it.
    pub fn view(&self) -> CostView {
        let baseline_ns = self.accounts.iter().map(|account| account.baseline_ns).sum();
        let mut view = CostView {
            baseline_micro: price(baseline_ns, self.prices.baseline_micro_per_h),
            surge_micro: self.surge_micro(),
            watched_ms: u64::try_from(self.watched_ns / 1_000_000).unwrap_or(u64::MAX),
            ..CostView::default()
        };
        if self.watched_ns < ADVICE_AFTER.as_nanos() {
            return view;
        }
        let a_year =
            |micro: u64| u64::try_from(u128::from(micro) * YEAR_NS / self.watched_ns).unwrap_or(u64::MAX);
        let permanent = price(self.watched_ns, self.prices.baseline_micro_per_h);
        let mut saved = 0u64;
        for used in self.accounts.iter().flat_map(|account| &account.beyond_ns) {
            let surge = price(*used, self.prices.surge_micro_per_h);
            if permanent < surge {
                view.permanent_advised += 1;
                saved = saved.saturating_add(surge - permanent);
            }
        }
        view.surge_micro_per_year = Some(a_year(view.surge_micro));
        view.saved_micro_per_year = a_year(saved);
        view
    }
}

/// The price of worker time, rounded to the nearest millionth.
fn price(worker_ns: u128, micro_per_h: u64) -> u64 {
    let micro = (worker_ns * u128::from(micro_per_h) + HOUR_NS / 2) / HOUR_NS;
    u64::try_from(micro).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn two_surges_a_day_of_fifteen_workers_for_five_minutes_cost_1825_a_year() {
        let mut ledger = Ledger::new(Prices::default(), 3);
        for _ in 0..14 {
            ledger.book([(10, 5), (8, 5), (5, 5)], 5 * MINUTE);
            ledger.book([(10, 0), (8, 0), (5, 0)], 715 * MINUTE);
        }
        let view = ledger.view();
        assert_eq!(view.surge_micro, 14 * 2_500_000, "15 workers for a twelfth of an hour at 2.00");
        assert_eq!(view.surge_micro_per_year, Some(1_825_000_000));
        assert_eq!(view.baseline_micro, 23 * 7 * 24 * 1_000_000);
        assert_eq!((view.permanent_advised, view.saved_micro_per_year), (0, 0));
    }

    #[test]
    fn a_worker_needed_for_more_than_half_of_the_time_should_be_permanent() {
        let mut ledger = Ledger::new(Prices::default(), 1);
        let day = 1440 * MINUTE;
        ledger.book([(10, 3)], 4 * day);
        ledger.book([(10, 1)], 2 * day);
        ledger.book([(10, 0)], 4 * day);
        let view = ledger.view();
        // The first was there for 6 of 10 days, the others for 4.
        assert_eq!(view.permanent_advised, 1);
        // 24.00 a day against 48.00 on six of ten days.
        assert_eq!(view.saved_micro_per_year, 365 * (6 * 48 - 10 * 24) * 1_000_000 / 10);
    }

    #[test]
    fn a_few_days_are_no_year_and_no_time_is_no_division() {
        let mut ledger = Ledger::new(Prices::default(), 1);
        assert_eq!(ledger.view(), CostView::default());
        ledger.book([(0, 50)], 9000 * MINUTE);
        let view = ledger.view();
        assert_eq!((view.surge_micro_per_year, view.permanent_advised), (None, 0));
        assert_eq!(view.surge_micro, 50 * 150 * 2_000_000);
    }

    proptest! {
        #[test]
        fn how_time_is_cut_does_not_change_the_bill(cuts in vec((0u32..20, 0u64..10_000_000_000), 1..50)) {
            let (mut cut, mut whole) = (Ledger::new(Prices::default(), 1), Ledger::new(Prices::default(), 1));
            for (beyond, nanos) in cuts {
                let (half, rest) = (Duration::from_nanos(nanos / 2), Duration::from_nanos(nanos - nanos / 2));
                cut.book([(1, beyond)], half);
                cut.book([(1, beyond)], rest);
                whole.book([(1, beyond)], Duration::from_nanos(nanos));
            }
            prop_assert!(cut.view() == whole.view());
        }
    }
}
