//! A job's log as messages a person would want to read.

use std::io;
use std::path::Path;
use std::sync::Arc;

use agent_domain::{Job, LogStream, Timestamp, TranscriptReader};
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::lines::Lines;
use crate::seal::Lengths;
use crate::views::Message;

/// Messages handed over together, at most; fewer when they are large.
const BATCH_MESSAGES: usize = 256;
/// Bytes of text handed over together, about.
const BATCH_BYTES: usize = 256 * 1024;
/// Batches read ahead of a slow reader.
const AHEAD: usize = 2;

type Batch = Result<Vec<Message>, EngineError>;

impl Engine {
    /// Reads a job's messages over all attempts in order; with `raw`, every line as it was
    /// written. Memory is bounded whatever the log's size; dropping the receiver ends the reading.
    pub async fn messages(
        &self,
        job: &Job,
        raw: bool,
    ) -> Result<mpsc::Receiver<Batch>, EngineError> {
        let lengths = Lengths::new(&self.seals(job.id).await?);
        let (sender, receiver) = mpsc::channel(AHEAD);
        let files: Vec<_> = (1..=job.attempt)
            .map(|n| (n, self.log_path(job.id, n), lengths.of(n)))
            .collect();
        let transcript = (!raw).then(|| Arc::clone(&self.inner.transcript));
        self.spawn_blocking(move || {
            for (attempt, path, end) in files {
                let mut out = Outbox {
                    attempt,
                    batch: Vec::new(),
                    bytes: 0,
                    sender: &sender,
                };
                match read_file(&path, end, transcript.as_deref(), &mut out) {
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
        Ok(receiver)
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

/// Reads a log as far as it is written, or up to `end` where it is sealed.
fn read_file(
    path: &Path,
    end: Option<u64>,
    transcript: Option<&dyn TranscriptReader>,
    out: &mut Outbox<'_>,
) -> io::Result<()> {
    let mut lines = Lines::open(path, 0, end, end.is_some())?;
    while let Some(line) = lines.next()? {
        let shown = match transcript {
            Some(reader) if line.stream == LogStream::Stdout => reader.readable(&line.text),
            _ => Some(line.text),
        };
        if let Some(text) = shown {
            out.push(line.at, line.stream, text)?;
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use agent_domain::{LogLine, TranscriptEvent};

    use super::*;

    struct Shout;

    impl TranscriptReader for Shout {
        fn summary(&self, _: &std::path::Path) -> agent_domain::RunSummary {
            agent_domain::RunSummary::default()
        }

        fn readable(&self, line: &str) -> Option<String> {
            (line != "skip").then(|| line.to_uppercase())
        }

        fn events(&self, _: &str) -> Option<Vec<TranscriptEvent>> {
            None
        }
    }

    fn read(
        log: &[(LogStream, bool, &[u8])],
        reader: Option<&dyn TranscriptReader>,
    ) -> Vec<(LogStream, String)> {
        read_to(None, log, reader)
    }

    fn read_to(
        end: Option<u64>,
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
        read_file(&path, end, reader, &mut out).unwrap();
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
    fn a_line_without_its_end_is_shown_once_its_log_is_sealed_and_nothing_behind_the_seal() {
        let log: [(_, _, &[u8]); 3] = [
            (LogStream::Stdout, true, b"cut "),
            (LogStream::Stdout, true, b"off"),
            (LogStream::System, false, b"stale"),
        ];
        let before_last = 2 * "1970-01-01T00:00:00.000000000Z stdout P \n".len() + 7;
        let shown = read_to(Some(before_last as u64), &log, None);
        assert_eq!(shown, [(LogStream::Stdout, "cut off".into())]);
        let shown = read(&log, None);
        assert_eq!(shown, [(LogStream::System, "stale".into())]);
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_replaced_and_a_character_may_be_cut_between_pieces() {
        let all: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
        let log: [(_, _, &[u8]); 3] = [
            (LogStream::Stdout, true, b"\xf0\x9f"),
            (LogStream::Stdout, false, b"\x98\x80\r\0"),
            (LogStream::Stderr, false, &all),
        ];
        let shown = read(&log, None);
        assert_eq!(shown[0].1, "\u{1f600}\r\0");
        let (ascii, rest) = shown[1].1.split_at(127);
        assert!(ascii.starts_with("\0\u{1}") && ascii.ends_with("~\u{7f}"));
        assert_eq!(rest, "\u{fffd}".repeat(128));
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
