//! The command as a process: what it prints where, and how it exits.

#![allow(clippy::unwrap_used, reason = "the helpers of tests unwrap like the tests themselves")]

use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gemba::receipt::{Event, Receipt, Seq};
use gemba::time::Timestamp;
use gemba::view::{BoardView, ReceiptsView};
use gemba::{Context, Node, Server, Stop, server};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

/// How long a demonstration of a few seconds may take, its start, its stop and a busy machine included.
const DEMO_LIMIT: Duration = Duration::from_secs(60);

struct Idle;

impl Server for Idle {
    type Msg = ();

    async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
        Ok(())
    }
}

/// A node with one server below its root, inspected on a port of its own.
async fn node() -> (Node, String, String) {
    let builder = Node::builder("bench").inspect("127.0.0.1:0".parse().unwrap());
    let node = builder.child(server("idle", || Idle)).start().await.unwrap();
    let (address, token) = node.inspector().unwrap();
    let (url, token) = (format!("http://{address}"), token.reveal().to_owned());
    (node, url, token)
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gemba"));
    command
        .args(args)
        .env_remove("GEMBA_URL")
        .env_remove("GEMBA_TOKEN")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// With a proxy that nobody reaches.
fn behind_a_proxy(args: &[&str]) -> Command {
    let mut command = command(args);
    command.env("http_proxy", "http://127.0.0.1:1").env_remove("no_proxy").env_remove("NO_PROXY");
    command
}

async fn gemba(args: &[&str]) -> Output {
    output(&mut command(args)).await
}

async fn output(command: &mut Command) -> Output {
    timeout(LIMIT, command.output()).await.expect("the command did not end").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn data_goes_to_stdout_and_words_to_stderr() {
    let (_node, url, token) = node().await;
    for (args, word) in
        [(vec!["tree"], "idle"), (vec!["board"], "● normal"), (vec!["receipts"], "node bench started")]
    {
        let output = gemba(&[args.as_slice(), &["--url", &url]].concat()).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(text.contains(word) && !text.contains('\u{1b}'), "{args:?}: {text}");
        assert!(output.stderr.is_empty(), "{args:?}");

        let output = gemba(&[args.as_slice(), &["--url", &url, "--json"]].concat()).await;
        assert!(serde_json::from_slice::<Value>(&output.stdout).unwrap().is_object(), "{args:?}");
    }
    let killed = gemba(&["kill", "/idle", "--url", &url, "--token", &token, "--json"]).await;
    let answer: Value = serde_json::from_slice(&killed.stdout).unwrap();
    assert!(answer["receipt"].is_u64(), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_asked_itself_whatever_proxy_is_set() {
    let (_node, url, token) = node().await;
    for args in [["tree", "--url", &url, "--json"], ["board", "--url", &url, "--json"]] {
        let output = output(behind_a_proxy(&args).env("GEMBA_TOKEN", &token)).await;
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_trouble_has_its_exit_code() {
    let (_node, url, token) = node().await;
    let nowhere = "http://127.0.0.1:1";
    for (args, code, word) in [
        (vec!["kill", "/idle", "--url", &url], 4, "GEMBA_TOKEN"),
        (vec!["kill", "/idle", "--url", &url, "--token", "sixteen-letters!"], 4, "token"),
        (vec!["kill", "/", "--url", &url, "--token", &token], 4, "root"),
        (vec!["kill", "/nobody", "--url", &url, "--token", &token], 1, "/nobody"),
        (vec!["cord", "pull", "payment", "--url", &url, "--token", &token], 1, "no plant"),
        (vec!["tree", "--url", nowhere], 3, "gemba demo"),
        (vec!["receipts", "--follow", "--url", nowhere], 3, "gemba demo"),
        (vec!["tree", "--url", "nonsense"], 2, "http://127.0.0.1:4040"),
        (vec!["tree", "--depth", "deep"], 2, "--depth"),
        (vec!["tree", "--token", "short"], 2, "16"),
        (vec!["demo", "--rate", "0"], 2, "--rate"),
        (vec!["nonsense"], 2, "nonsense"),
    ] {
        let output = gemba(&args).await;
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {words}");
        assert!(words.contains(word), "{args:?}: {words}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_none_is_not_printed() {
    let (_node, url, _) = node().await;
    for (token, code) in [("correct-horse-battery ", 2), ("correct-horse-battery\r", 2), ("", 0)] {
        let output = output(command(&["tree", "--url", &url]).env("GEMBA_TOKEN", token)).await;
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{token:?}: {words}");
        assert_eq!(words.contains("GEMBA_TOKEN"), code == 2, "{token:?}: {words}");
        assert!(!words.contains("correct-horse"), "{token:?}: {words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_prints_what_happens_as_a_line_each() {
    let (_node, url, token) = node().await;
    let mut follower =
        command(&["receipts", "--follow", "--json", "--after", "0", "--limit", "1", "--url", &url])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = timeout(LIMIT, lines.next_line()).await.expect("nothing more came").unwrap().unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    assert_eq!(next().await["seq"], 1);
    assert_eq!(next().await["seq"], 2, "pages join without a gap");
    gemba(&["kill", "/idle", "--url", &url, "--token", &token]).await;
    while next().await["event"]["kind"] != "child_restarted" {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leashed_process_ends_with_whoever_started_it() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("gateway.db");
    let args = [
        "payment",
        "--leashed",
        "gateway",
        "--listen",
        "127.0.0.1:0",
        "--database",
        database.to_str().unwrap(),
    ];
    let mut gateway = command(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Waiting for a child closes its input: it is held here for as long as the leash should hold.
    let leash = gateway.stdin.take();
    let mut lines = BufReader::new(gateway.stdout.take().unwrap()).lines();
    let line = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(line.starts_with("listening on http://127.0.0.1:"), "{line}");
    assert!(gateway.try_wait().unwrap().is_none(), "it runs as long as the leash is held");
    drop(leash);
    timeout(LIMIT, gateway.wait()).await.expect("it went on without its leash").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demonstration_full_of_kills_costs_one_restart_each_and_keeps_every_promise() {
    let args = "demo --seconds 5 --rate 100 --kill-every 50 --seed 7 --json --inspect 127.0.0.1:0";
    let args: Vec<_> = args.split(' ').collect();
    let output = timeout(DEMO_LIMIT, behind_a_proxy(&args).output()).await.expect("it did not end").unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{words}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(20 < report["workers_killed"].as_u64().unwrap(), "enough to use up a pool's patience: {report}");
    assert_eq!(report["restarts"], report["workers_killed"], "no pool was started anew: {report}");
    assert!(0 < report["succeeded"].as_u64().unwrap(), "{report}");
    for name in ["lost", "charged_twice", "charged_only", "captured_only", "in_flight_at_end"] {
        assert_eq!(report[name], 0, "{name}: {report}");
    }
}

/// The next request, as far as its first line.
async fn asked(listener: &TcpListener) -> (BufReader<TcpStream>, String) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut asked = String::new();
    stream.read_line(&mut asked).await.unwrap();
    let mut line = String::from("more");
    while !line.trim().is_empty() {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
    }
    (stream, asked)
}

/// A node that answers each path with this status and document.
async fn impostor(answers: Vec<(&'static str, u16, String)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, asked) = asked(&listener).await;
            let known = answers.iter().find(|(path, ..)| asked.split(' ').nth(1).unwrap().starts_with(path));
            let (_, status, document) = known.unwrap();
            let length = document.len();
            let head =
                format!("HTTP/1.1 {status} Status\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all((head + document).as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_ends_when_the_node_began_anew_meanwhile() {
    let board = BoardView { receipt: Seq(5_000), ..BoardView::default() };
    let receipts = ReceiptsView { receipts: Vec::new(), next: Seq(0), forgotten: 0 };
    let url = impostor(vec![
        ("/api/v1/board", 200, serde_json::to_string(&board).unwrap()),
        ("/api/v1/receipts", 200, serde_json::to_string(&receipts).unwrap()),
    ]);
    let output = gemba(&["review", "--url", &url.await]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_a_node_that_began_anew_begins_anew() {
    let page = |receipts, next| {
        serde_json::to_string(&ReceiptsView { receipts, next: Seq(next), forgotten: 0 }).unwrap()
    };
    let first = Receipt {
        seq: Seq(1),
        at: Timestamp::START,
        unix_ms: 0,
        cause: None,
        path: "/".parse().unwrap(),
        event: Event::NodeStarted { node: "bench".parse().unwrap() },
    };
    let url = impostor(vec![
        ("/api/v1/receipts?limit=20&after=1000", 200, page(Vec::new(), 50)),
        ("/api/v1/receipts?limit=20&after=50", 200, page(Vec::new(), 50)),
        ("/api/v1/receipts?limit=20&after=0", 200, page(vec![Arc::new(first)], 50)),
        ("/api/v1/receipts?limit=20", 200, page(Vec::new(), 1_000)),
    ]);
    let mut follower = command(&["receipts", "--follow", "--json", "--url", &url.await])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let line = timeout(LIMIT, lines.next_line()).await.expect("nothing came").unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["seq"], 1);
    let mut words = BufReader::new(follower.stderr.take().unwrap()).lines();
    let told = timeout(LIMIT, words.next_line()).await.expect("it said nothing").unwrap().unwrap();
    assert!(told.contains("began anew"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_in_a_refusal_moves_no_cursor() {
    let problem = serde_json::json!({
        "type": "about:blank", "title": "x", "status": 404, "detail": "gone\u{1b}[2J\n  for ever", "instance": "/",
    });
    let url = impostor(vec![("/", 404, problem.to_string())]).await;
    let output = gemba(&["tree", "--url", &url]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("gone [2J\n  for ever\n") && !said.contains('\u{1b}'), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_in_the_middle_of_its_answer_does_not_answer() {
    for status in ["200 OK", "404 Not Found"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = asked(&listener).await;
            let part = format!("HTTP/1.1 {status}\r\ncontent-length: 1000\r\n\r\n{{");
            stream.write_all(part.as_bytes()).await.unwrap();
        });
        let output = gemba(&["tree", "--url", &url]).await;
        assert_eq!(output.status.code(), Some(3), "{status}: {output:?}");
    }
}

#[tokio::test]
async fn what_stands_in_a_trace_moves_no_cursor() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace.csv");
    std::fs::write(&trace, "at_ms,service_ms\n1,\u{1b}[2J\n").unwrap();
    let output = gemba(&["simulate", "trace", trace.to_str().unwrap()]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said:?}");
    assert!(said.contains("\n  line 2: service_ms is ' [2J'") && !said.contains('\u{1b}'), "{said:?}");
}
