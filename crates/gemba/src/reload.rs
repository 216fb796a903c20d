//! A child that reads the configuration of a service again: on SIGHUP, and when an operator asks for it.

use std::future::Future;
use std::sync::Arc;

use gemba_core::receipt::{Event, Seq, SettingChange};
pub use gemba_core::reload::{ReloadError, Reloaded};
use gemba_kernel::{ChildSpec, Reply, Stop, TaskContext, task};
use tokio::sync::mpsc;

/// Why in receipts.
const WHY: &str = "the configuration was read again";

/// Operators who may wait for one that was before them.
const WAITING_MAX: usize = 4;

type Asked = (Arc<str>, Reply<Result<Reloaded, ReloadError>>);

/// A child that has `read` read, check and apply the configuration anew, all of it or none, on SIGHUP and when an
/// operator asks for it (`gemba reload`, `POST /api/v1/reload`); one after the other.
///
/// `read` gets why it is read, for the receipts of [`RegulatorHandle::apply`](crate::RegulatorHandle::apply) and its
/// own, and tells the receipts it left. What it refuses is told to whoever asked, in the log, and in a receipt
/// `settings_refused` with the faults.
///
/// # Examples
///
/// ```
/// use gemba::reload::{ReloadError, reload};
/// use gemba::{Node, Plant, PoolSpec, Settings};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder("example");
/// let plant = Plant::builder(node.system()).pool(PoolSpec::new("work")).build()?;
/// let regulator = plant.regulator();
/// let reload = reload(move |_, why| {
///     let regulator = regulator.clone();
///     async move {
///         // Read a file here.
///         let settings = Settings::new().limits(600, 0.2, 0.83);
///         let fault = |error: gemba::ApplyError| ReloadError::Faults(vec![error.to_string().into()]);
///         Ok(vec![regulator.apply(settings, why).await.map_err(fault)?])
///     }
/// });
/// let node = node.child(plant).child(reload).start().await?;
/// let reloaded = node.system().reload("ann").await?;
/// assert_eq!(&*reloaded.changes[0].setting, "limits");
/// # node.stop("done").await?;
/// # Ok(()) }
/// ```
pub fn reload<F, R>(read: F) -> ChildSpec
where
    F: Fn(TaskContext, Arc<str>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Vec<Seq>, ReloadError>> + Send + 'static,
{
    let read = Arc::new(read);
    let body = move |ctx: TaskContext| {
        let read = read.clone();
        async move {
            let (ask, mut asked) = mpsc::channel::<Asked>(WAITING_MAX);
            ctx.system().on_reload(move |by, reply| {
                // With too many before it the request is dropped with its reply, and the operator told to try again.
                let _ = ask.try_send((by, reply));
            });
            let mut hangups = Hangups::listen()?;
            let stopped = ctx.stopped();
            let reloads = async {
                loop {
                    tokio::select! {
                        () = hangups.next() => {
                            let _ = once(&*read, &ctx, WHY.into()).await;
                        }
                        Some((by, reply)) = asked.recv() => {
                            reply.send(once(&*read, &ctx, format!("{WHY}, by {by}").into()).await);
                        }
                    }
                }
            };
            tokio::select! {
                biased;
                () = stopped => {}
                () = reloads => {}
            }
            Ok::<(), Stop>(())
        }
    };
    task("reload", body).into()
}

/// Reads once, and tells how it went.
async fn once<F, R>(read: &F, ctx: &TaskContext, why: Arc<str>) -> Result<Reloaded, ReloadError>
where
    F: Fn(TaskContext, Arc<str>) -> R,
    R: Future<Output = Result<Vec<Seq>, ReloadError>>,
{
    match read(ctx.clone(), why.clone()).await {
        Ok(receipts) => {
            let changes = receipts.iter().flat_map(|receipt| changes(ctx, *receipt)).collect();
            let receipt = receipts.last().copied().unwrap_or_default();
            tracing::info!(%receipt, "configuration reloaded");
            Ok(Reloaded { receipt, changes })
        }
        Err(error) => {
            let faults = error.faults();
            ctx.system().record(None, ctx.path(), Event::settings_refused(&faults, why));
            for fault in &faults {
                tracing::error!(%fault, "configuration not reloaded, the old one stays in force");
            }
            Err(error)
        }
    }
}

/// What a receipt says of settings.
fn changes(ctx: &TaskContext, receipt: Seq) -> Vec<SettingChange> {
    let page = ctx.system().journal().after(Seq(receipt.0.saturating_sub(1)), None, 1);
    match page.receipts.first().map(|found| &found.event) {
        Some(Event::SettingsChanged { changes, .. }) => changes.clone(),
        _ => Vec::new(),
    }
}

/// The signal by which daemons are told to read their configuration again.
struct Hangups(#[cfg(unix)] tokio::signal::unix::Signal);

impl Hangups {
    #[cfg(unix)]
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::hangup())?))
    }

    #[cfg(not(unix))]
    fn listen() -> std::io::Result<Self> {
        Ok(Self())
    }

    /// The next one; for ever where there is none.
    #[cfg_attr(not(unix), expect(clippy::unused_async, reason = "it waits on Unix"))]
    async fn next(&mut self) {
        #[cfg(unix)]
        if self.0.recv().await.is_some() {
            return;
        }
        std::future::pending::<()>().await;
    }
}
