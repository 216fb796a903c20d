//! The configuration of the service: a file, the environment, flags; checked as a whole.

use std::path::PathBuf;

use gemba::config::{Check, ConfigErrors, Faults, Loaded, Sources, schema};
use gemba::{AlertRoutes, HostName, PlantSection, light::Light};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::facts::{Lists, Rules};
use crate::fraud::FraudLimits;
use crate::gateway_client::checked_address;
use crate::host::ListenAddress;
use crate::plant::{NAMES, PAYMENT_DEADLINE_MS_MAX};
use crate::store::ABANDONED_AFTER_MS;

/// What variables of the environment begin with: `PAYMENT__PLANT__LIMITS__HARD` is `plant.limits.hard`.
pub const PREFIX: &str = "PAYMENT";

/// The values that are in force if nobody says otherwise; the file of examples and documentation.
const DEFAULTS: &str = include_str!("../payment.toml");

/// The configuration of the service.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PaymentConfig {
    /// Where it takes payments.
    #[serde(default = "payments")]
    pub listen: ListenAddress,
    /// Where the inspector listens.
    #[serde(default = "inspector")]
    pub inspect: ListenAddress,
    /// Names under which the inspector may be asked, besides IP addresses and localhost; for a Prometheus whose target
    /// is a name.
    #[serde(default)]
    #[schemars(with = "Vec<String>", example = ["node1.example"])]
    pub inspect_hosts: Vec<HostName>,
    /// The card gateway.
    #[serde(default = "gateway")]
    pub gateway: String,
    /// The file of its record; made if there is none.
    #[serde(default = "database")]
    pub database: PathBuf,
    /// The customers somebody decided about.
    #[serde(default)]
    pub customers: CustomersSection,
    /// Which payments are rejected.
    #[serde(default)]
    pub fraud: FraudLimits,
    /// Who is told of lights.
    #[serde(default)]
    pub alerts: AlertsSection,
    /// Limits, pools and lines.
    #[serde(default)]
    pub plant: PlantSection,
}

fn payments() -> ListenAddress {
    ListenAddress(([127, 0, 0, 1], 8080).into())
}

fn inspector() -> ListenAddress {
    ListenAddress(gemba::INSPECT)
}

fn gateway() -> String {
    "http://127.0.0.1:8090".to_owned()
}

fn database() -> PathBuf {
    "payment.db".into()
}

/// The customers somebody decided about.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CustomersSection {
    /// Customers who may not pay here.
    pub blacklist: Vec<String>,
    /// Customers who are spared the score.
    pub trusted: Vec<String>,
}

/// Who is told of lights. Without any, nobody is; the addresses are secrets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AlertsSection {
    /// An incoming webhook of Slack: told from yellow on.
    #[schemars(extend("writeOnly" = true))]
    pub slack_url: Option<String>,
    /// Whatever takes Alertmanager's webhooks: told from yellow on.
    #[schemars(extend("writeOnly" = true))]
    pub webhook_url: Option<String>,
    /// The routing key of PagerDuty's integration: told from red on.
    #[schemars(extend("writeOnly" = true))]
    pub pagerduty_key: Option<String>,
}

impl AlertsSection {
    /// The routes, if there is one.
    pub fn routes(&self) -> Option<AlertRoutes> {
        if *self == Self::default() {
            return None;
        }
        let mut routes = AlertRoutes::new();
        if let Some(url) = &self.slack_url {
            routes = routes.slack(url);
        }
        if let Some(url) = &self.webhook_url {
            routes = routes.webhook("webhook", Light::Yellow, url);
        }
        if let Some(key) = &self.pagerduty_key {
            routes = routes.pagerduty(key);
        }
        Some(routes)
    }
}

