//! Reads single files of a commit: what the remote has, whatever an agent makes of its tree.

use std::path::{Component, Path, PathBuf};

use agent_domain::{CommitId, RepoSlug};
use gix::objs::tree::EntryKind;

use crate::mirror::blocking;
use crate::refs::{Refs, broken};
use crate::{Git, GitError};

/// Symbolic links that are followed one after the other.
const LINKS_MAX: usize = 8;
/// Larger files are not read into memory, in bytes.
const READ_MAX: u64 = 16 * 1024 * 1024;
/// Longest path a symbolic link can hold on the systems we know, in bytes.
const LINK_MAX: u64 = 4096;

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedFile {
    /// Its beginning; nothing where it is larger than 16 MiB.
    pub beginning: Vec<u8>,
    /// Its whole length, in bytes.
    pub length: u64,
}

impl Git {
    /// Reads up to `most` bytes of the file `path` as `commit` has it; `None` when there is no
    /// such file. A symbolic link is followed where it stays inside the tree.
    pub async fn committed_file(
        &self,
        repo: &RepoSlug,
        commit: &CommitId,
        path: &Path,
        most: usize,
    ) -> Result<Option<CommittedFile>, GitError> {
        let (mirror, commit, path) = (self.mirror_path(repo), commit.clone(), path.to_owned());
        blocking(move || read(&Refs::open(&mirror)?, &commit, path, most)).await
    }

    /// Whether `commit` has any of `paths`, whatever is there.
    pub async fn tracks(
        &self,
        repo: &RepoSlug,
        commit: &CommitId,
        paths: &'static [&'static str],
    ) -> Result<bool, GitError> {
        let (mirror, commit) = (self.mirror_path(repo), commit.clone());
        blocking(move || {
            let refs = Refs::open(&mirror)?;
            let tree = refs.tree_of(&commit)?;
            for path in paths {
                let entry = tree.lookup_entry_by_path(path);
                if entry.map_err(|error| broken(&error))?.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }
}

fn read(
    refs: &Refs,
    commit: &CommitId,
    path: PathBuf,
    most: usize,
) -> Result<Option<CommittedFile>, GitError> {
    let tree = refs.tree_of(commit)?;
    let mut path = path;
    for _ in 0..=LINKS_MAX {
        let entry = tree.lookup_entry_by_path(&path);
        let Some(entry) = entry.map_err(|error| broken(&error))? else {
            return Ok(None);
        };
        let id = entry.object_id();
        match entry.mode().kind() {
            EntryKind::Blob | EntryKind::BlobExecutable => {
                let length = refs.length_of(id)?;
                let mut beginning = Vec::new();
                if length <= READ_MAX {
                    beginning = refs.content_of(id)?;
                    beginning.truncate(most);
                }
                return Ok(Some(CommittedFile { beginning, length }));
            }
            EntryKind::Link if refs.length_of(id)? <= LINK_MAX => {
                let target = refs.content_of(id)?;
                match followed(&path, &target) {
                    Some(next) => path = next,
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Where a link at `link` leads, as a path from the tree's root; `None` when that is outside.
fn followed(link: &Path, target: &[u8]) -> Option<PathBuf> {
    let target = Path::new(std::str::from_utf8(target).ok()?);
    let mut path = link.parent()?.to_owned();
    for part in target.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            _ => return None,
        }
    }
    (!path.as_os_str().is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_followed_inside_the_tree_only() {
        let from = |link: &str, target: &str| followed(Path::new(link), target.as_bytes());
        assert_eq!(from("CLAUDE.md", "AGENTS.md"), Some("AGENTS.md".into()));
        assert_eq!(from("CLAUDE.md", "./docs/x.md"), Some("docs/x.md".into()));
        assert_eq!(from("a/b.md", "../c.md"), Some("c.md".into()));
        for outside in ["/etc/passwd", "../x", "docs/../../x", ".", ""] {
            assert_eq!(from("CLAUDE.md", outside), None, "{outside:?}");
        }
    }
}
