//! From /proc.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
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

pub(super) fn find(pid: i32) -> Option<Process> {
    read(pid)
}

fn id_of(pid: i32) -> Option<ProcessId> {
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
    let threads: u64 = fields.nth(14)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(Process {
        id: ProcessId { pid, started },
        parent,
        group,
        // A main thread that has ended shows the same state while others go on.
        dead: matches!(state, "Z" | "X") && threads <= 1,
    })
}

pub(super) fn mark_of(pid: i32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mark = environment.split(|byte| *byte == 0).find_map(|variable| {
        let value = variable.strip_prefix(MARK.as_bytes())?;
        value.strip_prefix(b"=")
    })?;
    String::from_utf8(mark.to_vec()).ok()
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

/// How long descendants are killed in one go.
const BURST: Duration = Duration::from_millis(250);

pub(super) fn kill_descendants(mut reap: impl FnMut()) {
    let own = rustix::process::getpid().as_raw_pid();
    let begun = Instant::now();
    loop {
        // The dead would make the list longer and longer.
        reap();
        let mut next: Vec<(i32, i32)> = children(own).map(|pid| (pid, own)).collect();
        if next.is_empty() {
            return;
        }
        while let Some((pid, parent)) = next.pop() {
            if begun.elapsed() >= BURST {
                return;
            }
            kill_child(pid, parent, own);
            // Killed, it starts no more: what is listed now is all there will be, and what is no
            // longer listed has come to us.
            next.extend(children(pid).map(|child| (child, pid)));
        }
    }
}

/// The children of every thread of a process; none where the kernel was built without such lists.
fn children(pid: i32) -> impl Iterator<Item = i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    let lists = threads.flatten().flatten().filter_map(|thread| {
        let list = fs::read_to_string(thread.path().join("children")).ok()?;
        let pids = list.split_ascii_whitespace().flat_map(str::parse);
        Some(pids.collect::<Vec<i32>>())
    });
    lists.flatten()
}

/// Kills a child of `parent`, or of `own` should that have died; not a stranger with its number.
fn kill_child(pid: i32, parent: i32, own: i32) {
    let Some(number) = Pid::from_raw(pid) else {
        return;
    };
    let held = rustix::process::pidfd_open(number, PidfdFlags::empty());
    if !read(pid).is_some_and(|process| [parent, own].contains(&process.parent)) {
        return;
    }
    match held {
        Ok(held) => rustix::process::pidfd_send_signal(held, Signal::KILL).ok(),
        // Nobody but us collects what is our own child, so its number is its own.
        Err(_) if parent == own => rustix::process::kill_process(number, Signal::KILL).ok(),
        Err(_) => None,
    };
}

pub(super) fn memory_of(processes: &[Process]) -> u64 {
    let own = |process: &Process| {
        let status = fs::read_to_string(format!("/proc/{}/status", process.id.pid)).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))?;
        let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        Some(kibibytes * 1024)
    };
    processes.iter().filter_map(own).sum()
}

pub(super) fn count_of_user() -> Option<u64> {
    let user = rustix::process::getuid();
    if user.is_root() {
        return None;
    }
    let mut count = 0;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Ok(found) = entry.metadata() else {
            continue;
        };
        if found.uid() == user.as_raw() {
            let threads = fs::read_dir(entry.path().join("task"));
            count += threads.map_or(0, |threads| threads.count() as u64);
        }
    }
    Some(count)
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
        let state =
            |threads| format!("7 (a) Z 3 4 5 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 987 1");
        let is_dead = |threads| parse(7, state(threads).as_bytes()).unwrap().dead;
        assert!(is_dead(1) && !is_dead(2));
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
