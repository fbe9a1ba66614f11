//! Runs of shell scripts in the agent's place, each under a supervisor process of its own.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod ending;
mod escapes;
mod hostile;
mod limits;
mod logins;
mod options;
mod output;
mod signs;
mod support;
mod surviving;
mod wall;
