//! Connections that only read, shared by everyone who reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::{StoreError, open};

/// Opening a file that the writer has just opened takes no longer, unless it never works.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A pool of reading connections.
pub(crate) struct Readers {
    pool: r2d2::Pool<Reader>,
    /// One permit per connection: readers wait here, as tasks, and not in threads of their own.
    free: Arc<Semaphore>,
}

/// Tells r2d2 how to make and judge connections.
struct Reader {
    path: PathBuf,
}

impl r2d2::ManageConnection for Reader {
    type Connection = Connection;
    type Error = StoreError;

    fn connect(&self) -> Result<Connection, StoreError> {
        open::reader(&self.path)
    }

    fn is_valid(&self, conn: &mut Connection) -> Result<(), StoreError> {
        Ok(conn.execute_batch("SELECT 1")?)
    }

    /// A transaction left open would show its reader the same old state for ever.
    fn has_broken(&self, conn: &mut Connection) -> bool {
        !conn.is_autocommit()
    }
}

impl Readers {
    pub(crate) fn open(path: &Path, count: u32) -> Result<Self, StoreError> {
        let count = count.max(1);
        let pool = r2d2::Pool::builder()
            .max_size(count)
            // The database is a file: a connection neither ages nor goes away.
            .max_lifetime(None)
            .idle_timeout(None)
            .test_on_check_out(false)
            .connection_timeout(CONNECT_TIMEOUT)
            .build(Reader {
                path: path.to_owned(),
            })
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let permits = usize::try_from(count).unwrap_or(1);
        let free = Arc::new(Semaphore::new(permits));
        Ok(Self { pool, free })
    }

    /// Runs `read`, which looks a few rows up by their keys, on the caller's own thread where a
    /// connection is free: handing it to another thread would cost more than the reading.
    pub(crate) async fn glance<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        if let Ok(_permit) = self.free.try_acquire()
            && let Some(conn) = self.pool.try_get()
        {
            return read(&conn);
        }
        self.run(read).await
    }

    /// Runs `read` on a connection, away from the threads that run tasks.
    pub(crate) async fn run<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let pool = self.pool.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let conn = pool
                .get()
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            read(&conn)
        });
        match reading.await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Internal(format!("a read did not end: {error}"))),
        }
    }
}
