//! Files of the system's configuration that are not for everyone.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Most entries looked at; a directory of configuration has a few thousand.
const ENTRIES_MAX: usize = 100_000;

/// What in a directory others than its owner and group may not read, and so the agent may not,
/// although it has the server's own user id, which may be root's.
#[derive(Debug, Default)]
pub(super) struct Private {
    pub(super) files: Vec<PathBuf>,
    pub(super) folders: Vec<PathBuf>,
}

impl Private {
    /// Looks through all of `root`. A directory that cannot be listed is no concern: the agent
    /// cannot list it either.
    pub(super) fn below(root: &Path) -> io::Result<Self> {
        let mut found = Self::default();
        let mut folders = vec![root.to_owned()];
        let mut left = ENTRIES_MAX;
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                left = left.checked_sub(1).ok_or_else(|| {
                    io::Error::other(format!("{} has too many entries", root.display()))
                })?;
                // Of the entry itself; a link leads to something that is looked at on its own.
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                let path = entry.path();
                let for_all = metadata.permissions().mode() & 0o004 != 0;
                match (metadata.is_dir(), for_all) {
                    (true, true) => folders.push(path),
                    (true, false) => found.folders.push(path),
                    (false, false) if !metadata.is_symlink() => found.files.push(path),
                    (false, _) => {}
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_may_not_read_is_found_and_links_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let mode = |name: &str, mode| {
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        fs::create_dir_all(path("open/deep")).unwrap();
        fs::create_dir_all(path("closed")).unwrap();
        for name in ["open/deep/shadow", "open/passwd", "closed/key"] {
            fs::write(path(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("/nowhere", path("link")).unwrap();
        mode("open/deep/shadow", 0o640);
        mode("closed", 0o710);
        let found = Private::below(root.path()).unwrap();
        assert_eq!(found.files, [path("open/deep/shadow")]);
        assert_eq!(found.folders, [path("closed")]);
    }
}
