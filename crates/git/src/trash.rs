//! Removing directories that may be large, or hard to remove, without ever leaving half of one
//! under its own name.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::GitError;

/// Puts `path` out of the way, to a name of its own beside it that starts with `.removed-`;
/// `None` when there is nothing.
pub(crate) fn set_aside(path: &Path) -> Result<Option<PathBuf>, GitError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for n in 0.. {
        let aside = path.with_file_name(format!(".removed-{name}-{n}"));
        if aside.symlink_metadata().is_ok() {
            continue;
        }
        return match fs::rename(path, &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            // Someone else has just taken the name.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => continue,
            Err(source) => Err(GitError::io("set aside", path, source)),
        };
    }
    Ok(None)
}

/// Deletes everything that was set aside for `path`, in this call or in one cut short.
pub(crate) fn empty(path: &Path) -> Result<(), GitError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let start = format!(".removed-{name}-");
    let Some(entries) = path.parent().and_then(|dir| fs::read_dir(dir).ok()) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&start) {
            delete(&entry.path())?;
        }
    }
    Ok(())
}

/// Deletes a directory and all in it; fine when there is none. Directories without permission to
/// write, such as Go's module cache, are given it first.
pub(crate) fn delete(path: &Path) -> Result<(), GitError> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            fs::remove_file(path).map_err(|source| GitError::io("remove", path, source))
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path);
            match fs::remove_dir_all(path) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    Err(GitError::io("remove", path, source))
                }
                _ => Ok(()),
            }
        }
        Err(source) => Err(GitError::io("remove", path, source)),
    }
}

/// Lets the owner into every directory below `root`; what fails shows when deleting fails.
pub(crate) fn open_up(root: &Path) {
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).ok();
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        dirs.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_is_gone_at_once_and_deleted_later() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        for _ in 0..2 {
            fs::create_dir_all(tree.join("deep/er")).unwrap();
            assert!(set_aside(&tree).unwrap().is_some());
            assert!(!tree.exists());
        }
        assert_eq!(set_aside(&tree).unwrap(), None);
        empty(&tree).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn read_only_directories_are_deleted_too() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("sealed")).unwrap();
        fs::write(tree.join("sealed/file"), "").unwrap();
        fs::set_permissions(tree.join("sealed"), fs::Permissions::from_mode(0o500)).unwrap();
        delete(&tree).unwrap();
        assert!(!tree.exists());
    }
}
