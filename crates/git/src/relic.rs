//! Reads what an agent has left as its git directory, believing nothing: no link is followed, no
//! file is read that is not a plain and small one, no setting counts.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use agent_domain::CommitId;
use rustix::fs::{Mode, OFlags};

use crate::refs::LOCAL;
use crate::{GitError, trash};

/// Longest HEAD, ref or MERGE_HEAD that is read, in bytes.
const SMALL: u64 = 4 * 1024;
/// Longest list of packed refs that is read, in bytes.
const PACKED_MAX: u64 = 64 * 1024 * 1024;
/// Branches that are kept besides the one that is checked out.
const BRANCHES_MAX: usize = 1000;
/// Directories in the name of a branch.
const DEPTH_MAX: usize = 32;

/// What an agent's git directory says.
#[derive(Debug, Default)]
pub(crate) struct Relic {
    /// The commit that is checked out; `None` when there is none, or it makes no sense.
    pub(crate) head: Option<CommitId>,
    /// The full name of the branch that is checked out.
    pub(crate) branch: Option<String>,
    /// The other parents of a merge that is not concluded.
    pub(crate) merging: Vec<CommitId>,
    /// Every branch by its full name.
    pub(crate) branches: BTreeMap<String, CommitId>,
}

impl Relic {
    /// Reads `dir`.
    pub(crate) fn read(dir: &Path) -> Self {
        if !is_dir(dir) {
            return Self::default();
        }
        let mut relic = Self {
            branches: packed(&text(&dir.join("packed-refs"), PACKED_MAX)),
            ..Self::default()
        };
        if is_dir(&dir.join("refs")) {
            loose(&dir.join("refs/heads"), LOCAL, 0, &mut relic.branches);
        }
        let head = text(&dir.join("HEAD"), SMALL);
        match head.trim().strip_prefix("ref: ").map(str::trim) {
            Some(name) => {
                relic.head = relic.branches.get(name).cloned();
                relic.branch = Some(name.to_owned());
            }
            None => relic.head = head.trim().parse().ok(),
        }
        let merging = text(&dir.join("MERGE_HEAD"), SMALL);
        let parents = merging.lines().map(|line| line.trim().parse());
        relic.merging = parents.collect::<Result<_, _>>().unwrap_or_default();
        relic
    }
}

/// Leaves of a directory of objects only loose ones and packs with their indices: no alternates, no
/// links, nothing that says of objects that they need not be there.
pub(crate) fn keep_objects_only(objects: &Path) -> Result<(), GitError> {
    if !is_dir(objects) {
        return trash::delete(objects);
    }
    for (name, path) in entries(objects)? {
        if !is_dir(&path) {
            trash::delete(&path)?;
        } else if name == "pack" {
            keep_files(&path, is_pack)?;
        } else if is_hex(&name, 2) {
            keep_files(&path, |name| is_hex(name, 38))?;
        } else {
            trash::delete(&path)?;
        }
    }
    Ok(())
}

fn keep_files(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), GitError> {
    for (name, path) in entries(dir)? {
        let plain = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
        if !plain || !wanted(&name) {
            trash::delete(&path)?;
        }
    }
    Ok(())
}

fn is_pack(name: &str) -> bool {
    let name = name.strip_prefix("pack-").unwrap_or_default();
    let ends = [".pack", ".idx"].map(|end| name.strip_suffix(end));
    ends.into_iter().flatten().any(|id| is_hex(id, 40))
}

fn is_hex(name: &str, length: usize) -> bool {
    let hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name.len() == length && name.bytes().all(hex)
}

fn entries(dir: &Path) -> Result<Vec<(String, std::path::PathBuf)>, GitError> {
    let failed = |source| GitError::io("list", dir, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // A name that is no text is none of git's.
        let name = entry.file_name().into_string().unwrap_or_default();
        found.push((name, entry.path()));
    }
    Ok(found)
}

/// Whether it is a directory, and no link to one.
pub(crate) fn is_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}

/// The content of a plain file of at most `most` bytes; empty when it is anything else.
pub(crate) fn text(path: &Path, most: u64) -> String {
    read(path, most).unwrap_or_default()
}

fn read(path: &Path, most: u64) -> Option<String> {
    // Neither a link is followed nor is a pipe's other end waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.len() > most {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).ok()?;
    // Git does not ask a branch's name to be UTF-8; we do.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn packed(text: &str) -> BTreeMap<String, CommitId> {
    let lines = text.lines().filter_map(|line| {
        let (id, name) = line.split_once(' ')?;
        name.starts_with(LOCAL).then_some(())?;
        Some((name.to_owned(), id.parse().ok()?))
    });
    lines.take(BRANCHES_MAX).collect()
}

