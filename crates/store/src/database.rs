//! One SQLite file: a thread that writes, threads that read, and what can go wrong with it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

mod readers;
mod writer;

use readers::Readers;
use writer::Writer;

/// How long a statement waits for another process that holds the file, such as a backup.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(1);

/// Statements each connection keeps prepared; more than either database has.
const STATEMENTS_KEPT: usize = 64;

/// What a database could not do.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The file cannot be read or written, or the disk is full; nothing of the operation was kept.
    #[error("the database does not answer; free its disk or mend the file, then try again")]
    Unavailable(#[source] Arc<rusqlite::Error>),
    /// The queue of the thread is full.
    #[error("{limit} operations wait for the database already; try again in a moment")]
    Busy {
        /// How many may wait.
        limit: usize,
    },
    /// The thread ended: a sync failed, and what the disk holds is known after a restart only.
    #[error("the database was given up after a failed sync; restart the process")]
    Stopped,
    /// The operating system gave no thread to run it on.
    #[error("no thread for the database; raise the limit of threads of this process")]
    NoThread(#[source] Arc<std::io::Error>),
    /// Another process has the file open.
    #[error("another process works with this database; stop it first, or name another file")]
    Taken,
    /// The claim to the file cannot be laid.
    #[error("{} cannot be written; it is what keeps a second process away", file.display())]
    Claim {
        /// The file beside the database.
        file: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// The file was written by a later version of this program.
    #[error("the database has schema {found}, this program knows up to {known}; use the newer program")]
    Newer {
        /// The schema of the file.
        found: i64,
        /// The newest schema this program knows.
        known: i64,
    },
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(Arc::new(error))
    }
}

impl DatabaseError {
    fn no_thread(error: std::io::Error) -> Self {
        Self::NoThread(Arc::new(error))
    }
}

/// A SQLite file that this process alone works with. Clones share it.
///
/// One thread writes and commits together what arrives while the last commit syncs; two threads read.
///
/// # Units and limits
///
/// 8192 writes and 2048 reads may wait; what exceeds that is [`DatabaseError::Busy`].
#[derive(Debug, Clone)]
pub struct Database {
    writer: Writer,
    readers: Readers,
    _claim: Claim,
}

impl Database {
    /// Opens the file, or makes it with the tables of `schema`; then runs `first` before anybody else reads
    /// or writes.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Taken`] if another process has it, [`DatabaseError::Newer`] if a later version of the
    /// program wrote it, the others if the file or the system does not do its part.
    pub fn open<T>(
        path: &Path,
        schema: &str,
        first: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<(Self, T), DatabaseError> {
        let claim = Claim::lay(path)?;
        let mut connection = connect(path)?;
        migrate(&mut connection, schema)?;
        let first = first(&mut connection)?;
        let (readers, writer) = (Readers::start(path)?, Writer::start(connection)?);
        Ok((Self { writer, readers, _claim: claim }, first))
    }

    /// Makes a change and returns once it is on the disk.
    ///
    /// The change runs in a savepoint of its own: if it returns an error nothing of it is kept, and
    /// those it shares a transaction with do not notice.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Unavailable`] with the change's own error or the disk's, [`DatabaseError::Busy`],
    /// [`DatabaseError::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Once polled, the change is made whether or not anyone still waits for it.
    pub async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        self.writer.write(change).await
    }

    /// Runs a query on the thread with the fewest waiting, and returns its result.
    ///
    /// It sees every change whose write has returned, and cannot write.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not end the query; its result is dropped.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        self.readers.read(query).await
    }

    /// Returns when nothing can be written any more, after a failed sync: the process must end, since only
    /// reading the disk again tells what is on it.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn stopped(&self) {
        self.writer.stopped().await;
    }
}

/// Keeps every other process away from the database for as long as it is held.
///
/// Two processes on one file would each take the other's work for left behind. The system releases the
/// claim of a process that dies.
#[derive(Debug, Clone)]
struct Claim(#[expect(dead_code, reason = "held, not read")] Arc<File>);

impl Claim {
    fn lay(database: &Path) -> Result<Self, DatabaseError> {
        let mut name = database.as_os_str().to_owned();
        name.push(".lock");
        let file = PathBuf::from(name);
        let failed = |source| DatabaseError::Claim { file: file.clone(), source: Arc::new(source) };
        let lock = File::options().create(true).truncate(false).write(true).open(&file).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self(Arc::new(lock))),
            Err(TryLockError::WouldBlock) => Err(DatabaseError::Taken),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// A connection on which a commit is on the disk before it returns.
fn connect(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(LOCK_WAIT_MAX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    Ok(connection)
}

/// Brings a file to `schema`, the first and so far only version of its tables.
fn migrate(connection: &mut Connection, schema: &str) -> Result<(), DatabaseError> {
    const KNOWN: i64 = 1;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        0 => {
            transaction.execute_batch(schema)?;
            transaction.pragma_update(None, "user_version", KNOWN)?;
        }
        KNOWN => {}
        _ => return Err(DatabaseError::Newer { found, known: KNOWN }),
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_has_one_process_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let claim = Claim::lay(&path).unwrap();
        assert!(matches!(Claim::lay(&path), Err(DatabaseError::Taken)));
        drop(claim);
        assert!(Claim::lay(&path).is_ok());
    }

    #[test]
    fn a_file_of_a_later_version_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let mut connection = connect(&directory.path().join("a.db")).unwrap();
        migrate(&mut connection, "CREATE TABLE a (b INTEGER) STRICT").unwrap();
        migrate(&mut connection, "not run a second time").unwrap();
        connection.pragma_update(None, "user_version", 7).unwrap();
        let refused = migrate(&mut connection, "not run");
        assert!(matches!(refused, Err(DatabaseError::Newer { found: 7, known: 1 })));
    }

    #[test]
    fn a_file_that_is_no_database_is_a_typed_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        std::fs::write(&path, "this is a letter to the bank, not a database at all").unwrap();
        assert!(matches!(connect(&path), Err(DatabaseError::Unavailable(_))));
    }
}
