//! A library in front of libc for `agent-server` and its supervisors: counts the calls that change
//! something, lets one fail or be the process's last, lets the disk fail, sets the clock off.
//!
//! The library is compiled where it is used; a C compiler is there wherever Rust links.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

const SOURCE: &str = include_str!("../shim/shim.c");

// Where the fields of `struct control` are.
const CALLS: u64 = 0;
const AT: u64 = 8;
const ACTION: u64 = 16;
const ERROR: u64 = 24;
const HIT: u64 = 32;
const FAILING: u64 = 40;
const OFFSET: u64 = 48;
const SLOW_FROM: u64 = 56;
const SLOW: u64 = 64;
const WHAT: u64 = 72;
const SIZE: u64 = WHAT + 512;

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It fails with this error number; a start of a process always with `EAGAIN`.
    Fail(i32),
    /// The process that makes it is killed before it.
    KillBefore,
    /// The process that makes it is killed after it.
    KillAfter,
}

/// The compiled library and what it is told.
#[derive(Debug)]
pub struct Shim {
    library: PathBuf,
    path: PathBuf,
    control: File,
}

impl Shim {
    /// Compiles the library into `dir`.
    pub fn install(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let (source, library) = (dir.join("shim.c"), dir.join("shim.so"));
        fs::write(&source, SOURCE)?;
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output()
            .context("a C compiler is needed")?;
        ensure!(
            compiled.status.success(),
            "the shim does not compile: {}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        let path = dir.join("control");
        let control = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        control.set_len(SIZE)?;
        Ok(Self {
            library,
            path,
            control,
        })
    }

    /// What the server's environment needs to hold.
    pub fn environment(&self) -> [(&'static str, OsString); 2] {
        [
            ("LD_PRELOAD", self.library.clone().into()),
            ("AGENT_TESTS_SHIM", self.path.clone().into()),
        ]
    }

    /// Begins to count anew; `action` happens to the `at`th call from now.
    pub fn arm(&self, at: u64, action: Action) -> Result<()> {
        let (number, error) = match action {
            Action::Fail(error) => (1, error),
            Action::KillBefore => (2, 0),
            Action::KillAfter => (3, 0),
        };
        self.disarm()?;
        self.set(ACTION, number)?;
        self.set(ERROR, u64::from(error.unsigned_abs()))?;
        self.control.write_all_at(&[0; 512], WHAT)?;
        self.set(HIT, 0)?;
        self.set(CALLS, 0)?;
        self.set(AT, at)
    }

    /// Lets everything happen as it would.
    pub fn disarm(&self) -> Result<()> {
        self.set(AT, 0)
    }

    /// How many calls there have been since [`Shim::arm`].
    pub fn calls(&self) -> Result<u64> {
        self.get(CALLS)
    }

    /// The call something has happened to, if one was reached.
    pub fn hit(&self) -> Result<Option<String>> {
        if self.get(HIT)? == 0 {
            return Ok(None);
        }
        let mut text = [0; 512];
        self.control.read_exact_at(&mut text, WHAT)?;
        let end = text.iter().position(|byte| *byte == 0);
        let text = &text[..end.unwrap_or(text.len())];
        Ok(Some(String::from_utf8_lossy(text).into_owned()))
    }

    /// Lets every call that needs the disk fail with this error number.
    pub fn fail_disk(&self, error: i32) -> Result<()> {
        self.set(FAILING, u64::from(error.unsigned_abs()))
    }

    /// Ends [`Shim::fail_disk`].
    pub fn heal_disk(&self) -> Result<()> {
        self.set(FAILING, 0)
    }

    /// Sets the time of day off by so many seconds.
    pub fn set_clock_off(&self, seconds: i64) -> Result<()> {
        self.set_signed(OFFSET, seconds.saturating_mul(1_000_000_000))
    }

    /// From now on the time of day loses so much in each second; nothing lets it jump back.
    pub fn slow_clock(&self, lost: Duration) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        self.set_signed(SLOW, 0)?;
        self.set_signed(SLOW_FROM, i64::try_from(now.as_nanos())?)?;
        self.set_signed(SLOW, i64::try_from(lost.as_micros())?)
    }

    fn get(&self, at: u64) -> Result<u64> {
        let mut field = [0; 8];
        self.control.read_exact_at(&mut field, at)?;
        Ok(u64::from_ne_bytes(field))
    }

    // The library maps the file shared, so what is written here it sees at once.
    fn set(&self, at: u64, value: u64) -> Result<()> {
        Ok(self.control.write_all_at(&value.to_ne_bytes(), at)?)
    }

    fn set_signed(&self, at: u64, value: i64) -> Result<()> {
        Ok(self.control.write_all_at(&value.to_ne_bytes(), at)?)
    }
}
