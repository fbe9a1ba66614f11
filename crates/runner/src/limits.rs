//! What one run may take of the machine, and by what means that is kept.

use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};

use crate::processes;

/// What the agent and all it starts may take together; `None` is as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processes and threads that live at the same time.
    pub processes: Option<u32>,
    /// Share of the processors in thousandths of one.
    pub cpu_millis: Option<u32>,
}

impl Limits {
    /// A limit of every kind.
    pub(crate) const EACH: Self = Self {
        memory: Some(u64::MAX),
        processes: Some(u32::MAX),
        cpu_millis: Some(u32::MAX),
    };

    /// The controllers of control groups by which these limits are kept.
    pub(crate) fn controllers(&self) -> Vec<&'static str> {
        let all = [
            (self.memory.is_some(), "memory"),
            (self.processes.is_some(), "pids"),
            (self.cpu_millis.is_some(), "cpu"),
        ];
        let needed = all.into_iter().filter(|(needed, _)| *needed);
        needed.map(|(_, name)| name).collect()
    }

    /// What limits the number of processes where no control group does. It counts all of the
    /// user's, so those there are come on top; the system does not hold root to it.
    pub(crate) fn fallback(&self, enforced: Enforced) -> Option<Rlimit> {
        let count = self.processes.filter(|_| !enforced.processes)?;
        let others = processes::count_of_user()?;
        let most = others + u64::from(count);
        let hard = rustix::process::getrlimit(Resource::Nproc).maximum;
        let most = Some(hard.map_or(most, |hard| hard.min(most)));
        Some(Rlimit {
            current: most,
            maximum: most,
        })
    }
}

/// Which limits the kernel keeps for us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Enforced {
    pub(crate) memory: bool,
    pub(crate) processes: bool,
    pub(crate) cpu: bool,
}

impl Enforced {
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            memory: self.memory || other.memory,
            processes: self.processes || other.processes,
            cpu: self.cpu || other.cpu,
        }
    }
}
