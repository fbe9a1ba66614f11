//! The files by which git knows a linked worktree, and by which we know whose it is.
//!
//! As gitrepository-layout(5) has them: `<mirror>/worktrees/<job>/{HEAD,commondir,gitdir}` and
//! `<workspace>/.git`. Beside them `locked`, so that neither `git worktree prune` nor `remove` of
//! an agent takes a workspace away, and our own `agent-branch`, written before the branch is made.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use agent_domain::{BranchName, CommitId, JobId, RepoSlug};

use crate::refs::{LOCAL, REMOTE, Refs};
use crate::settle::COMMONDIR;
use crate::stale::{Private, Scope};
use crate::{Git, GitError, Layout, owned, relic, takeover, trash};

/// Holds the full name of the branch made for the job.
const BRANCH_FILE: &str = "agent-branch";

/// The directory a job works in, and what it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    repo: RepoSlug,
    job: JobId,
    branch: BranchName,
    base: CommitId,
    /// Where the branch begins, in place of the base.
    start: Option<CommitId>,
    /// Whether the branch is on the remote already, as work of ours.
    is_pushed: bool,
    path: PathBuf,
    mirror: PathBuf,
}

impl Workspace {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The repository.
    pub fn repo(&self) -> &RepoSlug {
        &self.repo
    }

    /// The job.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// The branch made for the job.
    pub fn branch(&self) -> &BranchName {
        &self.branch
    }

    /// The commit it was made from.
    pub fn base(&self) -> &CommitId {
        &self.base
    }

    /// The commit that is checked out when it is made.
    pub fn start(&self) -> &CommitId {
        self.start.as_ref().unwrap_or(&self.base)
    }

    /// The same with a branch that begins at `start`, further than the base; `is_pushed` says that the
    /// remote has it already, as work of ours.
    #[must_use]
    pub fn going_on(self, start: CommitId, is_pushed: bool) -> Self {
        Self {
            start: Some(start),
            is_pushed,
            ..self
        }
    }

    pub(crate) fn mirror(&self) -> &Path {
        &self.mirror
    }

    /// An index beside git's own, for work that is saved whatever state that one is in.
    pub(crate) fn save_index(&self) -> PathBuf {
        self.mirror.join(format!("agent-index-{}", self.job))
    }

    /// Git's own files about it.
    pub(crate) fn admin(&self) -> PathBuf {
        self.mirror.join("worktrees").join(self.job.to_string())
    }
}

impl Git {
    /// Describes the workspace of a job, whether it is there or not: for a server that was
    /// restarted after [`Git::add_workspace`].
    pub fn workspace(
        &self,
        repo: &RepoSlug,
        job: JobId,
        branch: &BranchName,
        base: &CommitId,
    ) -> Workspace {
        Workspace {
            repo: repo.clone(),
            job,
            branch: branch.clone(),
            base: base.clone(),
            start: None,
            is_pushed: false,
            path: self.workspace_path(repo, job),
            mirror: self.mirror_path(repo),
        }
    }

    /// As [`Git::scope`], for a workspace whose agent has ended.
    pub(crate) fn scope_of(&self, workspace: &Workspace) -> Scope {
        let private = Private {
            admin: workspace.admin(),
            tree: workspace.path().to_owned(),
        };
        Scope {
            private: Some(private),
            ..self.scope(workspace.repo())
        }
    }
}

/// Makes the branch and the worktree, without files in it. The repository's lock is held.
pub(crate) fn register(workspace: &Workspace, layout: Layout) -> Result<(), GitError> {
    unregister(workspace)?;
    let refs = Refs::open(workspace.mirror())?;
    let own = workspace.branch.as_str();
    let mut clashes = refs.clashes(REMOTE, own)?;
    clashes.retain(|name| !(workspace.is_pushed && name == own));
    if let Some(existing) = clashes.pop() {
        return Err(GitError::BranchExists { existing });
    }
    make_room(workspace, &refs)?;
    let admin = workspace.admin();
    let failed = |source| GitError::io("create", &admin, source);
    let head = workspace.branch.full_ref();
    fs::create_dir_all(&admin).map_err(failed)?;
    let locked = format!("agent-server job {}\n", workspace.job);
    for (name, content) in [
        ("locked", locked),
        (BRANCH_FILE, format!("{head}\n")),
        ("commondir", COMMONDIR.into()),
        ("HEAD", format!("ref: {head}\n")),
    ] {
        fs::write(admin.join(name), content).map_err(failed)?;
    }
    refs.create(&head, workspace.start())?;
    let tree = &workspace.path;
    fs::create_dir_all(tree).map_err(|source| GitError::io("create", tree, source))?;
    match layout {
        Layout::Linked => link(workspace),
        Layout::Owned => owned::mark(workspace),
    }
}

/// Makes workspace and administrative directory name each other, as a linked worktree's do.
pub(crate) fn link(workspace: &Workspace) -> Result<(), GitError> {
    let admin = workspace.admin();
    let link = workspace.path().join(".git");
    for (file, content) in [
        (&link, line("gitdir: ", &admin)),
        (&admin.join("gitdir"), line("", &link)),
    ] {
        trash::delete(file)?;
        fs::write(file, content).map_err(|source| GitError::io("create", file, source))?;
    }
    Ok(())
}

