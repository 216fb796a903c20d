//! Routes against receivers on this machine: what arrives, what is tried again, who waits for whom.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

use std::sync::Arc;
use std::time::Duration;

use gemba_alert::{AlertRoutes, Email, Encryption};
use gemba_core::alert::AlertRules;
use gemba_core::light::Light;
use gemba_core::name::ActorPath;
use gemba_core::receipt::{Event, Receipt, Seq};
use gemba_core::view::{BoardView, StationView};
use gemba_kernel::{JOURNAL_CAPACITY, Node, System};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// How long anything may take before a test is called hung.
const DEADLINE: Duration = Duration::from_secs(60);

/// A receiver of HTTP: hands each body over, and answers with these statuses, the last one for ever. Status 0
/// is no answer at all.
async fn http(statuses: &'static [u16]) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/s3cret", listener.local_addr().unwrap());
    let (bodies, receiver) = mpsc::channel(1000);
    let (turns, mut turn) = mpsc::channel(1000);
    tokio::spawn(async move {
        for at in 0.. {
            let status = statuses[statuses.len().min(at + 1) - 1];
            if turns.send(status).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let Some(body) = request(&mut stream).await else { continue };
            let status = turn.recv().await.unwrap();
            bodies.send(body).await.unwrap();
            if status == 0 {
                tokio::spawn(async move {
                    tokio::time::sleep(DEADLINE).await;
                    drop(stream);
                });
                continue;
            }
            let answer =
                format!("HTTP/1.1 {status} Status\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, receiver)
}

async fn request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(String::from_utf8(body).unwrap())
}

/// A receiver of mail: hands each message over with its envelope.
async fn smtp() -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mails, receiver) = mpsc::channel(100);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mails = mails.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                stream.write_all(b"220 here\r\n").await.unwrap();
                let mut mail = String::new();
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                        return;
                    }
                    let answer: &[u8] = match line.get(..4).unwrap_or_default() {
                        "EHLO" => b"250 here\r\n",
                        "DATA" => {
                            stream.write_all(b"354 go on\r\n").await.unwrap();
                            while !mail.ends_with("\r\n.\r\n") {
                                stream.read_line(&mut mail).await.unwrap();
                            }
                            mails.send(std::mem::take(&mut mail)).await.unwrap();
                            b"250 taken\r\n"
                        }
                        "QUIT" => b"221 bye\r\n",
                        _ => {
                            mail.push_str(&line);
                            b"250 fine\r\n"
                        }
                    };
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    (port, receiver)
}

async fn start(routes: AlertRoutes) -> Node {
    let alerts = routes.child(&"n1".parse().unwrap()).unwrap();
    Node::builder("n1").child(alerts).start().await.unwrap()
}

fn light(system: &System, station: &str, to: Light) -> Seq {
    let (station, from, why) = (station.parse().unwrap(), Light::Green, "it is broken".into());
    system.record(None, &ActorPath::root(), Event::LightChanged { station, from, to, why })
}

async fn next(receiver: &mut mpsc::Receiver<String>) -> String {
    tokio::time::timeout(DEADLINE, receiver.recv()).await.expect("it arrives").expect("the receiver lives")
}

async fn receipt(system: &System, wanted: impl Fn(&Receipt) -> bool) -> Arc<Receipt> {
    let mut newest = system.journal().subscribe();
    let search = async {
        loop {
            let page = system.journal().after(Seq(0), None, usize::MAX);
            if let Some(found) = page.receipts.into_iter().find(|receipt| wanted(receipt)) {
                return found;
            }
            newest.changed().await.unwrap();
        }
    };
    tokio::time::timeout(DEADLINE, search).await.expect("the receipt is written")
}

