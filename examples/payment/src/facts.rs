//! What is known about a customer before a payment is judged: how often, in what, and how much of late.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use gemba::time::Timestamp;
use tokio::sync::watch;

use crate::charge::Order;
use crate::country::Country;
use crate::currency::Currency;
use crate::fraud::FraudLimits;
use crate::money::Money;
use crate::payment::PaymentId;

/// How many amounts in one currency make a habit.
pub const HABIT_MIN: usize = 3;

/// Attempts remembered of one customer; more in a minute are rejected anyway.
const ATTEMPTS_MAX: usize = 32;

/// Currencies remembered of one customer's attempts before those, and countries.
const PLACES_MAX: usize = 8;

/// Amounts remembered of one customer.
const AMOUNTS_MAX: usize = 16;

/// Customers remembered in one drawer; the one not seen for longest makes room.
const DRAWER_MAX: usize = 64;

/// Drawers of the book. With [`DRAWER_MAX`] they hold the 131 072 customers seen last.
const DRAWERS: u64 = 2_048;

/// What a policy may know besides the order itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Attempts of this customer within the window of the limits, this one and rejected ones included.
    pub attempts: usize,
    /// Currencies this customer used within the window of the limits, this one included.
    pub currencies: usize,
    /// Countries this customer paid from within the window of the limits, this one included; those not said are not
    /// counted.
    pub countries: usize,
    /// The median of what this customer paid of late in this currency, in minor units, once there are
    /// [`HABIT_MIN`] amounts.
    pub median_minor: Option<i64>,
    /// Whether the customer may not pay here at all.
    pub blacklisted: bool,
    /// Whether the customer is spared the score.
    pub trusted: bool,
    /// By which figures it is judged.
    pub limits: FraudLimits,
}

/// An attempt to pay, as the book keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The payment.
    pub payment: PaymentId,
    /// In what.
    pub currency: Currency,
    /// From where, if it is known.
    pub country: Option<Country>,
    /// When.
    pub at: Timestamp,
}

/// What a person decides about payments, and may change while the service runs.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The figures.
    pub limits: FraudLimits,
    /// The customers.
    pub lists: Lists,
}

/// The customers somebody decided about.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    /// Those who may not pay here.
    pub blacklisted: HashSet<String>,
    /// Those who are spared the score.
    pub trusted: HashSet<String>,
}

/// The histories of the customers seen last.
///
/// Customers are put in drawers by the hash of their names, so the book is bounded and makes room by
/// looking through one drawer, never through all of it.
#[derive(Debug)]
pub struct FactBook {
    drawers: DashMap<u64, Vec<History>>,
    hasher: RandomState,
    rules: watch::Sender<Arc<Rules>>,
}

impl FactBook {
    /// An empty book.
    pub fn new(rules: Rules) -> Self {
        let rules = watch::Sender::new(Arc::new(rules));
        Self { drawers: DashMap::new(), hasher: RandomState::new(), rules }
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.borrow().clone()
    }

    /// Judges from now on by other rules. What is known about customers stays.
    pub fn set_rules(&self, rules: Rules) {
        self.rules.send_replace(Arc::new(rules));
    }

    /// Counts an attempt made at `at`, and says what is known about it.
    ///
    /// One that was counted before is not counted again: it is spoken of as of the moment it was made, so that whoever
    /// judges it anew, and however late, knows what was known then.
    pub fn gather(&self, order: &Order, at: Timestamp) -> Facts {
        let rules = self.rules();
        let (limits, lists) = (rules.limits, &rules.lists);
        let currency = order.money.currency();
        let attempt = Attempt { payment: order.payment, currency, country: order.country, at };
        self.with_history(&order.customer, at, |history| {
            let at = history.attempted(attempt);
            Facts {
                attempts: history.attempts(limits.attempts_window_s, at),
                currencies: within(history.currencies(), limits.currencies_window_s, at),
                countries: within(history.countries(), limits.countries_window_s, at),
                median_minor: history.median(currency),
                blacklisted: lists.blacklisted.contains(&*order.customer),
                trusted: lists.trusted.contains(&*order.customer),
                limits,
            }
        })
    }

