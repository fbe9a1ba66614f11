//! The native API over real sockets, on a real engine and store; only git is played.

mod auth;
mod bad_input;
mod credentials;
mod exchange;
mod once;
mod options;
mod pressure;
mod probes;
mod retention;
mod secrets;
mod shapes;
mod stage;
mod stopping;
mod streams;
mod typed;
mod usage;