/// Sets what the workspace has checked out.
pub(crate) fn write_head(workspace: &Workspace, text: &str) -> Result<(), GitError> {
    let file = workspace.admin().join("HEAD");
    fs::write(&file, text).map_err(|source| GitError::io("write", &file, source))
}

/// The branch that was made for the workspace whose administrative directory is `admin`.
pub(crate) fn owned_branch(admin: &Path) -> Option<String> {
    let name = fs::read_to_string(admin.join(BRANCH_FILE)).ok()?;
    Some(name.trim_end().strip_prefix(LOCAL)?.to_owned())
}

/// Removes the branch and the worktree of a job, as far as they are there and its own; the files
/// are set aside, to be deleted without the lock. The repository's lock is held.
pub(crate) fn unregister(workspace: &Workspace) -> Result<(), GitError> {
    let admin = workspace.admin();
    let branch = workspace.branch.full_ref();
    let made_for_it = relic::text(&admin.join(BRANCH_FILE), 4096).trim_end() == branch;
    if made_for_it && !others(workspace).any(|other| other.holds(&branch)) {
        Refs::open(workspace.mirror())?.delete(&branch)?;
    }
    sweep(workspace)?;
    takeover::clear(workspace)?;
    trash::set_aside(&workspace.path)?;
    trash::delete(&workspace.save_index())?;
    trash::delete(&admin)
}

/// Refuses the branch when another job's is in its way. What is in its way and belongs to no
/// job any more, such as a branch an agent made besides its own, is kept under another name.
fn make_room(workspace: &Workspace, refs: &Refs) -> Result<(), GitError> {
    for existing in refs.clashes(LOCAL, workspace.branch.as_str())? {
        // A living agent may have made it and be on another branch now.
        if others(workspace).next().is_some() {
            return Err(GitError::BranchExists { existing });
        }
        let name = format!("{LOCAL}{existing}");
        if let Some(commit) = refs.commit(&name)? {
            set_aside(refs, &name, &commit)?;
        }
    }
    // Nobody's branch yet, but some job is about to make it.
    let wanted = workspace.branch.full_ref();
    match others(workspace).find(|other| other.holds(&wanted)) {
        Some(_) => Err(GitError::BranchExists {
            existing: workspace.branch.to_string(),
        }),
        None => Ok(()),
    }
}

/// Once no job is at work in a mirror, takes away the branches its agents have made besides
/// their own: a later agent would take them for the remote's.
fn sweep(workspace: &Workspace) -> Result<(), GitError> {
    if !workspace.mirror.exists() || others(workspace).next().is_some() {
        return Ok(());
    }
    let refs = Refs::open(workspace.mirror())?;
    let own = workspace.branch.full_ref();
    for (name, commit) in refs.below(LOCAL)? {
        if name != own {
            set_aside(&refs, &name, &commit)?;
        }
    }
    // A later agent's git would show it another history.
    for name in refs.targets("refs/replace/")?.keys() {
        refs.delete(name)?;
    }
    Ok(())
}

/// Removes a branch that belongs to no job. Its commit stays, under its own id, unless it is one
/// of the remote's.
fn set_aside(refs: &Refs, name: &str, commit: &CommitId) -> Result<(), GitError> {
    keep_left(refs, commit)?;
    tracing::info!(branch = name, %commit, "a branch without a job is taken away");
    refs.delete(name)
}

/// Keeps a commit that no branch will hold any more, unless it is one of the remote's.
pub(crate) fn keep_left(refs: &Refs, commit: &CommitId) -> Result<(), GitError> {
    let known = refs.targets(REMOTE)?;
    if known.values().any(|tip| tip == commit.as_str()) {
        return Ok(());
    }
    refs.set(&format!("refs/agent/left/{commit}"), commit)
}

/// The administrative directory of another worktree of the same mirror.
struct Other(PathBuf);

impl Other {
    /// Whether the branch was made for it.
    fn was_made_for(&self, full_ref: &str) -> bool {
        self.says(BRANCH_FILE, "", full_ref)
    }

    /// Whether the branch was made for it, or is checked out in it.
    fn holds(&self, full_ref: &str) -> bool {
        self.was_made_for(full_ref) || self.says("HEAD", "ref: ", full_ref)
    }

    fn says(&self, file: &str, start: &str, full_ref: &str) -> bool {
        let text = relic::text(&self.0.join(file), 4096);
        text.trim_end().strip_prefix(start) == Some(full_ref)
    }
}

/// The jobs, other than the workspace's own, whose worktree was made for its branch.
pub(crate) fn made_for_the_same(workspace: &Workspace) -> Vec<JobId> {
    let branch = workspace.branch.full_ref();
    others(workspace)
        .filter(|other| other.was_made_for(&branch))
        .filter_map(|Other(admin)| admin.file_name()?.to_str()?.parse().ok())
        .collect()
}

fn others(workspace: &Workspace) -> impl Iterator<Item = Other> {
    let own = OsString::from(workspace.job.to_string());
    let entries = fs::read_dir(workspace.mirror.join("worktrees"));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter(move |entry| entry.file_name() != own)
        .map(|entry| Other(entry.path()))
}

/// A line of a file of git's that names a path, which may be of any bytes but a line feed.
fn line(start: &str, path: &Path) -> Vec<u8> {
    let mut line = start.as_bytes().to_vec();
    line.extend_from_slice(path.as_os_str().as_encoded_bytes());
    line.push(b'\n');
    line
}
