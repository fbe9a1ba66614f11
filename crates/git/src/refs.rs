//! Reads of a repository on our disk, and changes of its refs, through gix in this process.
//!
//! Every function blocks; call them where blocking is allowed.

use std::collections::BTreeMap;
use std::path::Path;

use agent_domain::{BranchName, CommitId};
use gix::refs::transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog};
use gix::refs::{FullName, Target};

use crate::{GitError, relic, verdict};

/// The branches of the remote, as of the last fetch.
pub(crate) const REMOTE: &str = "refs/remotes/origin/";
/// The branches of jobs and agents.
pub(crate) const LOCAL: &str = "refs/heads/";

/// What gix says when it sees another's lock of a list of packed refs that does not exist: it then
/// means to empty the list, and fails.
const NO_PACKED_REFS: &str = "Could not delete empty packed refs";
/// How often a ref is deleted in spite of that; the lock lasts for moments.
const DELETE_TRIES: usize = 20;

/// A mirror, open.
pub(crate) struct Refs(gix::Repository);

/// What a workspace's HEAD points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// A branch, by its full name; without a commit while it is unborn.
    Branch(String, Option<CommitId>),
    /// A commit.
    Detached(CommitId),
    /// There is none, or it makes no sense.
    Broken,
}

impl Head {
    /// The commit.
    pub(crate) fn commit(&self) -> Option<&CommitId> {
        match self {
            Self::Branch(_, commit) => commit.as_ref(),
            Self::Detached(commit) => Some(commit),
            Self::Broken => None,
        }
    }
}

impl Refs {
    /// Opens a mirror, with its own settings only.
    pub(crate) fn open(mirror: &Path) -> Result<Self, GitError> {
        Self::open_shared(mirror).map(|repository| Self::of(&repository))
    }

    /// Opens a mirror so that it can be kept and used from many threads.
    pub(crate) fn open_shared(mirror: &Path) -> Result<gix::ThreadSafeRepository, GitError> {
        gix::open::Options::isolated()
            .with(gix::sec::Trust::Full)
            .open_path_as_is(true)
            .config_overrides(["core.useReplaceRefs=false"])
            .open(mirror)
            .map_err(|error| broken(&error))
    }

    /// A mirror that is open, for use in this thread.
    pub(crate) fn of(repository: &gix::ThreadSafeRepository) -> Self {
        Self(repository.to_thread_local())
    }

    /// The commit a ref points to; `None` when there is no such ref.
    pub(crate) fn commit(&self, name: &str) -> Result<Option<CommitId>, GitError> {
        let found = self.0.try_find_reference(name);
        let Some(mut reference) = found.map_err(|error| broken(&error))? else {
            return Ok(None);
        };
        let id = reference.peel_to_id().map_err(|error| broken(&error))?;
        id.to_string()
            .parse()
            .map(Some)
            .map_err(|error| broken(&error))
    }

    /// The refs below `space` that `branch` cannot stand beside: the same name, one that is a
    /// directory of it, or one it is a directory of. Names come without `space`.
    pub(crate) fn clashes(&self, space: &str, branch: &str) -> Result<Vec<String>, GitError> {
        let mut found = Vec::new();
        let parents = branch.match_indices('/').map(|(at, _)| &branch[..at]);
        for name in parents.chain([branch]) {
            let reference = self.0.try_find_reference(&*format!("{space}{name}"));
            if reference.map_err(|error| broken(&error))?.is_some() {
                found.push(name.to_owned());
            }
        }
        for (name, _) in self.below(&format!("{space}{branch}/"))? {
            found.extend(name.strip_prefix(space).map(str::to_owned));
        }
        Ok(found)
    }

