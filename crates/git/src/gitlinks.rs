//! Submodules and other repositories inside a workspace.
//!
//! Where one is in the index, `git add` would start a git inside it, to see whether it is dirty,
//! under whatever settings its agent gave it. So they are left out of `add`, and what each has checked out
//! is read here and put into the index by its id.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::command::Invocation;
use crate::mirror::blocking;
use crate::relic::{self, Relic};
use crate::{GitError, Workspace, takeover};

/// A larger index is not looked at, in bytes.
const INDEX_MAX: u64 = 512 * 1024 * 1024;
/// Longest `.git` file that is read, in bytes.
const LINK_MAX: u64 = 4096;

/// The repositories of an index that are there as directories.
#[derive(Debug, Default)]
pub(crate) struct Gitlinks {
    /// Their paths in the tree.
    pub(crate) paths: Vec<Vec<u8>>,
    /// What is to be put into the index, as `update-index -z --index-info` reads it.
    lines: Vec<u8>,
}

impl Gitlinks {
    /// Reads an index of a workspace. Blocks.
    pub(crate) fn read(workspace: &Workspace, index: &Path) -> Self {
        let mut found = Self::default();
        let Some(index) = open_index(index) else {
            return found;
        };
        let entries = index.entries().iter();
        for entry in entries.filter(|entry| entry.mode.is_submodule()) {
            let name = entry.path(&index);
            let dir = in_tree(workspace.path(), name).filter(|dir| relic::is_dir(dir));
            let Some(dir) = dir else {
                continue;
            };
            if let Some(id) = checked_out(workspace, &dir) {
                found.push(name, &id);
            }
            found.paths.push(name.to_vec());
        }
        found
    }

    /// Records a repository at a commit.
    pub(crate) fn push(&mut self, name: &[u8], id: &str) {
        let line = format!("160000 {id}\t");
        self.lines.extend_from_slice(line.as_bytes());
        self.lines.extend_from_slice(name);
        self.lines.push(0);
    }

    /// Puts them into the index of a command begun with `update-index`.
    pub(crate) async fn stage(self, update: Invocation<'_>) -> Result<(), GitError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let update = update.args(["-z", "--index-info"]).input(self.lines);
        update.run_ok().await.map(drop)
    }
}

/// As [`Gitlinks::read`], where it holds nobody up.
pub(crate) async fn of(workspace: &Workspace, index: PathBuf) -> Gitlinks {
    let workspace = workspace.clone();
    let read = blocking(move || Ok(Gitlinks::read(&workspace, &index)));
    // An index that makes the reader panic makes git complain, too.
    read.await.unwrap_or_default()
}

/// Reads an index that is a plain file.
pub(crate) fn open_index(file: &Path) -> Option<gix::index::File> {
    let meta = file.symlink_metadata().ok()?;
    if !meta.is_file() || meta.len() > INDEX_MAX {
        return None;
    }
    let options = gix::index::decode::Options::default();
    gix::index::File::at(file, gix::hash::Kind::Sha1, false, options).ok()
}

/// Where a name of an index is in the tree; `None` when it is no such name.
pub(crate) fn in_tree(tree: &Path, name: &[u8]) -> Option<PathBuf> {
    let name = Path::new(std::ffi::OsStr::from_bytes(name));
    let plain = name
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| tree.join(name))
}

/// What a repository inside the workspace has checked out. Its git directory is its own, or, as
/// `git submodule` makes them, in that of the workspace; anywhere else is not looked at.
pub(crate) fn checked_out(workspace: &Workspace, dir: &Path) -> Option<String> {
    let own = dir.join(".git");
    let git_dir = if relic::is_dir(&own) {
        own
    } else {
        let link = relic::text(&own, LINK_MAX);
        let target = straight(&dir.join(link.strip_prefix("gitdir: ")?.trim_end()))?;
        match target.strip_prefix(workspace.path().join(".git")) {
            Ok(inside) => takeover::aside(workspace).join(inside),
            Err(_) => target.starts_with(workspace.admin()).then_some(target)?,
        }
    };
    let head = Relic::read(&git_dir).head;
    head.map(|head| head.to_string())
}

/// The path without `.` and `..`, each of which is taken to lead where it seems to.
fn straight(path: &Path) -> Option<PathBuf> {
    let mut straight = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if straight.pop() => {}
            Component::ParentDir => return None,
            Component::CurDir => {}
            part => straight.push(part),
        }
    }
    Some(straight)
}
