//! Many attempts at once: what has become of them, and the ending of what nobody wants any more.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use agent_domain::JobId;

use crate::attempt::{Attempt, Found};
use crate::run::Run;
use crate::tree::EMPTY_LOOKS;
use crate::{Runner, RunnerError, processes};

/// How long a supervisor may take to kill all it has started and leave, before it is killed itself.
/// Well below what a worker and its coordinator keep clear of the end of a lease.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// What has become of an attempt, as far as a glance tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surveyed {
    /// No agent was started, and none will be.
    NeverStarted,
    /// Its supervisor lives, or something that it has started does.
    Living,
    /// It ended in good order, and its result can be had.
    Ended,
    /// Its supervisor is gone without a result, and so is all that it had started.
    Lost {
        /// The machine was started anew since.
        rebooted: bool,
    },
}

/// An attempt, and what has become of it.
pub type Survey = ((JobId, u32), Surveyed);

impl Runner {
    /// Finds out at once what has become of many attempts; ends nothing.
    ///
    /// One that cannot be looked at counts as living: whoever asks for it alone is told why.
    pub async fn survey(&self, attempts: Vec<(JobId, u32)>) -> Result<Vec<Survey>, RunnerError> {
        let folder = self.config.attempts_dir.clone();
        let looking = move || look_at_all(&folder, attempts);
        awaited(tokio::task::spawn_blocking(looking).await)
    }

    /// Every attempt that has a directory.
    pub async fn attempts(&self) -> Result<Vec<(JobId, u32)>, RunnerError> {
        let folder = self.config.attempts_dir.clone();
        let names = awaited(tokio::task::spawn_blocking(move || names(&folder)).await)?;
        Ok(names.iter().filter_map(|name| parse(name)).collect())
    }

    /// Ends whatever is left of an attempt, and returns what cannot be ended: its supervisor kills
    /// all that it has started; one that does not answer is killed itself.
    pub async fn end(&self, job: JobId, attempt: u32) -> Result<Vec<u32>, RunnerError> {
        let attempt = Attempt::new(&self.config.attempts_dir, job, attempt);
        match attempt.look().await {
            Ok(Found::Living(stream, _)) => {
                let mut run = Run::new(attempt.clone(), Path::new("").into(), Some(stream));
                run.kill().await;
                tokio::time::timeout(LEAVE_WITHIN, run.wait()).await.ok();
            }
            Ok(Found::NeverStarted) => return Ok(Vec::new()),
            Ok(Found::Ended(exit)) => return attempt.end_again(&exit).await,
            Ok(Found::Lost(left)) => return Ok(left),
            Err(RunnerError::Unreachable) => {}
            Err(error) => return Err(error),
        }
        if attempt.exit()?.is_none() && attempt.glance()? == Surveyed::Living {
            tracing::warn!(
                attempt = attempt.name(),
                "killing a supervisor that does not do as it is told"
            );
            attempt.kill_supervisor();
        }
        match attempt.look().await? {
            Found::Living(..) => Err(RunnerError::Unreachable),
            Found::NeverStarted => Ok(Vec::new()),
            Found::Ended(exit) => attempt.end_again(&exit).await,
            Found::Lost(left) => Ok(left),
        }
    }

    /// Reserves the directory of attempts until the answer is dropped; `None` when another process
    /// or task has it.
    pub fn own_attempts(&self) -> io::Result<Option<File>> {
        let folder = &self.config.attempts_dir;
        fs::create_dir_all(folder)?;
        let folder = File::open(folder)?;
        match folder.try_lock() {
            Ok(()) => Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn look_at_all(folder: &Path, attempts: Vec<(JobId, u32)>) -> Result<Vec<Survey>, RunnerError> {
    let there = names(folder)?;
    let mut surveyed = Vec::with_capacity(attempts.len());
    let mut lost = Vec::new();
    for (job, number) in attempts {
        let attempt = Attempt::new(folder, job, number);
        let found = if there.contains(attempt.name()) {
            glance(&attempt)
        } else {
            Surveyed::NeverStarted
        };
        if matches!(found, Surveyed::Lost { .. }) {
            lost.push((surveyed.len(), attempt));
        }
        surveyed.push(((job, number), found));
    }
    for index in leaving_something(&lost)? {
        surveyed[index].1 = Surveyed::Living;
    }
    Ok(surveyed)
}

fn glance(attempt: &Attempt) -> Surveyed {
    attempt.glance().unwrap_or_else(|error| {
        tracing::warn!(attempt = attempt.name(), %error, "cannot be looked at");
        Surveyed::Living
    })
}

/// Those of the lost attempts of which a process may live: the list of processes is read a few
/// times for all of them, not for each.
fn leaving_something(lost: &[(usize, Attempt)]) -> Result<HashSet<usize>, RunnerError> {
    let mut left = HashSet::new();
    let (mut marks, mut known) = (HashMap::new(), HashMap::new());
    for (index, attempt) in lost {
        let Some(traces) = attempt.traces() else {
            continue;
        };
        marks.insert(attempt.name(), *index);
        known.extend(traces.known.into_iter().map(|id| (id, *index)));
        if !traces.groups.members().is_empty() {
            left.insert(*index);
        }
        traces.groups.remove();
    }
    if marks.is_empty() {
        return Ok(left);
    }
    for _ in 0..EMPTY_LOOKS {
        let all = processes::all().map_err(RunnerError::io("cannot list the processes"))?;
        for process in all.iter().filter(|process| !process.dead) {
            let mark = || marks.get(processes::mark_of(process.id.pid)?.as_str());
            left.extend(known.get(&process.id).or_else(mark));
        }
    }
    Ok(left)
}

fn names(folder: &Path) -> Result<HashSet<String>, RunnerError> {
    let failed = RunnerError::io("cannot read the directory of attempts");
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        other => other.map_err(failed)?,
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
    let names: io::Result<Vec<_>> = names.collect();
    let names = names.map_err(RunnerError::io("cannot read the directory of attempts"))?;
    Ok(names.into_iter().flatten().collect())
}

/// What [`Attempt::name`] writes.
fn parse(name: &str) -> Option<(JobId, u32)> {
    let (job, attempt) = name.split_once('.')?;
    Some((job.parse().ok()?, attempt.parse().ok()?))
}

fn awaited<T>(
    joined: Result<Result<T, RunnerError>, tokio::task::JoinError>,
) -> Result<T, RunnerError> {
    joined.unwrap_or_else(|error| Err(RunnerError::io("cannot look at the attempts")(error.into())))
}
