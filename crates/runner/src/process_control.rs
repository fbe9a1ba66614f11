//! What this machine offers for ending and limiting runs, for whoever wants to tell people.

use std::path::PathBuf;

use crate::cgroup::Groups;
use crate::limits::{Enforced, Limits};

/// A limit that is no limit, to see whether one could be set.
const PROBE: Limits = Limits {
    memory: Some(1 << 50),
    processes: Some(1 << 20),
    cpu_millis: Some(1_000_000),
};

/// By what means a limit on a run is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// The kernel keeps it for the whole tree, at every moment.
    ControlGroup,
    /// The supervisor looks twice a second and ends the run; what happens in between, it misses.
    Watching,
    /// The kernel keeps it for all processes of the server's user together.
    ResourceLimit,
    /// It is not kept.
    Nothing,
}

/// What this machine offers for ending and limiting runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessControl {
    /// The control groups below which runs get groups of their own; none where that cannot be.
    pub groups: Vec<PathBuf>,
    /// Whether the kernel ends a whole run at once (`cgroup.kill`, Linux 5.14). Elsewhere its
    /// processes are found and ended one by one.
    pub ends_at_once: bool,
    /// How [`Limits::memory`] is kept.
    pub memory: Means,
    /// How [`Limits::processes`] is kept.
    pub processes: Means,
    /// How [`Limits::cpu_millis`] is kept.
    pub cpu: Means,
    /// How to get what is missing, a sentence each.
    pub advice: Vec<String>,
}

/// Finds out what this machine offers, by making control groups and removing them again.
///
/// `name` is to be one that no other call uses meanwhile, a process number for instance.
pub fn process_control(name: &str) -> ProcessControl {
    let mut groups = Groups::choose(&format!("probe-{name}"), &PROBE);
    let enforced = groups.make(&PROBE);
    let bases = groups.paths().iter().filter_map(|path| path.parent());
    let bases = bases.map(PathBuf::from).collect();
    let ends_at_once = groups.end_at_once();
    groups.remove();
    let kept = |kept, otherwise| if kept { Means::ControlGroup } else { otherwise };
    let processes = match PROBE.fallback(enforced) {
        Some(_) => Means::ResourceLimit,
        None => kept(enforced.processes, Means::Nothing),
    };
    ProcessControl {
        groups: bases,
        ends_at_once,
        memory: kept(enforced.memory, Means::Watching),
        processes,
        cpu: kept(enforced.cpu, Means::Nothing),
        advice: advice(ends_at_once, enforced),
    }
}

fn advice(ends_at_once: bool, enforced: Enforced) -> Vec<String> {
    let mut advice = Vec::new();
    if !cfg!(target_os = "linux") {
        advice.push(
            "control groups are Linux's; here processes that leave the agent's tree within two seconds of their start can be missed"
                .to_owned(),
        );
        return advice;
    }
    if !ends_at_once {
        advice.push(
            "no control group of version 2 can be made: run the service with Delegate=yes and DelegateSubgroup=server (systemd 254), a shell under `systemd-run --user --scope -p Delegate=yes`, a container with a writable /sys/fs/cgroup; cgroup.kill needs Linux 5.14"
                .to_owned(),
        );
    } else if !(enforced.memory && enforced.processes && enforced.cpu) {
        advice.push(
            "not every controller is to be had: run the service with Delegate=yes and DelegateSubgroup=server (systemd 254), so that the server's own group gives memory, pids and cpu on"
                .to_owned(),
        );
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_there_is_gone_after_the_look() {
        let name = format!("test-{}", std::process::id());
        let seen = process_control(&name);
        for base in &seen.groups {
            let left: Vec<_> = std::fs::read_dir(base).unwrap().flatten().collect();
            let ours = left.iter().find(|entry| {
                let entry = entry.file_name();
                entry.to_string_lossy().contains(&name)
            });
            assert!(ours.is_none(), "{ours:?}");
        }
        assert!(!seen.ends_at_once || !seen.groups.is_empty(), "{seen:?}");
        let all = [seen.memory, seen.processes, seen.cpu];
        let complete = seen.ends_at_once && all == [Means::ControlGroup; 3];
        assert_eq!(complete, seen.advice.is_empty(), "{seen:?}");
    }
}
