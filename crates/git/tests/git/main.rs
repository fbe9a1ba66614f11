//! The crate against real git: remotes in directories and behind a small HTTP server.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something it needs fails"
)]

mod bed;
mod commits;
mod committed;
mod hostile;
mod http;
mod http_backend;
mod mirrors;
mod owned;
mod pushes;
mod saving;
mod upkeep;
mod workspaces;
mod wounds;
