//! Faults that a test orders for the next requests of a fake service.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::http_server::{Answer, Response};

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This answer instead of the real one; nothing is changed.
    Respond(Response),
    /// The connection is closed without an answer; nothing is changed.
    Drop,
    /// The request is carried out, then the connection is closed without an answer.
    DropAfter,
    /// The real answer, this much later.
    Slow(Duration),
    /// No answer at all until the caller gives up or the service ends.
    Hang,
}

impl Fault {
    /// An empty answer with this status.
    pub fn status(status: u16) -> Self {
        Self::Respond(Response::new(status))
    }
}

/// The faults still to come, in order; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<VecDeque<Fault>>>);

impl Faults {
    /// Orders the same fault for `count` more requests.
    pub fn next(&self, count: usize, fault: &Fault) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.extend(std::iter::repeat_n(fault.clone(), count));
    }

    /// Takes back every fault that has not happened yet.
    pub fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// How many ordered faults have not happened yet.
    pub fn pending(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Answers one request: by the next fault where one is due, else by `answer`.
    pub fn apply(&self, answer: impl FnOnce() -> Response) -> Answer {
        let due = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
        match due {
            None => Answer::Respond(answer()),
            Some(Fault::Respond(response)) => Answer::Respond(response),
            Some(Fault::Drop) => Answer::Drop,
            Some(Fault::DropAfter) => {
                answer();
                Answer::Drop
            }
            Some(Fault::Slow(delay)) => {
                std::thread::sleep(delay);
                Answer::Respond(answer())
            }
            Some(Fault::Hang) => Answer::Hang,
        }
    }
}
