//! The file of the fleet: looked at, and refused as a whole.

use std::fs;

use gemba::config::{ConfigErrors, Origin, Sources, keys, keys_table};
use gemba_deployment::config::PREFIX;
use gemba_deployment::fleet::{Care, Fleet, QueueSection};
use serde_json::Value;
use tokio::process::Command;

use super::PROGRAM;

/// Twenty mistakes; the number of a line in `MISTAKES` is the number of the mistake's line here.
const FAULTY: &str = r#"listen = "everywhere"
stat = "state"
[queue]
running_max = 0
waiting_max = "many"
[[freeze]]
why = "weekend"
days = ["sat", "fry"]
until = "25:00"
[services.api]
instances = 65
capacity = 2
health = "health"
ready_within_ms = 5
sticky = { heder = "x-user" }
[[services.api.regions]]
name = "us west"
listen = "127.0.0.1:8081"
admin = "127.0.0.1:8081"
[[services.api.regions]]
name = "us-east"
listen = "127.0.0.1:0"
[services.api.care]
stages = [{ share = 0.25, lasts_ms = 1000 }, { share = 0.05, lasts_ms = 1000 }]
bake_ms = 500
failures_limit = 1.5
[services.api.versions.v1]
command = []
[services.api.versions.v2]
command = ["sample-service", "--listen", "127.0.0.1:8000"]
sha256 = "abc"
[services.web]
instances = 3
capacity = 2
regions = []
"#;

/// Line, field, and what is said: the value, and what would be right.
const MISTAKES: [(usize, &str, &str); 22] = [
    (1, "listen", "is \"everywhere\": give a host and a port, such as 127.0.0.1:8080"),
    (2, "stat", "unknown key 'stat'"),
    (4, "queue.running_max", "is 0; give a whole number from 1 to 1000"),
    (5, "queue.waiting_max", "is \"many\"; give a whole number from 1 to 10000"),
    (8, "freeze[0].days[1]", "is \"fry\"; give one of mon, tue, wed, thu, fri, sat, sun"),
    (9, "freeze[0].until", "is \"25:00\": give hours and minutes in UTC, from 00:00 to 24:00"),
    (11, "services.api.instances", "is 65; give a whole number from 1 to 64"),
    (13, "services.api.health", "is \"health\"; give a path, which begins with /"),
    (14, "services.api.ready_within_ms", "is 5; give a whole number from 10 to 3600000"),
    (15, "services.api.sticky", "is \"heder\"; give one of random, header, cookie"),
    (17, "services.api.regions[0].name", "contains ' '; use letters, digits or any of `:_.-`"),
    (
        19,
        "services.api.regions[0].admin",
        "is 127.0.0.1:8081, which services.api.regions[0].listen has; give another port",
    ),
    (20, "services.api.regions[1].admin", "is missing"),
    (22, "services.api.regions[1].listen", "is port 0, a different one each time; name one from 1 to 65535"),
    (24, "services.api.care.stages[1].share", "is 0.05; give more than 0.25, the share before it"),
    (25, "services.api.care.bake_ms", "is 500; give 0, or at least 1000, which is one look"),
    (26, "services.api.care.failures_limit", "is 1.5; give a number from 0.0001 to 0.9"),
    (
        28,
        "services.api.versions.v1.command",
        "is a list of 0; give a list in brackets with 1 or more entries",
    ),
    (30, "services.api.versions.v2.command", "has no {port}"),
    (31, "services.api.versions.v2.sha256", "is \"abc\"; give 64 hexadecimal digits"),
    (32, "services.web.versions", "is missing"),
    (35, "services.web.regions", "is a list of 0; give a list in brackets with 1 to 32 entries"),
];

fn load(text: &str) -> Result<Fleet, ConfigErrors> {
    Sources::new(PREFIX).text("fleet.toml", text).load().map(|loaded| loaded.value)
}

