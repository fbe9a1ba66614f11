//! The raw log of a job: all attempts' files in order, addressed by one byte offset over them.
//!
//! A reader holds a cursor and nothing else: it can be slow or go away without anybody noticing.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_domain::JobId;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::error::EngineError;

/// Bytes read at a time: large enough to be fast, small enough for many readers.
const CHUNK: usize = 64 * 1024;
/// Chunks read ahead of a slow reader.
const AHEAD: usize = 4;
/// A follower looks again at least this often, should a hint be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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

    /// Reads a job's raw log from `offset` on; with `follow`, until the job has ended.
    ///
    /// Bytes come in order through a short channel; dropping the receiver ends the reading.
    pub async fn log(
        &self,
        id: JobId,
        offset: u64,
        follow: bool,
    ) -> Result<mpsc::Receiver<Result<Bytes, EngineError>>, EngineError> {
        self.job(id).await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let engine = self.clone();
        self.spawn(async move {
            let stopped = engine.inner.stop.clone();
            tokio::select! {
                () = stopped.cancelled() => {}
                result = engine.send_log(id, offset, follow, &sender) => {
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
        offset: u64,
        follow: bool,
        sender: &mpsc::Sender<Result<Bytes, EngineError>>,
    ) -> Result<(), EngineError> {
        let mut watch = self.inner.signals.watch(id);
        let mut cursor = Cursor { attempt: 1, offset };
        loop {
            // The state is read before the file: if it says "ended", the file is complete.
            watch.borrow_and_update();
            let job = self.job(id).await?.job;
            let ended = job.state.ended_at().is_some();
            while let Some(bytes) = self.next_chunk(id, job.attempt, &mut cursor).await? {
                if sender.send(Ok(bytes)).await.is_err() {
                    return Ok(());
                }
            }
            if ended || !follow {
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
        cursor: &mut Cursor,
    ) -> Result<Option<Bytes>, EngineError> {
        while cursor.attempt <= attempts {
            let path = self.log_path(id, cursor.attempt);
            let offset = cursor.offset;
            let read = tokio::task::spawn_blocking(move || read_at(&path, offset)).await;
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

/// Reads a chunk at `offset`, and the file's length; a file that is not there yet is empty.
fn read_at(path: &Path, offset: u64) -> io::Result<(Vec<u8>, u64)> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    if offset >= length {
        return Ok((Vec::new(), length));
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::with_capacity(CHUNK);
    file.take(CHUNK as u64).read_to_end(&mut bytes)?;
    Ok((bytes, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_past_the_end_or_a_missing_file_yields_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        assert_eq!(read_at(&path, 7).unwrap(), (vec![], 0));
        std::fs::write(&path, "abcdef").unwrap();
        assert_eq!(read_at(&path, 2).unwrap(), (b"cdef".to_vec(), 6));
        assert_eq!(read_at(&path, 6).unwrap(), (vec![], 6));
        assert_eq!(read_at(&path, 99).unwrap(), (vec![], 6));
    }
}
