//! `agent-admin jobs logs`: a job's log as it grows, through broken connections.

mod entries;

use std::io::{self, Read as _, Write as _};
use std::thread::sleep;
use std::time::{Duration, Instant};

use agent_client::{Client, LogReader};
use agent_domain::{LogStream, TranscriptReader};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::logs::entries::{Entries, Line};
use crate::screen::{self, Screen};
use crate::wait;

/// First pause before a broken connection is made again, doubled up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// What to show of a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Go on until the job has ended.
    pub(crate) follow: bool,
    /// The log file as it is.
    pub(crate) raw: bool,
    /// Where to start.
    pub(crate) offset: u64,
}

/// Prints the log of `job`; `transcript` makes the agent's output readable.
pub(crate) fn run(
    client: &Client,
    screen: &mut Screen,
    transcript: &dyn TranscriptReader,
    job: &str,
    wanted: Wanted,
) -> Result<Exit, Failure> {
    let mut printer = Printer {
        screen,
        transcript,
        raw: wanted.raw,
        entries: Entries::default(),
    };
    let mut offset = wanted.offset;
    let mut pause = PAUSE_MIN;
    let mut heard = Instant::now();
    loop {
        let before = offset;
        let whole = match client.log(job, offset, wanted.follow) {
            Ok(mut log) => {
                let whole = copy(&mut log, &mut printer)?;
                offset = log.offset();
                whole
            }
            Err(error) if wait::may_come_back(&error, heard.elapsed()) => false,
            Err(error) => return Err(error.into()),
        };
        if whole && (!wanted.follow || has_ended(client, job, heard)?) {
            return Ok(Exit::Done);
        }
        if offset > before {
            (pause, heard) = (PAUSE_MIN, Instant::now());
        } else if heard.elapsed() >= wait::AWAY_MAX && !whole {
            return Err(Failure::LogBroken { offset });
        }
        note(&format!("connection lost; going on at byte {offset}"));
        sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Prints until the log ends or its connection breaks; returns whether it ended.
fn copy(log: &mut LogReader, printer: &mut Printer<'_>) -> Result<bool, Failure> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match log.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(count) => printer.print(&buffer[..count])?,
            Err(_) => return Ok(false),
        }
    }
}

/// Whether the job has ended: a server that stops ends its answers in good order too.
fn has_ended(client: &Client, job: &str, heard: Instant) -> Result<bool, Failure> {
    match client.job(job) {
        Ok(details) => Ok(wait::is_ended(&details.status)),
        Err(error) if wait::may_come_back(&error, heard.elapsed()) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A remark that is not part of the log.
fn note(text: &str) {
    writeln!(io::stderr(), "agent-admin: {text}").ok();
}

struct Printer<'a> {
    screen: &'a mut Screen,
    transcript: &'a dyn TranscriptReader,
    raw: bool,
    entries: Entries,
}

/// A line as `--json` prints it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    content: &'a str,
    created_at: String,
}

impl Printer<'_> {
    fn print(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.raw {
            self.screen.bytes(bytes)?;
        } else {
            for line in self.entries.take(bytes) {
                self.line(&line)?;
            }
        }
        // Whoever follows wants to see it now.
        self.screen.flush()
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        let text = match line.stream {
            LogStream::Stdout => self.transcript.readable(&line.text),
            LogStream::Stderr | LogStream::System => Some(line.text.clone()),
        };
        let Some(text) = text else { return Ok(()) };
        if self.screen.is_json() {
            let created_at = agent_domain::iso_millis(line.at);
            let kind = line.stream.as_str();
            return self.screen.json_line(&JsonLine {
                kind,
                content: &text,
                created_at,
            });
        }
        let text = if self.screen.is_terminal() {
            screen::lines(&text)
        } else {
            text
        };
        let text = match line.stream {
            LogStream::Stdout => text,
            other => format!("[{}] {text}", other.as_str()),
        };
        self.screen.bytes(text.as_bytes())?;
        self.screen.bytes(b"\n")
    }
}
