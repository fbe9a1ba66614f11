//! Control groups of one run. What the agent starts is born in them and, unless it is root, cannot
//! leave them: so the kernel ends all of it at once, and limits all of it together.

mod hierarchy;

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use serde::{Deserialize, Serialize};

use self::hierarchy::Hierarchy;
use crate::limits::{Enforced, Limits};

/// Begins the name of every group of ours.
const PREFIX: &str = "agent-server-";
/// The name of a group for the server and its supervisors alone, beside which those of the runs
/// are made: groups that hold processes give no controllers to groups inside them.
const LEAF: &str = "server";
/// The time slice of which a run gets its share of processors, in microseconds; the kernel's own
/// default.
const CPU_PERIOD: u64 = 100_000;

/// The control groups of one run: none, or one in each hierarchy that serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Groups {
    paths: Vec<PathBuf>,
}

impl Groups {
    /// Chooses where the groups of the run called `name` are to be, and makes none.
    ///
    /// One of version 2, by which the run is ended, and those of version 1 that have a controller
    /// which `limits` need.
    pub(crate) fn choose(name: &str, limits: &Limits) -> Self {
        let needed = limits.controllers();
        let serves = |hierarchy: &Hierarchy| {
            let has = |needed: &&str| hierarchy.controllers.iter().any(|one| one == needed);
            hierarchy.is_version_2() || needed.iter().any(has)
        };
        let places = hierarchy::all().into_iter().filter(serves);
        let paths = places
            .filter_map(|hierarchy| Some(base(&hierarchy)?.join(format!("{PREFIX}{name}"))))
            .collect();
        Self { paths }
    }

    /// Makes the groups and sets `limits`; forgets those that cannot be made or serve nothing.
    pub(crate) fn make(&mut self, limits: &Limits) -> Enforced {
        let mut enforced = Enforced::default();
        self.paths.retain(|path| {
            if let Err(error) = fs::create_dir(path)
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                return false;
            }
            let set = limit(path, limits);
            let serves = is_version_2(path) || set != Enforced::default();
            if serves {
                enforced = enforced.or(set);
            } else {
                fs::remove_dir(path).ok();
            }
            serves
        });
        enforced
    }

    /// Opens the way into each group: a process that writes `0` there is in it.
    pub(crate) fn entrances(&self) -> Vec<File> {
        let open = |path: &PathBuf| writable(&path.join("cgroup.procs")).ok();
        self.paths.iter().filter_map(open).collect()
    }

    /// Whether `pid` lives in every group.
    pub(crate) fn hold(&self, pid: i32) -> bool {
        self.paths.iter().all(|path| holds(path, pid))
    }

    /// Gives up the groups that `pid` does not live in.
    pub(crate) fn keep_holding(&mut self, pid: i32) {
        self.paths.retain(|path| {
            let keep = holds(path, pid);
            if !keep {
                remove(path);
            }
            keep
        });
    }

    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Whether one write ends all that is in them (`cgroup.kill`, Linux 5.14).
    pub(crate) fn end_at_once(&self) -> bool {
        self.paths
            .iter()
            .any(|path| path.join("cgroup.kill").exists())
    }

    /// Kills everything in the groups; where the kernel cannot, lets it start nothing more.
    pub(crate) fn strike(&self) {
        for path in &self.paths {
            if write(&path.join("cgroup.kill"), "1").is_err() {
                // What is frozen still dies when it is killed.
                write(&path.join("cgroup.freeze"), "1").ok();
                write(&path.join("pids.max"), "0").ok();
            }
        }
    }

    /// The numbers of the processes in the groups.
    pub(crate) fn members(&self) -> HashSet<i32> {
        let found = self.paths.iter().filter_map(|path| members(path));
        found.flatten().collect()
    }

    /// Whether anything that lives is in the groups.
    pub(crate) fn are_populated(&self) -> bool {
        self.paths.iter().any(|path| is_populated(path))
    }

    /// How many processes were killed in the groups for want of memory.
    pub(crate) fn killed_for_memory(&self) -> u64 {
        let count = |path: &PathBuf| {
            let counted = |file| number_in(&path.join(file), "oom_kill");
            counted("memory.events").or_else(|| counted("memory.oom_control"))
        };
        self.paths.iter().filter_map(count).sum()
    }

    /// Removes the groups that nothing is in. Returns whether all are gone.
    pub(crate) fn remove(&self) -> bool {
        // Each is tried, whatever became of the one before.
        let left = self.paths.iter().filter(|path| !remove(path)).count();
        left == 0
    }
}

/// The group below which those of the runs are made.
fn base(hierarchy: &Hierarchy) -> Option<PathBuf> {
    let own = &hierarchy.own;
    let above = own
        .parent()
        .filter(|_| own.file_name().is_some_and(|name| name == LEAF));
    let mut candidates = above.into_iter().chain([own.as_path()]);
    let writable = |folder: &&Path| rustix::fs::access(*folder, Access::WRITE_OK).is_ok();
    candidates.find(writable).map(Path::to_owned)
}