    /// Whether it is certain that [`Refs::clashes`] finds nothing: at the cost of two looks at the
    /// disk, where it opens a file or more for each part of the name.
    fn is_free(&self, space: &str, branch: &str) -> bool {
        // First what is no list: refs that are packed meanwhile are in the list by then.
        let loose = self.0.common_dir().join(format!("{space}{branch}"));
        // A ref in the place of one of its directories is another error.
        let is_absent = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        if !loose.symlink_metadata().is_err_and(is_absent) {
            return false;
        }
        let packed = match self.0.refs.cached_packed_buffer() {
            Ok(Some(packed)) => packed,
            Ok(None) => return true,
            Err(_) => return false,
        };
        let ends = branch.match_indices('/').map(|(at, _)| at);
        let mut names = ends.chain([branch.len()]).map(|end| &branch[..end]);
        let is_absent = |name: &str| {
            let found = packed.try_find(&*format!("{space}{name}"));
            found.is_ok_and(|found| found.is_none())
        };
        let below = packed.iter_prefixed(format!("{space}{branch}/").into());
        names.all(is_absent) && below.is_ok_and(|mut below| below.next().is_none())
    }

    /// The full names and commits of all refs below `space`, which ends in a slash.
    pub(crate) fn below(&self, space: &str) -> Result<Vec<(String, CommitId)>, GitError> {
        let platform = self.0.references().map_err(|error| broken(&error))?;
        let mut found = Vec::new();
        let references = match platform.prefixed(space) {
            Ok(references) => references,
            // gix finds no prefix with characters that Windows forbids in file names.
            Err(_) => platform.all().map_err(|error| broken(&error))?,
        };
        for reference in references {
            let reference = reference.map_err(|error| broken(&error))?;
            let name = reference.name().as_bstr().to_string();
            if !name.starts_with(space) {
                continue;
            }
            if let Some(commit) = self.commit(&name)? {
                found.push((name, commit));
            }
        }
        Ok(found)
    }

    /// The full names of the refs below `space` with the ids they hold, none of them looked at; refs
    /// that point to other refs are left out.
    pub(crate) fn targets(&self, space: &str) -> Result<BTreeMap<String, String>, GitError> {
        let platform = self.0.references().map_err(|error| broken(&error))?;
        let mut found = BTreeMap::new();
        for reference in platform.all().map_err(|error| broken(&error))? {
            let reference = reference.map_err(|error| broken(&error))?;
            let name = reference.name().as_bstr().to_string();
            if let (true, Some(id)) = (name.starts_with(space), reference.try_id()) {
                found.insert(name, id.to_string());
            }
        }
        Ok(found)
    }

    /// Makes a ref that must not exist yet.
    pub(crate) fn create(&self, name: &str, commit: &CommitId) -> Result<(), GitError> {
        self.update(name, commit, PreviousValue::MustNotExist)
    }

    /// Points a ref to a commit, whatever it pointed to before.
    pub(crate) fn set(&self, name: &str, commit: &CommitId) -> Result<(), GitError> {
        self.update(name, commit, PreviousValue::Any)
    }

    /// Removes a ref; fine when there is none.
    pub(crate) fn delete(&self, name: &str) -> Result<(), GitError> {
        let delete = || {
            let log = RefLog::AndReference;
            let expected = PreviousValue::Any;
            self.edit(name, Change::Delete { expected, log })
        };
        for _ in 0..DELETE_TRIES {
            match delete() {
                Err(GitError::Repository(why)) if why.contains(NO_PACKED_REFS) => {}
                other => return other,
            }
        }
        delete()
    }

    fn update(
        &self,
        name: &str,
        commit: &CommitId,
        expected: PreviousValue,
    ) -> Result<(), GitError> {
        let id = object_id(commit)?;
        self.edit(
            name,
            Change::Update {
                log: LogChange::default(),
                expected,
                new: Target::Object(id),
            },
        )
    }

    fn edit(&self, name: &str, change: Change) -> Result<(), GitError> {
        let edit = RefEdit {
            change,
            name: FullName::try_from(name).map_err(|error| broken(&error))?,
            deref: false,
        };
        // Only for reflogs, which a bare repository keeps none of unless it is told to.
        let committer = gix::actor::SignatureRef {
            name: "agent-server".into(),
            email: "agent-server@localhost".into(),
            time: "0 +0000",
        };
        self.0
            .edit_references_as([edit], Some(committer))
            .map(drop)
            .map_err(|error| broken(&error))
    }

