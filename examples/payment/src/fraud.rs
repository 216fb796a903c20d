//! Which payments are not even tried: the policies, each with its name, its version and its figures.

use gemba::policy::{BoxPolicy, Policy, all, rule, unless, weighted, when};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::charge::Order;
use crate::facts::Facts;

/// The score at which weak signs together reject.
const SCORE_REJECTS: u32 = 50;

/// The figures of the rules. Every payment is judged by those in force when it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FraudLimits {
    /// Attempts a customer may make within the window.
    #[schemars(range(min = 1, max = 31))]
    pub attempts_max: u32,
    /// The window for attempts.
    #[schemars(range(min = 1, max = 3600))]
    pub attempts_window_s: u32,
    /// The largest amount, in main units of its currency.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub amount_main_max: i64,
    /// How many times a customer's median an amount may be.
    #[schemars(range(min = 1, max = 1000))]
    pub habit_factor_max: i64,
    /// Currencies a customer may use within the window.
    #[schemars(range(min = 1, max = 7))]
    pub currencies_max: u32,
    /// The window for currencies.
    #[schemars(range(min = 1, max = 86400))]
    pub currencies_window_s: u32,
    /// Countries a customer may pay from within the window; payments that name none are not counted.
    #[schemars(range(min = 1, max = 7))]
    pub countries_max: u32,
    /// The window for countries.
    #[schemars(range(min = 1, max = 86400))]
    pub countries_window_s: u32,
}

impl FraudLimits {
    /// How far back a judgement by them looks, in seconds.
    pub fn window_s(&self) -> u32 {
        self.attempts_window_s.max(self.currencies_window_s).max(self.countries_window_s)
    }
}

impl Default for FraudLimits {
    fn default() -> Self {
        Self {
            attempts_max: 5,
            attempts_window_s: 60,
            amount_main_max: 5_000,
            habit_factor_max: 10,
            currencies_max: 2,
            currencies_window_s: 3_600,
            countries_max: 2,
            countries_window_s: 3_600,
        }
    }
}

/// The policy of the payment line: every rule is asked, every violation is reported.
///
/// Each rule rejects by itself. The score adds up signs that mean little alone, each at half of a rule's
/// limit, and never below one; trusted customers are spared it, and nothing else.
pub fn policy() -> BoxPolicy<Order, Facts> {
    let trusted = when(|_: &Order, facts: &Facts| facts.trusted);
    all(
        "fraud",
        3,
        [
            blacklist(),
            velocity("velocity", 1),
            amount("amount_limit", 1),
            habit("amount_habit", 1),
            currencies("currencies", 1),
            countries("countries", 1),
            unless(trusted, score()).boxed(),
        ],
    )
    .boxed()
}

fn score() -> impl Policy<Order, Facts> {
    weighted(
        "score",
        3,
        SCORE_REJECTS,
        [
            (25, amount("large_amount", 2)),
            (25, habit("unusual_amount", 2)),
            (20, velocity("hurry", 2)),
            (15, currencies("second_currency", 2)),
            (15, countries("second_country", 2)),
        ],
    )
}

fn blacklist() -> BoxPolicy<Order, Facts> {
    rule("blacklist", 1, |_: &Order, facts: &Facts| {
        facts.blacklisted.then(|| "the customer is on the blacklist".to_owned())
    })
    .boxed()
}

/// Of this rule and the next ones: rejects above the limit divided by `part`. A part of a limit is at least one: half of
/// one would be none, and a sign that every payment bears is no sign.
fn velocity(name: &str, part: u32) -> BoxPolicy<Order, Facts> {
    rule(name, 1, move |_: &Order, facts: &Facts| {
        let (most, window) = ((facts.limits.attempts_max / part).max(1), facts.limits.attempts_window_s);
        (most as usize)
            .lt(&facts.attempts)
            .then(|| format!("{} attempts within {window} s, {most} is the limit", facts.attempts))
    })
    .boxed()
}

fn amount(name: &str, part: i64) -> BoxPolicy<Order, Facts> {
    rule(name, 1, move |order: &Order, facts: &Facts| {
        let (currency, main_max) = (order.money.currency(), (facts.limits.amount_main_max / part).max(1));
        (main_max * currency.minor_per_main() < order.money.minor())
            .then(|| format!("{} is above {main_max} {currency}", order.money))
    })
    .boxed()
}

