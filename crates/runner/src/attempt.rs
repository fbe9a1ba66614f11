//! The directory of one attempt, by which a restarted server finds its supervisor again.
//!
//! `lock` is held by the supervisor as long as it lives. `supervisor.json` says that the agent may
//! have been started, `exit.json` that all is over; `sock` is for talking to the living.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_domain::{JobId, RunOptions};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::cgroup::Groups;
use crate::limits::Limits;
use crate::processes::{self, Process};
use crate::record::{self, ExitRecord, ProcessId, SupervisorRecord};
use crate::sandbox::remove_all;
use crate::survey::Surveyed;
use crate::tree::Tree;
use crate::{Ladder, RunnerError};

pub(crate) const LOCK: &str = "lock";
pub(crate) const SOCKET: &str = "sock";
pub(crate) const SUPERVISOR: &str = "supervisor.json";
pub(crate) const EXIT: &str = "exit.json";
pub(crate) const STDERR: &str = "supervisor.err";
const MCP_CONFIG: &str = "mcp.json";

/// Longest path a socket's address holds on every system we know.
const SOCKET_PATH_MAX: usize = 100;
/// How long a supervisor may hold its lock without answering.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Names the directory of an attempt.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    folder: PathBuf,
    name: String,
}

/// What has become of an attempt.
pub(crate) enum Found {
    /// The agent was not started and will not be.
    NeverStarted,
    /// The supervisor answers.
    Living(UnixStream, Option<SupervisorRecord>),
    /// The supervisor has ended the run in good order.
    Ended(Box<ExitRecord>),
    /// The supervisor has ended without a record; of its tree only the processes with these
    /// numbers are left, which cannot be ended.
    Lost(Vec<u32>),
}

/// By what the processes of an attempt are known, beside their mark.
pub(crate) struct Traces {
    /// Some of them.
    pub(crate) known: Vec<ProcessId>,
    /// What is in these.
    pub(crate) groups: Groups,
    /// How long their ending may take.
    patience: Duration,
}

impl Traces {
    /// Whether they lead to anything that lives; if not, the groups are removed.
    fn lead_somewhere(&self) -> bool {
        !self.groups.remove() || self.known.iter().any(|id| processes::lives(*id))
    }
}

enum Held {
    /// Held by the caller now.
    Free(File),
    /// Held by a supervisor.
    Busy,
    /// There is nothing to hold.
    Gone,
}

impl Attempt {
    pub(crate) fn new(attempts: &Path, job: JobId, attempt: u32) -> Self {
        let name = format!("{job}.{attempt}");
        Self {
            folder: attempts.join(&name),
            name,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// `<job>.<attempt>`, which marks the agent's environment too.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Makes the directory, in place of one in which nothing was ever started.
    pub(crate) fn create(&self) -> Result<(), RunnerError> {
        let failed = RunnerError::io("cannot make the attempt's directory");
        if let Some(parent) = self.folder.parent() {
            fs::create_dir_all(parent)
                .map_err(RunnerError::io("cannot make the directory of attempts"))?;
        }
        let new_folder = || DirBuilder::new().mode(0o700).create(&self.folder);
        let made = match new_folder() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.clear_unstarted()?;
                new_folder()
            }
            other => other,
        };
        made.map_err(failed)?;
        self.open_new(LOCK)
            .map(drop)
            .map_err(RunnerError::io("cannot make the lock"))
    }

    /// Makes a file in the directory that only its owner may read.
    pub(crate) fn open_new(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(self.folder.join(name))
    }

    /// Writes the MCP servers that the options name for the CLI to read; returns where.
    pub(crate) fn write_mcp_config(
        &self,
        options: &RunOptions,
    ) -> Result<Option<PathBuf>, RunnerError> {
        let Some(servers) = &options.mcp_servers else {
            return Ok(None);
        };
        let written = self
            .open_new(MCP_CONFIG)
            .and_then(|mut file| write!(file, r#"{{"mcpServers":{servers}}}"#));
        written.map_err(RunnerError::io("cannot write the list of MCP servers"))?;
        Ok(Some(self.folder.join(MCP_CONFIG)))
    }

    fn clear_unstarted(&self) -> Result<(), RunnerError> {
        let held = self
            .hold()
            .map_err(RunnerError::io("cannot take the lock"))?;
        if matches!(held, Held::Busy) || self.was_started() {
            return Err(RunnerError::AlreadyStarted);
        }
        self.remove()
    }

    /// Removes the directory and all in it, and the control groups.
    ///
    /// As long as something of the run lives that could not be ended, all of it stays: by it
    /// whoever comes later knows what to try again.
    pub(crate) fn remove(&self) -> Result<(), RunnerError> {
        if self.traces().is_some_and(|traces| traces.lead_somewhere()) {
            return Ok(());
        }
        match remove_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RunnerError::io(
                "cannot remove the attempt's directory",
            )(error)),
            _ => Ok(()),
        }
    }

