//! The configuration of the real process: looked at, refused as a whole, and taken anew while it runs.
#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

use std::fs;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use gemba::config::{keys, keys_table};
use gemba_payment::config::{PREFIX, PaymentConfig};
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, interval, timeout};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What changes through the inspector need.
const TOKEN: &str = "correct-horse-battery";

async fn payment(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_payment"));
    command.args(arguments).envs(variables.iter().copied()).kill_on_drop(true);
    timeout(PATIENCE, command.output()).await.unwrap().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn the_example_is_right_and_its_values_are_where_they_come_from() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/payment.toml");
    let checked = payment(&["config", "check", "--config", example], &[]).await;
    assert_eq!(
        (checked.status.code(), text(&checked.stdout)),
        (Some(0), "the configuration is right\n".to_owned())
    );
    let arguments = ["config", "print", "--origin", "--config", example, "--set", "fraud.attempts_max=9"];
    let printed = payment(&arguments, &[("PAYMENT__PLANT__LIMITS__HARD", "600")]).await;
    let printed = text(&printed.stdout);
    for (value, origin) in [
        ("hard = 600", "PAYMENT__PLANT__LIMITS__HARD"),
        ("attempts_max = 9", "--set"),
        ("factor = 2.5", "default"),
        ("database = \"payment.db\"", &format!("{example}:7")),
    ] {
        assert!(printed.contains(&format!("{value:<44}# {origin}\n")), "{value} in\n{printed}");
    }
    let schema = payment(&["config", "schema"], &[]).await;
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(schema["$defs"]["FraudLimits"]["properties"]["attempts_max"]["maximum"], 31);
}

#[tokio::test]
async fn a_wrong_configuration_is_told_as_a_whole_and_nothing_is_started() {
    let directory = tempfile::tempdir().unwrap();
    let (file, database) = (directory.path().join("p.toml"), directory.path().join("p.db"));
    fs::write(&file, "[plant.pools.payment]\nwokers_min = 3\n[fraud]\nattempts_max = 0\n").unwrap();
    let arguments = ["--config", file.to_str().unwrap(), "--database", database.to_str().unwrap()];
    let variables = [("PAYMENT__PLANT__LIMITS__RESERVE_RATIO", "lots")];
    for verb in [&["serve"][..], &["config", "check"]] {
        let refused = payment(&[verb, &arguments].concat(), &variables).await;
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        for expected in [
            "unknown key 'wokers_min' in plant.pools.payment\n",
            "help: did you mean 'workers_min'?",
            "p.toml:4:16\n   4 | attempts_max = 0\n     |                ^\n",
            "plant.limits.reserve_ratio is \"lots\"; give a number at least 0 and below 1\n  --> PAYMENT__PLANT__LIMITS__RESERVE_RATIO in the environment\n",
            "3 problems in the configuration, nothing was started\n",
        ] {
            assert!(said.contains(expected), "{expected:?} in\n{said}");
        }
    }
    assert!(!database.exists());
}

#[test]
fn the_page_of_the_configuration_has_every_key_and_the_example() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let page = format!("{root}/docs/configuration.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once("<!-- keys: generated -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of keys -->").unwrap();
    let table = keys_table::<PaymentConfig>(PREFIX);
    let expected = format!("{before}<!-- keys: generated -->\n{table}<!-- end of keys -->{after}");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&page, &expected).unwrap();
        return;
    }
    assert!(text == expected, "docs/configuration.md is not what the types say; write it anew with BLESS=1");
    let undescribed = keys::<PaymentConfig>(PREFIX).into_iter().find(|key| key.description.is_empty());
    assert_eq!(undescribed, None);
}

#[tokio::test]
async fn the_page_shows_what_is_really_said() {
    let page =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md")).unwrap();
    let block = |after: &str| page.split_once(after).unwrap().1.split_once("```").unwrap().0.to_owned();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("payment.toml"), block("```toml\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_payment"));
    command.args(["config", "check", "--config", "payment.toml"]).current_dir(directory.path());
    command.env("PAYMENT__PLANT__LIMITS__HARD", "lots");
    let output = command.output().await.unwrap();
    assert_eq!(text(&output.stderr), block("payment config check --config payment.toml\n"));
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn the_settings_that_the_page_on_production_recommends_are_right() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/production.md")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("p.toml");
    let blocks: Vec<_> =
        page.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert_eq!(blocks.len(), 3, "small, medium and large");
    for block in blocks {
        fs::write(&file, block).unwrap();
        let checked = payment(&["config", "check", "--config", file.to_str().unwrap()], &[]).await;
        assert_eq!(checked.status.code(), Some(0), "{block}{}", text(&checked.stderr));
    }
}

