//! From /proc.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::Process;
use tokio::time::Instant;

use crate::environment::MARK;
use crate::record::ProcessId;

pub(super) fn all() -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // One that ended since the directory was read is no longer there to be read.
        found.extend(pid.and_then(read));
    }
    Ok(found)
}

pub(super) fn id_of(pid: i32) -> Option<ProcessId> {
    read(pid).map(|process| process.id)
}

/// Read here too, because `rustix` forbids that getpgrp(2) gives 0, as it does where the group was
/// begun outside this PID namespace: in a container that a process was sent into.
pub(super) fn own_group() -> io::Result<i32> {
    let own = read(rustix::process::getpid().as_raw_pid());
    own.map(|own| own.group)
        .ok_or_else(|| io::Error::other("/proc does not show this process"))
}

fn read(pid: i32) -> Option<Process> {
    parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The fields of proc(5) after the command's name, which ends with the last bracket.
fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let started = fields.nth(16)?.parse().ok()?;
    Some(Process {
        id: ProcessId { pid, started },
        parent,
        group,
        dead: matches!(state, "Z" | "X"),
    })
}

pub(super) fn is_marked(pid: i32, mark: &str) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    environment.split(|byte| *byte == 0).any(|variable| {
        let value = variable.strip_prefix(MARK.as_bytes());
        value.and_then(|rest| rest.strip_prefix(b"=")) == Some(mark.as_bytes())
    })
}

pub(super) fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

pub(super) fn signal(id: ProcessId, signal: Signal) {
    let Some(pid) = Pid::from_raw(id.pid) else {
        return;
    };
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        // The descriptor holds on to one process, so what is checked is what is signalled.
        Ok(process) if id_of(id.pid) == Some(id) => {
            rustix::process::pidfd_send_signal(process, signal).ok();
        }
        Err(Errno::NOSYS) if id_of(id.pid) == Some(id) => {
            rustix::process::kill_process(pid, signal).ok();
        }
        _ => {}
    }
}

/// How long children are killed in one go.
const BURST: Duration = Duration::from_millis(100);

/// Does nothing where the kernel was built without such a list.
pub(super) fn kill_children(mut reap: impl FnMut()) {
    let own = rustix::process::getpid().as_raw_pid();
    let list = format!("/proc/{own}/task/{own}/children");
    let begun = Instant::now();
    while begun.elapsed() < BURST {
        // The dead would make the list longer and longer.
        reap();
        let children = fs::read_to_string(&list).unwrap_or_default();
        if children.is_empty() {
            break;
        }
        for child in children.split_ascii_whitespace() {
            if let Some(child) = child.parse().ok().and_then(Pid::from_raw) {
                rustix::process::kill_process(child, Signal::KILL).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_may_hold_spaces_and_brackets() {
        let stat = b"7 (a) Z 1 (b) S 3 4 5 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 987 1 1";
        let process = parse(7, stat).unwrap();
        let id = ProcessId {
            pid: 7,
            started: 987,
        };
        assert_eq!((process.id, process.parent, process.group), (id, 3, 4));
        assert!(!process.dead);
        assert!(parse(7, b"").is_none() && parse(7, b"7 (a) S 3").is_none());
    }

    #[test]
    fn this_process_is_found_with_its_parent() {
        let own = rustix::process::getpid().as_raw_pid();
        let parent = rustix::process::getppid().map_or(0, Pid::as_raw_pid);
        let all = all().unwrap();
        let found = all.iter().find(|process| process.id.pid == own).unwrap();
        assert_eq!((found.parent, found.dead), (parent, false));
        assert_eq!(id_of(own), Some(found.id));
        assert!(!boot().is_empty());
    }
}
