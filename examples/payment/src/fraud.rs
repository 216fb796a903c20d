//! Which payments are not even tried: the policies, each with its name, its version and its figures.

use gemba::policy::{BoxPolicy, Policy, all, rule, unless, weighted, when};

use crate::charge::Order;
use crate::facts::Facts;

/// Attempts a customer may make within a minute.
pub const ATTEMPTS_MAX: usize = 5;

/// The largest amount, in main units of its currency.
pub const AMOUNT_MAIN_MAX: i64 = 5_000;

/// How many times a customer's median an amount may be.
pub const HABIT_FACTOR_MAX: i64 = 10;

/// Currencies a customer may use within an hour.
pub const CURRENCIES_MAX: usize = 2;

/// The score at which weak signs together reject.
pub const SCORE_REJECTS: u32 = 50;

/// The policy of the payment line: every rule is asked, every violation is reported.
///
/// Each rule rejects by itself. The score adds up signs that mean little alone, each at half of a rule's
/// limit; trusted customers are spared it, and nothing else.
pub fn policy() -> BoxPolicy<Order, Facts> {
    let trusted = when(|_: &Order, facts: &Facts| facts.trusted);
    all(
        "fraud",
        1,
        [
            blacklist(),
            velocity("velocity", ATTEMPTS_MAX),
            amount("amount_limit", AMOUNT_MAIN_MAX),
            habit("amount_habit", HABIT_FACTOR_MAX),
            currencies("currencies", CURRENCIES_MAX),
            unless(trusted, score()).boxed(),
        ],
    )
    .boxed()
}

fn score() -> impl Policy<Order, Facts> {
    weighted(
        "score",
        1,
        SCORE_REJECTS,
        [
            (25, amount("large_amount", AMOUNT_MAIN_MAX / 2)),
            (25, habit("unusual_amount", HABIT_FACTOR_MAX / 2)),
            (20, velocity("hurry", ATTEMPTS_MAX / 2)),
            (15, currencies("second_currency", CURRENCIES_MAX / 2)),
        ],
    )
}

fn blacklist() -> BoxPolicy<Order, Facts> {
    rule("blacklist", 1, |_: &Order, facts: &Facts| {
        facts.blacklisted.then(|| "the customer is on the blacklist".to_owned())
    })
    .boxed()
}

fn velocity(name: &str, most: usize) -> BoxPolicy<Order, Facts> {
    rule(name, 1, move |_: &Order, facts: &Facts| {
        (most < facts.attempts)
            .then(|| format!("{} attempts within a minute, {most} is the limit", facts.attempts))
    })
    .boxed()
}

fn amount(name: &str, main_max: i64) -> BoxPolicy<Order, Facts> {
    rule(name, 1, move |order: &Order, _: &Facts| {
        let currency = order.money.currency();
        (main_max * currency.minor_per_main() < order.money.minor())
            .then(|| format!("{} is above {main_max} {currency}", order.money))
    })
    .boxed()
}

fn habit(name: &str, factor_max: i64) -> BoxPolicy<Order, Facts> {
    rule(name, 1, move |order: &Order, facts: &Facts| {
        let median = facts.median_minor?;
        (median.saturating_mul(factor_max) < order.money.minor())
            .then(|| format!("{} is above {factor_max} times the customer's median of {median}", order.money))
    })
    .boxed()
}

fn currencies(name: &str, most: usize) -> BoxPolicy<Order, Facts> {
    rule(name, 1, move |_: &Order, facts: &Facts| {
        (most < facts.currencies)
            .then(|| format!("{} currencies within an hour, {most} is the limit", facts.currencies))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charge::tests::order;

    const PLAIN: Facts =
        Facts { attempts: 1, currencies: 1, median_minor: None, blacklisted: false, trusted: false };

    fn violated(minor: i64, code: &str, facts: &Facts) -> Vec<String> {
        let verdict = policy().evaluate(&order("c", minor, code), facts);
        verdict.violations().iter().map(|violation| violation.rule.to_string()).collect()
    }

    #[test]
    fn each_rule_rejects_just_above_its_limit() {
        let trusted = Facts { trusted: true, ..PLAIN };
        for (minor, code, facts, rules) in [
            (500_000, "EUR", trusted.clone(), vec![]),
            (500_001, "EUR", trusted.clone(), vec!["amount_limit"]),
            (5_000, "JPY", trusted.clone(), vec![]),
            (5_001, "JPY", trusted.clone(), vec!["amount_limit"]),
            (5_000_001, "KWD", trusted.clone(), vec!["amount_limit"]),
            (1_000, "EUR", Facts { median_minor: Some(100), ..trusted.clone() }, vec![]),
            (1_001, "EUR", Facts { median_minor: Some(100), ..trusted.clone() }, vec!["amount_habit"]),
            (1, "EUR", Facts { attempts: 5, ..trusted.clone() }, vec![]),
            (1, "EUR", Facts { attempts: 6, ..trusted.clone() }, vec!["velocity"]),
            (1, "EUR", Facts { currencies: 2, ..trusted.clone() }, vec![]),
            (1, "EUR", Facts { currencies: 3, ..trusted.clone() }, vec!["currencies"]),
            (1, "EUR", Facts { blacklisted: true, ..trusted }, vec!["blacklist"]),
        ] {
            assert_eq!(violated(minor, code, &facts), rules, "{minor} {code} {facts:?}");
        }
    }

    #[test]
    fn every_violation_is_reported() {
        let facts = Facts { attempts: 6, currencies: 3, blacklisted: true, ..PLAIN };
        let rules = ["blacklist", "velocity", "amount_limit", "currencies", "score"];
        let found = violated(500_001, "EUR", &facts);
        assert_eq!(found[..5], rules);
    }

    #[test]
    fn weak_signs_reject_together_and_not_alone() {
        let hurried = Facts { attempts: 3, ..PLAIN };
        let hurried_abroad = Facts { attempts: 3, currencies: 2, ..PLAIN };
        let unusual = Facts { median_minor: Some(50_000), ..PLAIN };
        for (minor, facts, rejected) in [
            (250_001, &PLAIN, false),
            (250_001, &hurried, false),
            (1, &hurried_abroad, false),
            (250_001, &hurried_abroad, true),
            (250_000, &unusual, false),
            (250_001, &unusual, true),
        ] {
            assert_eq!(!violated(minor, "EUR", facts).is_empty(), rejected, "{minor} {facts:?}");
        }
    }

    #[test]
    fn trusted_customers_are_spared_the_score_and_nothing_else() {
        let signs = Facts { median_minor: Some(50_000), attempts: 5, ..PLAIN };
        assert_eq!(violated(300_000, "EUR", &signs)[0], "score");
        assert!(violated(300_000, "EUR", &Facts { trusted: true, ..signs.clone() }).is_empty());
        let banned = Facts { trusted: true, blacklisted: true, ..signs };
        assert_eq!(violated(300_000, "EUR", &banned), ["blacklist"]);
    }
}
