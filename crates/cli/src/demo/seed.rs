//! Who pays what: orders made from a seed, so that a run can be repeated.

/// A small generator of random numbers (SplitMix64): the same seed, the same numbers, everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The numbers that belong to the `index`th thing made from `seed`.
    pub(crate) const fn new(seed: u64, index: u64) -> Self {
        Self(mix(seed ^ mix(index.wrapping_add(1))))
    }

    /// The next number.
    pub(crate) const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from 0 to `end - 1`; `end` is not 0.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        // The bias is below 2^-40 for the small ranges used here.
        self.roll() % end
    }

    /// A number from 0 to just below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The customer every payment of whom is rejected.
pub(crate) const BLACKLISTED: &str = "demo-blocked";

/// Customers who come often, some far more often than others; they make a tenth of the payments.
const REGULARS: u64 = 300;

/// Other customers for each payment a second. Each then pays 1.35 times a minute, and the policy's
/// five a minute is the exception that it should be, whatever the rate.
const OTHERS_PER_RATE: u64 = 40;

/// Currencies with the digits after their decimal point.
const CURRENCIES: [(&str, u32); 5] = [("EUR", 2), ("USD", 2), ("GBP", 2), ("CHF", 2), ("JPY", 0)];

/// One payment to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// Its idempotency key: the same for every attempt.
    pub(crate) key: String,
    pub(crate) customer: String,
    pub(crate) amount_minor: i64,
    pub(crate) currency: &'static str,
    pub(crate) payment_method: &'static str,
}

/// Where orders come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd {
    seed: u64,
    others: u64,
}

impl Crowd {
    /// The customers for `rate` payments a second.
    pub(crate) fn new(seed: u64, rate: u32) -> Self {
        Self { seed, others: OTHERS_PER_RATE * u64::from(rate) }
    }

    /// The `index`th order. It depends on nothing but the seed, the rate and the index.
    pub(crate) fn order(self, index: u64) -> Order {
        let mut dice = Dice::new(self.seed, index);
        let customer = self.customer(&mut dice);
        // What a customer is like depends on the customer alone.
        let mut habits = Dice::new(self.seed, u64::MAX - customer.unwrap_or(0));
        let home = habits.below(CURRENCIES.len() as u64);
        let usual_main = 5 + habits.below(196);
        let abroad = if dice.below(10) == 0 { 1 + habits.below(2) } else { 0 };
        let (currency, digits) = CURRENCIES[((home + abroad) % CURRENCIES.len() as u64) as usize];
        Order {
            key: format!("demo-{}-{index}", self.seed),
            customer: customer.map_or(BLACKLISTED.to_owned(), |number| format!("customer-{number}")),
            amount_minor: amount(usual_main, digits, &mut dice),
            currency,
            payment_method: if dice.below(50) == 0 { "tok_declined" } else { "tok_ok" },
        }
    }

    /// One in a hundred is blacklisted, one in ten a regular.
    fn customer(self, dice: &mut Dice) -> Option<u64> {
        match dice.below(100) {
            0 => None,
            // The cube makes shares unequal: the first of three hundred gets a seventh.
            1..=10 => Some((dice.unit().powi(3) * REGULARS as f64) as u64),
            _ => Some(REGULARS + dice.below(self.others)),
        }
    }
}

/// Half to one and a half times the usual amount; now and then one that a policy stops.
fn amount(usual_main: u64, digits: u32, dice: &mut Dice) -> i64 {
    let minor = 10_u64.pow(digits);
    let main_milli = match dice.below(200) {
        0 => 5_001_000 + dice.below(5_000_000),
        _ => usual_main * (500 + dice.below(1_000)),
    };
    i64::try_from((main_milli * minor / 1_000).max(1)).expect("an amount is below 2^63")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_seed_makes_the_same_orders_and_another_seed_others() {
        let orders = |seed| (0..100).map(|index| Crowd::new(seed, 200).order(index)).collect::<Vec<_>>();
        assert_eq!(orders(7), orders(7));
        let (seven, eight) = (orders(7), orders(8));
        assert!(seven.iter().zip(&eight).all(|(a, b)| a != b));
    }

    #[test]
    fn shares_are_as_they_are_said_to_be() {
        let orders: Vec<_> = (0..100_000).map(|index| Crowd::new(7, 200).order(index)).collect();
        let share =
            |is: &dyn Fn(&Order) -> bool| orders.iter().filter(|order| is(order)).count() as f64 / 1e5;
        assert!((0.008..0.012).contains(&share(&|order| order.customer == BLACKLISTED)));
        assert!((0.018..0.022).contains(&share(&|order| order.payment_method == "tok_declined")));
        for (code, _) in CURRENCIES {
            assert!((0.1..0.3).contains(&share(&|order| order.currency == code)), "{code}");
        }
        assert!(orders.iter().all(|order| 0 < order.amount_minor));

        let mut counts: HashMap<&str, u64> = HashMap::new();
        for order in &orders {
            *counts.entry(&order.customer).or_default() += 1;
        }
        assert!(500 < counts["customer-0"], "a regular comes often: {}", counts["customer-0"]);
        assert!(counts["customer-0"] > 10 * counts["customer-299"], "and some more often than others");
    }

    #[test]
    fn dice_cover_their_range() {
        let mut dice = Dice::new(1, 1);
        let mut seen = [false; 6];
        for _ in 0..200 {
            seen[dice.below(6) as usize] = true;
            assert!((0.0..1.0).contains(&dice.unit()));
        }
        assert_eq!(seen, [true; 6]);
    }
}
