//! The splitter from outside: what a data path has to bear.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gemba_deployment::splitter::Counted;
use gemba_deployment::splitter::table::{Share, Sticky, Table};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use support::{SOON, at, port, run, sample};

/// A splitter, and where it is told things.
async fn splitter() -> (Child, SocketAddr, String) {
    splitter_with(&[]).await
}

async fn splitter_with(more: &[&str]) -> (Child, SocketAddr, String) {
    let (listen, admin) = (at(port()), at(port()));
    let (to, told) = (listen.to_string(), admin.to_string());
    let child = run(&[&["splitter", "--listen", &to, "--admin", &told], more].concat()).await;
    (child, listen, format!("http://{admin}"))
}

/// A splitter in front of one instance.
async fn in_front_of(instance: SocketAddr, more: &[&str]) -> (Child, SocketAddr, String) {
    let splitter = splitter_with(more).await;
    assert_eq!(tell(&splitter.2, &table(1, &[("v1", 10_000, &[instance])])).await, 204);
    splitter
}

/// An instance that does with each connection what it is told.
async fn instance<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// The head of a message, and what came with it of the rest.
async fn head(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Some((String::from_utf8(bytes).unwrap().to_lowercase(), rest));
        }
        let mut part = [0; 4_096];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&part[..read]),
        }
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// All that comes back for these bytes until the splitter closes.
async fn all_for(listen: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(listen).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the splitter closes").unwrap();
    String::from_utf8(answer).unwrap()
}

fn table(generation: u64, shares: &[(&str, u32, &[SocketAddr])]) -> Table {
    let share = |(version, weight, instances): &(&str, u32, &[SocketAddr])| Share {
        version: (*version).to_owned(),
        weight: *weight,
        instances: instances.to_vec(),
    };
    Table {
        generation,
        sticky: Sticky::Header("x-user".to_owned()),
        chosen_by: None,
        versions: shares.iter().map(share).collect(),
    }
}

async fn tell(admin: &str, table: &Table) -> u16 {
    reqwest::Client::new().put(format!("{admin}/table")).json(table).send().await.unwrap().status().as_u16()
}

async fn counted(admin: &str) -> Counted {
    let asking = async {
        loop {
            // A splitter that is handing over may close this connection; who asks for counts asks again.
            if let Ok(answer) = reqwest::get(format!("{admin}/counts")).await {
                return answer.json().await.unwrap();
            }
        }
    };
    timeout(SOON, asking).await.unwrap()
}

#[tokio::test]
async fn shares_move_without_a_lost_request_and_a_caller_stays_with_a_version() {
    let ((_v1, v1), (_v2, v2)) = (sample("v1", &[]).await, sample("v2", &[]).await);
    let (v1, v2) = ([v1], [v2]);
    let (_splitter, listen, admin) = splitter().await;
    let client = reqwest::Client::new();
    let ask = async |user: usize| {
        let answer =
            client.get(format!("http://{listen}/")).header("x-user", user.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap().trim().to_owned())
    };
    assert_eq!(ask(1).await.0, 503, "before the first table");
    let mut before: Option<Vec<String>> = None;
    for (generation, share) in [(1, 0), (2, 500), (3, 2_500), (4, 10_000)] {
        let versions: Vec<(&str, u32, &[SocketAddr])> = match share {
            0 => vec![("v1", 10_000, &v1)],
            10_000 => vec![("v2", 10_000, &v2)],
            share => vec![("v2", share, &v2), ("v1", 10_000 - share, &v1)],
        };
        assert_eq!(tell(&admin, &table(generation, &versions)).await, 204);
        let mut now = Vec::new();
        for user in 0..400 {
            let (status, version) = ask(user).await;
            assert_eq!(status, 200, "user {user} at {share}");
            now.push(version);
        }
        let new = now.iter().filter(|version| *version == "v2").count();
        // 400 users: five standard deviations.
        assert!((new as f64 - 400.0 * f64::from(share) / 1e4).abs() <= 45.0, "{new} of 400 at {share}");
        if let Some(before) = &before {
            assert!(before.iter().zip(&now).all(|(was, is)| was == "v1" || is == "v2"), "nobody goes back");
        }
        before = Some(now);
    }
    assert_eq!(tell(&admin, &table(3, &[("v1", 10_000, &v1)])).await, 409, "a late word");
    assert_eq!(tell(&admin, &table(9, &[("v1", 9_999, &v1)])).await, 422);
    let counts = counted(&admin).await;
    let requests: u64 = counts.versions.iter().map(|version| version.requests).sum();
    assert_eq!((counts.generation, requests), (4, 1_600), "{counts:?}");
    assert!(counts.versions.iter().all(|version| version.failures == 0 && version.in_flight == 0));
}

