//! From ps(1), where there is no /proc. Marks cannot be seen here, and orphans are found only if
//! they were seen before they became so.

use std::io;
use std::process::Command;

use rustix::process::{Pid, Signal};

use super::Process;
use crate::record::ProcessId;

pub(super) fn all() -> io::Result<Vec<Process>> {
    list(&["-A"])
}

pub(super) fn find(pid: i32) -> Option<Process> {
    list(&["-p", &pid.to_string()]).ok()?.first().copied()
}

pub(super) fn own_group() -> io::Result<i32> {
    Ok(rustix::process::getpgrp().as_raw_pid())
}

fn list(which: &[&str]) -> io::Result<Vec<Process>> {
    let mut command = Command::new("/bin/ps");
    command.args(which).env_clear().env("LC_ALL", "C");
    let output = command
        .args(["-o", "pid=,ppid=,pgid=,stat=,lstart="])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Process> {
    let mut fields = line.split_ascii_whitespace();
    let pid = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let state = fields.next()?;
    // Only ever compared, so any number made of the date will do.
    let started = fields.flat_map(str::bytes).fold(0_u64, |sum, byte| {
        sum.wrapping_mul(131).wrapping_add(byte.into())
    });
    Some(Process {
        id: ProcessId { pid, started },
        parent,
        group,
        dead: state.starts_with('Z'),
    })
}

pub(super) fn mark_of(_pid: i32) -> Option<String> {
    None
}

pub(super) fn boot() -> String {
    let mut command = Command::new("/usr/sbin/sysctl");
    let output = command.env_clear().args(["-n", "kern.boottime"]).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

pub(super) fn signal(id: ProcessId, signal: Signal) {
    if find(id.pid).is_some_and(|found| found.id == id)
        && let Some(pid) = Pid::from_raw(id.pid)
    {
        rustix::process::kill_process(pid, signal).ok();
    }
}

pub(super) fn kill_descendants(_reap: impl FnMut()) {}

pub(super) fn memory_of(processes: &[Process]) -> u64 {
    let pids: Vec<String> = processes
        .iter()
        .map(|process| process.id.pid.to_string())
        .collect();
    let mut command = Command::new("/bin/ps");
    command
        .env_clear()
        .args(["-o", "rss=", "-p", &pids.join(",")]);
    let Ok(output) = command.output() else {
        return 0;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let kibibytes = text
        .lines()
        .filter_map(|line| line.trim().parse::<u64>().ok());
    kibibytes.sum::<u64>() * 1024
}

/// The system itself limits the processes of a user (`kern.maxprocperuid`).
pub(super) fn count_of_user() -> Option<u64> {
    None
}
