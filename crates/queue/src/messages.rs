//! A job's log as messages a person would want to read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use agent_domain::{Job, LogLine, LogStream, Timestamp, TranscriptReader};
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::views::Message;

/// Messages handed over together, at most; fewer when they are large.
const BATCH_MESSAGES: usize = 256;
/// Bytes of text handed over together, about.
const BATCH_BYTES: usize = 256 * 1024;
/// Batches read ahead of a slow reader.
const AHEAD: usize = 2;
/// Longest line that is put together from its pieces; a longer one is shown in several messages.
const LINE_MAX: usize = 16 * 1024 * 1024;
/// Longest entry accepted from a log file; ours are far shorter.
const ENTRY_MAX: u64 = 1024 * 1024;

type Batch = Result<Vec<Message>, EngineError>;

impl Engine {
    /// Reads a job's messages over all attempts in order; with `raw`, every line as it was
    /// written. Memory is bounded whatever the log's size; dropping the receiver ends the reading.
    pub fn messages(&self, job: &Job, raw: bool) -> mpsc::Receiver<Batch> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let files: Vec<_> = (1..=job.attempt)
            .map(|n| (n, self.log_path(job.id, n)))
            .collect();
        let transcript = (!raw).then(|| Arc::clone(&self.inner.transcript));
        self.spawn_blocking(move || {
            for (attempt, path) in files {
                let mut out = Outbox {
                    attempt,
                    batch: Vec::new(),
                    bytes: 0,
                    sender: &sender,
                };
                match read_file(&path, transcript.as_deref(), &mut out) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    // Nobody listens any more.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return,
                    Err(error) => {
                        sender.blocking_send(Err(EngineError::Log(error))).ok();
                        return;
                    }
                }
            }
        });
        receiver
    }
}

struct Outbox<'a> {
    attempt: u32,
    batch: Vec<Message>,
    bytes: usize,
    sender: &'a mpsc::Sender<Batch>,
}

impl Outbox<'_> {
    fn push(&mut self, at: Timestamp, stream: LogStream, text: String) -> io::Result<()> {
        self.bytes += text.len();
        self.batch.push(Message {
            stream,
            attempt: self.attempt,
            at,
            text,
        });
        if self.batch.len() >= BATCH_MESSAGES || self.bytes >= BATCH_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        self.sender
            .blocking_send(Ok(batch))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn read_file(
    path: &Path,
    transcript: Option<&dyn TranscriptReader>,
    out: &mut Outbox<'_>,
) -> io::Result<()> {
    let mut file = BufReader::with_capacity(64 * 1024, File::open(path)?);
    let mut entry = Vec::new();
    let mut open: [Vec<u8>; 3] = Default::default();
    loop {
        entry.clear();
        let read = file
            .by_ref()
            .take(ENTRY_MAX)
            .read_until(b'\n', &mut entry)?;
        if read == 0 {
            break;
        }
        if entry.last() == Some(&b'\n') {
            entry.pop();
        }
        // A torn last entry is still being written; it is whole at the next reading.
        let Some(piece) = LogLine::parse(&entry) else {
            continue;
        };
        let line = &mut open[piece.stream as usize];
        line.extend_from_slice(piece.text);
        if piece.partial && line.len() < LINE_MAX {
            continue;
        }
        let text = String::from_utf8_lossy(line);
        let shown = match transcript {
            Some(reader) if piece.stream == LogStream::Stdout => reader.readable(&text),
            _ => Some(text.into_owned()),
        };
        line.clear();
        if let Some(text) = shown {
            out.push(piece.at, piece.stream, text)?;
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shout;

    impl TranscriptReader for Shout {
        fn readable(&self, line: &str) -> Option<String> {
            (line != "skip").then(|| line.to_uppercase())
        }
    }

    fn read(
        log: &[(LogStream, bool, &[u8])],
        reader: Option<&dyn TranscriptReader>,
    ) -> Vec<(LogStream, String)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        let mut bytes = Vec::new();
        for &(stream, partial, text) in log {
            LogLine {
                at: Timestamp::UNIX_EPOCH,
                stream,
                partial,
                text,
            }
            .write(&mut bytes);
        }
        std::fs::write(&path, bytes).unwrap();
        let (sender, mut receiver) = mpsc::channel(1000);
        let mut out = Outbox {
            attempt: 1,
            batch: Vec::new(),
            bytes: 0,
            sender: &sender,
        };
        read_file(&path, reader, &mut out).unwrap();
        drop(sender);
        std::iter::from_fn(|| receiver.try_recv().ok())
            .flat_map(|batch| batch.unwrap())
            .map(|message| (message.stream, message.text))
            .collect()
    }

    #[test]
    fn pieces_of_a_line_are_joined_per_stream() {
        let log: [(_, _, &[u8]); 4] = [
            (LogStream::Stdout, true, b"out-"),
            (LogStream::Stderr, false, b"err"),
            (LogStream::Stdout, false, b"put"),
            (LogStream::System, false, b"done"),
        ];
        let shown = read(&log, None);
        let texts: Vec<_> = shown.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["err", "out-put", "done"]);
    }

    #[test]
    fn only_the_agents_standard_output_is_made_readable() {
        let log: [(_, _, &[u8]); 3] = [
            (LogStream::Stdout, false, b"a"),
            (LogStream::Stdout, false, b"skip"),
            (LogStream::Stderr, false, b"b \xff"),
        ];
        let shown = read(&log, Some(&Shout));
        assert_eq!(
            shown,
            [
                (LogStream::Stdout, "A".into()),
                (LogStream::Stderr, "b \u{fffd}".into())
            ]
        );
        assert_eq!(read(&log, None).len(), 3);
    }
}