fn habit(name: &str, part: i64) -> BoxPolicy<Order, Facts> {
    rule(name, 1, move |order: &Order, facts: &Facts| {
        let (median, factor_max) = (facts.median_minor?, (facts.limits.habit_factor_max / part).max(1));
        (median.saturating_mul(factor_max) < order.money.minor())
            .then(|| format!("{} is above {factor_max} times the customer's median of {median}", order.money))
    })
    .boxed()
}

fn currencies(name: &str, part: u32) -> BoxPolicy<Order, Facts> {
    rule(name, 1, move |_: &Order, facts: &Facts| {
        let (most, window) = ((facts.limits.currencies_max / part).max(1), facts.limits.currencies_window_s);
        (most as usize)
            .lt(&facts.currencies)
            .then(|| format!("{} currencies within {window} s, {most} is the limit", facts.currencies))
    })
    .boxed()
}

fn countries(name: &str, part: u32) -> BoxPolicy<Order, Facts> {
    rule(name, 1, move |_: &Order, facts: &Facts| {
        let (most, window) = ((facts.limits.countries_max / part).max(1), facts.limits.countries_window_s);
        (most as usize)
            .lt(&facts.countries)
            .then(|| format!("{} countries within {window} s, {most} is the limit", facts.countries))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charge::tests::order;

    fn plain() -> Facts {
        Facts {
            attempts: 1,
            currencies: 1,
            countries: 1,
            median_minor: None,
            blacklisted: false,
            trusted: false,
            limits: FraudLimits::default(),
        }
    }

    fn violated(minor: i64, code: &str, facts: &Facts) -> Vec<String> {
        let verdict = policy().evaluate(&order("c", minor, code), facts);
        verdict.violations().iter().map(|violation| violation.rule.to_string()).collect()
    }

    #[test]
    fn each_rule_rejects_just_above_its_limit() {
        let trusted = Facts { trusted: true, ..plain() };
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
            (1, "EUR", Facts { countries: 2, ..trusted.clone() }, vec![]),
            (1, "EUR", Facts { countries: 3, ..trusted.clone() }, vec!["countries"]),
            (1, "EUR", Facts { blacklisted: true, ..trusted }, vec!["blacklist"]),
        ] {
            assert_eq!(violated(minor, code, &facts), rules, "{minor} {code} {facts:?}");
        }
    }

    #[test]
    fn every_violation_is_reported() {
        let facts = Facts { attempts: 6, currencies: 3, countries: 3, blacklisted: true, ..plain() };
        let rules = ["blacklist", "velocity", "amount_limit", "currencies", "countries", "score"];
        let found = violated(500_001, "EUR", &facts);
        assert_eq!(found[..6], rules);
    }

    #[test]
    fn weak_signs_reject_together_and_not_alone() {
        let hurried = Facts { attempts: 3, ..plain() };
        let hurried_abroad = Facts { attempts: 3, currencies: 2, ..plain() };
        let travelling = Facts { countries: 2, ..plain() };
        let hurried_and_travelling = Facts { attempts: 3, countries: 2, ..plain() };
        let unusual = Facts { median_minor: Some(50_000), ..plain() };
        for (minor, facts, rejected) in [
            (250_001, &plain(), false),
            (250_001, &hurried, false),
            (1, &hurried_abroad, false),
            (250_001, &hurried_abroad, true),
            (250_001, &travelling, false),
            (250_001, &hurried_and_travelling, true),
            (250_000, &unusual, false),
            (250_001, &unusual, true),
        ] {
            assert_eq!(!violated(minor, "EUR", facts).is_empty(), rejected, "{minor} {facts:?}");
        }
    }

    #[test]
    fn the_tightest_limits_make_no_sign_of_an_ordinary_payment() {
        let limits = FraudLimits {
            attempts_max: 1,
            amount_main_max: 1,
            habit_factor_max: 1,
            currencies_max: 1,
            countries_max: 1,
            ..FraudLimits::default()
        };
        let facts = Facts { median_minor: Some(100), limits, ..plain() };
        assert_eq!(violated(100, "EUR", &facts), Vec::<String>::new());
    }

    #[test]
    fn trusted_customers_are_spared_the_score_and_nothing_else() {
        let signs = Facts { median_minor: Some(50_000), attempts: 5, ..plain() };
        assert_eq!(violated(300_000, "EUR", &signs)[0], "score");
        assert!(violated(300_000, "EUR", &Facts { trusted: true, ..signs.clone() }).is_empty());
        let banned = Facts { trusted: true, blacklisted: true, ..signs };
        assert_eq!(violated(300_000, "EUR", &banned), ["blacklist"]);
    }
}
