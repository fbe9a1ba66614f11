//! The raw log of a job: all attempts' files in order, addressed by one byte offset over them.
//!
//! A reader holds a cursor and nothing else: it can be slow or go away without anybody noticing. The
//! log of an attempt that has ended is read up to its seal, whatever is behind it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_domain::{Job, JobId, State};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::seal::Lengths;

/// Bytes read at a time: large enough to be fast, small enough for many readers.
const CHUNK: usize = 64 * 1024;
/// Chunks read ahead of a slow reader.
const AHEAD: usize = 4;
/// A follower looks again at least this often, should a hint be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is to be read of a job's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogRange {
    /// Only the log of this attempt, from 1.
    pub attempt: Option<u32>,
    /// Bytes to leave out at the beginning.
    pub offset: u64,
    /// Whether to go on until the job, or the attempt, has ended.
    pub follow: bool,
}

impl LogRange {
    /// Whether nothing will be added any more.
    fn is_over(&self, job: &Job) -> bool {
        let earlier = |attempt| attempt < job.attempt;
        let runs = matches!(job.state, State::Running { .. });
        match self.attempt {
            Some(attempt) => earlier(attempt) || (attempt == job.attempt && !runs),
            None => job.state.ended_at().is_some(),
        }
    }

    /// The last attempt to be read.
    fn last(&self, job: &Job) -> u32 {
        self.attempt.map_or(job.attempt, |n| n.min(job.attempt))
    }
}

/// Where a reader stands: an attempt's file, and an offset in it.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    attempt: u32,
    offset: u64,
}

impl Engine {
    /// Where an attempt's log is.
    pub fn log_path(&self, job: JobId, attempt: u32) -> PathBuf {
        self.inner
            .config
            .logs_dir
            .join(job.to_string())
            .join(format!("{attempt}.log"))
    }

    /// Reads a job's raw log.
    ///
    /// Bytes come in order through a short channel; dropping the receiver ends the reading.
    pub async fn log(
        &self,
        id: JobId,
        range: LogRange,
    ) -> Result<mpsc::Receiver<Result<Bytes, EngineError>>, EngineError> {
        self.job(id).await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let engine = self.clone();
        self.spawn(async move {
            let stopped = engine.inner.stop.clone();
            tokio::select! {
                () = stopped.cancelled() => {}
                result = engine.send_log(id, range, &sender) => {
                    if let Err(error) = result {
                        // Whoever asked may be gone, and then needs no answer.
                        sender.send(Err(error)).await.ok();
                    }
                }
            }
        });
        Ok(receiver)
    }

    async fn send_log(
        &self,
        id: JobId,
        range: LogRange,
        sender: &mpsc::Sender<Result<Bytes, EngineError>>,
    ) -> Result<(), EngineError> {
        let mut watch = self.inner.signals.watch(id);
        let mut cursor = Cursor {
            attempt: range.attempt.unwrap_or(1),
            offset: range.offset,
        };
        loop {
            // The state is read before the file: if it says "ended", the file is complete.
            watch.borrow_and_update();
            let job = self.job(id).await?.job;
            let over = range.is_over(&job);
            let ended = job.state.ended_at().is_some();
            let lengths = Lengths::new(&self.seals(id).await?);
            let last = range.last(&job);
            while let Some(bytes) = self.next_chunk(id, last, &lengths, &mut cursor).await? {
                if sender.send(Ok(bytes)).await.is_err() {
                    return Ok(());
                }
            }
            if over || !range.follow {
                if ended {
                    self.inner.signals.end(id);
                }
                return Ok(());
            }
            tokio::select! {
                () = self.inner.signals.next(id, &mut watch) => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = sender.closed() => return Ok(()),
            }
        }
    }

    /// Returns the next bytes, moving on to the next attempt's file where one is used up.
    async fn next_chunk(
        &self,
        id: JobId,
        attempts: u32,
        lengths: &Lengths,
        cursor: &mut Cursor,
    ) -> Result<Option<Bytes>, EngineError> {
        while cursor.attempt <= attempts {
            let path = self.log_path(id, cursor.attempt);
            let (offset, end) = (cursor.offset, lengths.of(cursor.attempt));
            let read = tokio::task::spawn_blocking(move || read_at(&path, offset, end)).await;
            let (bytes, length) = read
                .map_err(io::Error::other)
                .and_then(|read| read)
                .map_err(EngineError::Log)?;
            if !bytes.is_empty() {
                cursor.offset += bytes.len() as u64;
                return Ok(Some(bytes.into()));
            }
            if cursor.attempt == attempts {
                break;
            }
            *cursor = Cursor {
                attempt: cursor.attempt + 1,
                offset: offset.saturating_sub(length),
            };
        }
        Ok(None)
    }
}

/// Reads a chunk at `offset`, and the log's length: that of the file, but at most `end`. A file that
/// is not there yet is empty.
fn read_at(path: &Path, offset: u64, end: Option<u64>) -> io::Result<(Vec<u8>, u64)> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len().min(end.unwrap_or(u64::MAX));
    if offset >= length {
        return Ok((Vec::new(), length));
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::with_capacity(CHUNK);
    let count = (length - offset).min(CHUNK as u64);
    file.take(count).read_to_end(&mut bytes)?;
    Ok((bytes, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_past_the_end_or_a_missing_file_yields_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        assert_eq!(read_at(&path, 7, None).unwrap(), (vec![], 0));
        std::fs::write(&path, "abcdef").unwrap();
        assert_eq!(read_at(&path, 2, None).unwrap(), (b"cdef".to_vec(), 6));
        assert_eq!(read_at(&path, 6, None).unwrap(), (vec![], 6));
        assert_eq!(read_at(&path, 99, None).unwrap(), (vec![], 6));
    }

    #[test]
    fn nothing_behind_a_seal_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        std::fs::write(&path, "abcdef").unwrap();
        assert_eq!(read_at(&path, 1, Some(4)).unwrap(), (b"bcd".to_vec(), 4));
        assert_eq!(read_at(&path, 4, Some(4)).unwrap(), (vec![], 4));
        assert_eq!(read_at(&path, 5, Some(4)).unwrap(), (vec![], 4));
        assert_eq!(read_at(&path, 0, Some(9)).unwrap().1, 6);
    }
}
