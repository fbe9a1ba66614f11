//! Sealing logs: when an attempt ends, the length and checksum of its log are stored together with
//! its end.
//!
//! A log that cannot be sealed then, for want of time or because it cannot be read, does not hold up
//! the end of its attempt; it is sealed later by [`catch_up`].
//!
//! Where nobody has told what the attempt has used, since its worker or its supervisor was lost, the
//! log tells that too.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use agent_domain::{
    Job, JobId, LINE_TORN, LogLine, LogSeal, LogStream, RunSummary, State, Timestamp,
};
use agent_storage::Booking;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::engine::Engine;
use crate::error::EngineError;

/// How long the ends of many attempts together wait for their seals.
const MANY_WITHIN: Duration = Duration::from_millis(500);
/// How often it is looked for logs without a seal.
const CATCH_UP_EVERY: Duration = Duration::from_mins(10);
/// Jobs looked at together.
const BATCH: u32 = 50;
/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;
/// What is found out from the logs of attempts that are about to end, by job.
pub(crate) type Seals = HashMap<JobId, Sealed>;

/// What is found out from the log of an attempt.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) attempt: u32,
    pub(crate) seal: LogSeal,
    /// What it says the run has used, where that was not told otherwise.
    pub(crate) booking: Option<Booking>,
}

/// An attempt that is about to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) job: JobId,
    pub(crate) attempt: u32,
    /// Whether its worker has told what it has used.
    pub(crate) is_told: bool,
}

impl Ended {
    /// One that ends without a word of its worker.
    pub(crate) fn untold(job: JobId, attempt: u32) -> Self {
        Self {
            job,
            attempt,
            is_told: false,
        }
    }
}

impl Engine {
    /// Returns the seals of a job's logs with the numbers of their attempts, in order.
    pub async fn seals(&self, id: JobId) -> Result<Vec<(u32, LogSeal)>, EngineError> {
        Ok(self.inner.store.seals(id).await?)
    }

    /// Seals the logs of attempts, as many as there is time for.
    pub(crate) async fn seals_of(&self, attempts: Vec<Ended>) -> Seals {
        if attempts.is_empty() {
            return Seals::new();
        }
        let deadline = (attempts.len() > 1).then(|| Instant::now() + MANY_WITHIN);
        let at = self.inner.clock.now();
        let paths: Vec<_> = attempts
            .into_iter()
            .map(|ended| (ended, self.log_path(ended.job, ended.attempt)))
            .collect();
        let transcript = self.inner.transcript.clone();
        let sealing = move || {
            let in_time = || deadline.is_none_or(|deadline| Instant::now() < deadline);
            let mut seals = Seals::new();
            for (ended, path) in paths {
                if in_time()
                    && let Some(seal) = sealed(&path, at, in_time)
                {
                    let read = || booking(transcript.summary(&path));
                    let sealed = Sealed {
                        attempt: ended.attempt,
                        seal,
                        booking: (!ended.is_told).then(read),
                    };
                    seals.insert(ended.job, sealed);
                }
            }
            seals
        };
        let sealing = tokio::task::spawn_blocking(sealing).await;
        sealing.unwrap_or_default()
    }

    async fn seal_batch(&self, after: i64) -> Result<Option<i64>, EngineError> {
        let jobs = self.inner.store.unsealed(after, BATCH).await?;
        for job in &jobs {
            for attempt in &job.attempts {
                let mut seals = self.seals_of(vec![Ended::untold(job.job, *attempt)]).await;
                if let Some(sealed) = seals.remove(&job.job) {
                    let Sealed {
                        attempt,
                        seal,
                        booking,
                    } = sealed;
                    let store = &self.inner.store;
                    store.seal(job.job, attempt, seal, booking).await?;
                    // What it had reserved is free, as far as it was not spent.
                    self.inner.ready.notify_waiters();
                }
            }
        }
        Ok(jobs.last().map(|job| job.place))
    }
}

/// Seals what ended without a seal, until the engine stops.
pub(crate) async fn catch_up(engine: Engine) {
    loop {
        let mut after = Some(0);
        while let Some(place) = after {
            let batch = tokio::select! {
                () = engine.inner.stop.cancelled() => return,
                batch = engine.seal_batch(place) => batch,
            };
            after = batch.unwrap_or_else(|error| {
                tracing::warn!(%error, "logs not sealed");
                None
            });
        }
        tokio::select! {
            () = engine.inner.stop.cancelled() => return,
            () = engine.inner.unsealed.notified() => {}
            () = tokio::time::sleep(CATCH_UP_EVERY) => {}
        }
    }
}

