//! A job's run as typed events, page by page.
//!
//! A page ends where a reader can go on, named by the byte offset over the logs of all attempts, the
//! same as [`LogRange::offset`](crate::LogRange): where a line ends and no other has begun. So a
//! reader needs no memory of what it has seen, and a page can be asked for again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_domain::{JobId, LogStream, Timestamp, TranscriptEvent, TranscriptReader};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::lines::{Line, Lines};
use crate::seal::Lengths;

/// Bytes of a log that go into one page, about.
const PAGE_BYTES: u64 = 1024 * 1024;

/// Some of a run's events.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// In order.
    pub events: Vec<LoggedEvent>,
    /// What to ask for next: the offset behind the last of them.
    pub next: u64,
    /// Whether that was all there will ever be.
    pub is_last: bool,
}

/// One event of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedEvent {
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it was written down.
    pub at: Timestamp,
    /// What.
    pub logged: Logged,
}

/// What a line of a log holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Logged {
    /// An event of the agent's transcript.
    Event(TranscriptEvent),
    /// Anything else: what the server says, or other output.
    Line {
        /// Who wrote it.
        stream: LogStream,
        /// The text.
        text: String,
    },
}

/// The log of one attempt.
struct Source {
    attempt: u32,
    path: PathBuf,
    /// How far it goes, where it is sealed.
    end: Option<u64>,
    /// Whether nothing is added to it any more.
    is_whole: bool,
}

impl Engine {
    /// Reads a run's events from the offset `after` on, at least `limit` if there are so many, and
    /// not many more.
    pub async fn events(
        &self,
        id: JobId,
        after: u64,
        limit: usize,
    ) -> Result<EventPage, EngineError> {
        // The state is read before the files: if it says "ended", they are complete.
        let job = self.job(id).await?.job;
        let lengths = Lengths::new(&self.seals(id).await?);
        let has_ended = job.state.ended_at().is_some();
        let sources: Vec<_> = (1..=job.attempt)
            .map(|attempt| Source {
                attempt,
                path: self.log_path(id, attempt),
                end: lengths.of(attempt),
                is_whole: has_ended || attempt < job.attempt,
            })
            .collect();
        let transcript = Arc::clone(&self.inner.transcript);
        let reading = tokio::task::spawn_blocking(move || {
            let mut page = Page::new(after, limit, transcript.as_ref());
            page.read(&sources).map(|()| page.finished(has_ended))
        });
        let page = reading.await.map_err(io::Error::other);
        page.and_then(|page| page).map_err(EngineError::Log)
    }
}

/// A page being made.
struct Page<'a> {
    after: u64,
    limit: usize,
    transcript: &'a dyn TranscriptReader,
    events: Vec<LoggedEvent>,
    /// Where a reader can go on, and how many of the events are before that.
    clean: (u64, usize),
    is_full: bool,
}

impl<'a> Page<'a> {
    fn new(after: u64, limit: usize, transcript: &'a dyn TranscriptReader) -> Self {
        Self {
            after,
            limit,
            transcript,
            events: Vec::new(),
            clean: (after, 0),
            is_full: false,
        }
    }

    fn read(&mut self, sources: &[Source]) -> io::Result<()> {
        let mut begin = 0;
        for source in sources {
            let length = length(&source.path)?.min(source.end.unwrap_or(u64::MAX));
            if self.after < begin + length && !self.is_full {
                self.read_source(source, begin)?;
            }
            begin += length;
        }
        Ok(())
    }

    fn read_source(&mut self, source: &Source, begin: u64) -> io::Result<()> {
        let offset = self.after.saturating_sub(begin);
        let mut lines = Lines::open(&source.path, offset, source.end, source.is_whole)?;
        while let Some(line) = lines.next()? {
            let next = line.next;
            self.add(source.attempt, line);
            if let Some(next) = next {
                self.clean = (begin + next, self.events.len());
                self.is_full = self.events.len() >= self.limit
                    || self.clean.0.saturating_sub(self.after) >= PAGE_BYTES;
            }
            if self.is_full {
                break;
            }
        }
        Ok(())
    }

    fn add(&mut self, attempt: u32, line: Line) {
        let Line {
            at, stream, text, ..
        } = line;
        let of_agent = stream == LogStream::Stdout;
        let events = of_agent.then(|| self.transcript.events(&text)).flatten();
        let logged = match events {
            Some(events) => events.into_iter().map(Logged::Event).collect(),
            None => vec![Logged::Line { stream, text }],
        };
        let events = logged.into_iter().map(|logged| LoggedEvent {
            attempt,
            at,
            logged,
        });
        self.events.extend(events);
    }

