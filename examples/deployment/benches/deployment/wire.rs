//! Requests as bytes: what generates the load must cost little, or it is what is measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long an answer may take before it counts as failed.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Room for an answer's head and its small body.
const BUFFER: usize = 4_096;

/// What came of requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Came {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    /// Of those that were answered, in nanoseconds; from when they were due, if there was a plan.
    pub(crate) latencies: Vec<u64>,
    /// Of those of a plan, each.
    pub(crate) notes: Vec<Note>,
    pub(crate) took: Duration,
}

impl Came {
    pub(crate) fn per_second(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64()
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.latencies.extend(other.latencies);
        self.notes.extend(other.notes);
        self.took = self.took.max(other.took);
    }

    /// The latency that `share` of all were not above, in microseconds.
    pub(crate) fn quantile_us(&mut self, share: f64) -> f64 {
        self.latencies.sort_unstable();
        let place = ((self.latencies.len() as f64 * share).ceil() as usize).saturating_sub(1);
        self.latencies.get(place).map_or(f64::NAN, |nanos| *nanos as f64 / 1e3)
    }
}

/// A request of this number.
fn request(to: SocketAddr, number: &str) -> Vec<u8> {
    format!("GET /item HTTP/1.1\r\nhost: {to}\r\nx-request-id: {number}\r\naccept: */*\r\n\r\n").into_bytes()
}

/// The length of the answer that begins `bytes`, once its head is there.
fn answer_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let length = field(&bytes[..head], "content-length").and_then(|length| length.parse().ok());
    Some(head + length.unwrap_or(0))
}

fn field<'a>(answer: &'a [u8], name: &str) -> Option<&'a str> {
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or(answer.len());
    std::str::from_utf8(&answer[..head]).ok()?.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

fn closes(answer: &[u8]) -> bool {
    field(answer, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

fn is_well(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 200")
}

/// As many requests as `connections` carry one after the other, for `lasts`.
pub(crate) fn closed_loop(to: SocketAddr, connections: usize, lasts: Duration) -> Came {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let until = Instant::now() + lasts;
        let lanes: Vec<_> = (0..connections).map(|_| tokio::spawn(lane(to, until))).collect();
        let mut came = Came::default();
        for lane in lanes {
            came.add(lane.await.expect("a lane does not panic"));
        }
        came.took = lasts;
        came
    })
}

async fn lane(to: SocketAddr, until: Instant) -> Came {
    let mut came = Came::default();
    let request = request(to, "7");
    let mut buffer = vec![0; BUFFER];
    let mut kept = None;
    while Instant::now() < until {
        let stream = match kept.take() {
            Some(stream) => Ok(stream),
            None => tokio::net::TcpStream::connect(to).await,
        };
        let Ok(mut stream) = stream else {
            came.failed += 1;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let asked = async {
            stream.write_all(&request).await.ok()?;
            let mut filled = 0;
            loop {
                match stream.read(&mut buffer[filled..]).await {
                    Ok(0) | Err(_) => return None,
                    Ok(bytes) => filled += bytes,
                }
                if answer_length(&buffer[..filled]).is_some_and(|length| length <= filled) {
                    return Some(&buffer[..filled]);
                }
            }
        };
        match asked.await {
            Some(answer) => {
                let is_well = is_well(answer);
                (came.answered, came.failed) =
                    (came.answered + u64::from(is_well), came.failed + u64::from(!is_well));
                kept = (!closes(answer)).then_some(stream);
            }
            None => came.failed += 1,
        }
    }
    came
}

/// So many requests over each of so many connections, one after the other; how many failed.
pub(crate) fn exactly(to: SocketAddr, lanes: u64, each: u64) -> u64 {
    let lane = move |lane: u64| {
        let (mut connection, mut buffer, mut failed) = (None, vec![0; BUFFER], 0);
        for number in 0..each {
            let request = request(to, &format!("{lane}-{number}"));
            let answer = ask(&mut connection, to, &request, &mut buffer);
            failed += u64::from(!answer.is_some_and(is_well));
            if answer.is_none_or(closes) {
                connection = None;
            }
        }
        failed
    };
    let lanes: Vec<_> = (0..lanes).map(|number| thread::spawn(move || lane(number))).collect();
    lanes.into_iter().map(|lane| lane.join().expect("a lane does not panic")).sum()
}

/// What came of one request of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    /// When it was due, since the beginning.
    pub(crate) due: Duration,
    /// Who answered, as the splitter says.
    pub(crate) version: Option<String>,
    pub(crate) is_well: bool,
}

