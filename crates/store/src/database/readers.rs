//! Threads that read, each on a connection of its own, while the writer writes.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{DatabaseError, connect};

/// How many threads read.
const THREADS: usize = 2;

/// Queries that may wait for one thread.
const QUEUE_MAX: usize = 1_024;

type Query = Box<dyn FnOnce(&Connection) + Send>;

/// Hands queries to the reading threads. They end when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    queues: Arc<[mpsc::Sender<Query>]>,
}

impl Readers {
    /// Starts the threads on a file whose tables exist.
    pub(super) fn start(path: &Path) -> Result<Self, DatabaseError> {
        let mut queues = Vec::with_capacity(THREADS);
        for _ in 0..THREADS {
            let connection = connect(path)?;
            connection.pragma_update(None, "query_only", "ON")?;
            let (queue, mut queries) = mpsc::channel::<Query>(QUEUE_MAX);
            std::thread::Builder::new()
                .name("database-reader".into())
                .spawn(move || {
                    while let Some(query) = queries.blocking_recv() {
                        query(&connection);
                    }
                })
                .map_err(DatabaseError::no_thread)?;
            queues.push(queue);
        }
        Ok(Self { queues: queues.into() })
    }

    /// See [`Database::read`](super::Database::read).
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let (reply, answer) = oneshot::channel();
        let query: Query = Box::new(move |connection| {
            let _ = reply.send(query(connection));
        });
        let idlest =
            self.queues.iter().filter(|queue| !queue.is_closed()).max_by_key(|queue| queue.capacity());
        let queue = idlest.ok_or(DatabaseError::Stopped)?;
        queue.try_send(query).map_err(|_| DatabaseError::Busy { limit: QUEUE_MAX })?;
        Ok(answer.await.map_err(|_| DatabaseError::Stopped)??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_reads_and_cannot_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        connect(&path)
            .unwrap()
            .execute_batch("CREATE TABLE a (b INTEGER) STRICT; INSERT INTO a VALUES (7)")
            .unwrap();
        let readers = Readers::start(&path).unwrap();
        let seven = readers.read(|c| c.query_row("SELECT b FROM a", [], |row| row.get::<_, i64>(0))).await;
        assert_eq!(seven.unwrap(), 7);
        let refused = readers.read(|c| c.execute("INSERT INTO a VALUES (8)", [])).await;
        assert!(matches!(refused, Err(DatabaseError::Unavailable(_))));
    }
}
