//! bubblewrap's arguments, and how it is given what does not belong on a command line.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::io::FdFlags;

/// Size of what is put over something hidden, in bytes: room for mount points.
const EMPTY_MEMORY: &str = "1048576";

/// bubblewrap's arguments, which it applies in order.
#[derive(Debug, Default)]
pub(super) struct Arguments(Vec<OsString>);

impl Arguments {
    pub(super) fn add<T: AsRef<OsStr>>(&mut self, words: impl IntoIterator<Item = T>) {
        self.0
            .extend(words.into_iter().map(|word| word.as_ref().to_owned()));
    }

    pub(super) fn at(&mut self, option: &str, source: &Path, target: &Path) {
        self.add([option.as_ref(), source.as_os_str(), target.as_os_str()]);
    }

    pub(super) fn bind(&mut self, source: &Path, target: &Path) {
        self.at("--bind", source, target);
    }

    pub(super) fn ro_bind(&mut self, source: &Path, target: &Path) {
        self.at("--ro-bind", source, target);
    }

    fn fixed(&mut self, option: &str, path: &Path) {
        self.add([option.as_ref(), path.as_os_str()]);
    }

    /// As bubblewrap reads them from a file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let words = self.0.iter();
        words
            .flat_map(|word| [word.as_bytes(), b"\0"].concat())
            .collect()
    }

    /// Puts something empty over what is there.
    pub(super) fn hide(&mut self, path: &Path) {
        self.add(["--size", EMPTY_MEMORY]);
        self.fixed("--tmpfs", path);
    }
}

/// A file that exists only for whoever holds it, for bubblewrap to read.
pub(super) fn in_memory(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    {
        use std::io::Seek as _;
        let file = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::empty())?;
        let mut file = File::from(file);
        file.write_all(bytes)?;
        file.rewind()?;
        rustix::io::fcntl_setfd(&file, FdFlags::empty())?;
        Ok(file.into())
    }
    #[cfg(not(target_os = "linux"))]
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!("{name}: a sandbox needs Linux"),
    ))
}