    /// Takes note of an attempt made before this process started.
    pub fn recall(&self, customer: &Arc<str>, attempt: Attempt) {
        self.with_history(customer, attempt.at, |history| history.attempted(attempt));
    }

    /// Takes an attempt made at `at` back, which came to nothing through no fault of the customer.
    pub fn forget(&self, customer: &Arc<str>, payment: PaymentId, at: Timestamp) {
        self.with_history(customer, at, |history| {
            history.attempts.retain(|attempt| attempt.payment != payment);
        });
    }

    /// Takes note of what a customer paid. Only that makes a habit: a rejected amount must not.
    pub fn paid(&self, customer: &Arc<str>, money: Money, at: Timestamp) {
        self.with_history(customer, at, |history| history.paid(money));
    }

    fn with_history<T>(&self, customer: &Arc<str>, now: Timestamp, act: impl FnOnce(&mut History) -> T) -> T {
        let mut drawer = self.drawers.entry(self.hasher.hash_one(customer) % DRAWERS).or_default();
        let place = drawer.iter().position(|history| history.customer == *customer).unwrap_or_else(|| {
            if drawer.len() == DRAWER_MAX {
                let idle = (0..DRAWER_MAX).min_by_key(|place| drawer[*place].seen);
                drawer.swap_remove(idle.expect("a full drawer is not empty"));
            }
            drawer.push(History::new(customer.clone(), now));
            drawer.len() - 1
        });
        let history = &mut drawer[place];
        history.seen = history.seen.max(now);
        act(history)
    }
}

/// What is remembered of one customer.
#[derive(Debug)]
struct History {
    customer: Arc<str>,
    seen: Timestamp,
    /// The last ones, the newest last.
    attempts: VecDeque<Attempt>,
    /// What those before were in, and when last.
    currencies_before: Vec<(Currency, Timestamp)>,
    countries_before: Vec<(Country, Timestamp)>,
    amounts: VecDeque<Money>,
}

impl History {
    fn new(customer: Arc<str>, seen: Timestamp) -> Self {
        Self {
            customer,
            seen,
            attempts: VecDeque::new(),
            currencies_before: Vec::new(),
            countries_before: Vec::new(),
            amounts: VecDeque::new(),
        }
    }

    /// Takes note of an attempt, once, and says when it was made.
    fn attempted(&mut self, attempt: Attempt) -> Timestamp {
        if let Some(known) = self.attempts.iter().find(|known| known.payment == attempt.payment) {
            return known.at;
        }
        if let Some(oldest) = keep_last(&mut self.attempts, attempt, ATTEMPTS_MAX) {
            keep_newest(&mut self.currencies_before, oldest.currency, oldest.at);
            if let Some(country) = oldest.country {
                keep_newest(&mut self.countries_before, country, oldest.at);
            }
        }
        attempt.at
    }

    fn paid(&mut self, money: Money) {
        keep_last(&mut self.amounts, money, AMOUNTS_MAX);
    }

    fn attempts(&self, window_s: u32, now: Timestamp) -> usize {
        self.attempts.iter().filter(|attempt| is_within(attempt.at, window_s, now)).count()
    }

    fn currencies(&self) -> impl Iterator<Item = (Currency, Timestamp)> {
        let last = self.attempts.iter().map(|attempt| (attempt.currency, attempt.at));
        self.currencies_before.iter().copied().chain(last)
    }

    fn countries(&self) -> impl Iterator<Item = (Country, Timestamp)> {
        let last = self.attempts.iter().filter_map(|attempt| Some((attempt.country?, attempt.at)));
        self.countries_before.iter().copied().chain(last)
    }

