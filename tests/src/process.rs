//! Finding and ending processes by what they belong to, on Linux's `/proc`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(10);

/// A living process and its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its arguments, joined by blanks.
    pub command: String,
}

/// Whether a process exists and is not merely waiting to be reaped.
pub fn is_alive(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name in brackets may hold anything, so the state is what follows the last bracket.
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|rest| !rest.starts_with(['Z', 'X']))
}

/// Every living process but this one whose command line, environment or directory names `path`.
pub fn belonging_to(path: &Path) -> Vec<Process> {
    let needle = path.as_os_str().as_encoded_bytes();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own && is_alive(*pid))
        .filter_map(|pid| {
            let dir = entry_dir(pid);
            let command = fs::read(format!("{dir}/cmdline")).unwrap_or_default();
            let environment = fs::read(format!("{dir}/environ")).unwrap_or_default();
            let cwd = fs::read_link(format!("{dir}/cwd")).unwrap_or_default();
            let belongs = contains(&command, needle)
                || contains(&environment, needle)
                || cwd.starts_with(path);
            belongs.then(|| Process {
                pid,
                command: String::from_utf8_lossy(&command).replace('\0', " "),
            })
        })
        .collect()
}

fn entry_dir(pid: i32) -> String {
    format!("/proc/{pid}")
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && text.windows(needle.len()).any(|window| window == needle)
}

/// Sends a signal to one process; one that is gone already is no error.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        kill_process(pid, signal).ok();
    }
}

/// Kills whatever belongs to `path` until nothing does, and returns what it had to kill.
///
/// Panics when something is still there after `limit`.
pub fn kill_all(path: &Path, limit: Duration) -> Vec<Process> {
    let deadline = Instant::now() + limit;
    let mut killed: Vec<Process> = Vec::new();
    loop {
        let found = belonging_to(path);
        if found.is_empty() {
            remove_groups(path, 4);
            return killed;
        }
        assert!(Instant::now() < deadline, "still running: {found:?}");
        for process in found {
            signal(process.pid, Signal::KILL);
            if !killed.contains(&process) {
                killed.push(process);
            }
        }
        std::thread::sleep(POLL);
    }
}

/// Removes the control groups that killed supervisors below `path` have left behind: nobody else
/// will, once their records are gone.
pub fn remove_groups(path: &Path, depth: u32) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let found = entry.path();
        if found
            .file_name()
            .is_some_and(|name| name == "supervisor.json")
        {
            let record = fs::read(&found).unwrap_or_default();
            let record: serde_json::Value = serde_json::from_slice(&record).unwrap_or_default();
            let groups = record["groups"].as_array().into_iter().flatten();
            for group in groups.filter_map(|group| group.as_str()) {
                fs::remove_dir(group).ok();
            }
        } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&found, depth - 1);
        }
    }
}

/// Waits until `done` says so; `false` when it did not within `limit`.
pub fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_found_by_its_directory_and_killed_and_a_zombie_is_not_alive() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep")
            .arg("60")
            .current_dir(dir.path())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(is_alive(pid));
        let killed = kill_all(dir.path(), Duration::from_secs(10));
        assert_eq!(killed.iter().map(|one| one.pid).collect::<Vec<_>>(), [pid]);
        assert!(!is_alive(pid), "not reaped yet, but dead");
        child.wait().unwrap();
        assert!(belonging_to(dir.path()).is_empty());
    }
}
