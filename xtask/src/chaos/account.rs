//! The promises that are checked, and a breach of one.

use std::fmt;

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Breach {
    Lost,
    Doubled,
    Stuck,
    TwiceAtOnce,
    RunAgain,
    RunLate,
    EndedTwice,
    WrongEnd,
    CallbackMissing,
    CallbackDoubled,
    CallbackForged,
    ProcessLeft,
    WorktreeLeft,
    AttemptLeft,
    GroupLeft,
    LogDiffers,
    RemoteDiffers,
    CostDiffers,
    BadAnswer,
    ServerDied,
}

impl Breach {
    /// All of them, as the report lists them.
    pub(super) const ALL: [(Self, &'static str); 20] = [
        (Self::Lost, "lost: acknowledged, and unknown now"),
        (Self::Doubled, "doubled: more jobs than were asked for"),
        (Self::Stuck, "stuck: not ended though all is quiet"),
        (Self::TwiceAtOnce, "run twice at once"),
        (
            Self::RunAgain,
            "run again though its first run was not lost",
        ),
        (Self::RunLate, "run again only after more than 30 s"),
        (Self::EndedTwice, "ended twice, or not in its history"),
        (Self::WrongEnd, "ended in a way that nothing explains"),
        (
            Self::CallbackMissing,
            "callback missing, or of another status",
        ),
        (
            Self::CallbackDoubled,
            "callback doubled under different ids",
        ),
        (
            Self::CallbackForged,
            "callback whose signature does not fit",
        ),
        (Self::ProcessLeft, "process left"),
        (Self::WorktreeLeft, "worktree left"),
        (Self::AttemptLeft, "attempt directory left"),
        (Self::GroupLeft, "control group left"),
        (Self::LogDiffers, "log differs from what the agent wrote"),
        (Self::RemoteDiffers, "remote is not what the job says"),
        (Self::CostDiffers, "cost is not the sum of its runs"),
        (Self::BadAnswer, "answer that no client should get"),
        (Self::ServerDied, "server ended by itself"),
    ];

    fn label(self) -> &'static str {
        let row = Self::ALL.iter().find(|(breach, _)| *breach == self);
        row.map_or("", |(_, label)| *label)
    }
}

/// A promise that was not kept.
#[derive(Debug, Clone)]
pub(super) struct Violation {
    pub(super) breach: Breach,
    /// The job, where it is about one.
    pub(super) job: Option<String>,
    /// What was seen.
    pub(super) what: String,
}

impl Violation {
    pub(super) fn new(breach: Breach, what: impl Into<String>) -> Self {
        Self {
            breach,
            job: None,
            what: what.into(),
        }
    }

    /// The same, about a job.
    pub(super) fn of(mut self, job: &str) -> Self {
        self.job = Some(job.to_owned());
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.breach.label())?;
        if let Some(job) = &self.job {
            write!(f, " (job {job})")?;
        }
        write!(f, ": {}", self.what)
    }
}
