//! Where a process writes to, and how that is followed: two pipes, or a file that outlives us.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use gemba_kernel::TaskContext;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::LastLines;
use crate::logs::{Intake, LogRules, Unfinished};

/// How often a file is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// Chunks of a file that are read in one look; what waits longer is read at the next.
const CHUNKS_MAX: usize = 64;

/// How long to wait for the rest of a pipe after the process has ended: one it gave to somebody else may never end.
const REST_MAX: Duration = Duration::from_millis(200);

/// Where a process writes to.
#[derive(Debug)]
pub(crate) enum Output {
    Pipes(ChildStdout, ChildStderr),
    File(Tail),
}

/// Follows the output until `over`, and then takes the rest of it.
pub(crate) async fn follow(
    output: Output,
    rules: LogRules,
    ctx: &TaskContext,
    last: &watch::Sender<LastLines>,
    over: impl Future<Output = ()>,
) {
    let mut book = Book { intake: Intake::new(rules), ctx, last };
    match output {
        Output::Pipes(stdout, stderr) => follow_pipes(stdout, stderr, &mut book, over).await,
        Output::File(tail) => follow_file(tail, rules, &mut book, over).await,
    }
    book.tell_suppressed();
}

/// The intake and those it is for.
struct Book<'a> {
    intake: Intake,
    ctx: &'a TaskContext,
    last: &'a watch::Sender<LastLines>,
}

impl Book<'_> {
    fn feed(&mut self, unfinished: &mut Unfinished, bytes: &[u8]) {
        let process = self.ctx.path();
        let log = |line: &str| tracing::info!(%process, line, "process wrote");
        self.intake.feed(unfinished, bytes, self.ctx.system().now(), log);
        self.publish();
    }

    fn finish(&mut self, unfinished: &mut Unfinished) {
        let process = self.ctx.path();
        let log = |line: &str| tracing::info!(%process, line, "process wrote");
        self.intake.finish(unfinished, self.ctx.system().now(), log);
        self.publish();
    }

    /// Takes what an earlier life has seen already.
    fn recall(&mut self, unfinished: &mut Unfinished, bytes: &[u8]) {
        self.intake.feed(unfinished, bytes, self.ctx.system().now(), |_| {});
        self.publish();
    }

    fn publish(&mut self) {
        self.last.send_replace(self.intake.last());
        self.tell_suppressed();
    }

    fn tell_suppressed(&mut self) {
        if let Some(lines) = self.intake.suppressed(self.ctx.system().now()) {
            let total = self.intake.suppressed_total;
            tracing::warn!(process = %self.ctx.path(), lines, total, "a process writes more than is logged");
        }
    }
}

async fn follow_pipes(
    mut stdout: ChildStdout,
    mut stderr: ChildStderr,
    book: &mut Book<'_>,
    over: impl Future<Output = ()>,
) {
    let mut over = pin!(over);
    let mut streams = (Unfinished::default(), Unfinished::default());
    let mut buffers = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut open = (true, true);
    // When the rest is to have come: whoever else has the pipe may write into it for ever.
    let mut rest_until = None;
    while open.0 || open.1 {
        let turn = async {
            tokio::select! {
                read = some(&mut stdout, &mut buffers.0), if open.0 => (true, read),
                read = some(&mut stderr, &mut buffers.1), if open.1 => (false, read),
            }
        };
        let (is_stdout, bytes) = if let Some(until) = rest_until {
            let Ok(turn) = timeout_at(until, turn).await else { break };
            turn
        } else {
            tokio::select! {
                turn = turn => turn,
                () = &mut over => { rest_until = Some(Instant::now() + REST_MAX); continue; }
            }
        };
        match (is_stdout, bytes) {
            (true, 0) => open.0 = false,
            (false, 0) => open.1 = false,
            (true, bytes) => book.feed(&mut streams.0, &buffers.0[..bytes]),
            (false, bytes) => book.feed(&mut streams.1, &buffers.1[..bytes]),
        }
    }
    book.finish(&mut streams.0);
    book.finish(&mut streams.1);
    if rest_until.is_none() {
        over.await;
    }
}

/// Some bytes; a broken pipe has ended.
async fn some(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> usize {
    stream.read(buffer).await.unwrap_or(0)
}

/// A log file, and how far it was read.
#[derive(Debug)]
pub(crate) struct Tail {
    file: File,
    /// Where it ended when it was opened.
    began: u64,
    /// Whether what is in it was read by an earlier life.
    is_known: bool,
}

impl Tail {
    /// The log in this directory, at its end.
    pub(crate) fn open(home: &Path, is_known: bool) -> io::Result<Self> {
        let mut file = File::options().create(true).append(true).read(true).open(log_file(home))?;
        let began = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, began, is_known })
    }

    /// What the process writes into: at the end, wherever that is after the file was emptied.
    pub(crate) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    fn reader(home: &Path) -> io::Result<File> {
        File::options().read(true).write(true).open(log_file(home))
    }

    /// A descriptor with a place of its own, unlike the clone that the process has: where the log ended before it
    /// was started, whatever it has written since.
    pub(crate) fn separate(self, home: &Path) -> io::Result<Self> {
        let mut reader = Self::reader(home)?;
        reader.seek(SeekFrom::Start(self.began))?;
        Ok(Self { file: reader, ..self })
    }

    fn read(&mut self, buffer: &mut [u8]) -> usize {
        self.file.read(buffer).unwrap_or(0)
    }
}

pub(crate) fn log_file(home: &Path) -> PathBuf {
    home.join("log")
}

async fn follow_file(mut tail: Tail, rules: LogRules, book: &mut Book<'_>, over: impl Future<Output = ()>) {
    let mut over = pin!(over);
    let (mut unfinished, mut buffer) = (Unfinished::default(), vec![0; CHUNK]);
    if tail.is_known {
        let end = tail.file.stream_position().unwrap_or(0);
        let back = end.saturating_sub(CHUNK as u64);
        if tail.file.seek(SeekFrom::Start(back)).is_ok() {
            let bytes = tail.read(&mut buffer);
            book.recall(&mut unfinished, &buffer[..bytes]);
        }
    }
    let mut is_over = false;
    loop {
        for _ in 0..CHUNKS_MAX {
            let bytes = tail.read(&mut buffer);
            if bytes == 0 {
                break;
            }
            book.feed(&mut unfinished, &buffer[..bytes]);
        }
        if is_over {
            break;
        }
        book.tell_suppressed();
        // Emptied, not renamed: the process writes on into the file it has.
        if tail.file.metadata().is_ok_and(|file| rules.file_bytes_max < file.len())
            && tail.file.set_len(0).is_ok()
        {
            let _ = tail.file.seek(SeekFrom::Start(0));
        }
        tokio::select! {
            () = &mut over => is_over = true,
            () = sleep(LOOK) => {}
        }
    }
    book.finish(&mut unfinished);
}