/// A service with a configuration that can be changed; without a gateway.
struct Service {
    child: Child,
    directory: TempDir,
    client: Client,
    url: String,
    inspector: String,
}

impl Service {
    async fn start(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("payment.toml"), config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_payment"))
            .args(["serve", "--listen", "127.0.0.1:0", "--inspect", "127.0.0.1:0"])
            .args(["--gateway", "http://127.0.0.1:9", "--database", path("payment.db").to_str().unwrap()])
            .args(["--config", path("payment.toml").to_str().unwrap()])
            .env("GEMBA_TOKEN", TOKEN)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(path("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut after = async |beginning: &str| {
            let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
            line.strip_prefix(beginning).unwrap().to_owned()
        };
        let (url, inspector) = (after("listening on ").await, after("inspector on ").await);
        Self { child, directory, client: Client::new(), url, inspector }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Changes the file and says so; returns when the log has so many lines about it.
    async fn reload(&self, config: &str, told: usize) {
        let about = ["configuration reloaded", "configuration not reloaded"];
        let is_about = |line: &&str| about.iter().any(|words| line.contains(words));
        let lines = || self.log().lines().filter(is_about).count();
        let before = lines();
        fs::write(self.path("payment.toml"), config).unwrap();
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        let start = Instant::now();
        let mut looks = interval(Duration::from_millis(20));
        while lines() < before + told {
            assert!(start.elapsed() < PATIENCE, "{told} lines more in\n{}", self.log());
            looks.tick().await;
        }
        assert_eq!(lines(), before + told, "{}", self.log());
    }

    /// The status of a payment of 19.99 and the rules it violates.
    async fn pay(&self, key: &str) -> (u16, Vec<String>) {
        let body =
            json!({"amount_minor": 1999, "currency": "EUR", "customer": key, "payment_method": "tok_ok"});
        let request = self.client.post(format!("{}/v1/payments", self.url)).json(&body);
        let response = request.header("idempotency-key", key).timeout(PATIENCE).send().await.unwrap();
        let status = response.status().as_u16();
        let problem: Value = response.json().await.unwrap();
        let violations = problem["violations"].as_array().into_iter().flatten();
        (status, violations.map(|one| one["rule"].as_str().unwrap().to_owned()).collect())
    }

    /// The receipts of a kind, oldest first.
    async fn receipts(&self, kind: &str) -> Vec<Value> {
        let url = format!("{}/api/v1/receipts?after=0&limit=1000", self.inspector);
        let receipts: Value = self.client.get(url).send().await.unwrap().json().await.unwrap();
        let receipts = receipts["receipts"].as_array().unwrap().iter();
        receipts.filter(|receipt| receipt["event"]["kind"] == kind).cloned().collect()
    }

    /// Changes the file and asks over HTTP; the status and the answer.
    async fn ask_reload(&self, config: &str) -> (u16, Value) {
        fs::write(self.path("payment.toml"), config).unwrap();
        let request = self.client.post(format!("{}/api/v1/reload", self.inspector)).bearer_auth(TOKEN);
        let response = request.timeout(PATIENCE).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// What changed, in the order of the receipts: setting, old, new.
    async fn changes(&self) -> Vec<[String; 3]> {
        let changes = |receipt: &Value| receipt["event"]["changes"].as_array().unwrap().clone();
        let words =
            |change: Value| ["setting", "from", "to"].map(|key| change[key].as_str().unwrap().to_owned());
        let receipts = self.receipts("settings_changed").await;
        receipts.iter().flat_map(changes).map(words).collect()
    }
}

#[tokio::test]
async fn a_good_file_is_taken_and_a_bad_one_leaves_the_old_settings_in_force() {
    let service = Service::start("").await;
    // Approved, and nobody is there to charge it.
    assert_eq!(service.pay("a").await, (503, vec![]));

    let good =
        "[fraud]\namount_main_max = 10\n[plant.limits]\nhard = 600\n[plant.lines.payment.rate]\ncount = 50\n";
    service.reload(good, 1).await;
    assert!(service.log().contains("configuration reloaded"), "{}", service.log());
    let rejected = (422, vec!["amount_limit".to_owned()]);
    assert_eq!(service.pay("b").await, rejected);
    let changes = service.changes().await;
    let settings: Vec<_> = changes.iter().map(|[setting, ..]| setting.as_str()).collect();
    assert_eq!(settings, ["limits", "rates of line payment", "fraud.amount_main_max"]);
    let [_, from, to] = &changes[2];
    assert_eq!((from.as_str(), to.as_str()), ("5000", "10"));
    assert!(changes[0][1].contains("hard: 1200") && changes[0][2].contains("hard: 600"), "{changes:?}");

    // The first of its values would be good.
    let bad = "[fraud]\namount_main_max = 5000\nattempts_max = 0\n\
               [plant.limits]\nreserve_ratio = 1.5\n\
               [plant.pools.payment]\nworkers_min = 0\ntarget_ratio = 0.9\n\
               [plant.pools.delivery]\nworkers_max = 3\n\
               [plant.lines.delivery]\npools = [\"mail\"]\n";
    service.reload(bad, 6).await;
    let log = service.log();
    for fault in [
        "fraud.attempts_max is 0; give a whole number from 1 to 31",
        "plant.limits.reserve_ratio is 1.5; give a number at least 0 and below 1",
        "plant.pools.payment.workers_min is 0; give a whole number of at least 1",
        "plant.pools.payment.target_ratio: is 0.9; give less than grow_above_ratio, which is 0.8",
        "plant.pools.delivery.workers_min: is 8; give at most workers_max, which is 3",
        "no pool is called 'mail'; there are: payment, delivery, notification",
    ] {
        let told = |line: &&str| line.contains(fault) && line.contains("the old one stays in force");
        let lines: Vec<_> = log.lines().filter(told).collect();
        assert_eq!(lines.len(), 1, "{fault} in\n{log}");
        assert!(lines[0].contains("payment.toml:"), "{log}");
    }
    service.reload("database = \"other.db\"\n[fraud]\namount_main_max = 5000\n[ladder]\n", 1).await;
    service.reload("[plant.ladder]\nwindow_s = 120\n[plant.pools.payment]\ncrashes_max = 9\n", 1).await;
    let fixed = "plant.pools.payment.crashes_max can be set at the start only; restart the service";
    assert!(service.log().contains(fixed), "{}", service.log());
    assert_eq!(service.pay("c").await, rejected);
    assert_eq!(service.changes().await, changes, "nothing more was changed");
    let refused: Vec<_> = service.receipts("settings_refused").await;
    let totals: Vec<_> = refused.iter().map(|receipt| receipt["event"]["faults_total"].as_u64()).collect();
    assert_eq!(totals, [Some(6), Some(1), Some(1)], "{refused:?}");
    assert!(refused[0]["event"]["faults"][0].as_str().unwrap().starts_with("fraud.attempts_max is 0"));

    // What was set at the start only until now, and an operator who asks for it.
    let lines = "[fraud]\namount_main_max = 10\n[plant.limits]\nhard = 600\n[plant.lines.payment.rate]\ncount = 50\n\
                 [plant.ladder]\nwindow_s = 120\n[plant.levels]\nqueued.red = 9\n[plant.forecast]\nlead_s = 60\n\
                 [plant.lines.payment]\ndeadline_ms = 3000\nobjective_ratio = 0.99\n\
                 breaker = { failures_in_a_row = 3 }\nadaptive = { limit_max = 50 }\n";
    let (status, answer) = service.ask_reload(lines).await;
    assert_eq!(status, 200, "{answer}");
    let told: Vec<_> =
        answer["changes"].as_array().unwrap().iter().map(|one| one["setting"].clone()).collect();
    let line = ["breaker", "calls", "deadline", "objective"].map(|what| format!("{what} of line payment"));
    let expected: Vec<Value> = line
        .into_iter()
        .chain(["forecast", "ladder", "levels"].map(str::to_owned))
        .map(Value::from)
        .collect();
    assert_eq!(told, expected);
    let (status, problem) = service.ask_reload("[plant.limits]\nhard = 0\n[fraud]\nattempts_max = 0\n").await;
    assert_eq!((status, problem["faults"].as_array().map(Vec::len)), (422, Some(2)), "{problem}");
    let (status, problem) =
        service.ask_reload("listen = \"127.0.0.1:1\"\n[plant.pools.delivery]\nstop_within_ms = 9\n").await;
    let keys = json!(["plant.pools.delivery.stop_within_ms"]);
    assert_eq!((status, &problem["faults"]), (409, &keys), "a flag overrides the first: {problem}");

    // Back to where it was: what is taken out of the file is as it was before.
    service.reload("", 1).await;
    assert_eq!(service.pay("d").await, (503, vec![]));
}