    fn median(&self, currency: Currency) -> Option<i64> {
        let of_currency = self.amounts.iter().filter(|money| money.currency() == currency);
        let mut minors: Vec<i64> = of_currency.map(|money| money.minor()).collect();
        minors.sort_unstable();
        // Of an even number the lower middle: it is an amount that was paid, and needs no rounding.
        (HABIT_MIN <= minors.len()).then(|| minors[(minors.len() - 1) / 2])
    }
}

/// Whether something of `at` lies within so many seconds before `now`. What is still to come does not.
fn is_within(at: Timestamp, window_s: u32, now: Timestamp) -> bool {
    at <= now && now.since(at) < Duration::from_secs(window_s.into())
}

/// How many different ones were seen within so many seconds before `now`.
fn within<T: PartialEq>(seen: impl Iterator<Item = (T, Timestamp)>, window_s: u32, now: Timestamp) -> usize {
    let mut found = Vec::new();
    for (item, at) in seen {
        if is_within(at, window_s, now) && !found.contains(&item) {
            found.push(item);
        }
    }
    found.len()
}

/// Keeps when each was seen last, the newest last. An attempt that was noted late does not make it earlier.
fn keep_newest<T: PartialEq>(seen: &mut Vec<(T, Timestamp)>, item: T, at: Timestamp) {
    let known = seen.iter().find(|(known, _)| *known == item).map(|(_, at)| *at);
    let at = known.map_or(at, |known| known.max(at));
    seen.retain(|(known, _)| *known != item);
    if seen.len() == PLACES_MAX {
        seen.remove(0);
    }
    seen.push((item, at));
}

