//! The processes an agent has started: finding them and ending them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};
use tokio::time::Instant;

use crate::cgroup::Groups;
use crate::processes::{self, Process};
use crate::record::ProcessId;

/// How many times the patience a tree may go on changing before it is given up.
const PATIENCE_MAX: u32 = 4;
/// How long it is tried to stop everything before the killing. A tree that still grows then is
/// not to be stopped first.
const STOP_WITHIN: Duration = Duration::from_millis(20);
/// Most children collected in one go: what dies faster than that must be killed meanwhile.
const REAP_MAX: usize = 1024;
/// Looks in a row that must find nothing where there is no better proof.
pub(crate) const EMPTY_LOOKS: u32 = 3;

/// A set of processes that grows: what descends from a root, or was once seen to.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Whose descendants belong to the tree; itself it does not.
    root: Option<i32>,
    /// Belong to the tree wherever they hang now.
    known: HashMap<i32, u64>,
    /// Belongs to the tree when it carries this in its environment.
    mark: Option<String>,
    /// What is in them belongs to the tree. The rest serves where there are none, and for what
    /// has left them as root may.
    groups: Groups,
}

impl Tree {
    /// The tree below this process.
    pub(crate) fn below_self(groups: Groups) -> Self {
        Self {
            root: Some(rustix::process::getpid().as_raw_pid()),
            groups,
            ..Self::default()
        }
    }

    /// A tree whose root is gone: what is in `groups` or carries `mark`, the processes of `known`,
    /// and what descends from any of them.
    pub(crate) fn orphaned(groups: Groups, mark: String, known: &[ProcessId]) -> Self {
        Self {
            root: None,
            known: known.iter().map(|id| (id.pid, id.started)).collect(),
            mark: Some(mark),
            groups,
        }
    }

    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The living members now.
    pub(crate) fn members(&self) -> io::Result<Vec<Process>> {
        let mut all = processes::all()?;
        // The dead have no children any more.
        all.retain(|process| !process.dead);
        // Later than the list, so that a number found there means the listed process or none.
        let grouped = self.groups.members();
        let own = rustix::process::getpid().as_raw_pid();
        let mut inside: HashSet<i32> = self.root.into_iter().collect();
        for process in &all {
            let known = self.known.get(&process.id.pid) == Some(&process.id.started);
            let marked = || {
                let mark = self.mark.as_ref();
                mark.is_some_and(|mark| processes::is_marked(process.id.pid, mark))
            };
            if process.id.pid != own && (known || grouped.contains(&process.id.pid) || marked()) {
                inside.insert(process.id.pid);
            }
        }
        let mut grew = true;
        while grew {
            grew = false;
            for process in &all {
                let child = inside.contains(&process.parent) && process.id.pid != own;
                grew |= child && inside.insert(process.id.pid);
            }
        }
        all.retain(|process| inside.contains(&process.id.pid) && Some(process.id.pid) != self.root);
        Ok(all)
    }

    /// Takes a look, so that a member is still known when it is no descendant any more.
    pub(crate) fn look(&mut self) -> io::Result<Vec<Process>> {
        let members = self.members()?;
        self.known = members
            .iter()
            .map(|process| (process.id.pid, process.id.started))
            .collect();
        Ok(members)
    }

    /// Stops every member, so that none can start another, and then kills them all. Returns
    /// those there were.
    ///
    /// `reap` collects the dead between the rounds, which otherwise make the list of processes
    /// ever longer.
    fn strike(&mut self, reap: &mut impl FnMut()) -> io::Result<HashSet<ProcessId>> {
        let own_group = processes::own_group()?;
        let mut struck: HashMap<ProcessId, i32> = HashMap::new();
        let begun = Instant::now();
        while begun.elapsed() < STOP_WITHIN {
            let before = struck.len();
            for process in self.members()? {
                if struck.insert(process.id, process.group).is_none() {
                    processes::signal(process.id, Signal::STOP);
                    self.known.insert(process.id.pid, process.id.started);
                }
            }
            if struck.len() == before {
                break;
            }
            reap();
        }
        let groups: HashSet<i32> = struck.values().copied().collect();
        for group in groups {
            // Reaches in one step what forks faster than it can be listed. A group lives in one
            // session, and each session of the tree was made by a member of it.
            if group != own_group
                && let Some(group) = Pid::from_raw(group)
            {
                rustix::process::kill_process_group(group, Signal::KILL).ok();
            }
        }
        for id in struck.keys() {
            processes::signal(*id, Signal::KILL);
        }
        Ok(struck.into_keys().collect())
    }

    /// Ends every member and returns what could not be ended: what is struck again and again for
    /// as long as `patience` waits inside the kernel or belongs to another user, and no signal of
    /// ours ends it.
    ///
    /// `left` collects what has died after each round, and tells whether anything is left where
    /// that is known for sure: what is replaced by its child again and again can be missed by any
    /// number of looks.
    pub(crate) async fn end(
        &mut self,
        patience: Duration,
        mut left: impl FnMut() -> Option<bool>,
    ) -> io::Result<Vec<Process>> {
        let begun = Instant::now();
        let mut deadline = begun + patience;
        let mut pause = Duration::from_micros(500);
        let mut empty_looks = 0;
        let mut last = HashSet::new();
        loop {
            let left_before = left();
            let seems_over = left_before == Some(false) || empty_looks == EMPTY_LOOKS;
            if seems_over && !self.groups.are_populated() {
                return Ok(Vec::new());
            }
            let mut reap = || {
                left();
            };
            self.groups.strike();
            if self.root.is_some() {
                processes::kill_descendants(&mut reap);
            }
            let struck = self.strike(&mut reap)?;
            empty_looks = match left_before {
                None if struck.is_empty() => empty_looks + 1,
                _ => 0,
            };
            if !struck.is_subset(&last) && begun.elapsed() < patience * PATIENCE_MAX {
                deadline = Instant::now() + patience;
                last = struck;
            }
            if Instant::now() >= deadline {
                return self.members();
            }
            // Death takes the kernel a moment; waiting for it bears no event we could await for
            // processes that are not our children.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// Whether this process has children at all, dead ones included. For a subreaper `false` means
/// that nothing it ever started is left.
fn has_children() -> bool {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(
        rustix::process::waitid(WaitId::All, peek),
        Err(Errno::CHILD)
    )
}

/// Whether anything is left of a tree whose root this process is, where that can be told.
pub(crate) fn is_anything_left() -> Option<bool> {
    // Only a subreaper is handed every orphan.
    cfg!(target_os = "linux").then(has_children)
}

/// Collects dead children, and returns the exit code of `agent` if it was among them: `128 + n`
/// where signal `n` ended it.
pub(crate) fn reap(agent: i32) -> Option<i32> {
    let mut code = None;
    for _ in 0..REAP_MAX {
        let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) else {
            break;
        };
        if pid.as_raw_pid() == agent {
            let signal = || status.terminating_signal().map(|signal| 128 + signal);
            code = status.exit_status().or_else(signal);
        }
    }
    code
}
