//! The one thread that writes: whatever arrives while the last batch syncs is committed together.

use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior, ffi};
use tokio::sync::{mpsc, oneshot};

use super::DatabaseError;

/// Changes that may wait for the thread.
pub(super) const QUEUE_MAX: usize = 8_192;

/// Changes committed together at most; it bounds how long the first of them waits for the last.
const BATCH_MAX: usize = 256;

/// Hands changes to the writing thread. The thread ends when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Change>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("places", &self.queue.capacity()).finish()
    }
}

impl Writer {
    /// Starts the thread on a connection nobody else uses.
    pub(super) fn start(connection: Connection) -> Result<Self, DatabaseError> {
        let (queue, changes) = mpsc::channel(QUEUE_MAX);
        std::thread::Builder::new()
            .name("database-writer".into())
            .spawn(move || run(connection, changes))
            .map_err(DatabaseError::no_thread)?;
        Ok(Self { queue })
    }

    /// See [`Database::write`](super::Database::write).
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Box::new(Pending { change: Some(change), result: None, reply })).map_err(
            |refused| match refused {
                mpsc::error::TrySendError::Full(_) => DatabaseError::Busy { limit: QUEUE_MAX },
                mpsc::error::TrySendError::Closed(_) => DatabaseError::Stopped,
            },
        )?;
        answer.await.unwrap_or(Err(DatabaseError::Stopped))
    }

    /// Returns when the thread has given the database up; see [`DatabaseError::Stopped`].
    pub(super) async fn stopped(&self) {
        self.queue.closed().await;
    }
}

/// A change with its result type hidden.
trait Change: Send {
    /// Makes the change; the result waits for the commit.
    fn make(&mut self, connection: &Connection) -> Result<(), Arc<rusqlite::Error>>;

    /// Answers the caller: with the result, or with why the batch was not committed.
    fn answer(self: Box<Self>, committed: Result<(), Arc<rusqlite::Error>>);
}

struct Pending<C, T> {
    change: Option<C>,
    result: Option<Result<T, Arc<rusqlite::Error>>>,
    reply: oneshot::Sender<Result<T, DatabaseError>>,
}

impl<T: Send, C: FnOnce(&Connection) -> rusqlite::Result<T> + Send> Change for Pending<C, T> {
    fn make(&mut self, connection: &Connection) -> Result<(), Arc<rusqlite::Error>> {
        let change = self.change.take().expect("a change is made once");
        let result = change(connection).map_err(Arc::new);
        let kept = result.as_ref().map(|_| ()).map_err(Arc::clone);
        self.result = Some(result);
        kept
    }

    fn answer(self: Box<Self>, committed: Result<(), Arc<rusqlite::Error>>) {
        let Self { result, reply, .. } = *self;
        let result = committed.and_then(|()| result.expect("a committed change was made"));
        // The caller may have gone; its change stays.
        let _ = reply.send(result.map_err(DatabaseError::Unavailable));
    }
}

fn run(mut connection: Connection, mut changes: mpsc::Receiver<Box<dyn Change>>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while let Some(first) = changes.blocking_recv() {
        batch.push(first);
        while batch.len() < BATCH_MAX {
            let Ok(next) = changes.try_recv() else { break };
            batch.push(next);
        }
        let committed = commit_together(&mut connection, &mut batch);
        let given_up = committed.as_ref().is_err_and(|error| is_lost_sync(error));
        for change in batch.drain(..) {
            change.answer(committed.clone());
        }
        // After a failed sync the kernel may have dropped the dirty pages: a second sync would report
        // success for data that is gone. Only reading the disk again, after a restart, tells.
        if given_up {
            tracing::error!("a sync of the database failed; it is given up until a restart");
            return;
        }
    }
}

