//! A program that does nothing but supervise.

use std::process::ExitCode;
use std::sync::Arc;

use agent_domain::{Clock, Timestamp};

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

fn main() -> ExitCode {
    agent_runner::supervise(Arc::new(SystemClock))
}
