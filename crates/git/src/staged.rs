//! What an agent has said about files without committing it: ignored ones that it has added all the
//! same, tracked ones that it has removed from the index only, ones that a sparse checkout left out.
//!
//! Its index is read in this process, and of it only names and these marks count, never contents.

use std::collections::BTreeSet;

use gix::index::entry::Flags;

use crate::gitlinks::{self, Gitlinks, in_tree, open_index};
use crate::mirror::blocking;
use crate::{Git, GitError, Workspace, takeover};

/// The names in an index.
type Names = BTreeSet<Vec<u8>>;

/// What the agent's index says otherwise than the one of HEAD; names as `update-index -z --stdin`
/// reads them.
#[derive(Debug, Default)]
struct Differences {
    added: Vec<u8>,
    removed: Vec<u8>,
    skipped: Vec<u8>,
    submodules: Gitlinks,
}

impl Git {
    /// Repeats in the workspace's index what the agent has done in its own. What cannot be repeated
    /// is left out: the files are there, and those that are not ignored will be added anyway.
    pub(crate) async fn stage_as_the_agent_did(&self, workspace: &Workspace) {
        let owned = workspace.clone();
        let found = blocking(move || Ok(differences(&owned).unwrap_or_default())).await;
        let repeated = match found {
            Ok(found) => self.repeat(workspace, found).await,
            Err(error) => Err(error),
        };
        if let Err(error) = repeated {
            let job = workspace.job();
            tracing::warn!(%job, %error, "what the agent had staged is left out");
        }
    }

    async fn repeat(&self, workspace: &Workspace, found: Differences) -> Result<(), GitError> {
        let begin = || self.in_workspace(workspace, "update-index");
        for (flag, names) in [
            ("--add", found.added),
            ("--force-remove", found.removed),
            ("--skip-worktree", found.skipped),
        ] {
            if !names.is_empty() {
                let command = begin().args([flag, "-z", "--stdin"]);
                command.input(names).run_ok().await?;
            }
        }
        found.submodules.stage(begin()).await
    }
}

fn differences(workspace: &Workspace) -> Option<Differences> {
    let theirs = open_index(&takeover::aside(workspace).join("index"))?;
    let ours = open_index(&workspace.admin().join("index"))?;
    let (theirs_names, ours_names) = (names(&theirs)?, names(&ours)?);
    let on_disk = |name: &&Vec<u8>| {
        let path = in_tree(workspace.path(), name);
        let meta = path.and_then(|path| path.symlink_metadata().ok());
        meta.is_some_and(|meta| meta.is_file() || meta.is_symlink())
    };
    let left_out = |entry: &&gix::index::Entry| entry.flags.contains(Flags::SKIP_WORKTREE);
    let skipped = theirs.entries().iter().filter(left_out);
    let skipped: Names = skipped.map(|entry| entry.path(&theirs).to_vec()).collect();
    let both = skipped.intersection(&ours_names);
    Some(Differences {
        added: list(theirs_names.difference(&ours_names).filter(on_disk)),
        removed: list(ours_names.difference(&theirs_names)),
        skipped: list(both.filter(|name| !on_disk(name))),
        submodules: submodules(workspace, &theirs),
    })
}

/// The names in an index; `None` when it has whole directories under one name.
fn names(index: &gix::index::File) -> Option<Names> {
    let entries = index.entries().iter();
    entries
        .map(|entry| (!entry.mode.is_sparse()).then(|| entry.path(index).to_vec()))
        .collect()
}

/// The agent's submodules, each at what it has checked out now or else was staged at.
fn submodules(workspace: &Workspace, index: &gix::index::File) -> Gitlinks {
    let mut found = Gitlinks::default();
    let entries = index.entries().iter();
    for entry in entries.filter(|entry| entry.mode.is_submodule()) {
        let name = entry.path(index);
        let dir = in_tree(workspace.path(), name);
        let now = dir.and_then(|dir| gitlinks::checked_out(workspace, &dir));
        found.push(name, &now.unwrap_or_else(|| entry.id.to_string()));
    }
    found
}

fn list<'a>(names: impl Iterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    names.flat_map(|name| [name, &b"\0"[..]].concat()).collect()
}
