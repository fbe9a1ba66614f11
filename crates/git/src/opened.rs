//! Mirrors kept open for the one question that every submission asks: opening a repository costs
//! a dozen files, asking an open one for a ref costs one or two.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::GitError;
use crate::refs::Refs;

/// Device and inode of a directory: a mirror that was removed and cloned again is another one.
type Identity = (u64, u64);

/// The mirrors opened so far. Refs are read from the disk at each question; only what does not
/// change with a fetch is kept.
#[derive(Default)]
pub(crate) struct Opened(Mutex<HashMap<PathBuf, (Identity, gix::ThreadSafeRepository)>>);

impl Opened {
    /// Returns the mirror, opening it unless it is open already. Blocks.
    pub(crate) fn refs(&self, mirror: &Path) -> Result<Refs, GitError> {
        if let Some(refs) = self.already(mirror) {
            return Ok(refs);
        }
        let found = identity(mirror);
        let found = found.map_err(|error| GitError::io("look at", mirror, error))?;
        let repository = Refs::open_shared(mirror)?;
        let refs = Refs::of(&repository);
        self.locked().insert(mirror.to_owned(), (found, repository));
        Ok(refs)
    }

    /// Returns the mirror if it is open already: quick enough not to be called blocking.
    pub(crate) fn already(&self, mirror: &Path) -> Option<Refs> {
        let found = identity(mirror).ok()?;
        let open = self.locked();
        let (known, repository) = open.get(mirror)?;
        (*known == found).then(|| Refs::of(repository))
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<PathBuf, (Identity, gix::ThreadSafeRepository)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn identity(mirror: &Path) -> std::io::Result<Identity> {
    let found = std::fs::metadata(mirror)?;
    Ok((found.dev(), found.ino()))
}
