//! A git directory of a workspace's own: what an agent behind a wall gets for its mirror.
//!
//! It knows the branch, the remote's branches and all their history, whose objects it borrows from the mirror.
//! What an agent makes of it is never read by a git of ours: see `takeover.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::mirror::write_skeleton;
use crate::refs::{REMOTE, Refs};
use crate::{GitError, Workspace};

/// In the administrative directory as long as the workspace has a git directory of its own.
const MARKER: &str = "agent-owned";

/// Says in the mirror, out of the agent's reach, what is going to be made.
pub(crate) fn mark(workspace: &Workspace) -> Result<(), GitError> {
    let marker = marker(workspace);
    fs::write(&marker, "").map_err(|source| GitError::io("create", &marker, source))
}

/// Whether the workspace was made with a git directory of its own that was not taken over yet.
pub(crate) fn is_marked(workspace: &Workspace) -> bool {
    marker(workspace).exists()
}

/// Says that it has become a linked worktree.
pub(crate) fn unmark(workspace: &Workspace) -> Result<(), GitError> {
    let marker = marker(workspace);
    fs::remove_file(&marker).map_err(|source| GitError::io("remove", &marker, source))
}

fn marker(workspace: &Workspace) -> PathBuf {
    workspace.admin().join(MARKER)
}

/// Makes the git directory, once the files are there. `config` is its settings.
pub(crate) fn create(workspace: &Workspace, config: &str) -> Result<(), GitError> {
    let dir = workspace.path().join(".git");
    let failed = |source| GitError::io("create", &dir, source);
    let head = workspace.branch().full_ref();
    write_skeleton(&dir, config, &format!("ref: {head}\n"))?;
    borrow(&dir, &[&workspace.mirror().join("objects")])?;
    let mut refs = Refs::open(workspace.mirror())?.targets(REMOTE)?;
    refs.insert(head, workspace.start().to_string());
    write_refs(&dir, &refs)?;
    // Knows which files are unchanged, so that no git reads them all.
    let index = workspace.admin().join("index");
    fs::copy(index, dir.join("index")).map(drop).map_err(failed)
}

/// Lets a git directory borrow objects.
pub(crate) fn borrow(git_dir: &Path, objects: &[&Path]) -> Result<(), GitError> {
    let file = git_dir.join("objects/info/alternates");
    let mut lines = Vec::new();
    for dir in objects {
        lines.extend_from_slice(dir.as_os_str().as_encoded_bytes());
        lines.push(b'\n');
    }
    fs::write(&file, lines).map_err(|source| GitError::io("create", &file, source))
}

/// Gives a git directory that has none its refs, in one file however many there are.
pub(crate) fn write_refs(git_dir: &Path, refs: &BTreeMap<String, String>) -> Result<(), GitError> {
    let mut text = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for (name, id) in refs {
        text.extend([id, " ", name, "\n"]);
    }
    let file = git_dir.join("packed-refs");
    fs::write(&file, text).map_err(|source| GitError::io("create", &file, source))
}