/// Sets limits by whichever of the controllers' files are there.
fn limit(path: &Path, limits: &Limits) -> Enforced {
    if let Some(parent) = path.parent() {
        for controller in limits.controllers() {
            // Refused where the controller is elsewhere or not ours to give; then its file is
            // not there.
            let give = format!("+{controller}");
            write(&parent.join("cgroup.subtree_control"), &give).ok();
        }
    }
    let set = |file: &str, value: &str| write(&path.join(file), value).is_ok();
    let mut enforced = Enforced::default();
    if let Some(bytes) = limits.memory {
        let bytes = bytes.to_string();
        enforced.memory = set("memory.max", &bytes) || set("memory.limit_in_bytes", &bytes);
        // Without these the rest would go to the swap, which is not what a limit means.
        let _ = set("memory.swap.max", "0") || set("memory.memsw.limit_in_bytes", &bytes);
    }
    if let Some(count) = limits.processes {
        enforced.processes = set("pids.max", &count.to_string());
    }
    if let Some(share) = limits.cpu_millis {
        let quota = u64::from(share) * CPU_PERIOD / 1000;
        enforced.cpu = set("cpu.max", &format!("{quota} {CPU_PERIOD}"))
            || (set("cpu.cfs_period_us", &CPU_PERIOD.to_string())
                && set("cpu.cfs_quota_us", &quota.to_string()));
    }
    enforced
}

fn is_version_2(path: &Path) -> bool {
    path.join("cgroup.events").exists()
}

/// The living processes in a group and the groups inside it; `None` when there is no such group.
fn members(path: &Path) -> Option<HashSet<i32>> {
    let listed = fs::read_to_string(path.join("cgroup.procs")).ok()?;
    let mut found: HashSet<i32> = listed.lines().filter_map(|pid| pid.parse().ok()).collect();
    for inner in inner(path) {
        found.extend(members(&inner).unwrap_or_default());
    }
    Some(found)
}

fn holds(path: &Path, pid: i32) -> bool {
    members(path).is_some_and(|found| found.contains(&pid))
}

fn is_populated(path: &Path) -> bool {
    match number_in(&path.join("cgroup.events"), "populated") {
        Some(populated) => populated != 0,
        None => members(path).is_some_and(|found| !found.is_empty()),
    }
}

/// Groups that the agent has made inside.
fn inner(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove(path: &Path) -> bool {
    for inner in inner(path) {
        remove(&inner);
    }
    match fs::remove_dir(path) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The value of `key` in a file of lines `key value`.
fn number_in(file: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok()).flatten()
    })
}

fn writable(file: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(file)
}

fn write(file: &Path, value: &str) -> io::Result<()> {
    writable(file)?.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that has the files of a group.
    fn group(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g");
        fs::create_dir(&path).unwrap();
        for (name, text) in files {
            fs::write(path.join(name), text).unwrap();
        }
        (folder, path)
    }

    fn text(path: &Path, file: &str) -> String {
        fs::read_to_string(path.join(file)).unwrap()
    }

    const LIMITS: Limits = Limits {
        memory: Some(1 << 30),
        processes: Some(500),
        cpu_millis: Some(1500),
    };

    #[test]
    fn limits_are_set_by_the_files_of_version_2() {
        let (folder, path) = group(&[
            ("memory.max", ""),
            ("memory.swap.max", ""),
            ("pids.max", ""),
            ("cpu.max", ""),
        ]);
        let control = folder.path().join("cgroup.subtree_control");
        fs::write(&control, "").unwrap();
        let enforced = limit(&path, &LIMITS);
        assert!(enforced.memory && enforced.processes && enforced.cpu);
        assert_eq!(text(&path, "memory.max"), "1073741824");
        assert_eq!(text(&path, "memory.swap.max"), "0");
        assert_eq!(text(&path, "pids.max"), "500");
        assert_eq!(text(&path, "cpu.max"), "150000 100000");
        // The last of three, since a plain file keeps what was written last.
        assert!(text(folder.path(), "cgroup.subtree_control").starts_with('+'));
    }

    #[test]
    fn limits_are_set_by_the_files_of_version_1() {
        let (_folder, path) = group(&[
            ("memory.limit_in_bytes", ""),
            ("cpu.cfs_period_us", ""),
            ("cpu.cfs_quota_us", ""),
        ]);
        let enforced = limit(&path, &LIMITS);
        assert!(enforced.memory && !enforced.processes && enforced.cpu);
        assert_eq!(text(&path, "memory.limit_in_bytes"), "1073741824");
        assert_eq!(text(&path, "cpu.cfs_quota_us"), "150000");
    }

    #[test]
    fn kills_for_memory_are_counted_in_both_versions() {
        let two = group(&[("memory.events", "low 0\noom 2\noom_kill 3\n")]);
        let one = group(&[(
            "memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        )]);
        let none = group(&[]);
        let groups = Groups {
            paths: vec![two.1, one.1, none.1],
        };
        assert_eq!(groups.killed_for_memory(), 4);
    }

    #[test]
    fn a_group_is_populated_as_it_says_or_as_its_members_show() {
        let says = |text| {
            let (_folder, path) = group(&[("cgroup.events", text)]);
            is_populated(&path)
        };
        assert!(says("populated 1\nfrozen 0\n") && !says("populated 0\nfrozen 0\n"));
        assert!(!is_populated(Path::new("/no/such/group")));
        let (_folder, one) = group(&[("cgroup.procs", "")]);
        assert!(!is_populated(&one));
        fs::create_dir(one.join("inner")).unwrap();
        fs::write(one.join("inner/cgroup.procs"), "7\n0\n").unwrap();
        assert!(is_populated(&one));
        assert!(members(&one).unwrap().contains(&7));
    }
}
