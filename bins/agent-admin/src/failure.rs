//! Why a command did not succeed, and how that is told.

use std::io::{self, Write as _};

use agent_client::ClientError;

use crate::exit::Exit;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No token was given.
    NoToken,
    /// The arguments do not fit together.
    Usage(String),
    /// A name that no client has.
    NoClient(String),
    /// A file or standard input could not be read.
    Input { name: String, error: io::Error },
    /// The output could not be written.
    Output(io::Error),
    /// A job did not end in time.
    WaitedTooLong { job: String, status: String },
    /// The log could not be read to its end.
    LogBroken { offset: u64 },
    /// A call that is done once was made again and again, and no answer arrived.
    Unanswered { error: ClientError, key: String },
    /// The call did not succeed.
    Call(ClientError),
}

impl Failure {
    /// Tells it on standard error, and returns the exit code.
    pub(crate) fn report(&self, json: bool) -> Exit {
        // Whoever read our output has seen enough (`| head`): nobody is left to tell.
        if matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            return Exit::Done;
        }
        let text = if json {
            self.json()
        } else {
            format!("error: {}", self.sentence())
        };
        writeln!(io::stderr(), "{text}").ok();
        self.exit()
    }

    fn exit(&self) -> Exit {
        match self {
            Self::NoToken | Self::Usage(_) | Self::Input { .. } => Exit::Usage,
            Self::NoClient(_) => Exit::NotFound,
            Self::Output(_) => Exit::Fault,
            Self::WaitedTooLong { .. } => Exit::TimedOut,
            Self::LogBroken { .. } => Exit::Unavailable,
            Self::Call(error) | Self::Unanswered { error, .. } => Exit::of(error),
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::NoToken => {
                "no token: set AGENT_API_SECRET to the server's secret (or use --token)".into()
            }
            Self::Usage(text) => text.clone(),
            Self::NoClient(name) => format!("no client has the repository {name}"),
            Self::Input { name, error } => format!("cannot read {name}: {error}"),
            Self::Output(error) => format!("cannot write the output: {error}"),
            Self::WaitedTooLong { job, status } => {
                format!("job {job} is still {status} after the time given with --timeout")
            }
            Self::LogBroken { offset } => {
                format!("the connection broke again and again; go on with --offset {offset}")
            }
            Self::Unanswered { error, key } => format!(
                "{}\nWhether it was done is not known. To be sure, repeat the command with \
                 --idempotency-key {key}",
                call_sentence(error)
            ),
            Self::Call(error) => call_sentence(error),
        }
    }

    fn json(&self) -> String {
        let (code, field) = match self {
            Self::Call(ClientError::Refused { code, field, .. }) => {
                (Some(code.as_str()), field.as_deref())
            }
            _ => (None, None),
        };
        let body = serde_json::json!({
            "error": self.sentence(),
            "code": code,
            "field": field,
            "exitCode": self.exit() as u8,
        });
        body.to_string()
    }
}

fn call_sentence(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { .. } => {
            format!("{error}. Is agent-server running? Set --url or AGENT_URL to its address.")
        }
        ClientError::Refused { status: 401, .. } => {
            format!("{error}. Set AGENT_API_SECRET to the server's secret.")
        }
        ClientError::Refused {
            retry_after: Some(seconds),
            ..
        } => {
            format!("{error} (try again in {seconds} s)")
        }
        ClientError::Refused { code, .. } if !code.is_empty() => format!("{error} ({code})"),
        _ => error.to_string(),
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Call(error)
    }
}

impl From<io::Error> for Failure {
    /// For writing only; what is read has a name to tell.
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
