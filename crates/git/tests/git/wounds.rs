//! What a killed git or a killed server leaves behind, and going on from there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::bed::{Bed, branch, git, in_both_layouts, job};

in_both_layouts! {
    stale_locks_do_not_stop_a_job,
    stale_locks_do_not_keep_work_from_being_saved,
    calls_cut_off_anywhere_can_be_repeated,
}

/// A lock file as a git that was killed a while ago has left it.
fn stale(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create(path).unwrap();
    let then = SystemTime::now() - Duration::from_mins(5);
    file.set_modified(then).unwrap();
}

fn admin(bed: &Bed) -> PathBuf {
    bed.mirror().join("worktrees").join(job(1).to_string())
}

#[tokio::test]
async fn stale_locks_of_the_mirror_do_not_stop_a_fetch() {
    let bed = Bed::new();
    bed.publish("HEAD:refs/heads/old");
    bed.fetch().await;
    git(&bed.mirror(), &["pack-refs", "--all"]);
    bed.author_commits("more");
    bed.publish("HEAD:refs/heads/main");
    bed.publish(":refs/heads/old");
    for name in [
        "packed-refs.lock",
        "refs/remotes/origin/main.lock",
        "HEAD.lock",
        "config.lock",
    ] {
        stale(&bed.mirror().join(name));
    }
    assert_eq!(bed.fetch().await.to_string(), bed.on_remote("main"));
    let refs = git(&bed.mirror(), &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/remotes/origin/main");
}

async fn stale_locks_do_not_stop_a_job(bed: Bed) {
    let x = branch("x");
    bed.fetch().await;
    let of_the_branch = bed.mirror().join("refs/heads/x.lock");
    stale(&of_the_branch);
    let workspace = bed.workspace(1, "x").await;
    fs::write(workspace.path().join("new"), "").unwrap();
    // Just left: the agent is gone, so nobody can be holding them.
    for name in ["index.lock", "HEAD.lock"] {
        File::create(admin(&bed).join(name)).unwrap();
    }
    stale(&of_the_branch);
    let head = bed.git.commit_all(&workspace, "m").await.unwrap();
    assert_ne!(&head, workspace.base());
    bed.git.push(&bed.repo, &head, &x).await.unwrap();
    stale(&of_the_branch);
    stale(&bed.mirror().join("packed-refs.lock"));
    for _ in 0..2 {
        let removed = bed.git.remove_workspace(&bed.repo, job(1), &x).await;
        removed.unwrap();
    }
    assert!(!workspace.path().exists());
}

async fn stale_locks_do_not_keep_work_from_being_saved(bed: Bed) {
    let workspace = bed.workspace(1, "x").await;
    fs::write(workspace.path().join("new"), "").unwrap();
    File::create(admin(&bed).join("index.lock")).unwrap();
    let of_the_ref = format!("refs/agent/{}.lock", job(1));
    stale(&bed.mirror().join(of_the_ref));
    let of_the_index = format!("agent-index-{}.lock", job(1));
    stale(&bed.mirror().join(of_the_index));
    let saved = bed.git.save_work(&workspace, job(1)).await.unwrap();
    assert!(saved.is_some());
}

#[tokio::test]
async fn a_workspace_half_made_is_made_anew() {
    for wound in 0..6 {
        let bed = Bed::new();
        let workspace = bed.workspace(1, "x").await;
        let forget = || drop(git(&bed.mirror(), &["update-ref", "-d", "refs/heads/x"]));
        match wound {
            0 => fs::remove_dir_all(workspace.path()).unwrap(),
            1 => fs::remove_file(admin(&bed).join("gitdir")).unwrap(),
            2 => fs::remove_file(admin(&bed).join("index")).unwrap(),
            // Killed between its record and its branch.
            3 => forget(),
            // Killed between the removal of the branch and that of the files.
            4 => {
                forget();
                fs::remove_dir_all(admin(&bed)).unwrap();
            }
            // Records lost: the branch belongs to nobody any more.
            _ => fs::remove_dir_all(admin(&bed)).unwrap(),
        }
        let workspace = bed.workspace(1, "x").await;
        let tree = workspace.path();
        assert_eq!(git(tree, &["status", "--porcelain"]), "", "wound {wound}");
        assert_eq!(git(tree, &["symbolic-ref", "HEAD"]), "refs/heads/x");
    }
}

async fn calls_cut_off_anywhere_can_be_repeated(bed: Bed) {
    let x = branch("x");
    let base = bed.fetch().await;
    for step in 0..40_u64 {
        let limit = Duration::from_micros(step * 400);
        let add = bed
            .git
            .add_workspace(&bed.repo, job(1), &x, &base, bed.layout);
        drop(tokio::time::timeout(limit, add).await);
        if step % 4 == 0 {
            let remove = bed.git.remove_workspace(&bed.repo, job(1), &x);
            drop(tokio::time::timeout(limit, remove).await);
        }
    }
    let workspace = bed
        .git
        .add_workspace(&bed.repo, job(1), &x, &base, bed.layout)
        .await;
    let workspace = workspace.unwrap();
    let tree = workspace.path();
    assert_eq!(git(tree, &["status", "--porcelain"]), "");
    fs::write(tree.join("new"), "").unwrap();
    for step in 0..20_u64 {
        let commit = bed.git.commit_all(&workspace, "m");
        drop(tokio::time::timeout(Duration::from_micros(step * 700), commit).await);
    }
    bed.git.commit_all(&workspace, "m").await.unwrap();
    assert_eq!(git(tree, &["rev-list", "--count", "HEAD"]), "2");
    let removed = bed.git.remove_workspace(&bed.repo, job(1), &x).await;
    removed.unwrap();
    let left = fs::read_dir(tree.parent().unwrap()).unwrap();
    assert_eq!(left.count(), 0);
}