impl Check for PaymentConfig {
    fn check(&self, faults: &mut Faults<'_>) {
        if let Err(error) = checked_address(&self.gateway) {
            faults.at("gateway").add(error.to_string());
        }
        if let Some(Err(errors)) = self.alerts.routes().map(AlertRoutes::check) {
            faults.at("alerts").add(errors.to_string());
        }
        for (place, customer) in self.customers.trusted.iter().enumerate() {
            if self.customers.blacklist.contains(customer) {
                let mut customers = faults.at("customers");
                customers.at("trusted").item(place).add("is on the blacklist too; take it off one of them");
            }
        }
        let mut plant = faults.at("plant");
        self.plant.check(&mut plant);
        self.plant.check_names(&NAMES, &NAMES, &mut plant);
        let [payment, ..] = NAMES;
        let deadline_ms = self.plant.lines.get(payment).and_then(|line| line.deadline_ms);
        if deadline_ms.is_some_and(|deadline_ms| PAYMENT_DEADLINE_MS_MAX < deadline_ms) {
            plant.at("lines").at(payment).at("deadline_ms").add(format!(
                "is above {PAYMENT_DEADLINE_MS_MAX}; after {ABANDONED_AFTER_MS} ms the reconciler takes a payment \
                 over, and its request must have ended by then"
            ));
        }
    }
}

impl PaymentConfig {
    /// The defaults, to which a file, the environment and flags can be added.
    pub fn sources() -> Sources {
        Sources::new(PREFIX).defaults("the defaults of payment", DEFAULTS)
    }

    /// By which figures and lists payments are judged.
    pub fn rules(&self) -> Rules {
        let CustomersSection { blacklist, trusted } = self.customers.clone();
        let lists =
            Lists { blacklisted: blacklist.into_iter().collect(), trusted: trusted.into_iter().collect() };
        Rules { limits: self.fraud, lists }
    }

    /// The keys whose values differ in `other` and can be set at the start alone.
    pub fn needs_restart(&self, other: &Self) -> Vec<String> {
        let own = [
            ("listen", self.listen != other.listen),
            ("inspect", self.inspect != other.inspect),
            ("inspect_hosts", self.inspect_hosts != other.inspect_hosts),
            ("gateway", self.gateway != other.gateway),
            ("database", self.database != other.database),
            ("alerts", self.alerts != other.alerts),
        ];
        let own = own.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned());
        let plant = self.plant.needs_restart(&other.plant);
        own.chain(plant.into_iter().map(|key| format!("plant.{key}"))).collect()
    }
}

/// Where the configuration comes from. Flags override the environment, and that the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigOptions {
    /// The file of the configuration; read again on SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where it takes payments; port 0 takes a free one and prints it.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Where the inspector listens.
    #[arg(long, value_name = "ADDR")]
    pub inspect: Option<String>,
    /// The card gateway.
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
    /// The file of its record; made if there is none.
    #[arg(long, value_name = "FILE")]
    pub database: Option<String>,
    /// Workers of a pool that may crash within its crash period before the whole pool is started anew.
    #[arg(long, value_name = "N")]
    pub crashes_max: Option<String>,
    /// Customers who may not pay here, separated by commas.
    #[arg(long, value_name = "CUSTOMERS")]
    pub blacklist: Option<String>,
    /// Customers who are spared the fraud score, separated by commas.
    #[arg(long, value_name = "CUSTOMERS")]
    pub trust: Option<String>,
    /// Any other key, as in `--set plant.limits.hard=600`; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let parts = parts.map(|(key, value)| (key.to_owned(), value.to_owned()));
    parts.ok_or_else(|| "write it like plant.limits.hard=600".to_owned())
}

impl ConfigOptions {
    /// Reads and checks the configuration, as it is now.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every mistake.
    pub fn load(&self) -> Result<Loaded<PaymentConfig>, ConfigErrors> {
        let mut sources = PaymentConfig::sources().environment();
        if let Some(file) = &self.config {
            sources = sources.file(file);
        }
        for (key, value) in &self.set {
            sources = sources.flag(key, "--set", value);
        }
        let flags = [
            ("listen", "--listen", &self.listen),
            ("inspect", "--inspect", &self.inspect),
            ("gateway", "--gateway", &self.gateway),
            ("database", "--database", &self.database),
            ("customers.blacklist", "--blacklist", &self.blacklist),
            ("customers.trusted", "--trust", &self.trust),
        ];
        for (key, flag, value) in flags {
            if let Some(value) = value {
                sources = sources.flag(key, flag, value);
            }
        }
        for pool in NAMES {
            if let Some(crashes) = &self.crashes_max {
                sources = sources.flag(&format!("plant.pools.{pool}.crashes_max"), "--crashes-max", crashes);
            }
        }
        sources.load()
    }
}