/// Requests at a steady rate over `lanes` connections, whether or not earlier ones were answered, for `lasts` or until
/// `over` is set; a latency counts from when its request was due, so that a pause of what is measured is not left out
/// (coordinated omission).
///
/// A thread for each lane: the timers of a runtime are a millisecond coarse, and what is measured is finer.
pub(crate) fn open_loop(
    to: SocketAddr,
    rate: f64,
    lanes: u32,
    lasts: Duration,
    over: &Arc<OnceLock<()>>,
) -> Came {
    let step = Duration::from_secs_f64(f64::from(lanes) / rate);
    let begin = Instant::now() + Duration::from_millis(20);
    let threads: Vec<_> = (0..lanes)
        .map(|lane| {
            let plan =
                Plan { to, lane, begin, first: begin + step * lane / lanes, step, until: begin + lasts };
            let over = over.clone();
            thread::spawn(move || paced(&plan, &over))
        })
        .collect();
    let mut came = Came::default();
    for thread in threads {
        came.add(thread.join().expect("a lane does not panic"));
    }
    came.took = begin.elapsed().min(lasts);
    came
}

#[derive(Debug)]
struct Plan {
    to: SocketAddr,
    lane: u32,
    begin: Instant,
    first: Instant,
    step: Duration,
    until: Instant,
}

fn paced(plan: &Plan, over: &OnceLock<()>) -> Came {
    let mut came = Came::default();
    let mut connection = None;
    let mut buffer = vec![0; BUFFER];
    let (mut due, mut number) = (plan.first, 0u64);
    while due < plan.until && over.get().is_none() {
        let request = request(plan.to, &format!("{}-{number}", plan.lane));
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let answer = ask(&mut connection, plan.to, &request, &mut buffer);
        let is_well = answer.is_some_and(is_well);
        if is_well {
            came.answered += 1;
            came.latencies.push(due.elapsed().as_nanos() as u64);
        } else {
            came.failed += 1;
        }
        let version = answer.and_then(|answer| field(answer, "x-version")).map(str::to_owned);
        came.notes.push(Note { due: due - plan.begin, version, is_well });
        if answer.is_none_or(closes) {
            connection = None;
        }
        (due, number) = (due + plan.step, number + 1);
    }
    came
}

fn ask<'a>(
    connection: &mut Option<TcpStream>,
    to: SocketAddr,
    request: &[u8],
    buffer: &'a mut [u8],
) -> Option<&'a [u8]> {
    let stream = if let Some(stream) = connection {
        stream
    } else {
        let stream = TcpStream::connect(to).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(ANSWER_MAX)).ok()?;
        connection.insert(stream)
    };
    stream.write_all(request).ok()?;
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) | Err(_) => return None,
            Ok(bytes) => filled += bytes,
        }
        if answer_length(&buffer[..filled]).is_some_and(|length| length <= filled) {
            return Some(&buffer[..filled]);
        }
    }
}

/// One request, and the whole of its answer.
pub(crate) fn get(to: SocketAddr, path: &str) -> std::io::Result<String> {
    exchange(to, &format!("GET {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n"), b"")
}

/// One request with a body of JSON, and the whole of its answer.
pub(crate) fn put(to: SocketAddr, path: &str, body: &[u8]) -> std::io::Result<String> {
    let head = format!(
        "PUT {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    exchange(to, &head, body)
}

fn exchange(to: SocketAddr, head: &str, body: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