fn booking(summary: RunSummary) -> Booking {
    Booking {
        session_id: summary.session_id,
        cli_version: summary.cli_version,
        usage: summary.usage,
    }
}

/// Whether the change from `before` to `after` ends an attempt.
pub(crate) fn ends_attempt(before: &Job, after: &Job) -> bool {
    let runs = |job: &Job| matches!(job.state, State::Running { .. });
    runs(before) && !(runs(after) && before.attempt == after.attempt)
}

fn sealed(path: &Path, at: Timestamp, go_on: impl Fn() -> bool) -> Option<LogSeal> {
    match seal_file(path, at, go_on) {
        Ok(seal) => seal,
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "log not sealed; it is tried again");
            None
        }
    }
}

/// Ends a torn last line, makes sure that the log survives a loss of power, and computes its seal;
/// `None` when it was not to go on. A log that is not there is empty.
fn seal_file(path: &Path, at: Timestamp, go_on: impl Fn() -> bool) -> io::Result<Option<LogSeal>> {
    let mut file = match OpenOptions::new().read(true).append(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(LogSeal {
                length: 0,
                sha256: Sha256::digest([]).into(),
            }));
        }
        Err(error) => return Err(error),
    };
    let mut length = file.metadata()?.len();
    // A disk too full to end the line is no reason to leave the log open.
    if is_torn(&mut file, length)? && end_line(&mut file, at).is_ok() {
        length = file.metadata()?.len();
    }
    file.sync_data()?;
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    file.seek(SeekFrom::Start(0))?;
    let mut rest = file.take(length);
    let (mut sha256, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    let mut read = 0;
    while go_on() {
        match rest.read(&mut chunk) {
            Ok(0) => {
                let sha256 = sha256.finalize().into();
                return Ok(Some(LogSeal {
                    length: read,
                    sha256,
                }));
            }
            Ok(count) => {
                sha256.update(&chunk[..count]);
                read += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn is_torn(file: &mut File, length: u64) -> io::Result<bool> {
    if length == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn end_line(file: &mut File, at: Timestamp) -> io::Result<()> {
    let mut text = vec![b'\n'];
    LogLine {
        at,
        stream: LogStream::System,
        partial: false,
        text: LINE_TORN.as_bytes(),
    }
    .write(&mut text);
    file.write_all(&text)
}

/// How far each attempt's log goes, for those that are sealed.
#[derive(Debug, Default)]
pub(crate) struct Lengths(HashMap<u32, u64>);

impl Lengths {
    pub(crate) fn new(seals: &[(u32, LogSeal)]) -> Self {
        Self(seals.iter().map(|(n, seal)| (*n, seal.length)).collect())
    }

    /// Nothing from here on belongs to the log; `None` while it is not sealed.
    pub(crate) fn of(&self, attempt: u32) -> Option<u64> {
        self.0.get(&attempt).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(path: &Path) -> LogSeal {
        let seal = seal_file(path, Timestamp::UNIX_EPOCH, || true);
        seal.unwrap().unwrap()
    }

    #[test]
    fn a_seal_is_the_length_and_the_checksum_other_tools_compute() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let missing = seal(&path);
        assert_eq!((missing.length, missing.sha256_hex().as_str()), (0, empty));
        std::fs::write(&path, "abc\n").unwrap();
        let known = "edeaaff3f1774ad2888673770c6d64097e391bc362d7d6fb34982ddf0efd18cb";
        let found = seal(&path);
        assert_eq!((found.length, found.sha256_hex().as_str()), (4, known));
        std::fs::write(&path, vec![b'\n'; 3 * CHUNK + 1]).unwrap();
        assert_eq!(seal(&path).length, 3 * CHUNK as u64 + 1);
    }

    #[test]
    fn a_torn_last_line_is_ended_and_marked_under_the_seal_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        std::fs::write(&path, "1970-01-01T00:00:00.000000000Z stdout F to").unwrap();
        let first = seal(&path);
        let text = std::fs::read(&path).unwrap();
        assert_eq!(first.length, text.len() as u64);
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        assert!(
            lines[0].ends_with(b" to")
                && lines[1].ends_with(LINE_TORN.as_bytes())
                && lines.len() == 3
        );
        assert_eq!(seal(&path), first);
    }

    #[test]
    fn sealing_can_be_broken_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        std::fs::write(&path, "abc\n").unwrap();
        assert_eq!(
            seal_file(&path, Timestamp::UNIX_EPOCH, || false).unwrap(),
            None
        );
    }
}
