//! What the run knows and has said so far, shared between the script and the signal handler.

use std::fs::File;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::args::Output;
use crate::ids::Ids;
use crate::session::Session;

/// Fields of an event, in the order they are written.
pub(crate) type Fields = Vec<(&'static str, Value)>;

/// A tool call that has no result yet.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) id: String,
}

/// Everything that both threads need.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) output: Output,
    pub(crate) verbose: bool,
    pub(crate) ids: Ids,
    pub(crate) session: Session,
    pub(crate) model: String,
    pub(crate) started: Instant,
    /// Pause after every event, to be seen streaming.
    pub(crate) delay: Duration,
    /// Shared by the blocks of one answer of the model.
    pub(crate) message_id: Option<String>,
    /// Tool rounds since the last prompt.
    pub(crate) rounds: u64,
    pub(crate) denials: Vec<Value>,
    /// Results said so far.
    pub(crate) results: u64,
    /// What the next result adds to the cost, in US dollars.
    pub(crate) price: f64,
    /// Windows of the subscription's limit by the script: name, what is used, in how many seconds they reset.
    pub(crate) windows: Vec<(String, f64, i64)>,
    /// Spent by this process.
    pub(crate) spent: f64,
    /// Answers of the model it was charged for, as results count them.
    pub(crate) answers: u64,
    pub(crate) structured: Option<Value>,
    pub(crate) call: Option<Call>,
    /// Leaders of the sessions that tools run in.
    pub(crate) leaders: Vec<i32>,
    /// Asked over standard input to stop the turn.
    pub(crate) interrupted: bool,
    /// The signal handler has taken over; nobody else may say anything more.
    pub(crate) ending: bool,
    pub(crate) ignored: Vec<i32>,
    pub(crate) slowness: Duration,
    /// Gets a copy of everything that is written.
    pub(crate) copy: Option<File>,
    collected: Vec<String>,
    last_result: Option<String>,
    last_text: String,
}

impl State {
    pub(crate) fn new(
        output: Output,
        verbose: bool,
        ids: Ids,
        session: Session,
        model: String,
    ) -> Self {
        Self {
            output,
            verbose,
            ids,
            session,
            model,
            started: Instant::now(),
            delay: Duration::ZERO,
            message_id: None,
            rounds: 0,
            denials: Vec::new(),
            results: 0,
            price: 0.0125,
            windows: Vec::new(),
            spent: 0.0,
            answers: 0,
            structured: None,
            call: None,
            leaders: Vec::new(),
            interrupted: false,
            ending: false,
            ignored: Vec::new(),
            slowness: Duration::ZERO,
            copy: None,
            collected: Vec::new(),
            last_result: None,
            last_text: String::new(),
        }
    }

    /// Says an event, or keeps it for the end where the format has only one object.
    pub(crate) fn emit(&mut self, fields: &Fields) {
        let line = line(fields);
        let is_result = fields
            .iter()
            .any(|(key, value)| *key == "type" && value == "result");
        match self.output {
            Output::StreamJson => self.write(format!("{line}\n").as_bytes()),
            Output::Json if self.verbose => self.collected.push(line.clone()),
            Output::Json | Output::Text => {}
        }
        if is_result {
            self.last_result = Some(line);
        }
    }

    /// The text that text mode prints at the end.
    pub(crate) fn say_at_end(&mut self, text: String) {
        self.last_text = text;
    }

    /// Writes bytes as they are. A reader that has gone away does not stop the run.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        // First, so that nothing can be read that is not in the copy.
        if let Some(copy) = &mut self.copy {
            copy.write_all(bytes).ok();
        }
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).ok();
    }

    /// Prints what the formats that are not a stream print at the end.
    pub(crate) fn finish(&mut self) {
        let text = match self.output {
            Output::StreamJson => return,
            Output::Json if self.verbose => format!("[{}]\n", self.collected.join(",")),
            Output::Json => match &self.last_result {
                Some(result) => format!("{result}\n"),
                None => return,
            },
            Output::Text if self.last_text.is_empty() => return,
            Output::Text => format!("{}\n", self.last_text),
        };
        self.write(text.as_bytes());
    }

    /// The two fields that nearly every event carries.
    pub(crate) fn tail(&mut self) -> [(&'static str, Value); 2] {
        let uuid = self.ids.uuid();
        [
            ("session_id", json!(self.session.id)),
            ("uuid", json!(uuid)),
        ]
    }
}

fn line(fields: &Fields) -> String {
    let pairs: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("\"{key}\":{value}"))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// The state and the wake-up call for whoever pauses.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
        }
    }

    /// For the script: never returns once the signal handler has taken over.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.lock_anyway();
        if !state.ending {
            return state;
        }
        drop(state);
        loop {
            std::thread::park();
        }
    }

    /// For the signal handler.
    pub(crate) fn lock_anyway(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a signal handler that must not wait for a reader of standard output.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, State>> {
        self.state.try_lock().ok()
    }

    /// Asks the script to stop the turn.
    pub(crate) fn interrupt(&self, state: &mut State) {
        state.interrupted = true;
        self.wake.notify_all();
    }

    /// Waits; shorter when the turn is interrupted.
    pub(crate) fn pause(&self, length: Duration) {
        let state = self.lock();
        let still = |state: &mut State| !state.interrupted;
        drop(self.wake.wait_timeout_while(state, length, still));
        // Parks here where a signal handler took over meanwhile.
        drop(self.lock());
    }
}
