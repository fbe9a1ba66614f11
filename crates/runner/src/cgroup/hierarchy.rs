//! Where control groups are mounted, and which of them this process is in: cgroups(7), proc(5).

use std::fs;
use std::path::{Path, PathBuf};

/// A tree of control groups that this process can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// The controllers of a hierarchy of version 1; empty for version 2, which has those that no
    /// other hierarchy has taken.
    pub(crate) controllers: Vec<String>,
    /// The directory of the group this process is in.
    pub(crate) own: PathBuf,
}

impl Hierarchy {
    pub(crate) fn is_version_2(&self) -> bool {
        self.controllers.is_empty()
    }
}

/// Every hierarchy; none on systems other than Linux.
pub(crate) fn all() -> Vec<Hierarchy> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
}

/// From the group of this process in each hierarchy, and from all that is mounted.
fn parse(groups: &str, mounts: &str) -> Vec<Hierarchy> {
    let lines = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    lines
        .filter_map(|(controllers, group)| {
            let controllers: Vec<String> = controllers
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect();
            let own = mounts
                .lines()
                .find_map(|mount| in_mount(mount, &controllers, group))?;
            Some(Hierarchy { controllers, own })
        })
        .collect()
}

/// The directory of `group` below one line of mountinfo, if it is there to be seen.
fn in_mount(mount: &str, controllers: &[String], group: &str) -> Option<PathBuf> {
    let (place, what) = mount.split_once(" - ")?;
    let mut what = what.split(' ');
    let (kind, options) = (what.next()?, what.nth(1)?);
    let fits = match controllers {
        [] => kind == "cgroup2",
        [first, ..] => kind == "cgroup" && options.split(',').any(|option| option == first),
    };
    let mut place = place.split(' ').skip(3);
    let (root, folder) = (place.next()?, place.next()?);
    let below = Path::new(group).strip_prefix(unescaped(root)).ok()?;
    // A group outside of what a container may see is shown by a way up.
    let visible = below.components().all(|part| part.as_os_str() != "..");
    (fits && visible).then(|| Path::new(&unescaped(folder)).join(below))
}

/// Blanks and the like stand in mountinfo as a backslash and three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(3).unwrap_or(("", part));
        match u8::from_str_radix(code, 8) {
            Ok(code) => plain.push(code.into()),
            Err(_) => plain.push_str(code),
        }
        plain.push_str(rest);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(groups: &str, mounts: &str) -> Vec<String> {
        let found = parse(groups, mounts);
        found
            .iter()
            .map(|one| format!("{} {}", one.controllers.join("+"), one.own.display()))
            .collect()
    }

    #[test]
    fn a_unified_hierarchy_is_found_where_it_is_mounted() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
                      31 23 8:1 / /home rw - ext4 /dev/sda1 rw";
        let group = "0::/system.slice/agent-server.service\n";
        assert_eq!(
            own(group, mounts),
            [" /sys/fs/cgroup/system.slice/agent-server.service"]
        );
        assert!(own(group, "31 23 8:1 / /home rw - ext4 /dev/sda1 rw").is_empty());
        assert!(own("", mounts).is_empty());
    }

    #[test]
    fn version_1_and_a_hybrid_have_a_hierarchy_for_each_set_of_controllers() {
        let mounts = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let groups = "9:name=systemd:/\n4:memory:/a:b\n2:cpu,cpuacct:/\n0::/x\n";
        assert_eq!(
            own(groups, mounts),
            [
                "name=systemd /sys/fs/cgroup/systemd/",
                "memory /sys/fs/cgroup/memory/a:b",
                "cpu+cpuacct /sys/fs/cgroup/cpu,cpuacct/",
                " /sys/fs/cgroup/unified/x",
            ]
        );
    }

    #[test]
    fn a_container_sees_its_own_part_only() {
        let mounts = "41 31 0:38 /docker/7 /sys/fs/c\\040g ro - cgroup2 cgroup rw";
        assert_eq!(own("0::/docker/7/a", mounts), [" /sys/fs/c g/a"]);
        assert!(own("0::/other", mounts).is_empty());
        let mounts = "41 31 0:38 / /sys/fs/cgroup ro - cgroup2 cgroup rw";
        assert!(own("0::/../other", mounts).is_empty());
    }
}
