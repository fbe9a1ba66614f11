//! The native HTTP API: routes, authentication, and the doors between its JSON and the domain.
//!
//! A handler takes a request apart, makes one call to the engine, and puts the answer together.
//! [`configure`] mounts everything in an actix-web application, alone or below a prefix of an
//! embedder's own; [`serve`] runs it on a listener.

mod auth;
mod body;
mod clients;
mod credentials;
mod event_map;
mod events;
mod history;
mod job_map;
mod jobs;
mod log;
mod map;
mod messages;
mod once;
mod option_map;
mod parse;
mod path;
mod probes;
mod problem;
mod query;
mod routes;
mod server;
mod state;
mod stream;
mod system;
mod trace;
mod unread;
mod usage;

pub use routes::configure;
pub use server::{Api, serve};
pub use state::{ApiConfig, ApiState, Limits};
