//! A worker with real git, real processes, and a coordinator that answers as told.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod coordinator;
mod giving_up;
mod logins;
mod place;
mod settling;
mod signs;
