//! A run under way, seen from the server.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_domain::{LogLine, LogStream, RunEnd, RunSummary};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::watch;

use crate::attempt::{Attempt, Found};
use crate::framing::Lines;
use crate::observer::RunObserver;
use crate::signs::Signs;
use crate::{LostRun, RunnerError};

/// How long a supervisor that has written its exit record takes to be gone.
const REAP_WITHIN: Duration = Duration::from_secs(1);

/// A run under way. Dropping it changes nothing about the run: the supervisor goes on, and
/// [`crate::Runner::reconnect`] finds it again.
#[derive(Debug)]
pub struct Run {
    pub(crate) attempt: Attempt,
    pub(crate) log: PathBuf,
    /// `None`: it was over before we could connect.
    pub(crate) stream: Option<UnixStream>,
    pub(crate) supervisor_pid: Option<u32>,
    pub(crate) agent_pid: Option<u32>,
    /// The supervisor's process where it is our child.
    pub(crate) child: Option<Child>,
    growth: watch::Sender<u64>,
    signs: watch::Sender<Option<Signs>>,
    /// The line under way.
    line: Vec<u8>,
}

impl Run {
    pub(crate) fn new(attempt: Attempt, log: PathBuf, stream: Option<UnixStream>) -> Self {
        Self {
            attempt,
            log,
            stream,
            supervisor_pid: None,
            agent_pid: None,
            child: None,
            growth: watch::Sender::new(0),
            signs: watch::Sender::new(None),
            line: Vec::new(),
        }
    }

    /// Waits for the end of the run.
    ///
    /// May be dropped and called again at any time. While it is being awaited, the length of the
    /// log reaches [`Run::log_growth`], and what the run shows [`Run::signs`].
    pub async fn wait(&mut self) -> Result<RunEnd, RunnerError> {
        loop {
            self.follow().await;
            match self.attempt.look().await? {
                Found::Ended(exit) => {
                    self.growth.send_replace(exit.log_length);
                    self.reap().await;
                    return Ok(exit.end);
                }
                Found::Living(stream, _) => self.stream = Some(stream),
                Found::Lost(unkillable) => {
                    self.reap().await;
                    let summary = summary_of(self.log.clone()).await;
                    return Err(RunnerError::Lost(Box::new(LostRun {
                        summary,
                        unkillable,
                    })));
                }
                Found::NeverStarted => {
                    let gone = "the attempt's directory is gone".to_owned();
                    return Err(RunnerError::Supervisor(gone));
                }
            }
        }
    }

    /// Ends the agent in good order: SIGINT, then SIGTERM, then everything is killed. Called
    /// again while that is under way, it kills at once. Returns when the request is sent.
    pub async fn cancel(&self) {
        self.send(b"cancel\n").await;
    }

    /// Kills the agent and all it has started. Returns when the request is sent.
    pub async fn kill(&self) {
        self.send(b"kill\n").await;
    }

    /// The length of the log in bytes, as far as the supervisor has told.
    pub fn log_growth(&self) -> watch::Receiver<u64> {
        self.growth.subscribe()
    }

    /// What the run shows of itself, as far as the supervisor has told; `None` before its first word.
    pub fn signs(&self) -> watch::Receiver<Option<Signs>> {
        self.signs.subscribe()
    }

    /// The supervisor's process number.
    pub fn supervisor_pid(&self) -> Option<u32> {
        self.supervisor_pid
    }

    /// The agent's process number.
    pub fn agent_pid(&self) -> Option<u32> {
        self.agent_pid
    }

    /// Listens until the supervisor closes the connection.
    async fn follow(&mut self) {
        let mut chunk = [0; 256];
        while let Some(stream) = &self.stream {
            if stream.readable().await.is_err() {
                return;
            }
            match stream.try_read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => self.take_lines(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    fn take_lines(&mut self, chunk: &[u8]) {
        for byte in chunk {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            // A supervisor of another version may also say what we do not know.
            if let Ok(length) = serde_json::from_slice::<u64>(&self.line) {
                self.growth.send_replace(length);
            } else if let Ok(signs) = serde_json::from_slice::<Signs>(&self.line) {
                self.signs.send_replace(Some(signs));
            }
            self.line.clear();
        }
    }

    /// A request that cannot be sent has no one to act on it; [`Run::wait`] tells.
    async fn send(&self, mut request: &[u8]) {
        let Some(stream) = &self.stream else {
            return;
        };
        while !request.is_empty() && stream.writable().await.is_ok() {
            match stream.try_write(request) {
                Ok(count) => request = &request[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Waits until the supervisor itself is gone; if that takes long, it is collected later.
    async fn reap(&mut self) {
        let gone = async {
            match &mut self.child {
                Some(child) => drop(child.wait().await),
                None => self.attempt.released().await,
            }
        };
        tokio::time::timeout(REAP_WITHIN, gone).await.ok();
    }
}

/// What the transcript in a log said, for a run whose supervisor could not tell.
pub(crate) async fn summary_of(log: PathBuf) -> RunSummary {
    let read = tokio::task::spawn_blocking(move || read_summary(&log));
    match read.await {
        Ok(Ok(summary)) => summary,
        _ => RunSummary::default(),
    }
}

pub(crate) fn read_summary(log: &Path) -> io::Result<RunSummary> {
    let mut observer = RunObserver::default();
    let mut lines = Lines::default();
    let mut reader = BufReader::new(File::open(log)?);
    let mut entry = Vec::new();
    while reader.read_until(b'\n', &mut entry)? > 0 {
        let line = LogLine::parse(entry.strip_suffix(b"\n").unwrap_or(&entry));
        if let Some(line) = line.filter(|line| line.stream == LogStream::Stdout) {
            lines.feed(line.text, |line| observer.line(line));
            if !line.partial {
                lines.finish(|line| observer.line(line));
            }
        }
        entry.clear();
    }
    Ok(observer.into_summary())
}
