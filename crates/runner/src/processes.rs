//! The machine's list of processes, and signals to one of them.

use std::io;

use rustix::process::Signal;

use crate::record::ProcessId;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod ps;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use ps as system;

/// A process as the system lists it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) id: ProcessId,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    /// Has ended, and waits for its parent to take note.
    pub(crate) dead: bool,
}

impl Process {
    /// Its number, for people.
    pub(crate) fn number(&self) -> Option<u32> {
        u32::try_from(self.id.pid).ok()
    }
}

/// Every process there is.
pub(crate) fn all() -> io::Result<Vec<Process>> {
    system::all()
}

/// The process with number `pid`.
pub(crate) fn id_of(pid: i32) -> Option<ProcessId> {
    system::find(pid).map(|process| process.id)
}

/// Whether `pid` has not ended, waiting to be collected or not.
pub(crate) fn is_alive(pid: i32) -> bool {
    system::find(pid).is_some_and(|process| !process.dead)
}

/// Whether exactly this process has not ended.
pub(crate) fn lives(id: ProcessId) -> bool {
    system::find(id.pid).is_some_and(|process| process.id == id && !process.dead)
}

/// The process group of this process.
pub(crate) fn own_group() -> io::Result<i32> {
    system::own_group()
}

/// Whether a process was started with `mark` in its environment, as far as that can be seen.
pub(crate) fn is_marked(pid: i32, mark: &str) -> bool {
    system::mark_of(pid).is_some_and(|found| found == mark)
}

/// What a process was started with as its mark, as far as that can be seen.
pub(crate) fn mark_of(pid: i32) -> Option<String> {
    system::mark_of(pid)
}

/// Names the present start of the machine; the same text means that process numbers from an
/// earlier look still mean the same.
pub(crate) fn boot() -> String {
    system::boot()
}

/// Sends a signal to a process unless it is gone, even if another has its number now. What cannot
/// be signalled is found again by the next look.
pub(crate) fn signal(id: ProcessId, signal: Signal) {
    system::signal(id, signal);
}

/// Kills what descends from this process and collects the dead by `reap`, as fast as it can be
/// listed: so what is replaced by its own child over and over is caught in the end. Does nothing
/// where the system has no list of a process's children.
pub(crate) fn kill_descendants(reap: impl FnMut()) {
    system::kill_descendants(reap);
}

/// Memory that these processes do not share with files or others, in bytes, as far as it is known.
pub(crate) fn memory_of(processes: &[Process]) -> u64 {
    system::memory_of(processes)
}

/// How many processes and threads the user of this process has; `None` where the system holds
/// this user to no limit of ours.
pub(crate) fn count_of_user() -> Option<u64> {
    system::count_of_user()
}