/// Appends an item, and gives back the one that made room for it.
fn keep_last<T>(queue: &mut VecDeque<T>, item: T, most: usize) -> Option<T> {
    let oldest = if queue.len() == most { queue.pop_front() } else { None };
    queue.push_back(item);
    oldest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charge::tests::{money, order};

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn attempts_are_counted_over_a_sliding_minute() {
        let book = FactBook::new(Rules::default());
        for (secs, attempts) in [(0, 1), (59, 2), (60, 2), (118, 3), (119, 3), (500, 1)] {
            let facts = book.gather(&order("c", 100, "EUR"), at(secs));
            assert_eq!(facts.attempts, attempts, "after {secs} s");
        }
    }

    #[test]
    fn an_attempt_that_is_taken_back_does_not_count() {
        let book = FactBook::new(Rules::default());
        for (secs, code, country) in [(0, "EUR", "DE"), (1, "USD", "FR"), (2, "JPY", "JP"), (3, "JPY", "JP")]
        {
            let order = Order { country: Country::from_code(country), ..order("c", 100, code) };
            let facts = book.gather(&order, at(secs));
            assert_eq!((facts.attempts, facts.currencies, facts.countries), (1, 1, 1), "after {secs} s");
            book.forget(&order.customer, order.payment, at(secs));
        }
    }

    #[test]
    fn an_attempt_is_judged_by_what_was_known_then_however_late() {
        let book = FactBook::new(Rules::default());
        let (first, left) = (order("c", 100, "EUR"), order("c", 100, "USD"));
        let then = book.gather(&first, at(10));
        for (secs, code) in [(20, "JPY"), (25, "CHF"), (30, "EUR")] {
            book.gather(&order("c", 100, code), at(secs));
        }
        assert_eq!(book.gather(&first, at(50)), then);
        // One the book does not know was made when the record says, and is counted from now on.
        for _ in 0..2 {
            let facts = book.gather(&left, at(21));
            assert_eq!((facts.attempts, facts.currencies), (3, 3));
        }
        assert_eq!(book.gather(&order("c", 100, "EUR"), at(31)).attempts, 6);
    }

    #[test]
    fn other_rules_judge_what_is_known_already() {
        let book = FactBook::new(Rules::default());
        book.gather(&order("c", 100, "EUR"), at(0));
        let limits = FraudLimits { attempts_window_s: 10, attempts_max: 9, ..FraudLimits::default() };
        book.set_rules(Rules { limits, ..Rules::default() });
        let facts = book.gather(&order("c", 100, "EUR"), at(11));
        assert_eq!((facts.attempts, facts.limits), (1, limits));
    }

    #[test]
    fn currencies_are_counted_over_an_hour() {
        let book = FactBook::new(Rules::default());
        for (code, secs, currencies) in [
            ("EUR", 0, 1),
            ("USD", 10, 2),
            ("EUR", 20, 2),
            ("JPY", 3_609, 3),
            ("JPY", 3_610, 2),
            ("JPY", 3_620, 1),
        ] {
            assert_eq!(
                book.gather(&order("c", 1, code), at(secs)).currencies,
                currencies,
                "{code} at {secs}"
            );
        }
    }

    #[test]
    fn countries_are_counted_over_an_hour_where_they_are_said() {
        let book = FactBook::new(Rules::default());
        for (code, secs, countries) in
            [(None, 0, 0), (Some("DE"), 10, 1), (Some("FR"), 20, 2), (None, 30, 2), (Some("FR"), 3_610, 1)]
        {
            let country = code.and_then(Country::from_code);
            let order = Order { country, ..order("c", 1, "EUR") };
            assert_eq!(book.gather(&order, at(secs)).countries, countries, "{code:?} at {secs}");
        }
        for code in ["AT", "BE", "CH", "DK", "ES", "FI", "GR", "HU", "IT", "JP"] {
            for _ in 0..ATTEMPTS_MAX {
                book.gather(&Order { country: Country::from_code(code), ..order("d", 1, "EUR") }, at(1));
            }
        }
        assert_eq!(
            book.gather(&order("d", 1, "EUR"), at(1)).countries,
            PLACES_MAX,
            "what is remembered is bounded"
        );
    }

    #[test]
    fn three_payments_in_a_currency_make_a_habit() {
        let book = FactBook::new(Rules::default());
        let customer: Arc<str> = "c".into();
        for (minor, code, median) in [
            (100, "EUR", None),
            (900, "USD", None),
            (300, "EUR", None),
            (200, "EUR", Some(200)),
            (5_000, "EUR", Some(200)),
            (6_000, "EUR", Some(300)),
        ] {
            book.paid(&customer, money(minor, code), at(1));
            assert_eq!(book.gather(&order("c", 1, "EUR"), at(1)).median_minor, median, "after {minor}");
        }
    }

    #[test]
    fn customers_are_told_apart_and_lists_are_read() {
        let named = |name: &str| HashSet::from([name.to_owned()]);
        let book = FactBook::new(Rules {
            lists: Lists { blacklisted: named("bad"), trusted: named("good") },
            ..Rules::default()
        });
        for (customer, blacklisted, trusted) in
            [("bad", true, false), ("good", false, true), ("new", false, false)]
        {
            let facts = book.gather(&order(customer, 1, "EUR"), at(1));
            assert_eq!((facts.attempts, facts.blacklisted, facts.trusted), (1, blacklisted, trusted));
        }
    }

    #[test]
    fn the_book_is_bounded_and_forgets_the_idle_first() {
        let book = FactBook::new(Rules::default());
        let order = order("regular", 1, "EUR");
        let again = || Order { payment: PaymentId::generate(), ..order.clone() };
        for n in 0..200_000_u64 {
            book.gather(&Order { customer: format!("c{n}").into(), ..order.clone() }, at(1));
            if n % 1_000 == 0 {
                book.gather(&again(), at(2 + n));
            }
        }
        assert!(book.drawers.iter().all(|drawer| drawer.len() <= DRAWER_MAX));
        assert!(book.drawers.len() as u64 <= DRAWERS);
        assert_eq!(book.gather(&again(), at(199_002)).attempts, 2);
    }
}
