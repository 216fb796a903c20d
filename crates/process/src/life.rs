//! One life of a process child, from top to bottom: find or start it, wait until it is ready, wait for its end.

use std::io;
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;

use gemba_kernel::TaskContext;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::before::{self, Before};
use crate::ended::Ended;
use crate::error::ProcessError;
use crate::find::{Found, find};
use crate::handle::{ProcessState, Shared};
use crate::identity::{self, Identity};
use crate::output::{Output, Tail, follow, log_file};
use crate::running::Running;
use crate::spec::ProcessSpec;
use crate::starting;

/// How a life went.
enum Course {
    Stopped { how: Ended, killed: bool },
    Released,
    EndedBeforeReady(Ended),
    NotReady(Arc<str>),
    Ended(Ended),
}

/// Lives one life.
pub(crate) async fn live(shared: &Shared, ctx: &TaskContext) -> Result<(), ProcessError> {
    let result = course(shared, ctx).await;
    if let Err(error) = &result {
        shared.set(ProcessState::Failed(error.clone()));
    }
    result
}

async fn course(shared: &Shared, ctx: &TaskContext) -> Result<(), ProcessError> {
    let spec = &shared.spec;
    let Found { same, mut before } = match &spec.home {
        Some(home) => find(spec, home).await?,
        None => Found::default(),
    };
    let (mut running, output) = match same {
        Some(running) => {
            let output = tail(spec, true)?.expect("only a process with a home is found");
            shared.runs(running.id(), true);
            (running, Output::File(output))
        }
        None if shared.is_to_end() => {
            let (how, killed) = match &mut before {
                Some(Before { running, identity }) => {
                    let stopped = running.stop(spec.stop_within).await;
                    stopped.map_err(|source| ProcessError::out_of_reach(identity.pid, source))?
                }
                None => (Ended::Untold, false),
            };
            shared.set(ProcessState::Ended { how, killed });
            return Ok(());
        }
        None => {
            let started = start(spec)?;
            shared.runs(started.0.id(), false);
            started
        }
    };
    let pid = running.id();
    if spec.home.is_some() {
        // Whatever becomes of this life, the next one finds it.
        running.release();
    }
    let (over, is_over) = oneshot::channel::<()>();
    let following = follow(output, spec.log, ctx, &shared.last, async { drop(is_over.await) });
    let running = async {
        let course = run(&mut running, &mut before, shared, ctx).await;
        drop(over);
        course
    };
    let (course, ()) = tokio::join!(running, following);
    let last = shared.last.borrow().clone();
    let course = course.map_err(|source| ProcessError::out_of_reach(pid, source))?;
    if let (Some(home), false) = (&spec.home, matches!(course, Course::Released)) {
        match &before {
            // It never took over: whoever comes next finds the one that goes on.
            Some(before) => before.returns(home).map_err(|source| ProcessError::file(home, source))?,
            None => identity::forget(home),
        }
    }
    match course {
        Course::Stopped { how, killed } => {
            if killed {
                let within_ms = spec.stop_within.as_millis() as u64;
                tracing::warn!(process = %ctx.path(), pid, within_ms, "process ignored SIGTERM and was killed");
            }
            shared.set(ProcessState::Ended { how, killed });
            Ok(())
        }
        Course::Released => {
            shared.set(ProcessState::Released);
            Ok(())
        }
        Course::EndedBeforeReady(how) => Err(ProcessError::ExitedBeforeReady { how, last }),
        Course::NotReady(why) => Err(ProcessError::NotReady { within: spec.ready_within, why, last }),
        Course::Ended(how) => Err(ProcessError::Exited { how, last }),
    }
}

/// The log of a process that survives.
fn tail(spec: &ProcessSpec, is_known: bool) -> Result<Option<Tail>, ProcessError> {
    let Some(home) = &spec.home else { return Ok(None) };
    let tail = Tail::open(home, is_known).map_err(|source| ProcessError::file(&log_file(home), source))?;
    Ok(Some(tail))
}

