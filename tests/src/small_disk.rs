//! A real file system of a few mebibytes, to be filled and freed at will.
//!
//! Mounting one takes root on Linux. A test that asks for it where that is not to be had fails and
//! says so: a full disk is not something to be skipped silently.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A small file system, unmounted when dropped, even under processes that still use it.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `mebibytes` at `at`, which is made.
    pub fn mount(at: &Path, mebibytes: u32) -> Result<Self> {
        fs::create_dir_all(at)?;
        let size = format!("size={mebibytes}m,mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "agent-server-test"])
            .arg(at)
            .output()
            .context("cannot run mount")?;
        ensure!(
            mounted.status.success(),
            "this test needs to mount a small file system, which takes root on Linux: {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Ok(Self { at: at.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Bytes that are free.
    pub fn free(&self) -> Result<u64> {
        let found = rustix::fs::statvfs(&self.at)?;
        Ok(found.f_bavail * found.f_frsize)
    }

    /// Takes up room until no more than `left` bytes are free.
    pub fn fill(&self, left: u64) -> Result<()> {
        let mut options = File::options();
        let mut file = options.create(true).append(true).open(self.filler())?;
        let block = vec![0x5a; 64 * 1024];
        loop {
            let over = self.free()?.saturating_sub(left);
            let length = usize::try_from(over).unwrap_or(usize::MAX).min(block.len());
            if length == 0 || file.write_all(&block[..length]).is_err() {
                return Ok(());
            }
        }
    }

    /// Gives back what [`SmallDisk::fill`] took.
    pub fn make_room(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("nothing was filled")
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount")
            .arg("--lazy")
            .arg(&self.at)
            .status()
            .ok();
    }
}
