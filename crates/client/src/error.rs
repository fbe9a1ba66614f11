//! Why a call did not succeed.

use std::io;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The base URL cannot be used.
    #[error("{url:?} is not a usable server address: {problem}")]
    BaseUrl {
        /// As given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The token cannot be sent in a header.
    #[error("the token has characters that an HTTP header cannot carry")]
    Token,
    /// The text cannot be an id.
    #[error("{0:?} is not an id")]
    Id(String),
    /// The text cannot be an idempotency key.
    #[error("{0:?} is no idempotency key: 1 to 255 visible ASCII characters")]
    IdempotencyKey(String),
    /// No connection could be made, or it broke.
    #[error("cannot reach {url}: {problem}")]
    Unreachable {
        /// The server.
        url: String,
        /// What happened.
        problem: String,
        /// Whether there was a connection, so that the request may have arrived.
        connected: bool,
    },
    /// The server did not answer in time.
    #[error("{url} did not answer in time")]
    TimedOut {
        /// The server.
        url: String,
    },
    /// The server refused.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Stable code; empty when the answer had none.
        code: String,
        /// The server's sentence.
        message: String,
        /// The field or parameter that is wrong.
        field: Option<String>,
        /// After how many seconds to ask again.
        retry_after: Option<u64>,
    },
    /// What came back is no answer of this API.
    #[error("{url} did not answer as an agent server does: {problem}")]
    Protocol {
        /// The server.
        url: String,
        /// What is odd.
        problem: String,
    },
}

impl ClientError {
    /// The HTTP status, where the server answered with an error.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The stable code, where the server gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } if !code.is_empty() => Some(code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anyone doing anything about it.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Refused { status, .. } => matches!(status, 429 | 502..=504),
            _ => false,
        }
    }

    /// Whether the request may have arrived and been done although its answer did not arrive.
    pub const fn may_have_arrived(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Protocol { .. } => true,
            Self::Unreachable { connected, .. } => *connected,
            _ => false,
        }
    }

    pub(crate) fn from_transport(url: &str, error: ureq::Error) -> Self {
        let url = url.to_owned();
        match error {
            ureq::Error::Timeout(_) => Self::TimedOut { url },
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                Self::TimedOut { url }
            }
            ureq::Error::Io(error) => Self::Unreachable {
                url,
                problem: plain(&error),
                connected: broke(error.kind()),
            },
            ureq::Error::HostNotFound => Self::Unreachable {
                url,
                problem: "host not found".into(),
                connected: false,
            },
            ureq::Error::ConnectionFailed => Self::Unreachable {
                url,
                problem: "connection failed".into(),
                connected: false,
            },
            other => Self::Protocol {
                url,
                problem: other.to_string(),
            },
        }
    }
}

/// Whether a connection that was there has ended.
const fn broke(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof
    )
}

/// Says what happened without the system's own number for it.
pub(crate) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
            "connection closed by the other side".into()
        }
        _ => error.to_string(),
    }
}
