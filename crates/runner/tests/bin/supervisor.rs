//! A program that does nothing but supervise, and what is first inside a sandbox.

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
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == "inside")
    {
        return agent_runner::inside();
    }
    agent_runner::supervise(Arc::new(SystemClock))
}