    /// Finds out what has become of the attempt; what is left of a supervisor that was killed is
    /// ended on the way.
    pub(crate) async fn look(&self) -> Result<Found, RunnerError> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(exit) = self.exit()? {
                return Ok(Found::Ended(Box::new(exit)));
            }
            match self
                .hold()
                .map_err(RunnerError::io("cannot take the lock"))?
            {
                Held::Gone => return Ok(Found::NeverStarted),
                Held::Free(lock) => return self.settle(lock).await,
                Held::Busy => {
                    if let Ok(stream) = self.connect().await {
                        return Ok(Found::Living(stream, self.record()));
                    }
                }
            }
            // It is between taking the lock and listening, or between closing and its end.
            if Instant::now() >= deadline {
                return Err(RunnerError::Unreachable);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Decides about an attempt that nobody holds. Holding `lock` meanwhile keeps out a supervisor
    /// that was started by a server now dead and has not come to its first act yet.
    async fn settle(&self, lock: File) -> Result<Found, RunnerError> {
        if let Some(exit) = self.last_exit()? {
            return Ok(Found::Ended(Box::new(exit)));
        }
        if !self.was_started() {
            self.remove()?;
            return Ok(Found::NeverStarted);
        }
        let left = self.end_orphans().await?;
        drop(lock);
        Ok(Found::Lost(left))
    }

    /// Ends what a supervisor has left behind, and returns what cannot be ended.
    pub(crate) async fn end_orphans(&self) -> Result<Vec<u32>, RunnerError> {
        let Some(traces) = self.traces() else {
            return Ok(Vec::new());
        };
        let mut tree = Tree::orphaned(traces.groups, self.name.clone(), &traces.known);
        let left = tree.end(traces.patience, || None).await;
        let left = left.map_err(RunnerError::io("cannot list the processes"))?;
        tree.groups().remove();
        Ok(left.iter().filter_map(Process::number).collect())
    }

    /// Tries once more to end what could not be ended, and returns what still cannot be.
    pub(crate) async fn end_again(&self, exit: &ExitRecord) -> Result<Vec<u32>, RunnerError> {
        if exit.end.unkillable.is_empty() {
            return Ok(Vec::new());
        }
        self.end_orphans().await
    }

    /// What can be told at a glance, without asking a supervisor and without ending anything.
    /// Of an attempt that is [`Surveyed::Lost`], processes may be left.
    pub(crate) fn glance(&self) -> Result<Surveyed, RunnerError> {
        let held = self
            .hold()
            .map_err(RunnerError::io("cannot take the lock"))?;
        Ok(match held {
            Held::Gone => Surveyed::NeverStarted,
            Held::Busy => Surveyed::Living,
            // Whoever held the lock is gone, so nothing changes any more.
            Held::Free(_lock) if self.last_exit()?.is_some() => Surveyed::Ended,
            Held::Free(_lock) if self.was_started() => Surveyed::Lost {
                rebooted: self
                    .record()
                    .is_some_and(|record| record.boot != processes::boot()),
            },
            Held::Free(_lock) => {
                self.remove()?;
                Surveyed::NeverStarted
            }
        })
    }

    /// Kills the supervisor itself, if it is the one of the record.
    pub(crate) fn kill_supervisor(&self) {
        if let Some(record) = self.record()
            && record.boot == processes::boot()
        {
            processes::signal(record.supervisor, Signal::KILL);
        }
    }

    /// By what the processes of this attempt are known, should its supervisor be gone; nothing
    /// when the machine was started anew since.
    pub(crate) fn traces(&self) -> Option<Traces> {
        let mut traces = Traces {
            known: Vec::new(),
            // Where the record cannot be read, they have the same name.
            groups: Groups::choose(&self.name, &Limits::EACH),
            patience: Ladder::default().patience,
        };
        if let Some(record) = self.record() {
            if record.boot != processes::boot() {
                return None;
            }
            traces.known.extend(record.agent);
            traces.known.extend(record.strays);
            (traces.groups, traces.patience) = (record.groups, record.patience);
        }
        Some(traces)
    }

    /// Waits until nobody holds the attempt.
    pub(crate) async fn released(&self) {
        // A lock tells nobody that it has come free.
        while matches!(self.hold(), Ok(Held::Busy)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Takes the lock if nobody has it.
    fn hold(&self) -> io::Result<Held> {
        let lock = match File::open(self.folder.join(LOCK)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::Gone),
            Err(error) => return Err(error),
        };
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Held::Free(lock)),
            Err(Errno::WOULDBLOCK) => Ok(Held::Busy),
            Err(error) => Err(error.into()),
        }
    }

    fn was_started(&self) -> bool {
        self.folder.join(SUPERVISOR).exists()
    }

    fn record(&self) -> Option<SupervisorRecord> {
        record::read(&self.folder, SUPERVISOR).ok().flatten()
    }

    pub(crate) fn exit(&self) -> Result<Option<ExitRecord>, RunnerError> {
        record::read(&self.folder, EXIT).map_err(RunnerError::io("cannot read the exit record"))
    }

    /// The exit record of a supervisor that is gone, which may have been its very last act to write
    /// it: all was over then, and to run the agent again would be to pay for it twice.
    fn last_exit(&self) -> Result<Option<ExitRecord>, RunnerError> {
        if self.exit()?.is_none() {
            record::place::<ExitRecord>(&self.folder, EXIT)
                .map_err(RunnerError::io("cannot put the exit record in its place"))?;
        }
        self.exit()
    }

    /// Connects to the supervisor; a path longer than a socket's address takes goes through the
    /// descriptor of its directory.
    pub(crate) async fn connect(&self) -> io::Result<UnixStream> {
        let path = self.folder.join(SOCKET);
        if path.as_os_str().as_bytes().len() <= SOCKET_PATH_MAX {
            return UnixStream::connect(path).await;
        }
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd as _;
            let folder = File::open(&self.folder)?;
            let short = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
            UnixStream::connect(short).await
        }
        #[cfg(not(target_os = "linux"))]
        Err(io::ErrorKind::InvalidFilename.into())
    }

    /// What the supervisor has said on its standard error.
    pub(crate) fn complaint(&self) -> String {
        let text = fs::read(self.folder.join(STDERR)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        crate::text::shortened(text.trim(), 2000)
    }
}
