//! Exit codes. They are public behaviour: scripts branch on them, so a code never changes its
//! meaning.
//!
//! | code | meaning |
//! |------|---------|
//! | 0 | done; for `jobs wait` and `jobs submit --wait`: the job completed |
//! | 1 | the job failed |
//! | 2 | wrong usage, or the server found the request wrong |
//! | 3 | no such job, client or credential |
//! | 4 | it clashes with the present state |
//! | 5 | the token was refused |
//! | 6 | the server cannot be reached, or takes no work at the moment |
//! | 7 | it took too long |
//! | 8 | the job was cancelled |
//! | 9 | anything else: a fault of the server, or an answer that makes no sense |
//! | 130 | interrupted by Ctrl-C (set by the shell) |

use std::process::ExitCode;

use agent_client::ClientError;

/// How the command ended; the numbers are in the file's own table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    JobFailed = 1,
    Usage = 2,
    NotFound = 3,
    Conflict = 4,
    Denied = 5,
    Unavailable = 6,
    TimedOut = 7,
    JobCancelled = 8,
    Fault = 9,
}

/// The table as `--help` shows it.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done; for 'jobs wait' and 'jobs submit --wait': the job completed
  1    the job failed
  2    wrong usage, or the server found the request wrong
  3    no such job, client or credential
  4    it clashes with the present state
  5    the token was refused
  6    the server cannot be reached, or takes no work at the moment
  7    it took too long
  8    the job was cancelled
  9    anything else: a fault of the server, or an answer that makes no sense
  130  interrupted by Ctrl-C

The token is best given in the environment: a command line can be seen by every user of the
machine (AGENT_API_SECRET=... agent-admin health).";

impl Exit {
    /// The code for a call that did not succeed.
    pub(crate) const fn of(error: &ClientError) -> Self {
        match error {
            ClientError::BaseUrl { .. }
            | ClientError::Token
            | ClientError::Id(_)
            | ClientError::IdempotencyKey(_) => Self::Usage,
            ClientError::Unreachable { .. } => Self::Unavailable,
            ClientError::TimedOut { .. } => Self::TimedOut,
            ClientError::Protocol { .. } => Self::Fault,
            ClientError::Refused { status, .. } => Self::of_status(*status),
        }
    }

    const fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Denied,
            404 => Self::NotFound,
            408 => Self::TimedOut,
            409 => Self::Conflict,
            429 | 502..=504 => Self::Unavailable,
            400..=499 => Self::Usage,
            _ => Self::Fault,
        }
    }

    /// The code for a job that ended with `status`.
    pub(crate) fn of_job(status: &str) -> Self {
        match status {
            "completed" => Self::Done,
            "failed" => Self::JobFailed,
            "cancelled" => Self::JobCancelled,
            _ => Self::Fault,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_refusal_has_its_own_code() {
        for (status, exit) in [
            (400, Exit::Usage),
            (401, Exit::Denied),
            (404, Exit::NotFound),
            (409, Exit::Conflict),
            (413, Exit::Usage),
            (500, Exit::Fault),
            (503, Exit::Unavailable),
        ] {
            assert_eq!(Exit::of_status(status), exit, "{status}");
        }
    }

    #[test]
    fn the_help_and_the_documented_table_say_the_same() {
        let source = include_str!("exit.rs");
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let documented: Vec<String> = source
            .lines()
            .filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"))
            .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
            .map(|line| squeeze(&line.replace(" | ", " ").replace('`', "'")))
            .collect();
        let shown: Vec<String> = HELP
            .lines()
            .filter(|line| line.starts_with("  "))
            .map(squeeze)
            .collect();
        assert_eq!(documented.len(), 11);
        for (documented, shown) in documented.iter().zip(&shown) {
            assert!(
                documented.starts_with(shown.as_str()),
                "{documented} / {shown}"
            );
        }
    }
}
