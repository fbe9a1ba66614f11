//! What jobs, killed programs and broken off removals have left on the disk.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_domain::{BranchName, FoundWorkspace, JobId, Reclaimed, RepoSlug, WorkOrigin};

use crate::mirror::{blocking, blocking_under, is_complete, unfinished};
use crate::worktree::owned_branch;
use crate::{Git, GitError, Workspace, stale, trash};

/// A workspace of a job nobody knows is left alone until nothing has changed there for so long.
const UNKNOWN_AGE: Duration = Duration::from_hours(24);
/// A lock file or an unfinished download that was not touched for so long is nobody's, if no git
/// is at work in the repository.
const FILE_AGE: Duration = Duration::from_hours(1);
/// The same for an unfinished object when its room is needed: a git of ours that nobody sees at work
/// writes small ones only.
const OBJECT_AGE: Duration = Duration::from_secs(1);
/// Longest search for such files, in directories.
const DIRS_MAX: usize = 10_000;

impl Git {
    /// Every workspace, also one of which only git's own files in the mirror are left.
    pub(crate) fn find_workspaces(&self) -> Vec<FoundWorkspace> {
        let mut found = Vec::new();
        for repo in self.find_repositories() {
            let places = [
                self.workspaces_of(&repo),
                self.mirror_path(&repo).join("worktrees"),
            ];
            let jobs: BTreeSet<String> = places.iter().flat_map(|dir| names(dir)).collect();
            let jobs = jobs.iter().filter_map(|name| name.parse::<JobId>().ok());
            found.extend(jobs.map(|job| FoundWorkspace {
                repo: repo.clone(),
                job,
            }));
        }
        found
    }

    /// Every repository that has a mirror or workspaces.
    pub(crate) fn find_repositories(&self) -> Vec<RepoSlug> {
        let mirrors = pairs(&self.inner.repos_dir);
        let mirrors = mirrors.filter_map(|(org, name)| {
            let repo = name.strip_suffix(".git")?.to_owned();
            Some((org, repo))
        });
        let all: BTreeSet<_> = mirrors.chain(pairs(&self.inner.worktrees_dir)).collect();
        all.iter()
            .filter_map(|(org, repo)| RepoSlug::new(org, repo).ok())
            .collect()
    }

    /// Keeps what was not delivered, and removes the workspace.
    pub(crate) async fn reclaim_workspace(
        &self,
        found: &FoundWorkspace,
        origin: Option<&WorkOrigin>,
    ) -> Result<Reclaimed, GitError> {
        let FoundWorkspace { repo, job } = found;
        let workspace = self.found(found, origin)?;
        if !workspace.admin().exists() && !workspace.path().exists() {
            return Ok(Reclaimed::Nothing);
        }
        let looked_at = workspace.clone();
        let is_known = origin.is_some();
        let why = blocking(move || Ok(reason_to_stay(&looked_at, is_known))).await?;
        if let Some(why) = why {
            return Ok(Reclaimed::Kept { why });
        }
        // Without a mirror there is nowhere to keep anything: it was removed with its client.
        let saved = if is_complete(workspace.mirror()) {
            self.save_work(&workspace, *job).await?
        } else {
            None
        };
        let branch = workspace.branch().clone();
        self.remove_workspace(repo, *job, &branch).await?;
        Ok(Reclaimed::Removed { saved })
    }

    /// Describes what was found as well as can be.
    fn found(
        &self,
        found: &FoundWorkspace,
        origin: Option<&WorkOrigin>,
    ) -> Result<Workspace, GitError> {
        let FoundWorkspace { repo, job } = found;
        let name = |text: &str| text.parse::<BranchName>();
        let fallback = name(&format!("agent-server/{job}"));
        let fallback = fallback.map_err(|error| GitError::Repository(error.to_string()))?;
        let admin = self.mirror_path(repo).join("worktrees");
        let admin = admin.join(job.to_string());
        let branch = origin.map(|origin| origin.branch.clone());
        let branch = branch.or_else(|| name(&owned_branch(&admin)?).ok());
        let nothing = "0".repeat(40).parse();
        let nothing = nothing.map_err(|error| GitError::Repository(format!("{error}")))?;
        let base = origin.and_then(|origin| origin.base.clone());
        let (branch, base) = (branch.unwrap_or(fallback), base.unwrap_or(nothing));
        Ok(self.workspace(repo, *job, &branch, &base))
    }

    /// Gives back what a git that found the disk full has left unfinished: it takes up all the room
    /// that there was.
    pub async fn give_back_room(&self, repo: &RepoSlug) -> Result<usize, GitError> {
        tokio::time::sleep(OBJECT_AGE).await;
        self.sweep_older_than(repo, OBJECT_AGE).await
    }

    /// Removes what nobody will ever come back for. Returns how much that was.
    pub(crate) async fn sweep_repository(&self, repo: &RepoSlug) -> Result<usize, GitError> {
        self.sweep_older_than(repo, FILE_AGE).await
    }