    /// The HEAD of the workspace whose administrative directory is `admin`.
    pub(crate) fn head(&self, admin: &Path) -> Result<Head, GitError> {
        let text = relic::text(&admin.join("HEAD"), 4096);
        let text = text.trim_end();
        if let Some(name) = text.strip_prefix("ref: ") {
            let name = name.trim();
            return match FullName::try_from(name) {
                Ok(_) => Ok(Head::Branch(name.to_owned(), self.commit(name)?)),
                Err(_) => Ok(Head::Broken),
            };
        }
        Ok(text.parse().map_or(Head::Broken, Head::Detached))
    }

    /// Counts the files that differ between two commits, a renamed file once: as the list of
    /// files of a pull request has it, and as `git diff --name-only -M` does.
    pub(crate) fn files_changed(&self, base: &CommitId, head: &CommitId) -> Result<u64, GitError> {
        if base == head {
            return Ok(0);
        }
        let mut options = gix::diff::Options::default();
        options.track_path();
        options.track_rewrites(Some(gix::diff::Rewrites::default()));
        let changes = self
            .0
            .diff_tree_to_tree(&self.tree_of(base)?, &self.tree_of(head)?, options)
            .map_err(|error| broken(&error))?;
        let files = changes
            .iter()
            .filter(|change| !change.entry_mode().is_tree());
        Ok(files.count() as u64)
    }

    /// Whether two commits have the same files.
    pub(crate) fn same_tree(&self, one: &CommitId, other: &CommitId) -> Result<bool, GitError> {
        Ok(self.tree(one)? == self.tree(other)?)
    }

    /// A commit's tree.
    pub(crate) fn tree_of(&self, commit: &CommitId) -> Result<gix::Tree<'_>, GitError> {
        let commit = self.0.find_commit(object_id(commit)?);
        let tree = commit.and_then(|commit| commit.tree());
        tree.map_err(|error| broken(&error))
    }

    /// The length of an object, in bytes; cheap.
    pub(crate) fn length_of(&self, id: gix::ObjectId) -> Result<u64, GitError> {
        let header = self.0.find_header(id).map_err(|error| broken(&error))?;
        Ok(header.size())
    }

    /// What is in an object.
    pub(crate) fn content_of(&self, id: gix::ObjectId) -> Result<Vec<u8>, GitError> {
        let object = self.0.find_object(id).map_err(|error| broken(&error))?;
        Ok(object.detach().data)
    }

    /// The id of a commit's tree.
    pub(crate) fn tree(&self, commit: &CommitId) -> Result<String, GitError> {
        let commit = self.0.find_commit(object_id(commit)?);
        let tree = commit.and_then(|commit| commit.tree_id().map(|id| id.to_string()));
        tree.map_err(|error| broken(&error))
    }
}

/// The remote's branch that a new branch would clash with.
pub(crate) fn clash_on_remote(
    refs: &Refs,
    branch: &BranchName,
) -> Result<Option<String>, GitError> {
    if refs.is_free(REMOTE, branch.as_str()) {
        return Ok(None);
    }
    let clashes = refs.clashes(REMOTE, branch.as_str())?;
    Ok(clashes.into_iter().next())
}

fn object_id(commit: &CommitId) -> Result<gix::ObjectId, GitError> {
    gix::ObjectId::from_hex(commit.as_str().as_bytes()).map_err(|error| broken(&error))
}

/// Turns an error of gix's, whose causes show in its debug text only, into one of ours.
pub(crate) fn broken(error: &(impl std::fmt::Display + std::fmt::Debug)) -> GitError {
    let all = format!("{error:?}");
    match verdict::lock_in_the_way(&all) {
        Some(path) => GitError::Locked { path },
        None if all.contains("No space left on device") => GitError::DiskFull { verb: "refs" },
        None => GitError::Repository(verdict::shortened(&format!("{error}: {all}"))),
    }
}
