//! Durable state in SQLite.

mod records;

pub use records::*;
