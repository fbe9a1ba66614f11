//! The handle everyone holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use crate::pool::Readers;
use crate::reserve::Reserve;
use crate::writer::Writer;
use crate::{StoreError, open};

/// Where the database is and how it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The file; it and its folder are created if they are not there.
    pub path: PathBuf,
    /// How many reads may go on at once.
    pub readers: u32,
}

/// The durable state of one server. Clones are handles of the same store.
///
/// When the last handle is dropped, writes that were begun are committed and the database is
/// given free; [`Store::close`] does the same without blocking a task.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    reserve: Reserve,
    writer: Writer,
    readers: Readers,
}

impl Store {
    /// Opens the database, creating or upgrading it as need be. Blocks meanwhile.
    ///
    /// Refused while another server has it open, and when a newer version has upgraded it.
    pub fn open(config: StoreConfig) -> Result<Self, StoreError> {
        let StoreConfig { path, readers } = config;
        let opened = match open::open(&path) {
            // What a database needs to be opened at all is little.
            Err(StoreError::DiskFull) if Reserve::of(&path).release() => open::open(&path)?,
            other => other?,
        };
        let readers = Readers::open(&opened.path, readers)?;
        let writer = Writer::start(opened.writer, opened.lock)?;
        let inner = Inner {
            reserve: Reserve::of(&opened.path),
            path: opened.path,
            writer,
            readers,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Commits what was begun, ends the writer and gives the database free. Later writes fail
    /// with [`StoreError::Closed`]; reads still work.
    pub async fn close(&self) {
        let inner = Arc::clone(&self.inner);
        let stopping = tokio::task::spawn_blocking(move || inner.writer.stop());
        if stopping.await.is_err() {
            tracing::error!("closing the store panicked");
        }
    }

    /// Writes something that changes nothing, and so finds out whether writes work.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.write(|conn| {
            let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
            // The same number, but its page is written anew.
            Ok(conn.pragma_update(None, "user_version", version)?)
        })
        .await
    }

    /// Writes a copy of the database as it is now to `target`, which must not exist yet. Neither
    /// readers nor writers wait for it.
    pub async fn backup(&self, target: PathBuf) -> Result<(), StoreError> {
        let path = self.inner.path.clone();
        let copying = tokio::task::spawn_blocking(move || copy(&path, &target));
        copying
            .await
            .map_err(|error| StoreError::Internal(format!("the backup did not end: {error}")))?
    }

    /// Keeps `bytes` of the disk back for the day it is full, in files beside the database: what
    /// becomes of a job is then stored all the same. Makes only what is missing; to be called
    /// again while there is room, for what was given up.
    pub async fn keep_reserve(&self, bytes: u64) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        let filling = tokio::task::spawn_blocking(move || inner.reserve.fill(bytes));
        filling
            .await
            .map_err(|error| StoreError::Internal(format!("the reserve was not made: {error}")))?
    }

    async fn give_up_reserve(&self) -> bool {
        let inner = Arc::clone(&self.inner);
        let giving_up = tokio::task::spawn_blocking(move || inner.reserve.release());
        giving_up.await.unwrap_or(false)
    }

    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.inner.readers.run(read).await
    }

    pub(crate) async fn glance<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.inner.readers.glance(read).await
    }

    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.inner.writer.run(work).await
    }

    pub(crate) async fn write_then<T, F>(
        &self,
        work: F,
        committed: impl FnOnce() + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.inner.writer.run_then(work, committed).await
    }

    /// As [`Store::write`], for what must be stored although the disk is full.
    pub(crate) async fn write_surely<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, StoreError> + Clone + Send + 'static,
    {
        loop {
            match self.write(work.clone()).await {
                Err(StoreError::DiskFull) if self.give_up_reserve().await => {}
                settled => return settled,
            }
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.inner.path)
            .finish_non_exhaustive()
    }
}

fn copy(from: &Path, target: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::io(&target.display().to_string(), &error);
    let name = target
        .to_str()
        .ok_or_else(|| StoreError::Unavailable("the backup's path is not UTF-8".to_owned()))?;
    // Made here, so that it has the right permissions and nothing is ever overwritten.
    let file = open::private()
        .create_new(true)
        .open(target)
        .map_err(failed)?;
    let conn = open::reader(from)?;
    // Of the two files only the new one is written to, but SQLite does not see it that way.
    conn.pragma_update(None, "query_only", false)?;
    conn.execute("VACUUM INTO ?1", [name])?;
    file.sync_all().map_err(failed)
}
