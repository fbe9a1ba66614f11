//! Workspaces: made anew, next to each other, removed without a trace.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use agent_git::GitError;

use crate::bed::{Bed, branch, git, in_both_layouts, job, try_git};

in_both_layouts! {
    a_second_try_of_the_same_job_begins_anew,
    a_removed_workspace_leaves_nothing_and_may_be_removed_again,
    removing_the_workspace_of_one_job_leaves_the_others,
    eight_jobs_of_two_servers_work_in_one_repository_at_once,
}

/// The branch for whose sake `name` is refused to job `n`.
async fn in_the_way(bed: &Bed, n: u8, name: &str) -> String {
    let base = bed.fetch().await;
    let name = branch(name);
    let made = bed
        .git
        .add_workspace(&bed.repo, job(n), &name, &base, bed.layout);
    match made.await {
        Err(GitError::BranchExists { existing }) => existing,
        other => panic!("{name}: {other:?}"),
    }
}

async fn remove(bed: &Bed, n: u8, name: &str) {
    let name = branch(name);
    let removed = bed.git.remove_workspace(&bed.repo, job(n), &name);
    removed.await.unwrap();
}

#[tokio::test]
async fn a_workspace_is_a_worktree_on_its_own_branch() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "feature/x").await;
    let tree = workspace.path();
    assert_eq!(tree, bed.git.workspace_path(&bed.repo, job(1)));
    assert_eq!(git(tree, &["symbolic-ref", "HEAD"]), "refs/heads/feature/x");
    assert_eq!(git(tree, &["status", "--porcelain"]), "");
    assert_eq!(git(tree, &["rev-parse", "HEAD"]), workspace.base().as_str());
    assert_eq!(fs::read_to_string(tree.join("README")).unwrap(), "hello\n");
    let listed = git(&bed.mirror(), &["worktree", "list", "--porcelain"]);
    let line = format!("worktree {}", tree.display());
    assert!(listed.contains(&line), "{listed}");
    assert!(listed.contains("locked agent-server job"), "{listed}");
    assert_eq!(git(tree, &["fsck"]), "");
}

#[tokio::test]
async fn a_branch_of_the_remote_is_never_taken() {
    let bed = Bed::new();
    bed.publish("HEAD:refs/heads/taken/here");
    assert_eq!(in_the_way(&bed, 1, "main").await, "main");
    assert_eq!(in_the_way(&bed, 1, "taken/here").await, "taken/here");
    assert_eq!(in_the_way(&bed, 1, "taken").await, "taken/here");
    assert_eq!(in_the_way(&bed, 1, "taken/here/too").await, "taken/here");
    assert!(!bed.git.workspace_path(&bed.repo, job(1)).exists());
}

#[tokio::test]
async fn a_branch_of_another_job_is_never_taken() {
    let bed = Bed::new();
    let other = bed.workspace(1, "a/b").await;
    for name in ["a/b", "a", "a/b/c"] {
        assert_eq!(in_the_way(&bed, 2, name).await, "a/b");
    }
    // Nor one that its agent has made.
    git(other.path(), &["checkout", "--quiet", "-b", "side"]);
    assert_eq!(in_the_way(&bed, 2, "side").await, "side");
    assert_eq!(in_the_way(&bed, 2, "a/b").await, "a/b");
    bed.workspace(2, "a/c").await;
    assert!(other.path().join("README").exists());
}

async fn a_second_try_of_the_same_job_begins_anew(bed: Bed) {
    let first = bed.workspace(1, "x").await;
    fs::write(first.path().join("left"), "over").unwrap();
    git(first.path(), &["add", "-A"]);
    git(first.path(), &["commit", "--quiet", "-m", "left over"]);
    let second = bed.workspace(1, "x").await;
    assert_eq!(first, second);
    let tree = second.path();
    assert_eq!(git(tree, &["rev-parse", "HEAD"]), second.base().as_str());
    assert!(!tree.join("left").exists());
    assert_eq!(git(tree, &["status", "--porcelain"]), "");
}

async fn a_removed_workspace_leaves_nothing_and_may_be_removed_again(bed: Bed) {
    let workspace = bed.workspace(1, "x").await;
    let sealed = workspace.path().join("mod/cache");
    fs::create_dir_all(&sealed).unwrap();
    fs::write(sealed.join("file"), "").unwrap();
    fs::set_permissions(&sealed, fs::Permissions::from_mode(0o555)).unwrap();
    for _ in 0..2 {
        remove(&bed, 1, "x").await;
        let dir = workspace.path().parent().unwrap();
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
        let refs = git(&bed.mirror(), &["for-each-ref", "--format=%(refname)"]);
        assert_eq!(refs, "refs/remotes/origin/main");
        let admin = bed.mirror().join("worktrees").join(job(1).to_string());
        assert!(!admin.exists());
    }
    bed.workspace(2, "x").await;
}