fn loose(dir: &Path, name: &str, depth: usize, found: &mut BTreeMap<String, CommitId>) {
    if depth > DEPTH_MAX || !is_dir(dir) {
        return;
    }
    for (file, path) in entries(dir).unwrap_or_default() {
        if found.len() >= BRANCHES_MAX {
            return;
        }
        let full = format!("{name}{file}");
        if is_dir(&path) {
            loose(&path, &format!("{full}/"), depth + 1, found);
        } else if let Ok(id) = text(&path, SMALL).trim().parse() {
            found.insert(full, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const ID: &str = "1111111111111111111111111111111111111111";

    fn relic(prepare: impl FnOnce(&Path)) -> Relic {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("refs/heads")).unwrap();
        prepare(dir.path());
        Relic::read(dir.path())
    }

    #[test]
    fn head_branches_and_an_open_merge_are_read() {
        let found = relic(|dir| {
            fs::write(dir.join("HEAD"), "ref: refs/heads/a/b\n").unwrap();
            fs::create_dir(dir.join("refs/heads/a")).unwrap();
            fs::write(dir.join("refs/heads/a/b"), format!("{ID}\n")).unwrap();
            let other = "2".repeat(40);
            let text = format!("# pack-refs\n{other} refs/heads/c\n{other} refs/tags/t\n");
            fs::write(dir.join("packed-refs"), text).unwrap();
            fs::write(dir.join("MERGE_HEAD"), format!("{ID}\n{other}\n")).unwrap();
        });
        assert_eq!(found.head.unwrap().as_str(), ID);
        assert_eq!(found.branch.as_deref(), Some("refs/heads/a/b"));
        assert_eq!(found.merging.len(), 2);
        let names: Vec<_> = found.branches.keys().collect();
        assert_eq!(names, ["refs/heads/a/b", "refs/heads/c"]);
    }

    #[test]
    fn links_pipes_and_nonsense_are_not_read() {
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("HEAD");
        fs::write(&target, ID).unwrap();
        let linked = relic(|dir| symlink(&target, dir.join("HEAD")).unwrap());
        assert_eq!(linked.head, None);
        let piped = relic(|dir| {
            let made = std::process::Command::new("mkfifo")
                .arg(dir.join("HEAD"))
                .status();
            assert!(made.unwrap().success());
        });
        assert_eq!(piped.head, None);
        let large = relic(|dir| fs::write(dir.join("HEAD"), ID.repeat(1000)).unwrap());
        assert_eq!(large.head, None);
        assert!(Relic::read(&target).head.is_none());
        fs::write(elsewhere.path().join("main"), ID).unwrap();
        let linked = relic(|dir| {
            fs::remove_dir(dir.join("refs/heads")).unwrap();
            symlink(elsewhere.path(), dir.join("refs/heads")).unwrap();
            fs::write(dir.join("HEAD"), "ref: refs/heads/main").unwrap();
        });
        assert_eq!((linked.head, linked.branches.len()), (None, 0));
    }

    #[test]
    fn of_objects_only_plain_ones_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let objects = dir.path().join("objects");
        for sub in ["info", "pack", "ab", "abc"] {
            fs::create_dir_all(objects.join(sub)).unwrap();
        }
        let (loose, pack) = ("c".repeat(38), format!("pack-{}", "d".repeat(40)));
        for file in [
            "info/alternates",
            &format!("ab/{loose}"),
            "ab/tmp_obj_x",
            &format!("pack/{pack}.pack"),
            &format!("pack/{pack}.idx"),
            &format!("pack/{pack}.promisor"),
            "abc/x",
        ] {
            fs::write(objects.join(file), "").unwrap();
        }
        symlink("/", objects.join("cd")).unwrap();
        symlink("/etc/passwd", objects.join("ab").join("e".repeat(38))).unwrap();
        keep_objects_only(&objects).unwrap();
        let mut left: Vec<String> = Vec::new();
        for (name, path) in entries(&objects).unwrap() {
            for (file, _) in entries(&path).unwrap() {
                left.push(format!("{name}/{file}"));
            }
        }
        left.sort();
        let kept = [
            format!("ab/{loose}"),
            format!("pack/{pack}.idx"),
            format!("pack/{pack}.pack"),
        ];
        assert_eq!(left, kept);
        // A link in the place of the whole is taken away, not followed.
        fs::remove_dir_all(&objects).unwrap();
        symlink("/tmp", &objects).unwrap();
        keep_objects_only(&objects).unwrap();
        assert!(objects.symlink_metadata().is_err());
    }
}
