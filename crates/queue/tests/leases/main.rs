//! Leases over a real store: what ends them, what does not, and what a restart makes of them.
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod expiry;
mod settling;
mod stage;