#[test]
fn every_mistake_is_told_at_once_with_line_field_value_and_what_is_allowed() {
    let errors = load(FAULTY).unwrap_err();
    let line = |origin: &Origin| match origin {
        Origin::File { line, .. } => *line,
        other @ (Origin::Environment { .. } | Origin::Flag { .. } | Origin::Default) => panic!("{other}"),
    };
    let told: Vec<_> = errors.faults().iter().map(|fault| (line(fault.origin()), fault.path())).collect();
    let mut expected: Vec<_> = MISTAKES.iter().map(|(line, field, _)| (*line, *field)).collect();
    // The value itself is right, and does not fit another one.
    expected.insert(21, (34, "services.web.capacity"));
    assert_eq!(told, expected, "{errors}");
    for (line, field, words) in MISTAKES {
        let found = errors.faults().iter().find(|fault| fault.path() == field).unwrap();
        assert!(found.message().contains(words), "line {line}: {words:?} in {:?}", found.message());
    }
    let text = errors.to_string();
    for words in [
        "help: did you mean 'state'? The keys here: listen, inspect, inspect_hosts, database, state, queue, freeze, services\n",
        "help: did you mean \"fri\"?\n",
        "help: did you mean \"header\"?\n",
        "regions[1].admin: is missing; give the splitter an address such as 127.0.0.1:9081\n",
        "error: services.web.capacity: is 2; give at least 3, the instances of one version\n  --> fleet.toml:34:12\n  34 | capacity = 2\n     |            ^\n  note: services.web.instances is 3 (fleet.toml:33)\n",
        "23 problems in the configuration",
    ] {
        assert!(text.contains(words), "{words:?} in\n{text}");
    }
}

#[test]
fn what_no_single_value_shows_is_told_too() {
    let region = |name: &str, port: u16| {
        format!(
            "[[services.api.regions]]\nname = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\nadmin = \"127.0.0.1:{}\"\n",
            port + 1
        )
    };
    let version = "[services.api.versions.v1]\ncommand = [\"a\", \"{port}\"]\n";
    let service = format!("[services.api]\ninstances = 1\ncapacity = 2\n{}", region("west", 8_081));
    let sound = format!("{service}{version}");
    assert_eq!(load(&sound).unwrap().service("api").unwrap().name.as_str(), "api");
    for (text, path, words) in [
        ("[services]\n".to_owned(), "services", "names none; name one, as in [services.api]"),
        (
            format!("{service}[services.api.versions]\n"),
            "services.api.versions",
            "names none; name one, as in [services.api.versions.v1]",
        ),
        (
            format!("{sound}{}", region("west", 8_091)),
            "services.api.regions[1].name",
            "is west, as another one is; give each its own",
        ),
        (
            format!("{sound}[services.api.versions.\"v 2\"]\ncommand = [\"a\", \"{{port}}\"]\n"),
            "services.api.versions.\"v 2\"",
            "name 'v 2' contains ' '",
        ),
        (
            format!("{sound}[[services.api.freeze]]\nwhy = \"x\"\nfrom = \"10:00\"\nuntil = \"10:00\"\n"),
            "services.api.freeze[0].until",
            "is 10:00, as `from` is",
        ),
        (
            format!("inspect = \"127.0.0.1:8081\"\n{sound}"),
            "services.api.regions[0].listen",
            "which inspect has",
        ),
        (format!("{sound}[services.\"a b\"]\n"), "services.\"a b\"", "name 'a b' contains ' '"),
    ] {
        let errors = load(&text).unwrap_err();
        let told: Vec<_> = errors.faults().iter().map(|fault| (fault.path(), fault.message())).collect();
        assert!(told.len() == 1 && told[0].0 == path && told[0].1.contains(words), "{path}: {told:?}");
    }
}