/// What can be done with a configuration without starting anything.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ConfigVerb {
    /// Say whether it is right; exit code 2 and every mistake if it is not.
    Check(ConfigOptions),
    /// Write every value that would be in force.
    Print {
        /// Where the configuration comes from.
        #[command(flatten)]
        options: ConfigOptions,
        /// Say of each where it comes from.
        #[arg(long)]
        origin: bool,
    },
    /// Write the JSON Schema, for editors.
    Schema,
}

impl ConfigVerb {
    /// Does it, and says what is to be shown.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every mistake.
    pub fn execute(&self) -> Result<String, ConfigErrors> {
        match self {
            Self::Check(options) => options.load().map(|_| "the configuration is right\n".to_owned()),
            Self::Print { options, origin } => Ok(options.load()?.print(*origin)),
            Self::Schema => Ok(schema::<PaymentConfig>() + "\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn load(text: &str) -> Result<PaymentConfig, ConfigErrors> {
        PaymentConfig::sources().text("payment.toml", text).load().map(|loaded| loaded.value)
    }

    #[test]
    fn the_example_is_right_and_says_what_the_code_does() {
        let config = load(DEFAULTS).unwrap();
        assert_eq!(config.fraud, FraudLimits::default());
        assert_eq!((config.listen, config.inspect), (payments(), inspector()));
        assert_eq!((&config.gateway, &config.database), (&gateway(), &database()));
        let deadline = |line: &str| config.plant.lines[line].deadline_ms.map(u128::from);
        assert_eq!(deadline("payment"), Some(crate::plant::PAYMENT_DEADLINE.as_millis()));
        assert_eq!(deadline("delivery"), Some(crate::plant::CONFIRMATION_DEADLINE.as_millis()));
        assert_eq!(load("").unwrap().needs_restart(&config), Vec::<String>::new());
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let errors = load(
            "gateway = \"nowhere\"\nlisten = 80\n\
             [customers]\nblacklist = [\"ann\"]\ntrusted = [\"bob\", \"ann\"]\n\
             [fraud]\nattempts_max = 32\namount_max = 5\n\
             [plant.pools.payment]\nworkers_max = 5\n\
             [plant.lines.pament.rate]\ncount = 5\n\
             [plant.lines.delivery]\npools = [\"mail\"]\n",
        )
        .unwrap_err();
        let told: Vec<_> =
            errors.faults().iter().map(|fault| (fault.path(), fault.origin().to_string())).collect();
        let expected = [
            ("gateway", 1),
            ("listen", 2),
            ("customers.trusted[1]", 5),
            ("fraud.attempts_max", 7),
            ("fraud.amount_max", 8),
            // The default that it does not fit is in nobody's file.
            ("plant.pools.payment.workers_min", 10),
            ("plant.lines.pament", 11),
            ("plant.lines.delivery.pools[0]", 14),
        ];
        let expected: Vec<_> = expected.map(|(path, line)| (path, format!("payment.toml:{line}"))).into();
        assert_eq!(told, expected, "{errors}");
    }

    #[test]
    fn a_payment_ends_before_the_reconciler_takes_it_over() {
        let with = |line: &str, deadline_ms: u32| {
            load(&format!("[plant.lines.{line}]\ndeadline_ms = {deadline_ms}\n"))
        };
        let errors = with("payment", 600_000).unwrap_err();
        assert_eq!(errors.faults()[0].path(), "plant.lines.payment.deadline_ms");
        let told = errors.to_string();
        assert!(told.contains("20000") && told.contains("30000 ms the reconciler"), "{told}");
        assert!(with("payment", PAYMENT_DEADLINE_MS_MAX).is_ok());
        assert!(with("delivery", 600_000).is_ok(), "nobody takes a confirmation over");
    }

    #[test]
    fn what_cannot_be_changed_while_it_runs_is_named() {
        let start = load("").unwrap();
        let running = "[fraud]\nattempts_max = 9\n[plant.pools.payment]\nworkers_max = 31\nqueue_max = 9\n[plant.limits]\nhard = 9\n";
        assert_eq!(start.needs_restart(&load(running).unwrap()), Vec::<String>::new());
        let other = "listen = \"127.0.0.1:1\"\n[plant.pools.payment]\ncrashes_max = 9\n[alerts]\nslack_url = \"https://example.com\"\n";
        assert_eq!(
            start.needs_restart(&load(other).unwrap()),
            ["listen", "alerts", "plant.pools.payment.crashes_max"]
        );
    }

    /// Every key that has a value, each with one changed.
    fn altered(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
        if let Value::Object(table) = value {
            for (key, inner) in table {
                let (at, before) = (format!("{path}/{key}"), found.len());
                altered(inner, &at, found);
                for (_, changed) in &mut found[before..] {
                    let mut whole = value.clone();
                    whole[key] = changed.take();
                    *changed = whole;
                }
            }
            return;
        }
        let other = match value {
            Value::Bool(on) => json!(!on),
            Value::Number(number) if number.is_f64() => json!(number.as_f64().unwrap() + 0.0001),
            Value::Number(number) => json!(number.as_u64().unwrap() + 1),
            Value::String(text) if text == "failures" => json!("each"),
            Value::String(text) => json!(format!("{}1", &text[..text.len() - 1])),
            Value::Array(_) => json!(["other"]),
            Value::Null | Value::Object(_) => return,
        };
        found.push((path.replace('/', "."), other));
    }

    /// Every key is in force after a reload, or named as one that needs a restart: none is passed over.
    #[test]
    fn these_keys_and_no_others_need_a_restart() {
        let start = load(
            "[customers]\nblacklist = [\"ann\"]\ntrusted = [\"ben\"]\n\
             [alerts]\nslack_url = \"https://a.example\"\nwebhook_url = \"https://b.example\"\npagerduty_key = \"0123456789abcdef0123456789abcdef\"\n\
             [plant.health]\n[plant.lines.payment]\ndeadline_ms = 4000\nfollow_up_within_ms = 100\nobjective_ratio = 0.99\n\
             rate = { count = 5, burst = 6 }\nrate_per_key = { count = 5, burst = 6 }\n\
             breaker = { slow_ms = 100 }\nadaptive = { healthy_max_ms = 100 }\n\
             receipts.of = \"failures\"\nobjectives = {}\n",
        )
        .unwrap();
        let mut changed = Vec::new();
        altered(&serde_json::to_value(&start).unwrap(), "", &mut changed);
        let in_force = |config: &PaymentConfig| format!("{:?} {:?}", config.plant.settings(), config.rules());
        let mut at_start = Vec::new();
        for (key, other) in &changed {
            let other: PaymentConfig = serde_json::from_value(other.clone()).unwrap();
            if start.needs_restart(&other).is_empty() {
                assert_ne!(in_force(&start), in_force(&other), "{key} changes nothing, and nobody is told");
            } else {
                at_start.push(&key[1..]);
            }
        }
        let mut expected: Vec<_> = [
            "alerts.pagerduty_key",
            "alerts.slack_url",
            "alerts.webhook_url",
            "database",
            "gateway",
            "inspect",
            "inspect_hosts",
            "listen",
        ]
        .map(str::to_owned)
        .into();
        expected.extend(NAMES.map(|line| format!("plant.lines.{line}.pools")));
        let keys = ["crash_period_s", "crashes_max", "stop_within_ms"];
        expected.extend(NAMES.iter().flat_map(|pool| keys.map(|key| format!("plant.pools.{pool}.{key}"))));
        at_start.sort_unstable();
        expected.sort_unstable();
        assert_eq!(at_start, expected, "of {} keys", changed.len());
        assert!(120 < changed.len(), "{} keys were tried", changed.len());
    }
}