#[tokio::test]
async fn what_was_not_sent_is_sent_elsewhere_and_what_was_only_if_it_may_be_repeated() {
    let (_v1, good) = sample("v1", &[]).await;
    let (_splitter, listen, admin) = splitter().await;
    let client = reqwest::Client::new();
    let refused = async |method: reqwest::Method| {
        let mut refused = 0;
        for user in 0..50 {
            let request = client.request(method.clone(), format!("http://{listen}/"));
            let answer = request.header("x-user", user.to_string()).body("once").send().await.unwrap();
            assert!([200, 502].contains(&answer.status().as_u16()), "{}", answer.status());
            refused += u32::from(answer.status() == 502);
        }
        refused
    };
    // Nobody listens: half of the callers are sent there first, and nothing is sent.
    assert_eq!(tell(&admin, &table(1, &[("v1", 10_000, &[at(port()), good])])).await, 204);
    assert_eq!(refused(reqwest::Method::POST).await, 0);
    // One that takes a request and goes away: it may have done what it was asked for.
    let gone = instance(async |mut stream: TcpStream| drop(head(&mut stream).await)).await;
    assert_eq!(tell(&admin, &table(2, &[("v1", 10_000, &[gone, good])])).await, 204);
    let posts = refused(reqwest::Method::POST).await;
    assert!((5..=45).contains(&posts), "{posts} of 50");
    assert_eq!(counted(&admin).await.versions[0].failures, u64::from(posts));
    for user in 0..50 {
        let request = client.get(format!("http://{listen}/")).header("x-user", user.to_string());
        assert_eq!(request.send().await.unwrap().status(), 200, "a GET may be repeated");
    }
}

/// An instance that dies closes all its connections at once, and a splitter does not hear of all at once.
#[tokio::test]
async fn however_many_kept_connections_are_dead_the_next_request_gets_through() {
    const KEPT: usize = 5;
    let come = Arc::new(Semaphore::new(0));
    let all = come.clone();
    let instance = instance(move |mut stream| {
        let come = come.clone();
        async move {
            if head(&mut stream).await.is_none() {
                return;
            }
            // So that each has a connection of its own.
            come.add_permits(1);
            drop(come.acquire_many(KEPT as u32).await.unwrap());
            stream.write_all(OK).await.unwrap();
            // Dead when it is asked again.
            let _ = head(&mut stream).await;
        }
    })
    .await;
    let (_splitter, listen, _) = in_front_of(instance, &["--threads", "1"]).await;
    let get = || async move { reqwest::get(format!("http://{listen}/")).await.unwrap().status().as_u16() };
    assert_eq!(futures_util::future::join_all((0..KEPT).map(|_| get())).await, [200; KEPT]);
    assert_eq!((all.available_permits(), get().await), (KEPT, 200));
}

#[tokio::test]
async fn what_concerns_a_connection_is_not_passed_on_and_a_trace_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_splitter, listen, admin) = splitter().await;
    let instance = listener.local_addr().unwrap();
    assert_eq!(tell(&admin, &table(1, &[("v1", 10_000, &[instance])])).await, 204);
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4_096];
        let bytes = stream.read(&mut request).await.unwrap();
        let answer = "HTTP/1.1 200 OK\r\nconnection: x-inner\r\nx-inner: 1\r\nkeep-alive: 5\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..bytes]).to_lowercase()
    });
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut stream = TcpStream::connect(listen).await.unwrap();
    let request = format!(
        "GET /a?b=c HTTP/1.1\r\nhost: api\r\nconnection: close, x-secret\r\nx-secret: 1\r\nte: trailers\r\ntraceparent: {trace}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let request = served.await.unwrap();
    assert!(request.starts_with("get /a?b=c http/1.1"), "{request}");
    assert!(
        request.contains(&format!("traceparent: {trace}")) && request.contains("x-forwarded-for: 127.0.0.1")
    );
    assert!(!request.contains("x-secret") && !request.contains("te: trailers"), "{request}");
    let answer = answer.to_lowercase();
    assert!(
        answer.ends_with("ok") && answer.contains("x-version: v1") && !answer.contains("x-inner"),
        "{answer}"
    );
}

