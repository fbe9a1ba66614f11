//! Mirrors kept open for the one question that every submission asks: opening a repository costs
//! a dozen files, asking an open one for a ref costs one or two.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

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
        let found = std::fs::metadata(mirror);
        let found = found.map_err(|error| GitError::io("look at", mirror, error))?;
        let identity = (found.dev(), found.ino());
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, repository)) = open.get(mirror)
            && *known == identity
        {
            return Ok(Refs::of(repository));
        }
        let repository = Refs::open_shared(mirror)?;
        let refs = Refs::of(&repository);
        open.insert(mirror.to_owned(), (identity, repository));
        Ok(refs)
    }
}
