//! The processes an agent has started: finding them and ending them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};
use tokio::time::Instant;

use crate::processes::{self, Process};
use crate::record::ProcessId;

/// How long a tree is struck again before it is given up: what is left then waits inside the
/// kernel or belongs to another user, and no signal of ours ends it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rounds of stopping before the killing; each finds what was started during the one before.
const STOP_ROUNDS: usize = 16;

/// A set of processes that grows: what descends from a root, or was once seen to.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Whose descendants belong to the tree; itself it does not.
    root: Option<i32>,
    /// Belong to the tree wherever they hang now.
    known: HashMap<i32, u64>,
    /// Belongs to the tree when it carries this in its environment.
    mark: Option<String>,
}

impl Tree {
    /// The tree below this process.
    pub(crate) fn below_self() -> Self {
        Self {
            root: Some(rustix::process::getpid().as_raw_pid()),
            ..Self::default()
        }
    }

    /// A tree whose root is gone: what carries `mark`, the processes of `known`, and what
    /// descends from any of them.
    pub(crate) fn orphaned(mark: String, known: &[ProcessId]) -> Self {
        Self {
            root: None,
            known: known.iter().map(|id| (id.pid, id.started)).collect(),
            mark: Some(mark),
        }
    }

    /// The living members now.
    pub(crate) fn members(&self) -> io::Result<Vec<Process>> {
        let all = processes::all()?;
        let own = rustix::process::getpid().as_raw_pid();
        let mut inside: HashSet<i32> = self.root.into_iter().collect();
        for process in &all {
            let known = self.known.get(&process.id.pid) == Some(&process.id.started);
            let marked = || {
                let mark = self.mark.as_ref();
                mark.is_some_and(|mark| processes::is_marked(process.id.pid, mark))
            };
            if process.id.pid != own && (known || marked()) {
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
        let member = |process: &Process| !process.dead && Some(process.id.pid) != self.root;
        let found = all.into_iter();
        Ok(found
            .filter(|process| inside.contains(&process.id.pid) && member(process))
            .collect())
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

    /// Stops every member, so that none can start another, and then kills them all. Returns how
    /// many there were.
    fn strike(&mut self) -> io::Result<usize> {
        let own_group = rustix::process::getpgrp().as_raw_pid();
        let mut struck: HashMap<ProcessId, i32> = HashMap::new();
        for _ in 0..STOP_ROUNDS {
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
        Ok(struck.len())
    }

    /// Ends every member and returns what could not be ended.
    ///
    /// `reap` is called after each round to collect what has died.
    pub(crate) async fn end(&mut self, mut reap: impl FnMut()) -> io::Result<Vec<Process>> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(500);
        loop {
            reap();
            if self.strike()? == 0 {
                reap();
                return Ok(Vec::new());
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
pub(crate) fn has_children() -> bool {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(
        rustix::process::waitid(WaitId::All, peek),
        Err(Errno::CHILD)
    )
}

/// Collects dead children, except `agent`, whose status belongs to whoever started it.
pub(crate) fn reap(agent: Option<i32>) {
    let Some(agent) = agent else {
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        return;
    };
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if !matches!(rustix::process::waitid(WaitId::All, peek), Ok(Some(_))) {
        return;
    }
    let own = rustix::process::getpid().as_raw_pid();
    let dead = |process: &Process| process.dead && process.parent == own && process.id.pid != agent;
    for process in processes::all().unwrap_or_default() {
        if dead(&process)
            && let Some(pid) = Pid::from_raw(process.id.pid)
        {
            rustix::process::waitpid(Some(pid), WaitOptions::NOHANG).ok();
        }
    }
}
