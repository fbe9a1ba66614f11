//! What the API is told once, and what every handler works with.

use std::fmt;
use std::time::Duration;

use agent_domain::Secret;
use agent_queue::Engine;
use tokio_util::sync::CancellationToken;

use crate::auth::TokenDigest;
use crate::once::SealKey;

/// Bounds on what a caller may take of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest body, in bytes. Above the largest prompt with room for JSON's escapes, which make
    /// six bytes of one.
    pub body_bytes: usize,
    /// Longest time a request's head may take to arrive.
    pub head_timeout: Duration,
    /// Longest time a body may take to arrive.
    pub body_timeout: Duration,
    /// Longest time a reader of a streamed answer may take nothing of it.
    pub stall_timeout: Duration,
    /// How long a connection is kept for another request.
    pub keep_alive: Duration,
    /// Connections per thread; more wait to be accepted.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8 * 1024 * 1024,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_mins(1),
            stall_timeout: Duration::from_mins(1),
            // Longer than the minute after which proxies commonly drop idle connections, so that
            // it is they who close and no request meets a closed one.
            keep_alive: Duration::from_secs(75),
            connections: 4096,
        }
    }
}

/// What the API is told once.
#[derive(Clone)]
pub struct ApiConfig {
    /// What it is a face of.
    pub engine: Engine,
    /// The bearer token of every request.
    pub secret: Secret,
    /// Bounds on callers.
    pub limits: Limits,
    /// Threads that answer; `None`: one per processor.
    pub workers: Option<usize>,
}

impl ApiConfig {
    /// Serves `engine` to whoever shows `secret`, with the usual bounds.
    pub fn new(engine: Engine, secret: Secret) -> Self {
        Self {
            engine,
            secret,
            limits: Limits::default(),
            workers: None,
        }
    }
}

impl fmt::Debug for ApiConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiConfig")
            .field("limits", &self.limits)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

/// What every handler works with; cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    pub(crate) engine: Engine,
    pub(crate) token: TokenDigest,
    pub(crate) seal: SealKey,
    pub(crate) limits: Limits,
    pub(crate) stopping: CancellationToken,
}

impl ApiState {
    /// Serves `engine` to whoever shows `secret` as a bearer token.
    pub fn new(engine: Engine, secret: &Secret, limits: Limits) -> Self {
        Self {
            seal: SealKey::new(|| engine.fresh()),
            engine,
            token: TokenDigest::of(secret.expose()),
            limits,
            stopping: CancellationToken::new(),
        }
    }

    /// Breaks off the answers that would go on for as long as a job runs, so that a server can
    /// stop; whoever follows a log comes back and goes on where it was.
    pub fn end_followers(&self) {
        self.stopping.cancel();
    }
}

impl fmt::Debug for ApiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiState")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
