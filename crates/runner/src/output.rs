//! What becomes of the agent's output: into the log, past the observer, its end kept.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use agent_domain::{Clock, LogStream, RunSummary, Timestamp, Usd};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_process_stream::Item;

use crate::LogLimits;
use crate::framing::{Framer, Lines, Tail};
use crate::log::LogWriter;
use crate::mask::{MaskStream, Masker};
use crate::observer::RunObserver;
use crate::signs::{ApiRetry, Signs};
use crate::socket::Told;

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
    told: watch::Sender<Told>,
    masker: Masker,
    stdout: Framer,
    stderr: Framer,
    stdout_mask: MaskStream,
    stderr_mask: MaskStream,
    lines: Lines,
    observer: RunObserver,
    /// The retry that is told of at present.
    retry: Option<ApiRetry>,
    tail: Tail,
    show_at: Option<Instant>,
    /// Length from which on the agent's output is not kept.
    total_max: u64,
    /// Bytes not kept since that length was reached; `None`: it was not.
    left_out: Option<u64>,
}

impl Output {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        mut log: LogWriter,
        told: watch::Sender<Told>,
        masker: Masker,
        limits: LogLimits,
    ) -> Self {
        log.mark_torn(clock.now());
        told.send_modify(|told| told.length = log.length());
        Self {
            clock,
            log,
            state: State::Open,
            told,
            stdout: Framer::new(LogStream::Stdout, limits.line),
            stderr: Framer::new(LogStream::Stderr, limits.line),
            stdout_mask: MaskStream::new(masker.clone()),
            stderr_mask: MaskStream::new(masker.clone()),
            lines: Lines::default(),
            observer: RunObserver::new(masker.clone()),
            retry: None,
            masker,
            tail: Tail::default(),
            show_at: None,
            total_max: limits.total,
            left_out: None,
        }
    }

    /// Takes in a chunk; it is written by the next [`Output::flush`].
    pub(crate) fn take(&mut self, item: &Item<Bytes>) {
        let at = self.clock.now();
        let chunk = match item {
            Item::Stdout(chunk) => {
                self.lines.feed(chunk, |line| self.observer.line(line));
                self.show_signs(at);
                if self.left_out.is_none() {
                    let out = self.log.pending();
                    self.stdout_mask
                        .feed(chunk, |text| self.stdout.feed(at, text, out));
                }
                chunk
            }
            Item::Stderr(chunk) => {
                let out = self.log.pending();
                self.stderr_mask.feed(chunk, |text| {
                    self.tail.feed(text);
                    if self.left_out.is_none() {
                        self.stderr.feed(at, text, out);
                    }
                });
                chunk
            }
            Item::Done(_) => return,
        };
        match &mut self.left_out {
            Some(left_out) => *left_out += chunk.len() as u64,
            None => self.keep_within_limits(at),
        }
        if !self.stdout.holds_text() && !self.stderr.holds_text() {
            self.show_at = None;
        } else if self.show_at.is_none() {
            self.show_at = Some(Instant::now() + HOLD);
        }
    }

    /// Tells whoever watches the run what has changed about it.
    fn show_signs(&mut self, at: Timestamp) {
        if self.observer.retry() == self.retry.as_ref() {
            return;
        }
        self.retry = self.observer.retry().cloned();
        let held_up = self.retry.as_ref().map(|retry| retry.sentence(at));
        self.told.send_modify(|told| told.signs = Signs { held_up });
    }

    /// Ends the keeping of output when there is as much as may be.
    fn keep_within_limits(&mut self, at: Timestamp) {
        let pending = self.log.pending().len() as u64;
        if self.log.length() + pending < self.total_max {
            return;
        }
        self.stdout.finish(at, self.log.pending());
        self.stderr.finish(at, self.log.pending());
        let text = format!(
            "the log has reached {} bytes: what the agent writes from here on is not kept",
            self.total_max
        );
        self.log.system(at, &text);
        self.left_out = Some(0);
    }

    /// Adds a line of our own.
    pub(crate) fn say(&mut self, text: &str) {
        let text = self.masker.text(text);
        self.log.system(self.clock.now(), &text);
        self.flush();
    }

    /// What the results so far say that the run has cost.
    pub(crate) fn cost(&self) -> Option<Usd> {
        self.observer.cost()
    }

    /// Whether the agent is done; see [`RunObserver::is_done`].
    pub(crate) fn is_done(&self) -> bool {
        self.observer.is_done()
    }

    /// Lets no later result take the place of the last one.
    pub(crate) fn close(&mut self) {
        self.observer.close();
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
        self.told.send_if_modified(|told| {
            let grew = told.length != length;
            told.length = length;
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
        self.end_streams();
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

    /// Takes in what the streams were still held back for.
    fn end_streams(&mut self) {
        let at = self.clock.now();
        self.lines.finish(|line| self.observer.line(line));
        let out = self.log.pending();
        let kept = self.left_out.is_none();
        self.stdout_mask.finish(|text| {
            if kept {
                self.stdout.feed(at, text, out);
            }
        });
        self.stderr_mask.finish(|text| {
            self.tail.feed(text);
            if kept {
                self.stderr.feed(at, text, out);
            }
        });
        self.stdout.finish(at, out);
        self.stderr.finish(at, out);
        if let Some(left_out) = self.left_out {
            let text = format!("{left_out} bytes of output are not kept");
            self.log.system(at, &text);
        }
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