/// What may come from a caller who means harm or knows no better, and the status it gets.
fn rubbish() -> Vec<(&'static str, String, u16)> {
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let long = "x".repeat(40_000);
    let many = "a: b\r\n".repeat(101);
    vec![
        // RFC 9112, 6.1: the chunks count, and the connection is closed, or refused as a whole.
        (
            "both lengths",
            format!(
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{smuggled}"
            ),
            200,
        ),
        (
            "both, turned",
            format!(
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n{smuggled}"
            ),
            200,
        ),
        (
            "two lengths",
            format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{smuggled}"),
            400,
        ),
        (
            "a signed length",
            format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\n{smuggled}"),
            400,
        ),
        (
            "chunked not last",
            format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n{smuggled}"),
            400,
        ),
        (
            "chunked in 1.0",
            format!("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{smuggled}"),
            400,
        ),
        (
            "a bad chunk",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhi\r\n0\r\n\r\n"
                .to_owned(),
            400,
        ),
        (
            "a huge chunk",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n"
                .to_owned(),
            400,
        ),
        (
            "a space before the colon",
            format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n{smuggled}"),
            400,
        ),
        (
            "a folded field",
            "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n transfer-encoding: chunked\r\n\r\n".to_owned(),
            400,
        ),
        ("no host", "GET / HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(), 400),
        ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n".to_owned(), 400),
        (
            "a tunnel",
            "CONNECT db:5432 HTTP/1.1\r\nhost: db:5432\r\nconnection: close\r\n\r\n".to_owned(),
            405,
        ),
        ("a large head", format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n"), 431),
        ("many fields", format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), 431),
        ("no HTTP", "\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), 400),
    ]
}

#[tokio::test]
async fn two_readers_can_not_take_a_message_for_two_different_ones() {
    let (seen, mut heads) = mpsc::channel(64);
    let instance = instance(move |mut stream| {
        let seen = seen.clone();
        async move {
            while let Some((head, mut rest)) = head(&mut stream).await {
                if head.contains("transfer-encoding") {
                    while !rest.ends_with(b"0\r\n\r\n") {
                        if stream.read_buf(&mut rest).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                }
                seen.send(head).await.unwrap();
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    let (_splitter, listen, admin) = in_front_of(instance, &["--head-max-ms", "2000"]).await;
    for (what, request, status) in rubbish() {
        let answer = all_for(listen, request.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} "))
                || answer.starts_with(&format!("HTTP/1.0 {status} ")),
            "{what}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what} is one message: {answer}");
    }
    let mut passed = 0;
    while let Ok(head) = heads.try_recv() {
        passed += 1;
        assert!(!head.contains("smuggled"), "{head}");
        assert!(!(head.contains("content-length") && head.contains("transfer-encoding")), "{head}");
    }
    assert_eq!(passed, 2, "those with both lengths, as one each");
    let counts = &counted(&admin).await.versions[0];
    assert_eq!(
        (counts.failures, counts.in_flight),
        (0, 0),
        "no version is to blame for its callers: {counts:?}"
    );
}

#[tokio::test]
async fn whoever_is_silent_is_not_waited_for() {
    let never = instance(async |mut stream: TcpStream| {
        let _head = head(&mut stream).await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    // Each of these is closed: nothing at all, half of a head, a whole one and then nothing.
    let limits = ["--head-max-ms", "200", "--idle-max-ms", "400"];
    let (_splitter, listen, _) = in_front_of(never, &limits).await;
    assert_eq!(all_for(listen, b"").await, "");
    assert_eq!(all_for(listen, b"GET / HTTP/1.1\r\nhost: a\r\nx: ").await, "");
    // What is to be answered may take its time to arrive.
    let limits = ["--idle-max-ms", "1000", "--answer-max-ms", "300"];
    let (_splitter, listen, admin) = in_front_of(never, &limits).await;
    let late = all_for(listen, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(late.starts_with("HTTP/1.1 504 "), "{late}");
    // A body that does not go on is its caller's affair, a whole one without an answer the instance's.
    let stuck = all_for(listen, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf").await;
    assert!(stuck.starts_with("HTTP/1.1 408 "), "{stuck}");
    let whole = all_for(listen, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nfull").await;
    assert!(whole.starts_with("HTTP/1.1 504 "), "{whole}");
    let counts = &counted(&admin).await.versions[0];
    assert_eq!((counts.requests, counts.failures), (3, 2), "{counts:?}");
}

#[tokio::test]
async fn bodies_stream_and_the_slower_side_sets_the_pace() {
    /// More than all buffers on the way together.
    const MUCH: usize = 64 << 20;
    let (go, gone) = tokio::sync::watch::channel(false);
    let slow = instance(move |mut stream| {
        let mut gone = gone.clone();
        async move {
            let (_, mut rest) = head(&mut stream).await.unwrap();
            // An answer begins before the request has ended, and the rest of the request waits.
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                .await
                .unwrap();
            gone.wait_for(|gone| *gone).await.unwrap();
            let mut read = rest.len();
            while read < MUCH {
                rest.clear();
                read += stream.read_buf(&mut rest).await.unwrap();
            }
            stream.write_all(format!("8\r\n{read:08}\r\n0\r\n\r\n").as_bytes()).await.unwrap();
        }
    })
    .await;
    let (_splitter, listen, _) = in_front_of(slow, &[]).await;
    let mut stream = TcpStream::connect(listen).await.unwrap();
    let request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {MUCH}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let (sent, mut progress) = tokio::sync::watch::channel(0);
    let sending = tokio::spawn(async move {
        let part = vec![7; 1 << 16];
        for _ in 0..MUCH / part.len() {
            writing.write_all(&part).await.unwrap();
            sent.send_modify(|sent| *sent += part.len());
        }
        writing
    });
    let mut answer = Vec::new();
    while !answer.ends_with(b"first\r\n") {
        assert_ne!(timeout(SOON, reading.read_buf(&mut answer)).await.unwrap().unwrap(), 0);
    }
    // It stands still now, with the most part not sent: wait until nothing has moved for a while.
    while timeout(Duration::from_millis(500), progress.changed()).await.is_ok_and(|changed| changed.is_ok()) {
    }
    let held = *progress.borrow();
    assert!(held < MUCH / 2, "{held} bytes went into a splitter whose instance took none");
    go.send_replace(true);
    let _writing = timeout(SOON, sending).await.unwrap().unwrap();
    while !answer.ends_with(b"0\r\n\r\n") {
        assert_ne!(timeout(SOON, reading.read_buf(&mut answer)).await.unwrap().unwrap(), 0);
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains(&format!("{MUCH:08}")), "{answer}");
}

#[tokio::test]
async fn a_connection_that_changes_its_protocol_is_passed_through() {
    let echo = instance(async |mut stream: TcpStream| {
        let (head, _) = head(&mut stream).await.unwrap();
        if !head.contains("upgrade: websocket") {
            return stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.unwrap();
        }
        assert!(head.contains("connection: upgrade") && head.contains("sec-websocket-key: k"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: a\r\n\r\nhello";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut reading, mut writing) = stream.split();
        let _ = tokio::io::copy(&mut reading, &mut writing).await;
    })
    .await;
    let (_splitter, listen, admin) = in_front_of(echo, &[]).await;
    let mut stream = TcpStream::connect(listen).await.unwrap();
    let request = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let (answer, mut rest) = head(&mut stream).await.unwrap();
    assert!(answer.starts_with("http/1.1 101") && answer.contains("sec-websocket-accept: a"), "{answer}");
    stream.write_all(b" and bye").await.unwrap();
    while rest.len() < b"hello and bye".len() {
        assert_ne!(timeout(SOON, stream.read_buf(&mut rest)).await.unwrap().unwrap(), 0);
    }
    assert_eq!(rest, b"hello and bye");
    assert_eq!(
        counted(&admin).await.versions[0].in_flight,
        1,
        "its instance is needed as long as it is there"
    );
    drop(stream);
    let over = async {
        while counted(&admin).await.versions[0].in_flight != 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, over).await.unwrap();
    let unasked = all_for(listen, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(unasked.starts_with("HTTP/1.1 502 "), "{unasked}");
}

#[tokio::test]
async fn callers_may_speak_http_2_and_instances_do_not() {
    let told = instance(async |mut stream: TcpStream| {
        while let Some((head, _)) = head(&mut stream).await {
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: {}\r\n\r\n{head}",
                head.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let (_splitter, listen, _) = in_front_of(told, &[]).await;
    let io = TokioIo::new(TcpStream::connect(listen).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), io);
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let asks = (0..20).map(|number| {
        let mut sender = sender.clone();
        async move {
            let uri = format!("http://shop.example/{number}?q=1");
            let request = hyper::Request::get(uri).header("te", "trailers").body(Empty::new()).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.version()), (200, hyper::Version::HTTP_2));
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert!(body.starts_with(&format!("get /{number}?q=1 http/1.1")), "{body}");
            assert!(body.contains("host: shop.example\r\n") && !body.contains("te:"), "{body}");
        }
    });
    timeout(SOON, futures_util::future::join_all(asks)).await.unwrap();
}

#[tokio::test]
async fn a_caller_may_choose_a_version_that_has_a_share() {
    let ((_v1, v1), (_v2, v2)) = (sample("v1", &[]).await, sample("v2", &[]).await);
    let (_splitter, listen, admin) = splitter().await;
    let mut shares = table(1, &[("v2", 1, &[v2]), ("v1", 9_999, &[v1])]);
    shares.chosen_by = Some("x-try".to_owned());
    assert_eq!(tell(&admin, &shares).await, 204);
    let client = reqwest::Client::new();
    for version in ["v2", "v1", "v2"] {
        let request = client.get(format!("http://{listen}/")).header("x-user", "1").header("x-try", version);
        assert_eq!(request.send().await.unwrap().text().await.unwrap().trim(), version);
    }
}

/// Callers that keep their connections, as fast as they can, until they are told to stop; how many requests they had,
/// and everything that was not an answer.
fn callers(
    listen: SocketAddr,
) -> (tokio::sync::watch::Sender<bool>, tokio::task::JoinHandle<(u64, Vec<String>)>) {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let lane = move |lane: u64, stopped: tokio::sync::watch::Receiver<bool>| async move {
        let (mut asked, mut failures, mut stream) = (0, Vec::new(), None);
        while !*stopped.borrow() {
            let mut open = match stream.take() {
                Some(open) => open,
                None => TcpStream::connect(listen).await.unwrap(),
            };
            asked += 1;
            open.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            match head(&mut open).await {
                Some((head, mut body)) if head.starts_with("http/1.1 200") => {
                    while body.len() < 3 && open.read_buf(&mut body).await.is_ok_and(|read| 0 < read) {}
                    stream = (!head.contains("connection: close")).then_some(open);
                }
                other => failures.push(format!("lane {lane}: {other:?}")),
            }
            // Some are busy, some nearly idle.
            sleep(Duration::from_millis(lane * lane)).await;
        }
        (asked, failures)
    };
    let task = tokio::spawn(async move {
        let lanes = (0..24).map(|number| tokio::spawn(lane(number, stopped.clone())));
        let mut sum = (0, Vec::new());
        for lane in futures_util::future::join_all(lanes).await {
            let (asked, failures) = lane.unwrap();
            sum.0 += asked;
            sum.1.extend(failures);
        }
        sum
    });
    (stop, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_splitter_takes_over_from_another_and_no_request_fails() {
    let (_v1, v1) = sample("v1", &["--latency-ms", "2"]).await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("handover").display().to_string();
    let (listen, admin) = (at(port()), at(port()));
    let (to, told) = (listen.to_string(), admin.to_string());
    let args = ["splitter", "--listen", &to, "--admin", &told, "--handover", &socket];
    let admin = format!("http://{admin}");
    let mut now = run(&args).await;
    assert_eq!(tell(&admin, &table(7, &[("v1", 10_000, &[v1])])).await, 204);
    let life = counted(&admin).await.life;
    let (stop, asking) = callers(listen);
    for number in 0..3 {
        sleep(Duration::from_millis(300)).await;
        let before = std::mem::replace(&mut now, run(&args).await);
        let counts = counted(&admin).await;
        assert_eq!((counts.generation, &counts.life), (7, &life), "it goes on where the other one was");
        let ended = timeout(SOON, {
            let mut before = before;
            async move { before.wait().await }
        })
        .await;
        let ended = ended.expect("it ends by itself").unwrap();
        assert!(ended.success(), "splitter {number}: {ended}");
    }
    stop.send_replace(true);
    let (asked, failures) = asking.await.unwrap();
    assert_eq!(failures, Vec::<String>::new(), "of {asked}");
    assert!(200 < asked, "{asked} requests are no load");
    let settled = async {
        loop {
            let counts = counted(&admin).await;
            let counts = &counts.versions[0];
            if counts.in_flight == 0 && asked <= counts.requests {
                return (counts.requests, counts.failures);
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(timeout(SOON, settled).await.unwrap(), (asked, 0), "each request was counted once");
}

#[tokio::test]
async fn one_that_dies_before_it_has_taken_over_changes_nothing() {
    let (_v1, v1) = sample("v1", &[]).await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("handover");
    let (_splitter, listen, admin) = in_front_of(v1, &["--handover", &socket.display().to_string()]).await;
    let ask = |path: &Path| std::os::unix::net::UnixStream::connect(path).unwrap();
    for _ in 0..3 {
        drop(ask(&socket));
        let answer = reqwest::get(format!("http://{listen}/")).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(counted(&admin).await.generation, 1);
    }
}