fn commit_together(
    connection: &mut Connection,
    batch: &mut [Box<dyn Change>],
) -> Result<(), Arc<rusqlite::Error>> {
    let mut transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Arc::new)?;
    for change in batch {
        let savepoint = transaction.savepoint().map_err(Arc::new)?;
        match change.make(&savepoint) {
            Ok(()) => savepoint.commit().map_err(Arc::new)?,
            // A full disk may make SQLite roll the whole transaction back by itself; going on would
            // commit the rest of the batch one by one.
            Err(error) if spoils_the_batch(&error) || savepoint.is_autocommit() => return Err(error),
            Err(_) => savepoint.finish().map_err(Arc::new)?,
        }
    }
    transaction.commit().map_err(Arc::new)
}

/// Whether the error is one of the file or the disk, not of this one change.
fn spoils_the_batch(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(failure, _) if failure.code != ffi::ErrorCode::ConstraintViolation)
}

fn is_lost_sync(error: &rusqlite::Error) -> bool {
    let extended = error.sqlite_error().map(|failure| failure.extended_code);
    matches!(extended, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::connect;

    fn writer(directory: &tempfile::TempDir) -> Writer {
        let connection = connect(&directory.path().join("a.db")).unwrap();
        connection.execute_batch("CREATE TABLE note (text TEXT NOT NULL UNIQUE) STRICT").unwrap();
        Writer::start(connection).unwrap()
    }

    fn insert(text: &str) -> impl FnOnce(&Connection) -> rusqlite::Result<usize> + Send + 'static {
        let text = text.to_owned();
        move |connection| connection.execute("INSERT INTO note VALUES (?1)", [&text])
    }

    fn count(directory: &tempfile::TempDir) -> i64 {
        let connection = connect(&directory.path().join("a.db")).unwrap();
        connection.query_row("SELECT count(*) FROM note", [], |row| row.get(0)).unwrap()
    }

    #[tokio::test]
    async fn a_change_that_fails_leaves_the_others_of_its_batch_alone() {
        let directory = tempfile::tempdir().unwrap();
        let writer = writer(&directory);
        let (block, blocked) = std::sync::mpsc::channel::<()>();
        // The first change holds the thread until the other three wait together.
        let first = writer.write(move |_| {
            let _ = blocked.recv();
            Ok(())
        });
        let others = async {
            let together = futures_util::future::join3(
                writer.write(insert("a")),
                writer.write(|connection| {
                    connection.execute("INSERT INTO note VALUES ('half')", [])?;
                    connection.execute("INSERT INTO note VALUES (NULL)", [])
                }),
                writer.write(insert("b")),
            );
            let release = async { block.send(()).unwrap() };
            futures_util::future::join(together, release).await.0
        };
        let (_, (a, failed, b)) = futures_util::future::join(first, others).await;
        assert!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
        assert!(matches!(failed, Err(DatabaseError::Unavailable(_))), "{failed:?}");
        assert_eq!(count(&directory), 2);
    }

    #[tokio::test]
    async fn a_full_disk_refuses_the_batch_and_the_next_one_succeeds_when_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let writer = writer(&directory);
        let set_room = |pages: u32| {
            writer.write(move |connection| {
                connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            })
        };
        set_room(1).await.unwrap();
        let refused = writer.write(insert(&"x".repeat(100_000))).await;
        let Err(DatabaseError::Unavailable(error)) = refused else { panic!("{refused:?}") };
        assert_eq!(error.sqlite_error_code(), Some(ffi::ErrorCode::DiskFull));
        set_room(1_000).await.unwrap();
        writer.write(insert(&"x".repeat(100_000))).await.unwrap();
        assert_eq!(count(&directory), 1);
    }

    #[tokio::test]
    async fn a_change_is_made_even_if_nobody_waits_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let writer = writer(&directory);
        let mut forgotten = Box::pin(writer.write(insert("a")));
        tokio::select! {
            biased;
            result = &mut forgotten => panic!("done before it was polled twice: {result:?}"),
            () = std::future::ready(()) => drop(forgotten),
        }
        writer.write(insert("b")).await.unwrap();
        assert_eq!(count(&directory), 2);
    }
}