    /// `object_age` is how long unfinished objects are left alone.
    async fn sweep_older_than(
        &self,
        repo: &RepoSlug,
        object_age: Duration,
    ) -> Result<usize, GitError> {
        let mirror = self.mirror_path(repo);
        let workspaces = self.workspaces_of(repo);
        // Only with the lock is it certain that none of our own gits is at work.
        let Some(lock) = self.inner.locks.try_acquire(&mirror)? else {
            return Ok(0);
        };
        // An agent can have put links in the place of the mirror's own directories.
        self.settle(repo, &lock).await?;
        blocking_under(lock, move || {
            let mut swept = Swept(0);
            for dir in [Some(workspaces.as_path()), mirror.parent()] {
                for name in dir.map(names).into_iter().flatten() {
                    let is_ours = dir != mirror.parent() || is_of(&name, &mirror);
                    if name.starts_with(".removed-") && is_ours {
                        swept.remove(&dir.unwrap_or(Path::new("")).join(name));
                    }
                }
            }
            swept.remove(&unfinished(&mirror));
            if stale::git_at_work(&[&mirror, &workspaces]) == Some(false) {
                sweep_mirror(&mirror, &workspaces, object_age, &mut swept);
            }
            Ok(swept.0)
        })
        .await
    }
}

/// Whether any job has a workspace of the mirror.
pub(crate) fn has_workspaces(mirror: &Path, workspaces: &Path) -> bool {
    let mut all = names(&mirror.join("worktrees")).chain(names(workspaces));
    all.any(|name| !name.starts_with('.'))
}

/// Why a workspace must not be removed now.
fn reason_to_stay(workspace: &Workspace, is_known: bool) -> Option<&'static str> {
    if stale::at_work(&[workspace.path()]) == Some(true) {
        return Some("a process is at work in it");
    }
    if is_known {
        return None;
    }
    let index = workspace.admin().join("index");
    let places = [workspace.path(), &workspace.admin(), &index];
    let ages = places.iter().filter_map(|place| age(place));
    if ages.min().is_some_and(|age| age < UNKNOWN_AGE) {
        return Some("no job is known for it, and it was used not long ago");
    }
    let nowhere = workspace.path().exists() && !is_complete(workspace.mirror());
    nowhere.then_some("no job is known for it, and there is no mirror to keep its work in")
}

/// Counts what is removed.
struct Swept(usize);

impl Swept {
    fn remove(&mut self, path: &Path) {
        if path.symlink_metadata().is_err() {
            return;
        }
        match trash::delete(path) {
            Ok(()) => self.0 += 1,
            Err(error) => tracing::warn!(path = %path.display(), %error, "not removed"),
        }
    }
}

/// Removes lock files, unfinished downloads and worktrees of killed programs.
fn sweep_mirror(mirror: &Path, workspaces: &Path, object_age: Duration, swept: &mut Swept) {
    let mut dirs = vec![mirror.to_owned()];
    let mut looked_at = 0;
    while let Some(dir) = dirs.pop().filter(|_| looked_at < DIRS_MAX) {
        looked_at += 1;
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            // Locks may also be held by ourselves, for moments.
            let is_object = dir.starts_with(mirror.join("objects"));
            let enough = if is_object { object_age } else { FILE_AGE };
            let is_old = || age(&path).is_some_and(|age| age >= enough);
            if is_temporary(mirror, &dir, &name) {
                if is_old() {
                    swept.remove(&path);
                }
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(path);
            }
        }
    }
    for name in names(&mirror.join("worktrees")) {
        let admin = mirror.join("worktrees").join(&name);
        let is_ours = name.parse::<JobId>().is_ok();
        if !is_ours && !has_jobs(workspaces) && is_abandoned(&admin) {
            swept.remove(&admin);
        }
    }
}

/// Names that git gives to files until they are finished: of refs and settings, of objects, of
/// packs it receives, of packs it makes.
fn is_temporary(mirror: &Path, dir: &Path, name: &str) -> bool {
    if dir.starts_with(mirror.join("objects")) {
        name.starts_with("tmp_") || name.starts_with(".tmp-") || name.starts_with("incoming-")
    } else {
        // No ref can have a name that ends like this.
        Path::new(name)
            .extension()
            .is_some_and(|ending| ending == "lock")
            || (dir == mirror && name.starts_with("agent-index-"))
    }
}

fn has_jobs(workspaces: &Path) -> bool {
    names(workspaces).any(|name| name.parse::<JobId>().is_ok())
}

/// Whether a worktree an agent has made beside its own is gone.
fn is_abandoned(admin: &Path) -> bool {
    let tree = fs::read_to_string(admin.join("gitdir"));
    tree.is_ok_and(|tree| !Path::new(tree.trim_end()).exists())
}

/// Whether something was put aside for this mirror.
fn is_of(name: &str, mirror: &Path) -> bool {
    let own = mirror.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(&format!(".removed-{own}-"))
}

fn age(path: &Path) -> Option<Duration> {
    let modified = path.symlink_metadata().and_then(|meta| meta.modified());
    // One from the future may have been made a moment ago, while our clock was set back.
    Some(modified.ok()?.elapsed().unwrap_or_default())
}

/// `<a>/<b>` for every directory two levels below `dir`.
fn pairs(dir: &Path) -> impl Iterator<Item = (String, String)> + use<> {
    let dir: PathBuf = dir.to_owned();
    let orgs: Vec<String> = names(&dir).collect();
    orgs.into_iter().flat_map(move |org| {
        let repos: Vec<String> = names(&dir.join(&org)).collect();
        repos.into_iter().map(move |repo| (org.clone(), repo))
    })
}

fn names(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}
