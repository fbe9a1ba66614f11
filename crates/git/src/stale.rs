//! Lock files that a killed git has left in a mirror.
//!
//! They are looked at only when one is in the way, and removed only when no git can be holding it:
//! our own gits are kept out by the repository's lock, so what remains is an agent's git in one
//! of the workspaces, which holds a lock for moments.

use std::fs;
use std::future::Future;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::GitError;

/// An unchanged lock file older than this belongs to nobody, if no git is at work either.
const AGE: Duration = Duration::from_secs(5);
/// The same where the system does not tell which processes are at work.
const AGE_UNSEEN: Duration = Duration::from_mins(1);
/// Longest wait for one lock file.
const PATIENCE: Duration = Duration::from_secs(90);
/// Lock files in the way of one operation.
const FILES_MAX: usize = 16;

/// Where lock files may be removed.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// The mirror.
    pub(crate) mirror: PathBuf,
    /// The directory of the repository's workspaces.
    pub(crate) workspaces: PathBuf,
    /// A workspace whose agent has ended: nobody but the caller can be at work there.
    pub(crate) private: Option<Private>,
}

/// The directories of one workspace.
#[derive(Debug, Clone)]
pub(crate) struct Private {
    /// Git's administrative files, in the mirror.
    pub(crate) admin: PathBuf,
    /// The working tree.
    pub(crate) tree: PathBuf,
}

/// Runs `operation`, and again after each stale lock file that stood in its way.
pub(crate) async fn past<T, F>(
    scope: &Scope,
    mut operation: impl FnMut() -> F,
) -> Result<T, GitError>
where
    F: Future<Output = Result<T, GitError>>,
{
    for _ in 0..FILES_MAX {
        match operation().await {
            Err(GitError::Locked { path }) => scope.clear(&path).await?,
            other => return other,
        }
    }
    operation().await
}

/// What tells one lock file from a later one of the same name.
type Mark = (u64, Option<SystemTime>);

impl Scope {
    /// Returns once `path` is gone: by itself, or removed because it is stale.
    async fn clear(&self, path: &Path) -> Result<(), GitError> {
        let locked = || GitError::Locked {
            path: path.to_owned(),
        };
        let file = self.inside(path).ok_or_else(locked)?;
        let private = self.private.as_ref().filter(|private| {
            let admin = private.admin.canonicalize();
            admin.is_ok_and(|admin| file.starts_with(admin))
        });
        let Some(first) = mark(&file) else {
            return Ok(());
        };
        let begun = tokio::time::Instant::now();
        let waited = async {
            while mark(&file) == Some(first) {
                if self.is_stale(&file, private, begun.elapsed()) {
                    tracing::warn!(path = %file.display(), "removing a lock file of a killed git");
                    return fs::remove_file(&file)
                        .or_else(|error| match error.kind() {
                            std::io::ErrorKind::NotFound => Ok(()),
                            _ => Err(error),
                        })
                        .map_err(|source| GitError::io("remove", &file, source));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, waited)
            .await
            .unwrap_or_else(|_| Err(locked()))
    }

    /// The real path of a lock file, if it is one in the mirror.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        let mirror = self.mirror.canonicalize().ok()?;
        let path = mirror.join(path);
        let real = path.parent()?.canonicalize().ok()?.join(path.file_name()?);
        let is_lock = real.extension().is_some_and(|ending| ending == "lock");
        (is_lock && real.starts_with(&mirror)).then_some(real)
    }

    /// Whether a lock file belongs to nobody that has not changed while we have `watched` it.
    fn is_stale(&self, file: &Path, private: Option<&Private>, watched: Duration) -> bool {
        if let Some(Private { admin, tree }) = private {
            return git_at_work(&[admin, tree]) != Some(true);
        }
        let age = fs::symlink_metadata(file)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|at| at.elapsed().ok())
            // One from the future may have been made a moment ago, while our clock was set back.
            .map_or(watched, |age| age.max(watched));
        match git_at_work(&[&self.mirror, &self.workspaces]) {
            Some(true) => false,
            Some(false) => age >= AGE,
            None => age >= AGE_UNSEEN,
        }
    }
}