#[tokio::test]
async fn every_kind_of_receiver_gets_the_alert_and_its_end_in_its_own_form() {
    let (slack_url, mut slack) = http(&[200]).await;
    let (hook_url, mut hook) = http(&[200]).await;
    let (duty_url, mut duty) = http(&[202]).await;
    let (port, mut mail) = smtp().await;
    let email = Email::new("127.0.0.1", "gemba@example.org", "Ann <ann@example.org>");
    let routes = AlertRoutes::new()
        .rules(AlertRules::builder().resolve_after(Duration::from_secs(1)).build().unwrap())
        .slack(&slack_url)
        .webhook("ops", Light::Yellow, &hook_url)
        .pagerduty_at("pagerduty", Light::Red, &duty_url, "key")
        .email(email.encryption(Encryption::None).port(port));
    let node = start(routes).await;
    let system = node.system().clone();
    let cause = light(&system, "line:payment", Light::Red);
    let shown = next(&mut slack).await;
    assert!(shown.contains("■ n1 line:payment is red: it is broken"), "{shown}");
    let shown = next(&mut hook).await;
    assert!(shown.contains(r#""version":"4""#) && shown.contains(r#""status":"firing""#), "{shown}");
    let shown = next(&mut duty).await;
    assert!(
        shown.contains(r#""event_action":"trigger""#) && shown.contains("gemba/n1/line:payment"),
        "{shown}"
    );
    let shown = next(&mut mail).await;
    assert!(shown.contains("RCPT TO:<ann@example.org>"), "{shown}");
    assert!(shown.contains("it is broken") && shown.contains(&format!("gemba why {}", cause.0)), "{shown}");
    let alerted = receipt(&system, |receipt| receipt.event.kind() == "alerted").await;
    assert_eq!(alerted.cause, Some(cause));

    light(&system, "line:payment", Light::Green);
    assert!(next(&mut slack).await.contains("resolved: n1 line:payment is green again"));
    assert!(next(&mut hook).await.contains(r#""status":"resolved""#));
    assert!(next(&mut duty).await.contains(r#""event_action":"resolve""#));
    assert!(next(&mut mail).await.contains("is green again"));
    // Yellow is not for PagerDuty: the next it hears of is the other line.
    light(&system, "line:other", Light::Yellow);
    assert!(next(&mut slack).await.contains("line:other is yellow"));
    light(&system, "line:third", Light::Purple);
    assert!(next(&mut duty).await.contains("line:third"));
    node.stop("the test is over").await.unwrap();
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_nobody_else() {
    let (hung_url, mut hung) = http(&[0]).await;
    let (url, mut hook) = http(&[200]).await;
    let routes = AlertRoutes::new().slack(&hung_url).webhook("ops", Light::Yellow, &url);
    let node = start(routes).await;
    light(node.system(), "pool:first", Light::Red);
    assert!(next(&mut hung).await.contains("pool:first"));
    // The first is not answered and never will be; twenty more reach the other one meanwhile.
    assert!(next(&mut hook).await.contains("pool:first"));
    for number in 0..20 {
        let station = format!("pool:{number}");
        light(node.system(), &station, Light::Red);
        assert!(next(&mut hook).await.contains(&station));
    }
    assert!(hung.try_recv().is_err(), "the hung one is still at its first");
}

#[tokio::test]
async fn what_fails_for_a_while_is_tried_again_and_what_is_refused_is_given_up() {
    let (busy_url, mut busy) = http(&[503, 429, 200]).await;
    let (wrong_url, mut wrong) = http(&[404]).await;
    let routes = AlertRoutes::new().slack(&busy_url).webhook("wrong", Light::Yellow, &wrong_url);
    let node = start(routes).await;
    let cause = light(node.system(), "pool:a", Light::Red);
    let bodies = [next(&mut busy).await, next(&mut busy).await, next(&mut busy).await];
    assert!(bodies.iter().all(|body| body == &bodies[0]), "the same notice each time");
    next(&mut wrong).await;
    let failed = receipt(node.system(), |receipt| receipt.event.kind() == "delivery_failed").await;
    assert_eq!(failed.cause, Some(cause));
    assert_eq!(failed.event.to_string(), "route wrong could not tell of pool:a: the receiver answered 404");
    assert!(wrong.try_recv().is_err(), "once was enough");
    node.stop("the test is over").await.unwrap();
}

#[tokio::test]
async fn a_route_that_is_killed_while_it_delivers_sends_it_again() {
    let (url, mut slack) = http(&[0, 200]).await;
    let node = start(AlertRoutes::new().slack(&url)).await;
    light(node.system(), "pool:a", Light::Red);
    let first = next(&mut slack).await;
    node.system().kill(&"/alerts/routes/slack".parse().unwrap(), "test").unwrap();
    assert_eq!(next(&mut slack).await, first);
    // The alerter remembers what it has told, in its next life too.
    let kill = node.system().kill(&"/alerts/alerter".parse().unwrap(), "test").unwrap();
    receipt(node.system(), |receipt| {
        kill < receipt.seq
            && receipt.path.as_str() == "/alerts/alerter"
            && receipt.event.kind() == "child_restarted"
    })
    .await;
    light(node.system(), "pool:b", Light::Red);
    assert!(next(&mut slack).await.contains("pool:b"), "and not pool:a once more");
    node.stop("the test is over").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_node_that_stops_cannot_deliver_is_told() {
    let (url, mut hung) = http(&[0]).await;
    let node = start(AlertRoutes::new().webhook("ops", Light::Yellow, &url)).await;
    let system = node.system().clone();
    for station in ["pool:a", "pool:b", "pool:c"] {
        light(&system, station, Light::Red);
    }
    assert!(next(&mut hung).await.contains("pool:a"));
    node.stop("the test is over").await.unwrap();
    let all = system.journal().after(Seq(0), None, usize::MAX).receipts;
    let mut given_up = Vec::new();
    for receipt in &all {
        if let Event::DeliveryFailed { route, station, .. } = &receipt.event {
            given_up.push(format!("{route} {station}"));
        }
    }
    assert_eq!(given_up, ["ops pool:a", "ops pool:b", "ops pool:c"]);
}

#[tokio::test(start_paused = true)]
async fn receivers_that_hang_take_no_time_from_each_other_when_the_node_stops() {
    let (mut routes, mut hung) = (AlertRoutes::new(), Vec::new());
    for number in 0..6 {
        let (url, receiver) = http(&[0]).await;
        routes = routes.webhook(&format!("ops-{number}"), Light::Yellow, &url);
        hung.push(receiver);
    }
    let node = start(routes).await;
    let system = node.system().clone();
    light(&system, "pool:a", Light::Red);
    for receiver in &mut hung {
        next(receiver).await;
    }
    let begun = tokio::time::Instant::now();
    node.stop("the test is over").await.unwrap();
    // An attempt has 5 s.
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    let all = system.journal().after(Seq(0), None, usize::MAX).receipts;
    let given_up = all.iter().filter(|receipt| receipt.event.kind() == "delivery_failed").count();
    assert_eq!(given_up, 6);
}

#[tokio::test]
async fn a_node_that_stops_delivers_what_its_receiver_still_takes() {
    let (url, mut hook) = http(&[200]).await;
    let node = start(AlertRoutes::new().webhook("ops", Light::Yellow, &url)).await;
    let system = node.system().clone();
    for number in 0..20 {
        light(&system, &format!("pool:{number}"), Light::Red);
    }
    receipt(&system, |receipt| {
        receipt.event.to_string().contains("pool:9") && receipt.event.kind() == "alerted"
    })
    .await;
    node.stop("the test is over").await.unwrap();
    for _ in 0..20 {
        next(&mut hook).await;
    }
    let all = system.journal().after(Seq(0), None, usize::MAX).receipts;
    assert!(all.iter().all(|receipt| receipt.event.kind() != "delivery_failed"), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn lights_that_change_while_nobody_reads_are_taken_from_the_board() {
    let node = start(AlertRoutes::new()).await;
    let system = node.system().clone();
    let shown = StationView {
        name: "line:payment".parse().unwrap(),
        light: Light::Red,
        why: "it is broken".into(),
        since_unix_ms: system.unix_ms(),
        receipt: None,
    };
    // All of this without an await: nobody reads meanwhile, and the journal keeps only what comes last.
    let lost = light(&system, "line:payment", Light::Red);
    for _ in 0..JOURNAL_CAPACITY {
        system.record(None, &ActorPath::root(), Event::KillRequested { by: "test".into() });
    }
    let oldest = system.journal().after(Seq(0), None, 1).receipts[0].seq;
    assert!(lost < oldest);
    system.board_publisher().publish(BoardView {
        stations: vec![shown],
        receipt: lost,
        ..BoardView::default()
    });
    let told = receipt(&system, |receipt| receipt.event.kind() == "alerted").await;
    assert!(
        matches!(&told.event, Event::Alerted { station, light: Light::Red, .. } if station.as_str() == "line:payment")
    );
    node.stop("the test is over").await.unwrap();
}
