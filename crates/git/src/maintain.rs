//! Keeping mirrors small and quick: their objects packed, their refs in one file.
//!
//! Fetches leave a pack or some loose files each, and nothing is packed behind anyone's back. This
//! is done here, under the repository's lock, while no job has a workspace; whoever wants the lock
//! gets it at once, and the packing is broken off.

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent_domain::{Maintained, RepoSlug};

use crate::leftovers::has_workspaces;
use crate::mirror::{blocking, is_complete};
use crate::{Git, GitError};

/// Its age says when the mirror was seen to last.
const MARKER: &str = "agent-maintained";
/// A little less than a day, as looks come once an hour.
const PAUSE: Duration = Duration::from_hours(23);
/// From so many on, files of one kind are worth packing. Git's own limits for doing so by itself
/// are 6,700 objects and 50 packs; a mirror is read by every job, so it is kept in better order.
const LOOSE_MAX: usize = 2_000;
const PACKS_MAX: usize = 20;
const REFS_MAX: usize = 200;

impl Git {
    /// Packs a mirror if it needs it and nobody needs the mirror.
    pub(crate) async fn maintain_mirror(&self, repo: &RepoSlug) -> Result<Maintained, GitError> {
        let mirror = self.mirror_path(repo);
        let looked_at = mirror.clone();
        if !blocking(move || Ok(is_due(&looked_at))).await? {
            return Ok(Maintained::NotNeeded);
        }
        let Some(lock) = self.inner.locks.try_acquire(&mirror)? else {
            return Ok(Maintained::InUse);
        };
        let (at, workspaces) = (mirror.clone(), self.workspaces_of(repo));
        if blocking(move || Ok(has_workspaces(&at, &workspaces))).await? {
            return Ok(Maintained::InUse);
        }
        self.settle(repo, &lock).await?;
        let packing = self
            .inner
            .program
            .command("gc")
            // Objects nobody refers to stay for two weeks, in a pack of their own.
            .args(["--quiet", "--cruft", "--prune=2.weeks.ago"])
            // We hold the lock: a mark that says otherwise was left by one that was killed.
            .args(["--force"])
            .config("gc.worktreePruneExpire=never")
            // It has time, and others may be at work on the machine.
            .config("pack.threads=1")
            .git_dir(&mirror)
            .under(&lock)
            .run_ok();
        tokio::select! {
            packed = packing => {
                let marker = mirror.join(MARKER);
                // If it failed too: it would do so again an hour from now.
                blocking(move || touch(&marker)).await?;
                packed.map(|_| Maintained::Done)
            }
            // Dropped, it is ended and keeps the lock until it is gone.
            () = lock.wanted() => Ok(Maintained::Interrupted),
        }
    }
}

fn touch(marker: &Path) -> Result<(), GitError> {
    fs::write(marker, "").map_err(|source| GitError::io("write", marker, source))
}

fn is_due(mirror: &Path) -> bool {
    let age = fs::metadata(mirror.join(MARKER))
        .and_then(|meta| meta.modified())
        // One from the future is as old as it needs to be.
        .map_or(Duration::MAX, |at| at.elapsed().unwrap_or(Duration::MAX));
    is_complete(mirror) && age >= PAUSE && is_untidy(mirror)
}

fn is_untidy(mirror: &Path) -> bool {
    let objects = mirror.join("objects");
    let packs = names(&objects.join("pack"));
    let packs = packs.filter(|name| {
        Path::new(name)
            .extension()
            .is_some_and(|ending| ending == "pack")
    });
    packs.take(PACKS_MAX).count() >= PACKS_MAX
        || loose_objects(&objects).take(LOOSE_MAX).count() >= LOOSE_MAX
        || count_files(&mirror.join("refs"), REFS_MAX) >= REFS_MAX
}

fn loose_objects(objects: &Path) -> impl Iterator<Item = String> {
    names(objects)
        .filter(|name| name.len() == 2)
        .flat_map(move |name| names(&objects.join(name)).collect::<Vec<_>>())
}

fn names(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Counts the files below `dir`, up to about `enough`.
fn count_files(dir: &Path, enough: usize) -> usize {
    let mut count = 0;
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop().filter(|_| count < enough) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                _ => count += 1,
            }
        }
    }
    count
}