fn mark(file: &Path) -> Option<Mark> {
    let meta = fs::symlink_metadata(file).ok()?;
    Some((meta.ino(), meta.modified().ok()))
}

/// Whether a living git has its current directory in one of `places`; `None` when the system
/// does not tell.
pub(crate) fn git_at_work(places: &[&Path]) -> Option<bool> {
    any_at_work(places, |dir| {
        fs::read_to_string(dir.join("comm")).is_ok_and(|name| name.starts_with("git"))
    })
}

/// Whether any living process has its current directory in one of `places`; `None` when the
/// system does not tell.
pub(crate) fn at_work(places: &[&Path]) -> Option<bool> {
    any_at_work(places, |_| true)
}

fn any_at_work(places: &[&Path], counts: impl Fn(&Path) -> bool) -> Option<bool> {
    let places: Vec<PathBuf> = places
        .iter()
        .filter_map(|place| place.canonicalize().ok())
        .collect();
    let processes = fs::read_dir("/proc").ok()?;
    fs::read_link("/proc/self/cwd").ok()?;
    Some(processes.flatten().any(|process| {
        let dir = process.path();
        counts(&dir)
            && fs::read_link(dir.join("cwd"))
                .is_ok_and(|cwd| places.iter().any(|place| cwd.starts_with(place)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(dir: &Path) -> Scope {
        fs::create_dir_all(dir.join("m/worktrees/j")).unwrap();
        fs::create_dir_all(dir.join("w")).unwrap();
        Scope {
            mirror: dir.join("m"),
            workspaces: dir.join("w"),
            private: Some(Private {
                admin: dir.join("m/worktrees/j"),
                tree: dir.join("w/j"),
            }),
        }
    }

    fn lock(path: &Path, age: Duration) {
        let file = fs::File::create(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    #[tokio::test]
    async fn an_old_lock_nobody_holds_is_removed_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let scope = scope(dir.path());
        let path = dir.path().join("m/packed-refs.lock");
        lock(&path, Duration::from_mins(10));
        let begun = tokio::time::Instant::now();
        scope.clear(&path).await.unwrap();
        assert!(!path.exists() && begun.elapsed() < AGE);
    }

    #[tokio::test]
    async fn a_young_lock_is_waited_for_also_where_the_clock_was_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let scope = scope(dir.path());
        let path = dir.path().join("m/HEAD.lock");
        for ahead in [Duration::ZERO, Duration::from_hours(2)] {
            lock(&path, Duration::ZERO);
            let file = fs::File::open(&path).unwrap();
            file.set_modified(SystemTime::now() + ahead).unwrap();
            let clear = scope.clear(&path);
            tokio::pin!(clear);
            let soon = tokio::time::timeout(Duration::from_millis(300), &mut clear).await;
            assert!(
                soon.is_err() && path.exists(),
                "removed while it may be alive"
            );
            fs::remove_file(&path).unwrap();
            clear.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_lock_in_an_ended_job_s_own_directory_needs_no_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let scope = scope(dir.path());
        let path = dir.path().join("m/worktrees/j/index.lock");
        lock(&path, Duration::ZERO);
        scope.clear(&path).await.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn files_outside_and_files_that_are_no_locks_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let scope = scope(dir.path());
        for name in ["w/x.lock", "m/config", "m/../x.lock"] {
            let path = dir.path().join(name);
            lock(&path, Duration::from_mins(10));
            assert!(scope.clear(&path).await.is_err(), "{name}");
            assert!(path.exists());
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_git_at_work_in_the_repository_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(git_at_work(&[dir.path()]), Some(false));
        let mut git = std::process::Command::new("git")
            .args(["hash-object", "--stdin"])
            .current_dir(dir.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The system tells us of the start a moment before it knows the new program's name.
        let seen = (0..1000).any(|_| git_at_work(&[dir.path()]) == Some(true));
        drop(git.stdin.take());
        git.wait().unwrap();
        assert!(seen);
        assert_eq!(git_at_work(&[dir.path()]), Some(false));
    }
}
