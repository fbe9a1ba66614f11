//! Directories of a run's own that stand in for the machine's: made before it, gone after it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Name of the directory below the attempt's.
const FOLDER: &str = "scratch";

/// What stands in for a few directories, on the disk, since a build's caches can be larger than
/// the memory.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// Makes the directories below `parent`, which only the server's user can enter.
    pub(super) fn make(parent: &Path) -> io::Result<Self> {
        let scratch = Self {
            folder: parent.join(FOLDER),
        };
        DirBuilder::new().mode(0o700).create(&scratch.folder)?;
        for (name, mode) in [
            ("home", 0o700),
            ("claude", 0o700),
            ("tmp", 0o1777),
            ("var-tmp", 0o1777),
        ] {
            let path = scratch.path(name);
            fs::create_dir(&path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        fs::write(scratch.path("empty"), "")?;
        Ok(scratch)
    }

    /// `home`, `claude`, `tmp`, `var-tmp`: directories. `empty`: an empty file.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Devices that hold nothing, as inodes of the run's own: where the server is root, the agent
    /// owns the machine's and could close them to everybody. Empty where they cannot be made.
    #[cfg(target_os = "linux")]
    pub(super) fn devices(&self) -> Vec<(PathBuf, &'static str)> {
        const DEVICES: [(&str, u32, u32); 6] = [
            ("/dev/null", 1, 3),
            ("/dev/zero", 1, 5),
            ("/dev/full", 1, 7),
            ("/dev/random", 1, 8),
            ("/dev/urandom", 1, 9),
            ("/dev/tty", 5, 0),
        ];
        if !rustix::process::geteuid().is_root() {
            return Vec::new();
        }
        let make = |(device, major, minor): (&'static str, u32, u32)| {
            let path = self.path(&device.replace('/', "-"));
            let number = rustix::fs::makedev(major, minor);
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            let kind = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, number).ok()?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).ok()?;
            Some((path, device))
        };
        let devices: Option<Vec<_>> = DEVICES.into_iter().map(make).collect();
        let devices = devices.unwrap_or_default();
        // Not on a file system without devices.
        let works = |path: &PathBuf| fs::OpenOptions::new().write(true).open(path).is_ok();
        if devices.first().is_some_and(|(null, _)| works(null)) {
            devices
        } else {
            Vec::new()
        }
    }
}

/// Removes a directory and all in it, also what its owner was not meant to change: a Go module
/// cache, or a directory closed out of spite.
pub(crate) fn remove_all(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(folder);
            fs::remove_dir_all(folder)
        }
        other => other,
    }
}

/// Lets the owner into every directory. Nobody else is at work here any more, so what is looked
/// at is what is changed.
fn open_up(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).ok();
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_directories_are_removed_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let outside = root.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        let folder = root.path().join("gone");
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, folder.join("a/link")).unwrap();
        for name in ["a/b", "a"] {
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o500)).unwrap();
        }
        open_up(&folder);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.join("a/b")), 0o700);
        assert_eq!(mode(&outside), 0o755);
        remove_all(&folder).unwrap();
        assert!(!folder.exists() && outside.join("kept").exists());
    }
}
