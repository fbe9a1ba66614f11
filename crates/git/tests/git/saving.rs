//! Keeping unfinished work before its workspace goes.

use std::fs;

use agent_git::Workspace;

use crate::bed::{Bed, branch, git, in_both_layouts, job, try_git};

in_both_layouts! {
    no_work_is_not_saved,
    uncommitted_work_is_saved_and_the_workspace_not_changed,
    commits_that_were_not_pushed_are_saved_and_pushed_ones_are_not,
    a_merge_with_conflicts_is_saved,
    what_an_earlier_attempt_saved_stays,
    all_that_was_saved_of_a_job_can_be_let_go_and_nothing_else,
}

/// Saves job 1's work, removes its workspace, and lists the files kept, if any were.
async fn saved(bed: &Bed, workspace: &Workspace) -> Option<Vec<String>> {
    let name = bed.git.save_work(workspace, job(1)).await.unwrap();
    let again = bed.git.save_work(workspace, job(1)).await.unwrap();
    assert_eq!(name, again, "saving may be repeated");
    let branch = workspace.branch();
    let removed = bed.git.remove_workspace(&bed.repo, job(1), branch).await;
    removed.unwrap();
    let name = name?;
    assert_eq!(name, format!("refs/agent/{}", job(1)));
    let files = git(&bed.mirror(), &["ls-tree", "-r", "--name-only", &name]);
    Some(files.lines().map(str::to_owned).collect())
}

async fn no_work_is_not_saved(bed: Bed) {
    let workspace = bed.workspace(1, "x").await;
    assert_eq!(saved(&bed, &workspace).await, None);
}

async fn uncommitted_work_is_saved_and_the_workspace_not_changed(bed: Bed) {
    let workspace = bed.workspace(1, "x").await;
    fs::write(workspace.path().join("new"), "").unwrap();
    fs::remove_file(workspace.path().join("README")).unwrap();
    bed.git.save_work(&workspace, job(1)).await.unwrap();
    let status = git(workspace.path(), &["status", "--porcelain"]);
    assert_eq!(status, " D README\n?? new");
    let files = saved(&bed, &workspace).await;
    assert_eq!(files.unwrap(), ["new", "src/lib.rs"]);
    let parent = format!("refs/agent/{}^", job(1));
    let parent = git(&bed.mirror(), &["rev-parse", &parent]);
    assert_eq!(parent, workspace.base().as_str());
}

async fn commits_that_were_not_pushed_are_saved_and_pushed_ones_are_not(bed: Bed) {
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    git(tree, &["commit", "--quiet", "--allow-empty", "-m", "own"]);
    let head = git(tree, &["rev-parse", "HEAD"]);
    let name = bed.git.save_work(&workspace, job(1)).await.unwrap();
    assert_eq!(git(&bed.mirror(), &["rev-parse", &name.unwrap()]), head);

    let other = bed.workspace(2, "y").await;
    fs::write(other.path().join("new"), "").unwrap();
    let head = bed.git.commit_all(&other, "m").await.unwrap();
    let pushed = bed.git.push(&bed.repo, &head, &branch("y")).await;
    pushed.unwrap();
    assert_eq!(bed.git.save_work(&other, job(2)).await.unwrap(), None);
}

async fn a_merge_with_conflicts_is_saved(bed: Bed) {
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    let base = workspace.base().as_str();
    for (name, text) in [("side", "theirs"), ("x", "ours")] {
        git(tree, &["checkout", "--quiet", "-B", name, base]);
        fs::write(tree.join("README"), text).unwrap();
        git(tree, &["commit", "--quiet", "-am", name]);
    }
    assert_eq!(try_git(tree, &["merge", "side"]), None);
    assert!(saved(&bed, &workspace).await.is_some());
    let name = format!("refs/agent/{}:README", job(1));
    assert!(git(&bed.mirror(), &["show", &name]).contains("<<<<<<<"));
}

#[tokio::test]
async fn broken_workspaces_are_saved_as_far_as_can_be() {
    for wound in 0..6 {
        let bed = Bed::new();
        let workspace = bed.workspace(1, "x").await;
        let tree = workspace.path();
        let admin = bed.mirror().join("worktrees").join(job(1).to_string());
        fs::write(tree.join("new"), "").unwrap();
        match wound {
            0 => fs::write(admin.join("HEAD"), "").unwrap(),
            1 => fs::write(admin.join("index"), "no index").unwrap(),
            2 => drop(git(tree, &["checkout", "--quiet", "--orphan", "nothing"])),
            3 => fs::remove_dir_all(&admin).unwrap(),
            4 => fs::remove_file(tree.join(".git")).unwrap(),
            _ => fs::write(admin.join("HEAD"), "1".repeat(40)).unwrap(),
        }
        let files = saved(&bed, &workspace).await.unwrap();
        assert_eq!(files, ["README", "new", "src/lib.rs"], "wound {wound}");
        assert!(!tree.exists());
    }
}

#[tokio::test]
async fn a_workspace_that_is_not_there_has_nothing_to_save() {
    let bed = Bed::new();
    let base = bed.fetch().await;
    let workspace = bed.git.workspace(&bed.repo, job(1), &branch("x"), &base);
    assert_eq!(saved(&bed, &workspace).await, None);
}

async fn what_an_earlier_attempt_saved_stays(bed: Bed) {
    for file in ["first", "second"] {
        let workspace = bed.workspace(1, "x").await;
        fs::write(workspace.path().join(file), "").unwrap();
        saved(&bed, &workspace).await.unwrap();
    }
    let files = |name: &str| git(&bed.mirror(), &["ls-tree", "--name-only", name]);
    let name = format!("refs/agent/{}", job(1));
    assert_eq!(files(&name), "README\nsecond\nsrc");
    assert_eq!(files(&format!("{name}-1")), "README\nfirst\nsrc");
}

async fn all_that_was_saved_of_a_job_can_be_let_go_and_nothing_else(bed: Bed) {
    for (number, text) in [(1, "first"), (1, "second"), (2, "other")] {
        let workspace = bed.workspace(number, &format!("b{number}")).await;
        fs::write(workspace.path().join("new"), text).unwrap();
        bed.git.save_work(&workspace, job(number)).await.unwrap();
        let branch = workspace.branch();
        let removed = bed.git.remove_workspace(&bed.repo, job(number), branch);
        removed.await.unwrap();
    }
    let kept = || {
        git(
            &bed.mirror(),
            &["for-each-ref", "--format=%(refname)", "refs/agent"],
        )
    };
    assert_eq!(kept().lines().count(), 3, "{}", kept());
    for _ in 0..2 {
        bed.git.forget_work(&bed.repo, job(1)).await.unwrap();
        assert_eq!(kept(), format!("refs/agent/{}", job(2)));
    }
}