async fn config(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(PROGRAM);
    command.arg("config").args(arguments).envs(variables.iter().copied()).kill_on_drop(true);
    let output = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fleet.toml");

#[tokio::test]
async fn the_example_is_right_and_its_values_are_where_they_come_from() {
    let (code, said, _) = config(&["check", "--config", EXAMPLE], &[]).await;
    assert_eq!((code, said.as_str()), (Some(0), "the configuration is right\n"));
    let variables = [("DEPLOYMENT__SERVICES__API__CAPACITY", "6")];
    let arguments = ["print", "--origin", "--config", EXAMPLE, "--set", "queue.running_max=2"];
    let (_, printed, _) = config(&arguments, &variables).await;
    for (value, origin) in [
        ("running_max = 2", "--set"),
        ("capacity = 6", "DEPLOYMENT__SERVICES__API__CAPACITY"),
        ("freeze = []", "default"),
        ("waiting_max = 200", &format!("{EXAMPLE}:16")),
    ] {
        assert!(printed.contains(&format!("{value:<44}# {origin}\n")), "{value} in\n{printed}");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fleet.toml");
    fs::write(&file, &printed).unwrap();
    let (_, again, _) = config(&["print", "--config", file.to_str().unwrap()], &[]).await;
    let (_, once, _) =
        config(&["print", "--config", EXAMPLE, "--set", "queue.running_max=2"], &variables).await;
    assert_eq!(again, once, "what is printed is read again");
    let (_, schema, _) = config(&["schema"], &[]).await;
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["$defs"]["Service"]["properties"]["instances"]["maximum"], 64);
}

#[test]
fn the_example_says_what_is_so_anyway() {
    let example = load(&fs::read_to_string(EXAMPLE).unwrap()).unwrap();
    assert_eq!(example.service("api").unwrap().care, Care::default());
    assert_eq!(example.queue, QueueSection::default());
}

#[tokio::test]
async fn a_wrong_fleet_is_told_as_a_whole_and_nothing_is_started() {
    let directory = tempfile::tempdir().unwrap();
    let (file, database) = (directory.path().join("fleet.toml"), directory.path().join("d.db"));
    fs::write(&file, FAULTY).unwrap();
    for verb in [&["config", "check"][..], &["serve"]] {
        let mut command = Command::new(PROGRAM);
        command.args(verb).arg("--config").arg(&file).arg("--database").arg(&database);
        let output = command.output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.ends_with("23 problems in the configuration, nothing was started\n"), "{said}");
    }
    assert!(!database.exists());
}

/// The table of keys on the page, as the types say it.
#[test]
fn the_page_of_the_configuration_has_every_key_of_a_fleet() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let text = fs::read_to_string(page).unwrap();
    let (before, rest) = text.split_once("<!-- keys of a fleet: generated -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of keys of a fleet -->").unwrap();
    let table = keys_table::<Fleet>(PREFIX);
    let expected =
        format!("{before}<!-- keys of a fleet: generated -->\n{table}<!-- end of keys of a fleet -->{after}");
    if std::env::var_os("BLESS").is_some() {
        fs::write(page, &expected).unwrap();
        return;
    }
    assert!(text == expected, "docs/configuration.md is not what the types say; write it anew with BLESS=1");
    let undescribed = keys::<Fleet>(PREFIX).into_iter().find(|key| key.description.is_empty());
    assert_eq!(undescribed, None);
}

/// What the README shows of a mistake is what is said.
#[tokio::test]
async fn the_readme_shows_what_is_really_said() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let block = |after: &str| readme.split_once(after).unwrap().1.split_once("```").unwrap().0.to_owned();
    let shown = block("$ deployment config check --config fleet.toml\n");
    let directory = tempfile::tempdir().unwrap();
    let example = fs::read_to_string(EXAMPLE).unwrap();
    let wrong = example
        .replace("instances = 2 ", "instances = 0 ")
        .replace("bake_ms", "bakes_ms")
        .replace("\"127.0.0.1:9082\"", "\"127.0.0.1:8082\"");
    fs::write(directory.path().join("fleet.toml"), wrong).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["config", "check", "--config", "fleet.toml"]).current_dir(directory.path());
    let output = command.output().await.unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), shown);
}
