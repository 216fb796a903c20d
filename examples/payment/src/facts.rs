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

/// How many amounts in one currency make a habit.
pub const HABIT_MIN: usize = 3;

/// Attempts remembered of one customer; more in a minute are rejected anyway.
const ATTEMPTS_MAX: usize = 32;

/// Currencies remembered of one customer, and countries.
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

    /// Counts the attempt and says what is known about it.
    pub fn gather(&self, order: &Order, now: Timestamp) -> Facts {
        self.recall(&order.customer, (order.money.currency(), order.country), now);
        self.look(order, now)
    }

    /// Says what is known about an attempt that was counted before, as of the moment it was made.
    pub fn look(&self, order: &Order, at: Timestamp) -> Facts {
        let rules = self.rules();
        let (limits, lists) = (rules.limits, &rules.lists);
        let currency = order.money.currency();
        self.with_history(&order.customer, at, |history| Facts {
            attempts: history.attempts(at, &limits),
            currencies: within(&history.currencies, limits.currencies_window_s, at),
            countries: within(&history.countries, limits.countries_window_s, at),
            median_minor: history.median(currency),
            blacklisted: lists.blacklisted.contains(&*order.customer),
            trusted: lists.trusted.contains(&*order.customer),
            limits,
        })
    }

    /// Takes note of an attempt made before this process started.
    pub fn recall(
        &self,
        customer: &Arc<str>,
        (currency, country): (Currency, Option<Country>),
        at: Timestamp,
    ) {
        self.with_history(customer, at, |history| history.attempted(currency, country, at));
    }

    /// Takes an attempt back that came to nothing through no fault of the customer.
    pub fn forget(&self, customer: &Arc<str>, at: Timestamp) {
        self.with_history(customer, at, |history| {
            if let Some(place) = history.attempts.iter().rposition(|attempt| *attempt == at) {
                history.attempts.remove(place);
            }
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
    attempts: VecDeque<Timestamp>,
    currencies: Vec<(Currency, Timestamp)>,
    countries: Vec<(Country, Timestamp)>,
    amounts: VecDeque<Money>,
}

impl History {
    fn new(customer: Arc<str>, seen: Timestamp) -> Self {
        Self {
            customer,
            seen,
            attempts: VecDeque::new(),
            currencies: Vec::new(),
            countries: Vec::new(),
            amounts: VecDeque::new(),
        }
    }

    fn attempted(&mut self, currency: Currency, country: Option<Country>, at: Timestamp) {
        keep_last(&mut self.attempts, at, ATTEMPTS_MAX);
        keep_newest(&mut self.currencies, currency, at);
        if let Some(country) = country {
            keep_newest(&mut self.countries, country, at);
        }
    }

    fn paid(&mut self, money: Money) {
        keep_last(&mut self.amounts, money, AMOUNTS_MAX);
    }

    fn attempts(&self, now: Timestamp, limits: &FraudLimits) -> usize {
        let window = Duration::from_secs(limits.attempts_window_s.into());
        self.attempts.iter().filter(|at| **at <= now && now.since(**at) < window).count()
    }

    fn median(&self, currency: Currency) -> Option<i64> {
        let of_currency = self.amounts.iter().filter(|money| money.currency() == currency);
        let mut minors: Vec<i64> = of_currency.map(|money| money.minor()).collect();
        minors.sort_unstable();
        // Of an even number the lower middle: it is an amount that was paid, and needs no rounding.
        (HABIT_MIN <= minors.len()).then(|| minors[(minors.len() - 1) / 2])
    }
}

/// How many were seen within so many seconds.
fn within<T>(seen: &[(T, Timestamp)], window_s: u32, now: Timestamp) -> usize {
    let window = Duration::from_secs(window_s.into());
    seen.iter().filter(|(_, at)| now.since(*at) < window).count()
}

/// Keeps when each was seen last, the newest last.
fn keep_newest<T: PartialEq>(seen: &mut Vec<(T, Timestamp)>, item: T, at: Timestamp) {
    seen.retain(|(known, _)| *known != item);
    if seen.len() == PLACES_MAX {
        seen.remove(0);
    }
    seen.push((item, at));
}

fn keep_last<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
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
        let order = order("c", 100, "EUR");
        for (secs, attempts) in [(0, 1), (59, 2), (60, 2), (118, 3), (119, 3), (500, 1)] {
            assert_eq!(book.gather(&order, at(secs)).attempts, attempts, "after {secs} s");
        }
    }

    #[test]
    fn an_attempt_that_is_taken_back_does_not_count() {
        let book = FactBook::new(Rules::default());
        let order = order("c", 100, "EUR");
        for secs in 0..10 {
            assert_eq!(book.gather(&order, at(secs)).attempts, 1);
            book.forget(&order.customer, at(secs));
        }
    }

    #[test]
    fn other_rules_judge_what_is_known_already() {
        let book = FactBook::new(Rules::default());
        let order = order("c", 100, "EUR");
        book.gather(&order, at(0));
        let limits = FraudLimits { attempts_window_s: 10, attempts_max: 9, ..FraudLimits::default() };
        book.set_rules(Rules { limits, ..Rules::default() });
        let facts = book.gather(&order, at(11));
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
            book.gather(&Order { country: Country::from_code(code), ..order("d", 1, "EUR") }, at(1));
        }
        assert_eq!(
            book.look(&order("d", 1, "EUR"), at(1)).countries,
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
        for n in 0..200_000_u64 {
            book.gather(&Order { customer: format!("c{n}").into(), ..order.clone() }, at(1));
            if n % 1_000 == 0 {
                book.gather(&order, at(2 + n));
            }
        }
        assert!(book.drawers.iter().all(|drawer| drawer.len() <= DRAWER_MAX));
        assert!(book.drawers.len() as u64 <= DRAWERS);
        assert_eq!(book.gather(&order, at(199_002)).attempts, 2);
    }
}
