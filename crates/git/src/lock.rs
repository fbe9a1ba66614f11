//! One lock per repository: among the tasks of this server, and among servers that share a disk.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};

use crate::GitError;

/// Longest pause between two looks at a lock another server holds.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// The locks of all repositories.
#[derive(Default)]
pub(crate) struct Locks(Mutex<HashMap<PathBuf, Arc<Place>>>);

/// The lock of one repository among the tasks of this server.
#[derive(Default)]
struct Place {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How many wait for their turn.
    waiting: watch::Sender<usize>,
}

/// One that waits for its turn, until this is dropped.
struct Waiting<'a>(&'a Place);

/// Held while a mirror is changed. Commands that change it get the lock file as their standard
/// input, so that after a kill -9 of this server the lock goes on until they too have ended.
pub(crate) struct RepoLock {
    file: File,
    place: Arc<Place>,
    _task: OwnedMutexGuard<()>,
}

impl Locks {
    /// Waits for the lock of `mirror`, whose parent directory is made if need be.
    pub(crate) async fn acquire(
        &self,
        mirror: &Path,
        limit: Duration,
    ) -> Result<Arc<RepoLock>, GitError> {
        let place = self.place(mirror);
        let wait = async {
            let waiting = Waiting::new(&place);
            let task = Arc::clone(&place.turn).lock_owned().await;
            drop(waiting);
            let file = lock_file(mirror).await?;
            Ok(RepoLock::new(file, &place, task))
        };
        let timed_out = GitError::TimedOut {
            verb: "lock",
            after: limit,
        };
        tokio::time::timeout(limit, wait)
            .await
            .unwrap_or(Err(timed_out))
    }

    /// Takes the lock of `mirror` if nobody has it, and nobody waits for it.
    pub(crate) fn try_acquire(&self, mirror: &Path) -> Result<Option<Arc<RepoLock>>, GitError> {
        let place = self.place(mirror);
        let Ok(task) = Arc::clone(&place.turn).try_lock_owned() else {
            return Ok(None);
        };
        let (path, file) = open_lock_file(mirror)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(RepoLock::new(file, &place, task))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(GitError::io("lock", path, error)),
        }
    }

    fn place(&self, mirror: &Path) -> Arc<Place> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(mirror.to_owned()).or_default())
    }
}

impl<'a> Waiting<'a> {
    fn new(place: &'a Place) -> Self {
        place.waiting.send_modify(|waiting| *waiting += 1);
        Self(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

impl RepoLock {
    fn new(file: File, place: &Arc<Place>, task: OwnedMutexGuard<()>) -> Arc<Self> {
        Arc::new(Self {
            file,
            place: Arc::clone(place),
            _task: task,
        })
    }

    /// Waits until another task of this server waits for the lock.
    pub(crate) async fn wanted(&self) {
        let mut waiting = self.place.waiting.subscribe();
        // The other end is held by ourselves.
        waiting.wait_for(|waiting| *waiting > 0).await.ok();
    }

    /// Another handle of the lock file; the lock lasts until all of them are closed.
    pub(crate) fn share(&self) -> std::io::Result<File> {
        self.file.try_clone()
    }
}

/// Opens `<mirror>.lock`, which no mirror can be called and which is never removed.
fn open_lock_file(mirror: &Path) -> Result<(PathBuf, File), GitError> {
    let mut name = mirror.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let failed = |what| {
        let path = path.clone();
        move |source| GitError::io(what, path, source)
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed("create the directory of"))?;
    }
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed("open"))?;
    Ok((path, file))
}

async fn lock_file(mirror: &Path) -> Result<File, GitError> {
    let (path, file) = open_lock_file(mirror)?;
    let mut pause = Duration::from_millis(1);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            // Some network file systems have no locks; one server is then safe, two are not.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                tracing::warn!(path = %path.display(), "the file system has no locks");
                return Ok(file);
            }
            Err(TryLockError::Error(error)) => return Err(GitError::io("lock", path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_lock_keeps_other_servers_out_until_every_handle_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = dir.path().join("o/r.git");
        let (one, other) = (Locks::default(), Locks::default());
        let held = one.acquire(&mirror, SHORT).await.unwrap();
        let of_a_child = held.share().unwrap();
        drop(held);
        assert!(other.acquire(&mirror, SHORT).await.is_err());
        drop(of_a_child);
        assert!(other.acquire(&mirror, SHORT).await.is_ok());
    }

    #[tokio::test]
    async fn who_has_the_lock_can_learn_that_another_wants_it() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = dir.path().join("o/r.git");
        let locks = Locks::default();
        let held = locks.try_acquire(&mirror).unwrap().unwrap();
        assert!(locks.try_acquire(&mirror).unwrap().is_none());
        let alone = tokio::time::timeout(Duration::from_millis(20), held.wanted()).await;
        assert!(alone.is_err(), "nobody waits yet");
        let gives_way = async {
            held.wanted().await;
            drop(held);
        };
        let (taken, ()) = tokio::join!(locks.acquire(&mirror, Duration::from_secs(9)), gives_way);
        taken.unwrap();
        assert!(locks.try_acquire(&mirror).unwrap().is_some());
    }

    #[tokio::test]
    async fn repositories_do_not_wait_for_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let locks = Locks::default();
        let _held = locks
            .acquire(&dir.path().join("a.git"), SHORT)
            .await
            .unwrap();
        assert!(
            locks
                .acquire(&dir.path().join("a.git"), SHORT)
                .await
                .is_err()
        );
        assert!(
            locks
                .acquire(&dir.path().join("b.git"), SHORT)
                .await
                .is_ok()
        );
    }
}
