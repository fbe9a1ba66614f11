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

/// Every process there is.
pub(crate) fn all() -> io::Result<Vec<Process>> {
    system::all()
}

/// The process with number `pid`.
pub(crate) fn id_of(pid: i32) -> Option<ProcessId> {
    system::id_of(pid)
}

/// The process group of this process.
pub(crate) fn own_group() -> io::Result<i32> {
    system::own_group()
}

/// Whether a process was started with `mark` in its environment, as far as that can be seen.
pub(crate) fn is_marked(pid: i32, mark: &str) -> bool {
    system::is_marked(pid, mark)
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

/// Kills the children of this process and collects the dead by `reap`, as fast as they can be
/// listed: so what is replaced by its own child over and over is caught in the end. Their numbers
/// cannot be taken by others, since nobody else collects them.
pub(crate) fn kill_children(reap: impl FnMut()) {
    system::kill_children(reap);
}
