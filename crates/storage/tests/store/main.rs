//! What a store promises, whatever database is under it, and (in `group` and `opening`) what
//! SQLite's promises besides. Only `kit` knows how to open a store.
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod claiming;
mod clients;
mod counters;
mod fairness;
mod group;
mod holding;
mod jobs;
mod kit;
mod ledger;
mod lists;
mod once;
mod opening;
mod outbox;
mod retention;
mod samples;
mod seals;