fn start(spec: &ProcessSpec) -> Result<(Running, Output), ProcessError> {
    if let Some(directory) = &spec.directory
        && !directory.is_dir()
    {
        return Err(ProcessError::DirectoryMissing { directory: directory.clone() });
    }
    if !spec.hands_over
        && let Some(address) = spec.probe.address()
        && TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    {
        return Err(ProcessError::PortTaken { address });
    }
    let tail = tail(spec, false)?;
    let mut command = Command::new(&spec.command);
    command.args(&spec.args).envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).process_group(0);
    if let Some(directory) = &spec.directory {
        command.current_dir(directory);
    }
    match &tail {
        Some(tail) => {
            let writer = || tail.writer().map_err(|source| spawn_error(spec, source));
            command.stdout(writer()?).stderr(writer()?);
        }
        None => {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
    }
    if let Some(home) = &spec.home {
        starting::begin(home, spec.fingerprint()).map_err(|source| ProcessError::file(home, source))?;
    }
    let child = command.spawn().map_err(|source| spawn_error(spec, source));
    if let (Err(_), Some(home)) = (&child, &spec.home) {
        starting::done(home);
    }
    let mut child = child?;
    let pipes = child.stdout.take().zip(child.stderr.take());
    let running = Running::own(child).expect("a child that was not waited for has a number");
    let Some((tail, home)) = tail.zip(spec.home.as_deref()) else {
        let (stdout, stderr) = pipes.expect("both are piped");
        return Ok((running, Output::Pipes(stdout, stderr)));
    };
    let identity = Identity::of(running.id(), spec.fingerprint());
    let written = identity.and_then(|identity| identity.write(home, &identity::pid_file(home)));
    starting::done(home);
    match written {
        // It has ended already, which is told by waiting for it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        written => written.map_err(|source| ProcessError::file(&identity::pid_file(home), source))?,
    }
    let tail = tail.separate(home).map_err(|source| ProcessError::file(&log_file(home), source))?;
    Ok((running, Output::File(tail)))
}

fn spawn_error(spec: &ProcessSpec, source: io::Error) -> ProcessError {
    let command = spec.command.clone();
    let kind = source.kind();
    if kind == io::ErrorKind::NotFound {
        ProcessError::CommandMissing { command }
    } else if kind == io::ErrorKind::PermissionDenied {
        ProcessError::NotExecutable { command }
    } else {
        ProcessError::Spawn { command, source: Arc::new(source) }
    }
}

/// Waits until it is ready, then until it ends or is to.
async fn run(
    running: &mut Running,
    before: &mut Option<Before>,
    shared: &Shared,
    ctx: &TaskContext,
) -> io::Result<Course> {
    enum Next {
        Ready(Result<(), Arc<str>>),
        Ended(Ended),
        End,
        Leave,
    }
    let spec = &shared.spec;
    let mut is_ready = false;
    loop {
        let next = tokio::select! {
            biased;
            () = shared.to_end() => Next::End,
            () = ctx.stopped() => Next::Leave,
            how = running.ended() => Next::Ended(how?),
            answered = ready(spec), if !is_ready => Next::Ready(answered),
        };
        match next {
            Next::Ready(Ok(())) => {
                is_ready = true;
                if let Some((before, home)) = before.take().zip(spec.home.as_deref()) {
                    before.leaves(home, spec.stop_within);
                }
                shared.set(ProcessState::Ready);
            }
            Next::Ready(Err(why)) => {
                running.kill().await?;
                return Ok(Course::NotReady(why));
            }
            Next::Ended(how) if is_ready => return Ok(Course::Ended(how)),
            Next::Ended(how) => return Ok(Course::EndedBeforeReady(how)),
            Next::Leave if spec.home.is_some() => return Ok(Course::Released),
            Next::End | Next::Leave => {
                shared.set(ProcessState::Stopping);
                let (stopped, left) = tokio::join!(running.stop(spec.stop_within), async {
                    match before.as_mut() {
                        Some(before) => before.running.stop(spec.stop_within).await.map(drop),
                        None => Ok(()),
                    }
                });
                left?;
                if let (Some(_), Some(home)) = (before.take(), &spec.home) {
                    before::forget(home);
                }
                let (how, killed) = stopped?;
                return Ok(Course::Stopped { how, killed });
            }
        }
    }
}

/// Asks until it is ready, or its time is over.
async fn ready(spec: &ProcessSpec) -> Result<(), Arc<str>> {
    let mut why: Arc<str> = "it was never asked".into();
    let asking = async {
        while let Err(said) = spec.probe.ask().await {
            why = said;
            sleep(spec.probe_every).await;
        }
    };
    let in_time = timeout(spec.ready_within, asking).await;
    in_time.map_err(|_| why)
}

#[cfg(test)]
mod tests;
