//! A `git` in front of the real one that stops at one command, so that a test can do something to
//! the server right before or right after it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::process;

/// On which side of a command to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before the real git is started.
    Before,
    /// After the real git has ended.
    After,
}

/// A directory with the shim, to be put in front of the server's PATH.
#[derive(Debug)]
pub struct GitShim {
    dir: PathBuf,
}

const SCRIPT: &str = r#"#!/bin/sh
stop() {
    [ "$stops" = "$1" ] || return 0
    rm -f "DIR/stop-$1-$verb"
    : > "DIR/reached"
    until [ -e "DIR/go" ]; do sleep 0.02; done
}
stops=
for verb in "$@"; do
    if [ -e "DIR/stop-before-$verb" ]; then stops=before; break; fi
    if [ -e "DIR/stop-after-$verb" ]; then stops=after; break; fi
done
stop before
GIT "$@"
code=$?
stop after
exit $code
"#;

impl GitShim {
    /// Writes the shim into `dir`.
    pub fn install(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let git = std::env::split_paths(&path)
            .map(|dir| dir.join("git"))
            .find(|git| git.is_file());
        let git = git.context("git is not on the PATH")?;
        let script = SCRIPT.replace("DIR", &dir.display().to_string());
        let shim = dir.join("git");
        fs::write(&shim, script.replace("GIT", &git.display().to_string()))?;
        fs::set_permissions(&shim, fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// A PATH that finds the shim first.
    pub fn path(&self) -> Result<std::ffi::OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(self.dir.clone()).chain(std::env::split_paths(&path));
        Ok(std::env::join_paths(dirs)?)
    }

    /// Stops the next `git <verb>` on that side.
    pub fn stop(&self, side: Side, verb: &str) -> Result<()> {
        for mark in ["reached", "go"] {
            fs::remove_file(self.dir.join(mark)).ok();
        }
        let side = if side == Side::Before {
            "before"
        } else {
            "after"
        };
        Ok(fs::write(self.dir.join(format!("stop-{side}-{verb}")), "")?)
    }

    /// Waits until a git has stopped.
    pub fn reached(&self) -> Result<()> {
        let reached = self.dir.join("reached");
        let stopped = process::wait_until(Duration::from_secs(60), || reached.exists());
        ensure!(stopped, "no git has stopped");
        Ok(())
    }

    /// Lets the stopped git go on.
    pub fn go(&self) -> Result<()> {
        Ok(fs::write(self.dir.join("go"), "")?)
    }
}
