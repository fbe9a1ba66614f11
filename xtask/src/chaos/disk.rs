//! A small disk of its own for everything the server writes, which can be filled up.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Its size in bytes.
const SIZE: u64 = 1 << 30;

/// A file system in memory, mounted on a directory. Only root can have one.
#[derive(Debug)]
pub(super) struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one on an empty directory.
    pub(super) fn mount(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)?;
        let size = format!("size={SIZE},mode=755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "agent-server-chaos"]);
        let output = mount.arg(path).output().context("cannot start mount")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", said.trim());
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Leaves no byte free.
    pub(super) fn fill(&self) -> Result<()> {
        let file = File::create(self.ballast())?;
        let mut piece = SIZE;
        let mut at = 0;
        // Smaller and smaller pieces, until not even a page fits.
        while piece >= 4096 {
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), at, piece) {
                Ok(()) => at += piece,
                Err(_) => piece /= 2,
            }
        }
        Ok(())
    }

    /// Gives the room back.
    pub(super) fn free(&self) {
        fs::remove_file(self.ballast()).ok();
    }

    fn ballast(&self) -> PathBuf {
        self.path.join(".ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        unmount.arg("--lazy").arg(&self.path);
        match unmount.status() {
            Ok(status) if status.success() => {}
            other => eprintln!("chaos: {} stays mounted: {other:?}", self.path.display()),
        }
    }
}
