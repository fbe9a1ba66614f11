//! Pushing a branch that nobody else has.

use std::fs;

use agent_domain::{CommitId, Mirrors as _};
use agent_git::GitError;

use crate::bed::{Bed, branch, git, make_executable};

async fn push(bed: &Bed, head: &CommitId, name: &str) -> Result<(), GitError> {
    bed.git.push(&bed.repo, head, &branch(name)).await
}

async fn refused(bed: &Bed, head: &CommitId, name: &str) -> GitError {
    push(bed, head, name).await.unwrap_err()
}

#[tokio::test]
async fn a_push_may_be_repeated_and_is_known_afterwards() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "x/y").await;
    fs::write(workspace.path().join("new"), "").unwrap();
    let head = bed.git.commit_all(&workspace, "m").await.unwrap();
    for _ in 0..2 {
        push(&bed, &head, "x/y").await.unwrap();
        assert_eq!(bed.on_remote("x/y"), head.as_str());
    }
    let known = bed.git.clashing_branch(&bed.repo, &branch("x")).await;
    assert_eq!(known, Some("x/y".into()), "without another fetch");
}

#[tokio::test]
async fn the_base_itself_can_be_pushed() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "x").await;
    push(&bed, workspace.base(), "x").await.unwrap();
    assert_eq!(bed.on_remote("x"), workspace.base().as_str());
}

#[tokio::test]
async fn a_branch_someone_made_meanwhile_is_left_as_it_is() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "x").await;
    fs::write(workspace.path().join("new"), "").unwrap();
    let head = bed.git.commit_all(&workspace, "m").await.unwrap();
    // Even one that ours would only carry on from.
    bed.publish("HEAD:refs/heads/x");
    let theirs = bed.on_remote("x");
    for _ in 0..2 {
        let error = refused(&bed, &head, "x").await;
        assert!(matches!(error, GitError::BranchExists { .. }), "{error}");
        assert!(!error.is_transient());
        assert_eq!(bed.on_remote("x"), theirs);
    }
    bed.author_commits("more");
    bed.publish("HEAD:refs/heads/x");
    let error = refused(&bed, &head, "x").await;
    assert!(matches!(error, GitError::BranchExists { .. }), "{error}");
}

#[tokio::test]
async fn a_branch_that_became_a_directory_meanwhile_is_a_clash_too() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "x").await;
    bed.publish("HEAD:refs/heads/x/y");
    bed.publish("HEAD:refs/heads/z");
    for name in ["x", "z/z"] {
        let error = refused(&bed, workspace.base(), name).await;
        let clash = matches!(error, GitError::BranchExists { .. });
        assert!(clash, "{name}: {error}");
    }
}

#[tokio::test]
async fn a_remote_that_refuses_says_why() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "x").await;
    let hook = bed.remote().join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let script = "#!/bin/sh\necho 'no branches on Fridays' >&2\nexit 1\n";
    fs::write(&hook, script).unwrap();
    make_executable(&hook);
    let error = refused(&bed, workspace.base(), "x").await;
    assert!(matches!(error, GitError::Rejected { .. }), "{error}");
    assert!(
        error.to_string().contains("no branches on Fridays"),
        "{error}"
    );
    assert_eq!(bed.on_remote("x"), "");
}

#[tokio::test]
async fn a_remote_that_has_gone_is_final() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "x").await;
    fs::rename(bed.remote(), bed.path().join("gone")).unwrap();
    let error = refused(&bed, workspace.base(), "x").await;
    assert!(matches!(error, GitError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn only_the_branch_is_pushed() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "x").await;
    git(workspace.path(), &["tag", "-a", "-m", "t", "v1"]);
    git(workspace.path(), &["branch", "side"]);
    push(&bed, workspace.base(), "x").await.unwrap();
    let refs = git(&bed.remote(), &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/heads/main\nrefs/heads/x");
}
