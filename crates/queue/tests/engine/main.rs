//! The engine over a real store: what ends leases, what a restart makes of them, and which
//! callbacks are sent when, and what is seen to when a job ends or when those it waits for do.
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod callbacks;
mod caps;
mod credentials;
mod day;
mod dependencies;
mod expiry;
mod leavings;
mod ledger;
mod money;
mod receiver;
mod settling;
mod stage;
mod waiting;