    fn finished(mut self, has_ended: bool) -> EventPage {
        // What follows is read again together with what had begun before it.
        self.events.truncate(self.clean.1);
        EventPage {
            events: self.events,
            next: self.clean.0,
            is_last: has_ended && !self.is_full,
        }
    }
}

/// The length of a log; one that is not there is empty.
fn length(path: &Path) -> io::Result<u64> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use agent_domain::{EventContent, LogLine};

    use super::*;

    /// Takes lines that begin with "e" for events, one for each word.
    struct Words;

    impl TranscriptReader for Words {
        fn summary(&self, _: &std::path::Path) -> agent_domain::RunSummary {
            agent_domain::RunSummary::default()
        }

        fn readable(&self, line: &str) -> Option<String> {
            Some(line.to_owned())
        }

        fn events(&self, line: &str) -> Option<Vec<TranscriptEvent>> {
            let event = |word: &str| TranscriptEvent {
                message_id: None,
                parent_call_id: None,
                content: EventContent::Other {
                    kind: word.to_owned(),
                    subtype: None,
                },
            };
            line.starts_with('e')
                .then(|| line.split(' ').map(event).collect())
        }
    }

    type Entry<'a> = (LogStream, bool, &'a str);

    /// Logs of two attempts in a folder.
    fn sources(dir: &Path, logs: &[&[Entry<'_>]], is_whole: bool) -> Vec<Source> {
        let source = |(n, log): (u32, &&[Entry<'_>])| {
            let mut bytes = Vec::new();
            for &(stream, partial, text) in *log {
                let (at, text) = (Timestamp::UNIX_EPOCH, text.as_bytes());
                LogLine {
                    at,
                    stream,
                    partial,
                    text,
                }
                .write(&mut bytes);
            }
            let path = dir.join(format!("{n}.log"));
            std::fs::write(&path, bytes).unwrap();
            Source {
                attempt: n,
                path,
                end: None,
                is_whole: is_whole || (n as usize) < logs.len(),
            }
        };
        (1..).zip(logs).map(source).collect()
    }

    fn page(sources: &[Source], after: u64, limit: usize) -> EventPage {
        let mut page = Page::new(after, limit, &Words);
        page.read(sources).unwrap();
        page.finished(true)
    }

    fn words(page: &EventPage) -> Vec<String> {
        let word = |event: &LoggedEvent| match &event.logged {
            Logged::Event(TranscriptEvent {
                content: EventContent::Other { kind, .. },
                ..
            }) => format!("{} {kind}", event.attempt),
            Logged::Line { stream, text } => {
                format!("{} {}: {text}", event.attempt, stream.as_str())
            }
            Logged::Event(other) => panic!("{other:?}"),
        };
        page.events.iter().map(word).collect()
    }

    const LOGS: [&[Entry<'_>]; 2] = [
        &[
            (LogStream::System, false, "begin"),
            (LogStream::Stdout, false, "e1 e2 e3"),
            (LogStream::Stdout, true, "e4 "),
            (LogStream::Stderr, false, "between"),
            (LogStream::Stdout, false, "e5"),
        ],
        &[
            (LogStream::Stdout, false, "no event"),
            (LogStream::Stdout, false, "e6"),
        ],
    ];
    const ALL: [&str; 9] = [
        "1 system: begin",
        "1 e1",
        "1 e2",
        "1 e3",
        "1 stderr: between",
        "1 e4",
        "1 e5",
        "2 stdout: no event",
        "2 e6",
    ];

    #[test]
    fn pages_of_any_size_together_are_the_whole_run() {
        let dir = tempfile::tempdir().unwrap();
        let sources = sources(dir.path(), &LOGS, true);
        for limit in 1..12 {
            let (mut after, mut seen) = (0, Vec::new());
            loop {
                let page = page(&sources, after, limit);
                seen.extend(words(&page));
                if page.is_last {
                    break;
                }
                assert!(page.next > after, "no progress at {after}");
                after = page.next;
            }
            assert_eq!(seen, ALL, "limit {limit}");
        }
    }

    #[test]
    fn what_is_added_later_comes_with_the_next_page() {
        let dir = tempfile::tempdir().unwrap();
        let begun: &[Entry<'_>] = &LOGS[0][..4];
        let first = page(&sources(dir.path(), &[begun], false), 0, 100);
        // The line of standard error came while the agent's was still being written.
        assert_eq!(words(&first), ALL[..4]);
        let rest = page(&sources(dir.path(), &LOGS, false), first.next, 100);
        assert_eq!(words(&rest), ALL[4..]);
        let nothing = page(&sources(dir.path(), &LOGS, false), rest.next, 100);
        assert_eq!((words(&nothing).len(), nothing.next), (0, rest.next));
    }
}
