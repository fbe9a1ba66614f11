//! The native API from a caller's side: its wire types and a typed, blocking HTTP client.
//!
//! The wire types are the ones the server itself reads and writes, so a field exists here or it
//! does not exist. Nothing here depends on the server.

mod error;
mod http;
mod log;
mod transport;
pub mod wire;

pub use error::ClientError;
pub use http::{Client, JobQuery, Settings};
pub use log::LogReader;