async fn removing_the_workspace_of_one_job_leaves_the_others(bed: Bed) {
    let other = bed.workspace(1, "one").await;
    bed.workspace(2, "two").await;
    // A wrong name costs nobody a branch.
    remove(&bed, 2, "one").await;
    let tree = other.path();
    assert_eq!(git(tree, &["rev-parse", "HEAD"]), other.base().as_str());
    assert_eq!(git(tree, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_branch_without_a_job_makes_room_and_is_kept() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    git(tree, &["checkout", "--quiet", "-b", "side"]);
    git(tree, &["commit", "--quiet", "--allow-empty", "-m", "aside"]);
    let commit = git(tree, &["rev-parse", "HEAD"]);
    git(tree, &["branch", "at-the-base", "HEAD^"]);
    remove(&bed, 1, "x").await;
    let branches = git(&bed.mirror(), &["for-each-ref", "refs/heads", "refs/agent"]);
    assert_eq!(
        branches,
        format!("{commit} commit\trefs/agent/left/{commit}")
    );
    bed.workspace(2, "side/by/side").await;
    remove(&bed, 2, "side/by/side").await;
    bed.workspace(3, "side/by").await;
    let kept = format!("refs/agent/left/{commit}");
    assert_eq!(git(&bed.mirror(), &["rev-parse", &kept]), commit);
}

#[tokio::test]
async fn an_agent_cannot_prune_a_workspace_away() {
    let bed = Bed::new();
    let one = bed.workspace(1, "one").await;
    let two = bed.workspace(2, "two").await;
    let tree = two.path().display().to_string();
    git(one.path(), &["worktree", "prune", "--expire=now"]);
    let removed = try_git(one.path(), &["worktree", "remove", "--force", &tree]);
    assert_eq!(removed, None);
    assert_eq!(git(two.path(), &["status", "--porcelain"]), "");
}

async fn eight_jobs_of_two_servers_work_in_one_repository_at_once(bed: Bed) {
    let servers = [bed.git.clone(), bed.other_server()];
    let mut jobs = Vec::new();
    for n in 0..8_u8 {
        let layout = bed.layout;
        let (git, repo) = (servers[usize::from(n % 2)].clone(), bed.repo.clone());
        jobs.push(tokio::spawn(async move {
            let name = branch(&format!("job/{n}"));
            let base = git.fetch_base(&repo, &branch("main")).await.unwrap();
            let workspace = git.add_workspace(&repo, job(n), &name, &base, layout).await;
            let workspace = workspace.unwrap();
            fs::write(workspace.path().join(format!("file{n}")), "x").unwrap();
            let head = git.commit_all(&workspace, "work").await.unwrap();
            let changed = git.files_changed(&repo, &base, &head).await;
            assert_eq!(changed.unwrap(), 1);
            git.push(&repo, &head, &name).await.unwrap();
            git.remove_workspace(&repo, job(n), &name).await.unwrap();
            head
        }));
    }
    for (n, job) in jobs.into_iter().enumerate() {
        let head = job.await.unwrap();
        assert_eq!(bed.on_remote(&format!("job/{n}")), head.as_str());
    }
    assert_eq!(git(&bed.mirror(), &["fsck"]), "");
    let listed = git(&bed.mirror(), &["worktree", "list"]);
    assert_eq!(listed.lines().count(), 1, "{listed}");
}

#[tokio::test]
async fn paths_and_branches_with_odd_characters_work() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("a \"b' ;#\\é");
    fs::create_dir(&odd).unwrap();
    let bed = Bed::at(tempfile::tempdir_in(&odd).unwrap());
    let name = "x;$(id)";
    let workspace = bed.workspace(1, name).await;
    fs::write(workspace.path().join("f"), "").unwrap();
    let head = bed.git.commit_all(&workspace, "m").await.unwrap();
    let pushed = bed.git.push(&bed.repo, &head, &branch(name)).await;
    pushed.unwrap();
    assert_eq!(bed.on_remote(name), head.as_str());
    let url = git(workspace.path(), &["config", "remote.origin.url"]);
    assert_eq!(url, bed.git.remote_url(&bed.repo));
}
