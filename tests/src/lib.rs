//! Support for end-to-end tests: the outside world of an agent-server, in miniature.
//!
//! Everything listens on a free port of 127.0.0.1, lives in temporary directories and is gone
//! when its value is dropped. Faults are asked for, never simulated inside the product.
//!
//! - [`repo`]: bare repositories with some history.
//! - [`git_http`], [`git_ssh`]: the same repositories behind a token or a key.
//! - [`git_shim`]: a git that stops where a test wants it to.
//! - [`github`]: pull requests on top of them.
//! - [`callback`]: a receiver of callbacks that checks their signatures.
//! - [`messages_api`]: what the real Claude Code CLI talks to.
//! - [`server`]: an `agent-server` process in a clean environment.
//! - [`small_disk`]: a real file system to be filled.
//! - [`job`]: what is sent to it, and what must not be left of it.
//! - [`shim`]: a library in front of libc, by which any call fails or is the last.
//! - [`http_server`], [`tls`], [`client`], [`fault`], [`process`]: what the others stand on.

pub mod callback;
pub mod client;
pub mod fault;
pub mod git_http;
pub mod git_shim;
pub mod git_ssh;
pub mod github;
pub mod http_server;
pub mod job;
pub mod messages_api;
pub mod process;
pub mod repo;
pub mod server;
pub mod shim;
pub mod small_disk;
pub mod tls;

mod messages_stream;
