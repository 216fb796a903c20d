//! A configuration of a fleet, as somebody outside would describe it, and all that can be wrong with one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use gemba_config::{
    Check, ConfigErrors, Faults, Loaded, Origin, Sources, keys, keys_table, schema, schemars,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A fleet.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
struct Fleet {
    /// Where the API listens.
    #[schemars(with = "String")]
    #[serde(default = "loopback")]
    listen: SocketAddr,
    /// What opens the API.
    #[schemars(extend("writeOnly" = true), length(min = 8))]
    token: Option<String>,
    /// How instances are restarted.
    #[serde(default)]
    strategy: Strategy,
    /// Regions, in the order of a rollout.
    regions: Vec<String>,
    /// Services by name.
    services: BTreeMap<String, Service>,
    /// Stages of a rollout.
    #[serde(default)]
    stages: Vec<Stage>,
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 8080).into()
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Strategy {
    #[default]
    OneForOne,
    OneForAll,
    RestForOne,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
struct Service {
    /// The command.
    #[schemars(length(min = 1))]
    command: Vec<String>,
    /// Its first port.
    #[schemars(range(min = 1024))]
    port: u16,
    /// Fewest instances.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    instances_min: u32,
    /// Most instances.
    #[serde(default = "one")]
    instances_max: u32,
    /// Where it runs.
    #[serde(default)]
    regions: Vec<String>,
    /// What proves that it is well.
    health: Health,
}

fn one() -> u32 {
    1
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
struct Health {
    /// The path that is asked for.
    path: String,
    /// How often.
    #[serde(default = "one")]
    every_s: u32,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
struct Stage {
    /// Its name.
    name: String,
    /// Its share of the traffic.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    traffic_ratio: f64,
    /// What it waits for.
    until: Until,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Until {
    /// A person.
    Approved,
    /// A time.
    Seconds(u32),
}

impl Check for Fleet {
    fn check(&self, faults: &mut Faults<'_>) {
        let mut services = faults.at("services");
        for (name, service) in &self.services {
            let mut faults = services.at(name);
            if service.instances_max < service.instances_min {
                faults.at("instances_min").add("is above instances_max").beside("instances_max");
            }
            for (place, region) in service.regions.iter().enumerate() {
                if !self.regions.contains(region) {
                    let known = self.regions.iter().map(String::as_str);
                    faults.at("regions").item(place).unknown("region", region, known);
                }
            }
            if !service.health.path.starts_with('/') {
                faults.at("health").at("path").add("does not begin with '/'").help("such as \"/healthz\"");
            }
        }
        if self.stages.windows(2).any(|two| two[1].traffic_ratio < two[0].traffic_ratio) {
            faults.at("stages").add("a later stage has less traffic than an earlier one");
        }
    }
}

const SOUND: &str = r#"
regions = ["eu", "us"]
token = "a long secret"

[services.pay]
command = ["payment", "serve"]
port = 8080
instances_min = 2
instances_max = 4
regions = ["eu"]
health = { path = "/readyz", every_s = 5 }

[[stages]]
name = "canary"
traffic_ratio = 0.05
until = { seconds = 300 }

[[stages]]
name = "all"
traffic_ratio = 1
until = "approved"
"#;

/// Twenty mistakes, each with the line it is on; two more come with the environment.
const FAULTY: &str = r#"listen = "everywhere"
token = "short"
strategy = "one_for_onee"
regoins = ["eu"]
regions = ["eu", 7]
[services.pay]
command = []
port = 80
instances_min = 5
instances_max = 4
regions = ["eu", "uk"]
health = { path = "readyz", evry_s = 5 }
[services.ledger]
command = "ledger"
port = "9000"
instances_min = 101
colour = "red"
[services.mail]
port = 90000
health = "/readyz"
[[stages]]
name = "canary"
traffic_ratio = 0
until = { secnds = 300 }
[[stages]]
nam = "all"
traffic_ratio = 1.5
until = { seconds = -1 }
"#;

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Loaded<Fleet>, ConfigErrors> {
    Sources::new("FLEET").text("fleet.toml", text).variables(variables.iter().copied()).load()
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let variables = [("FLEET__SERVICES__PAY__HEALTH__EVERY_S", "often"), ("FLEET__STRATEGI", "x")];
    let errors = load(FAULTY, &variables).unwrap_err();
    let told: Vec<_> = errors
        .faults()
        .iter()
        .map(|fault| match fault.origin() {
            Origin::File { line, column, .. } => (format!("{line}:{column}"), fault.path()),
            origin @ (Origin::Environment { .. } | Origin::Flag { .. } | Origin::Default) => {
                (origin.to_string(), fault.path())
            }
        })
        .collect();
    let expected = [
        ("1:10", "listen"),
        ("2:9", "token"),
        ("3:12", "strategy"),
        ("4:1", "regoins"),
        ("5:18", "regions[1]"),
        ("7:11", "services.pay.command"),
        ("8:8", "services.pay.port"),
        ("9:17", "services.pay.instances_min"),
        ("11:18", "services.pay.regions[1]"),
        ("12:19", "services.pay.health.path"),
        ("12:29", "services.pay.health.evry_s"),
        ("13:1", "services.ledger.health"),
        ("14:11", "services.ledger.command"),
        ("15:8", "services.ledger.port"),
        ("16:17", "services.ledger.instances_min"),
        ("17:1", "services.ledger.colour"),
        ("18:1", "services.mail.command"),
        ("19:8", "services.mail.port"),
        ("20:10", "services.mail.health"),
        ("23:17", "stages[0].traffic_ratio"),
        ("24:9", "stages[0].until"),
        ("25:1", "stages[1].name"),
        ("26:1", "stages[1].nam"),
        ("27:17", "stages[1].traffic_ratio"),
        ("28:21", "stages[1].until.seconds"),
        ("FLEET__SERVICES__PAY__HEALTH__EVERY_S", "services.pay.health.every_s"),
        ("FLEET__STRATEGI", "strategi"),
    ];
    let expected: Vec<_> = expected.iter().map(|(place, path)| ((*place).to_owned(), *path)).collect();
    assert_eq!(told, expected, "{errors}");
}

#[test]
fn a_mistake_says_what_would_be_right() {
    let errors = load(FAULTY, &[("FLEET__SERVICES__PAY__PORT", "ten")]).unwrap_err().to_string();
    for expected in [
        "strategy is \"one_for_onee\"; give one of one_for_one, one_for_all, rest_for_one\n",
        "help: did you mean \"one_for_one\"?\n",
        "unknown key 'regoins'\n",
        "did you mean 'regions'?",
        "regions[1] is 7; give a text in quotes\n",
        "services.pay.command is a list of 0; give a list in brackets with 1 or more entries\n",
        "services.pay.port is \"ten\"; give a whole number from 1024 to 65535\n  --> FLEET__SERVICES__PAY__PORT in the environment\n  note: it overrides services.pay.port = 80 (fleet.toml:8)\n",
        "note: services.pay.instances_max is 4 (fleet.toml:10)\n",
        "no region is called 'uk'; there are: eu\n",
        "services.ledger.health is missing\n",
        "stages[0].traffic_ratio is 0; give a number above 0 and at most 1\n",
        "28 | until = { seconds = -1 }\n     |                     ^^\n",
        "25 problems in the configuration",
    ] {
        assert!(errors.contains(expected), "{expected:?} in\n{errors}");
    }
}

#[test]
fn a_secret_is_never_shown() {
    let errors = load(FAULTY, &[]).unwrap_err().to_string();
    assert!(
        errors.contains("token is a secret; give a text in quotes with 8 or more characters"),
        "{errors}"
    );
    let overridden = load(FAULTY, &[("FLEET__TOKEN", "tiny")]).unwrap_err().to_string();
    for text in ["short", "tiny"] {
        assert!(!errors.contains(text) && !overridden.contains(text), "{overridden}");
    }
    for (text, told) in [
        (SOUND.replace("token =", "tokn ="), "unknown key 'tokn'\n  --> fleet.toml:3:1\n  help"),
        (SOUND.replace("secret\"", "secret"), "\n  --> fleet.toml:3:"),
    ] {
        let errors = load(&text, &[]).unwrap_err().to_string();
        assert!(errors.contains(told) && !errors.contains("a long secret"), "{told:?} in\n{errors}");
    }
    let loaded = load(SOUND, &[]).unwrap();
    assert_eq!(loaded.value.token.as_deref(), Some("a long secret"));
    let printed = loaded.print(true);
    assert!(printed.contains("token = \"(secret)\"") && !printed.contains("a long secret"), "{printed}");
}

#[test]
fn a_secret_is_not_shown_for_the_sake_of_another_mistake() {
    #[derive(Debug, Deserialize, Serialize, JsonSchema)]
    struct Watch {
        #[serde(default)]
        alerts: Alerts,
    }
    #[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
    #[serde(default)]
    struct Alerts {
        #[schemars(extend("writeOnly" = true))]
        slack_url: Option<String>,
        #[schemars(extend("writeOnly" = true))]
        webhook_url: Option<String>,
        colour: String,
    }
    impl Check for Watch {}
    for (text, variable, told) in [
        (
            "[alerts]\nslack_ur1 = \"hush\"",
            None,
            "unknown key 'slack_ur1' in alerts\n  --> watch.toml:2:1\n  h",
        ),
        ("[alerts]\nslack = \"hush\"", None, "unknown key 'slack' in alerts\n  --> watch.toml:2:1\n  h"),
        ("alert = { url = \"hush\" }", None, "unknown key 'alert'\n  --> watch.toml:1:1\n  h"),
        ("[alerts]\nslack_url = \"hush", None, "--> watch.toml:2:"),
        ("[alerts]\nslack = hush", None, "--> watch.toml:2:"),
        ("[alerts]\nslack_url = \"x\"\nslack_url = \"hush\"", None, "--> watch.toml:3:"),
        ("alerts = { slack_url = \"hush\", colour = 1 }", None, "alerts.colour is 1; give a text"),
        ("alerts = \"hush\"", None, "alerts is a secret; give a table\n"),
        ("", Some("{ slack_url = \"hush\", webhook_url = 7 }"), "a secret; give a text in quotes\n"),
        ("", Some("{ slack_url = \"hush\""), "alerts is a secret; give a table\n"),
        ("alerts = \"hush\"", Some("all"), "alerts is a secret; give a table\n"),
        ("[alerts]\ncolour = 1", None, "   2 | colour = 1\n"),
        ("[alerts]\ncolour == 1", None, "   2 | colour == 1\n"),
    ] {
        let variables = variable.map(|value| ("WATCH__ALERTS", value));
        let sources = Sources::new("WATCH").text("watch.toml", text).variables(variables);
        let errors = sources.load::<Watch>().unwrap_err();
        let (shown, lines) = (errors.to_string(), errors.lines().collect::<String>());
        assert!(shown.contains(told), "{told:?} in\n{shown}");
        assert!(!shown.contains("hush") && !lines.contains("hush"), "{shown}");
    }
}

#[test]
fn flags_override_variables_and_variables_the_file() {
    let loaded = Sources::new("FLEET")
        .text("fleet.toml", SOUND)
        .variables([
            ("FLEET__SERVICES__PAY__PORT", "9000"),
            ("FLEET__REGIONS", "eu,us , ap"),
            ("FLEET__STAGES__1__NAME", "everyone"),
            ("FLEET__STRATEGY", "one_for_all"),
            ("FLEET__SERVICES__PAY__HEALTH", "{ path = \"/live\" }"),
            ("FLEETING__STRATEGY", "another program's"),
        ])
        .flag("strategy", "--strategy", "rest_for_one")
        .load::<Fleet>()
        .unwrap();
    let Fleet { strategy, regions, services, stages, .. } = &loaded.value;
    assert_eq!(*strategy, Strategy::RestForOne);
    assert_eq!(regions, &["eu", "us", "ap"]);
    assert_eq!((services["pay"].port, services["pay"].health.path.as_str()), (9000, "/live"));
    assert_eq!(stages[1].name, "everyone");
    for (path, origin) in [
        ("strategy", "--strategy"),
        ("regions", "FLEET__REGIONS"),
        ("services.pay.port", "FLEET__SERVICES__PAY__PORT"),
        ("services.pay.health.path", "FLEET__SERVICES__PAY__HEALTH"),
        ("services.pay.instances_min", "fleet.toml:8"),
        ("listen", "default"),
    ] {
        assert_eq!(loaded.origin(path).to_string(), origin, "{path}");
    }
}

#[test]
fn what_a_variable_sets_as_a_whole_is_looked_into_as_in_a_file() {
    let faulty = SOUND.replace("traffic_ratio = 0.05", "traffic_ratio = \"x\"");
    let (pay, command, health) =
        ("FLEET__SERVICES__PAY", "FLEET__SERVICES__PAY__COMMAND", "FLEET__SERVICES__PAY__HEALTH");
    for (text, variable, value, expected) in [
        (
            SOUND,
            pay,
            "{ command = [], port = 80, health = { path = \"/x\" } }",
            &["services.pay.command", "services.pay.port"][..],
        ),
        (SOUND, command, "", &["services.pay.command"][..]),
        (
            faulty.as_str(),
            health,
            "{ path = 5, evry_s = 5 }",
            &["stages[0].traffic_ratio", "services.pay.health.evry_s", "services.pay.health.path"][..],
        ),
    ] {
        let errors = load(text, &[(variable, value)]).unwrap_err();
        let paths: Vec<_> = errors.faults().iter().map(gemba_config::Fault::path).collect();
        assert_eq!(paths, expected, "{errors}");
        assert_eq!(errors.faults().last().unwrap().origin().to_string(), variable);
    }
    let loaded = load(SOUND, &[("FLEET__STAGES__0__UNTIL", "{ seconds = 60 }")]).unwrap();
    assert!(matches!(loaded.value.stages[0].until, Until::Seconds(60)), "{:?}", loaded.value.stages);
}

#[test]
fn what_is_printed_is_read_again() {
    let loaded = load(SOUND, &[("FLEET__STRATEGY", "one_for_all")]).unwrap();
    let printed = loaded.print(true);
    for (value, origin) in [
        ("listen = \"127.0.0.1:8080\"", "default"),
        ("strategy = \"one_for_all\"", "FLEET__STRATEGY"),
        ("port = 8080", "fleet.toml:7"),
        ("until = \"approved\"", "fleet.toml:21"),
    ] {
        assert!(printed.contains(&format!("{value:<44}# {origin}\n")), "{value} in\n{printed}");
    }
    let again = load(&printed, &[]).unwrap();
    assert_eq!(again.print(false), loaded.print(false));
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_is_told_without_what_follows_from_it() {
    let errors = Sources::new("FLEET").file("/nowhere/fleet.toml").load::<Fleet>().unwrap_err();
    assert_eq!(errors.faults().len(), 1, "{errors}");
    assert!(errors.to_string().contains("cannot read /nowhere/fleet.toml: "), "{errors}");
    let errors = load("strategy == 1\nregions = [7]\ncolour = 1\ntoken = \n", &[]).unwrap_err();
    let places: Vec<_> = errors.faults().iter().map(|fault| fault.origin().to_string()).collect();
    // Two of grammar, two of what could be read; and nobody can say what is missing.
    assert_eq!(places, ["fleet.toml:1", "fleet.toml:2", "fleet.toml:3", "fleet.toml:4"], "{errors}");
}

#[test]
fn a_variable_that_names_no_key_is_named() {
    for (variable, words) in [
        ("FLEET__", "FLEET__ names no key"),
        ("FLEET__STAGES__2__NAME", "names entry '2' of a list of 2; they count from 0"),
        ("FLEET__LISTEN__PORT", "unknown key"),
        ("FLEET__TOKEN__X", "FLEET__TOKEN__X sets 'x' within a value that fleet.toml:3 sets as a whole"),
        ("FLEET__STRATEGI", "did you mean 'strategy'?"),
    ] {
        let errors = load(SOUND, &[(variable, "x")]).unwrap_err().to_string();
        assert!(variable == "FLEET__LISTEN__PORT" || errors.contains(words), "{errors}");
        assert!(errors.contains(variable), "{errors}");
    }
}

#[test]
fn a_missing_value_is_told_once_and_the_rest_is_still_checked() {
    let errors = load("[services.pay]\ninstances_min = 3\ninstances_max = 2\n", &[]).unwrap_err();
    let paths: Vec<_> = errors.faults().iter().map(gemba_config::Fault::path).collect();
    let expected = [
        "regions",
        "services.pay.command",
        "services.pay.port",
        "services.pay.health",
        "services.pay.instances_min",
    ];
    assert_eq!(paths, expected, "{errors}");
}

#[test]
fn a_wrong_entry_does_not_move_those_behind_it() {
    for (regions, wrong) in [("[7, \"eu\", \"uk\"]", [0, 2]), ("[7, \"uk\"]", [0, 1])] {
        let text = SOUND.replace("regions = [\"eu\"]", &format!("regions = {regions}"));
        let errors = load(&text, &[]).unwrap_err();
        let paths: Vec<_> = errors.faults().iter().map(gemba_config::Fault::path).collect();
        let expected = wrong.map(|place| format!("services.pay.regions[{place}]"));
        assert_eq!(paths, expected, "{errors}");
    }
}

#[test]
fn a_type_that_takes_little_does_not_hide_the_other_mistakes() {
    #[derive(Debug, Deserialize, JsonSchema)]
    struct Peer {
        #[serde(rename = "at")]
        _at: SocketAddr,
        name: String,
        #[serde(rename = "weight")]
        _weight: std::num::NonZeroU32,
    }
    impl Check for Peer {
        fn check(&self, faults: &mut Faults<'_>) {
            if self.name.len() < 3 {
                faults.at("name").add("is shorter than three letters");
            }
        }
    }
    let text = "at = \"home\"\nname = \"x\"\nweight = 0\n";
    let errors = Sources::new("PEER").text("peer.toml", text).load::<Peer>().unwrap_err();
    let paths: Vec<_> = errors.faults().iter().map(gemba_config::Fault::path).collect();
    assert_eq!(paths, ["at", "name", "weight"], "{errors}");
}

#[test]
fn every_key_is_documented_with_its_unit_default_and_range() {
    let keys = keys::<Fleet>("FLEET");
    let every = keys.iter().find(|key| key.path == "services.<name>.health.every_s").unwrap();
    assert_eq!((every.unit, every.default.as_str(), every.required), ("s", "1", false));
    let choice = keys.iter().find(|key| key.path == "stages[].until.seconds").unwrap();
    assert_eq!(choice.description, "A time.", "what is said of a choice is said of its key");
    let table = keys_table::<Fleet>("FLEET");
    let row =
        "| `services.<name>.port` | Its first port. |  | must be given | a whole number from 1024 to 65535 |";
    assert!(table.contains(row), "{table}");
    assert!(schema::<Fleet>().contains("\"exclusiveMinimum\": 0"));
}
