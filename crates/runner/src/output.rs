//! What becomes of the agent's output: into the log, past the observer, its end kept.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use agent_domain::{Clock, LogStream, RunSummary};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_process_stream::Item;

use crate::framing::{Framer, Lines, Tail};
use crate::log::LogWriter;
use crate::observer::RunObserver;

/// How much is collected before it is written, while more is coming.
const BATCH: usize = 64 * 1024;
/// How long a piece of a line waits for the rest before readers are shown it.
const HOLD: Duration = Duration::from_secs(1);
/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Whether the log takes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The disk is full; nothing more is read from the agent, so nothing is lost.
    Full {
        retry: Instant,
    },
    /// It will take no more.
    Broken,
}

/// Takes in the agent's output.
pub(crate) struct Output {
    clock: Arc<dyn Clock>,
    log: LogWriter,
    state: State,
    lengths: watch::Sender<u64>,
    stdout: Framer,
    stderr: Framer,
    lines: Lines,
    observer: RunObserver,
    tail: Tail,
    show_at: Option<Instant>,
}

impl Output {
    pub(crate) fn new(clock: Arc<dyn Clock>, log: LogWriter, lengths: watch::Sender<u64>) -> Self {
        lengths.send_replace(log.length());
        Self {
            clock,
            log,
            state: State::Open,
            lengths,
            stdout: Framer::new(LogStream::Stdout),
            stderr: Framer::new(LogStream::Stderr),
            lines: Lines::default(),
            observer: RunObserver::default(),
            tail: Tail::default(),
            show_at: None,
        }
    }

    /// Takes in a chunk; it is written by the next [`Output::flush`].
    pub(crate) fn take(&mut self, item: &Item<Bytes>) {
        let at = self.clock.now();
        match item {
            Item::Stdout(chunk) => {
                self.stdout.feed(at, chunk, self.log.pending());
                self.lines.feed(chunk, |line| self.observer.line(line));
            }
            Item::Stderr(chunk) => {
                self.stderr.feed(at, chunk, self.log.pending());
                self.tail.feed(chunk);
            }
            Item::Done(_) => {}
        }
        if !self.stdout.holds_text() && !self.stderr.holds_text() {
            self.show_at = None;
        } else if self.show_at.is_none() {
            self.show_at = Some(Instant::now() + HOLD);
        }
    }

    /// Adds a line of our own.
    pub(crate) fn say(&mut self, text: &str) {
        self.log.system(self.clock.now(), text);
        self.flush();
    }

    /// Whether enough is collected to be written at once.
    pub(crate) fn is_large(&mut self) -> bool {
        self.log.pending().len() >= BATCH
    }

    /// Whether the agent must wait because the log takes nothing.
    pub(crate) fn is_blocked(&self) -> bool {
        matches!(self.state, State::Full { .. })
    }

    /// When [`Output::tick`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Full { retry } => Some(retry),
            State::Open | State::Broken => self.show_at,
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self) {
        let now = Instant::now();
        if self.show_at.is_some_and(|at| at <= now) && !self.is_blocked() {
            self.show_at = None;
            let at = self.clock.now();
            self.stdout.show(at, self.log.pending());
            self.stderr.show(at, self.log.pending());
            self.flush();
        }
        if matches!(self.state, State::Full { retry } if retry <= now) {
            self.flush();
        }
    }

    /// Writes what was collected, so that readers see it.
    pub(crate) fn flush(&mut self) {
        let flushed = match self.state {
            State::Broken => {
                self.log.give_up();
                return;
            }
            State::Open | State::Full { .. } => self.log.flush(),
        };
        self.state = match flushed {
            Ok(_) => State::Open,
            Err(error) => self.state_after(&error),
        };
        let length = self.log.length();
        self.lengths.send_if_modified(|told| {
            let grew = *told != length;
            *told = length;
            grew
        });
    }

    fn state_after(&mut self, error: &io::Error) -> State {
        if is_full(error) {
            return State::Full {
                retry: Instant::now() + RETRY,
            };
        }
        complain(&format!("the log cannot be written: {error}"));
        self.log.give_up();
        State::Broken
    }

    /// Writes out all there is, waiting for room on the disk if need be.
    ///
    /// Returns the log's length, what the transcript said, and the end of standard error.
    pub(crate) async fn finish(mut self) -> (u64, RunSummary, String) {
        let at = self.clock.now();
        self.stdout.finish(at, self.log.pending());
        self.stderr.finish(at, self.log.pending());
        self.lines.finish(|line| self.observer.line(line));
        self.flush();
        while self.is_blocked() {
            tokio::time::sleep(RETRY).await;
            self.flush();
        }
        // A sync that fails cannot be repeated to any effect, and the bytes are with the system.
        if let Err(error) = self.log.sync() {
            complain(&format!("the log cannot be synced: {error}"));
        }
        let length = self.log.length();
        (length, self.observer.into_summary(), self.tail.text())
    }
}

/// Leaves word in the attempt's directory, where the supervisor's standard error goes.
pub(crate) fn complain(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}

/// Whether an error goes away when someone makes room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
