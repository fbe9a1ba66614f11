//! Durable state in SQLite: clients, jobs, their history, and the callbacks that are to be sent.
//!
//! A method of [`Store`] is one business operation: no transaction, connection or SQL crosses this
//! boundary. Writes go to one writer thread which commits all that wait together; a write is
//! acknowledged after its commit has reached the disk.

mod cells;
mod claim;
mod clients;
mod continued;
mod credentials;
mod dependencies;
mod error;
mod holding;
mod jobs;
mod json_lists;
mod lanes;
mod ledger;
mod lists;
mod once;
mod open;
mod options;
mod outbox;
#[cfg(test)]
mod plans;
mod pool;
mod purse;
mod records;
mod reserve;
mod resume;
mod retention;
mod rows;
mod seals;
mod sql;
mod store;
mod tally;
mod usage;
mod writer;

pub use error::StoreError;
pub use records::*;
pub use store::{Store, StoreConfig};
