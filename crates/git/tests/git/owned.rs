//! Workspaces with a git directory of their own: what an agent sees there, and what is taken over.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use agent_git::{GitError, Layout, Workspace};

use crate::bed::{Bed, branch, git, job, try_git};

fn bed() -> Bed {
    Bed::with(Layout::Owned)
}

/// Everything below a directory with its size and time: what has not changed looks the same.
fn listing(dir: &Path) -> Vec<String> {
    let output = std::process::Command::new("find")
        .args([".", "-printf", "%p %s %T@ %y\n"])
        .current_dir(dir)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn commit(tree: &Path, file: &str) -> String {
    fs::write(tree.join(file), file).unwrap();
    git(tree, &["add", file]);
    git(tree, &["commit", "--quiet", "-m", file]);
    git(tree, &["rev-parse", "HEAD"])
}

/// The files of a commit in the mirror.
fn files(bed: &Bed, commit: &str) -> String {
    git(&bed.mirror(), &["ls-tree", "-r", "--name-only", commit])
}

#[tokio::test]
async fn the_agent_finds_branch_history_and_the_remotes_branches_and_writes_nothing_to_the_mirror()
{
    let bed = bed();
    bed.author_commits("second");
    bed.publish("HEAD:refs/heads/main");
    bed.publish("HEAD^:refs/heads/release/1");
    let workspace = bed.workspace(1, "feature/x").await;
    let before = listing(&bed.mirror());
    let tree = workspace.path();
    assert!(tree.join(".git").is_dir());
    assert_eq!(git(tree, &["symbolic-ref", "HEAD"]), "refs/heads/feature/x");
    assert_eq!(git(tree, &["rev-parse", "HEAD"]), workspace.base().as_str());
    assert_eq!(git(tree, &["status", "--porcelain"]), "");
    assert_eq!(
        git(tree, &["log", "--format=%s", "origin/main"]),
        "second\nfirst"
    );
    assert_eq!(
        git(tree, &["log", "--format=%s", "origin/release/1"]),
        "first"
    );
    assert_eq!(
        git(tree, &["diff", "--name-only", "origin/release/1"]),
        "second"
    );
    assert_eq!(
        git(tree, &["config", "remote.origin.url"]),
        bed.git.remote_url(&bed.repo)
    );
    assert_eq!(git(tree, &["fsck"]), "");
    commit(tree, "new");
    git(tree, &["checkout", "--quiet", "-b", "other"]);
    git(tree, &["gc", "--quiet"]);
    git(tree, &["repack", "-a", "-d", "-l", "--quiet"]);
    assert_eq!(listing(&bed.mirror()), before);
    // Only what was new is the agent's own.
    let count = git(tree, &["count-objects", "-v"]);
    assert!(count.contains("in-pack: 3"), "{count}");
}

#[tokio::test]
async fn what_git_needs_is_the_workspace_and_to_read_the_mirrors_objects() {
    let bed = bed();
    let workspace = bed.workspace(1, "x").await;
    let reach = workspace.reach(Layout::Owned);
    assert_eq!(reach.writable, [workspace.path()]);
    assert_eq!(reach.readable, [bed.mirror().join("objects")]);
    // The rest of the mirror may be out of sight.
    let hidden = bed.path().join("hidden");
    fs::create_dir(&hidden).unwrap();
    for part in ["config", "HEAD", "refs", "packed-refs", "worktrees"] {
        fs::rename(bed.mirror().join(part), hidden.join(part)).ok();
    }
    commit(workspace.path(), "new");
    assert_eq!(git(workspace.path(), &["rev-list", "--count", "HEAD"]), "2");
    let linked = workspace.reach(Layout::Linked);
    assert_eq!(linked.writable, [workspace.path(), &bed.mirror()]);
}

/// A whole job from here on.
async fn deliver(bed: &Bed, workspace: &Workspace) -> String {
    let head = bed.git.commit_all(workspace, "the rest").await.unwrap();
    bed.git
        .push(&bed.repo, &head, workspace.branch())
        .await
        .unwrap();
    let removed = bed
        .git
        .remove_workspace(&bed.repo, job(1), workspace.branch());
    removed.await.unwrap();
    let dir = workspace.path().parent().unwrap();
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    assert_eq!(git(&bed.mirror(), &["fsck", "--strict"]), "");
    assert_eq!(bed.on_remote(workspace.branch().as_str()), head.as_str());
    head.to_string()
}

#[tokio::test]
async fn the_agents_commits_are_in_the_pushed_history() {
    let bed = bed();
    let workspace = bed.workspace(1, "x").await;
    let one = commit(workspace.path(), "one");
    let two = commit(workspace.path(), "two");
    git(workspace.path(), &["gc", "--quiet"]);
    fs::write(workspace.path().join("three"), "").unwrap();
    let head = deliver(&bed, &workspace).await;
    let history = git(&bed.remote(), &["rev-list", &head]);
    let base = workspace.base();
    assert_eq!(history, format!("{head}\n{two}\n{one}\n{base}"));
    assert_eq!(files(&bed, &head), "README\none\nsrc/lib.rs\nthree\ntwo");
}

#[tokio::test]
async fn whatever_is_checked_out_counts_and_other_branches_are_kept() {
    for detached in [false, true] {
        let bed = bed();
        let workspace = bed.workspace(1, "x").await;
        let tree = workspace.path();
        let own = commit(tree, "own");
        git(tree, &["checkout", "--quiet", "-b", "aside", "origin/main"]);
        let aside = commit(tree, "aside");
        git(
            tree,
            &["checkout", "--quiet", "-b", "elsewhere", "origin/main"],
        );
        let there = commit(tree, "there");
        if detached {
            git(tree, &["checkout", "--quiet", "--detach"]);
        }
        let head = bed.git.commit_all(&workspace, "m").await.unwrap();
        assert_eq!(head.as_str(), there, "nothing was left to commit");
        let head = deliver(&bed, &workspace).await;
        assert_eq!(head, there);
        for kept in [own, aside] {
            let there = git(&bed.mirror(), &["cat-file", "-t", &kept]);
            assert_eq!(there, "commit");
        }
        let refs = git(
            &bed.mirror(),
            &["for-each-ref", "--format=%(refname)", "refs/agent"],
        );
        assert!(
            refs.lines()
                .all(|name| name.starts_with("refs/agent/left/")),
            "{refs}"
        );
    }
}

#[tokio::test]
async fn what_the_agent_has_staged_counts_although_it_is_ignored() {
    let bed = bed();
    fs::write(bed.author().join("tracked.log"), "t").unwrap();
    bed.author_commits("more");
    bed.publish("HEAD:refs/heads/main");
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    fs::write(tree.join(".gitignore"), "*.log\n").unwrap();
    for name in ["forced.log", "ignored.log", "a\nb.log"] {
        fs::write(tree.join(name), "x").unwrap();
    }
    git(tree, &["add", "-f", "forced.log", "a\nb.log"]);
    git(tree, &["rm", "--quiet", "--cached", "tracked.log"]);
    let head = deliver(&bed, &workspace).await;
    let all = ".gitignore\nREADME\n\"a\\nb.log\"\nforced.log\nmore\nsrc/lib.rs";
    assert_eq!(files(&bed, &head), all);
}

#[tokio::test]
async fn a_sparse_checkout_deletes_nothing() {
    let bed = bed();
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    git(tree, &["sparse-checkout", "set", "--no-cone", "/README"]);
    assert!(!tree.join("src").exists());
    fs::write(tree.join("README"), "changed").unwrap();
    let head = deliver(&bed, &workspace).await;
    assert_eq!(files(&bed, &head), "README\nsrc/lib.rs");
}

#[tokio::test]
async fn a_submodule_is_recorded_at_what_it_has_checked_out() {
    let bed = bed();
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    let remote = bed.remote().display().to_string();
    git(tree, &["submodule", "--quiet", "add", &remote, "sub"]);
    git(
        &tree.join("sub"),
        &["commit", "--quiet", "--allow-empty", "-m", "later"],
    );
    let later = git(&tree.join("sub"), &["rev-parse", "HEAD"]);
    let head = deliver(&bed, &workspace).await;
    let entry = git(&bed.mirror(), &["ls-tree", &head, "sub"]);
    assert_eq!(entry, format!("160000 commit {later}\tsub"));
}

#[tokio::test]
async fn whatever_the_agent_has_made_of_its_git_directory_the_files_are_saved() {
    for wound in 0..9 {
        let bed = bed();
        let workspace = bed.workspace(1, "x").await;
        let tree = workspace.path();
        let dir = tree.join(".git");
        fs::write(tree.join("new"), "").unwrap();
        match wound {
            0 => fs::write(dir.join("HEAD"), "nonsense").unwrap(),
            1 => fs::write(dir.join("index"), "no index").unwrap(),
            2 => drop(git(tree, &["checkout", "--quiet", "--orphan", "nothing"])),
            3 => fs::remove_dir_all(&dir).unwrap(),
            4 => fs::write(dir.join("HEAD"), "1".repeat(40)).unwrap(),
            5 => {
                fs::remove_dir_all(&dir).unwrap();
                symlink("/", &dir).unwrap();
            }
            6 => {
                fs::remove_dir_all(&dir).unwrap();
                fs::write(&dir, "gitdir: /etc\n").unwrap();
            }
            7 => {
                fs::remove_dir_all(&dir).unwrap();
                git(tree, &["init", "--quiet", "."]);
            }
            _ => {
                // A commit whose objects are gone.
                commit(tree, "new");
                fs::remove_dir_all(dir.join("objects")).unwrap();
            }
        }
        let delivered = bed.git.commit_all(&workspace, "m").await;
        let refused = matches!(
            delivered,
            Err(GitError::Repository(_) | GitError::Command { .. })
        );
        assert_eq!(
            refused,
            matches!(wound, 4 | 8),
            "wound {wound}: {delivered:?}"
        );
        let saved = bed
            .git
            .save_work(&workspace, job(1))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            files(&bed, &saved),
            "README\nnew\nsrc/lib.rs",
            "wound {wound}"
        );
        let removed = bed
            .git
            .remove_workspace(&bed.repo, job(1), &branch("x"))
            .await;
        removed.unwrap();
        assert_eq!(git(&bed.mirror(), &["fsck"]), "");
    }
}

#[tokio::test]
async fn objects_of_another_repository_do_not_get_in() {
    let bed = bed();
    let secret = bed.path().join("repos/other/secret.git");
    fs::create_dir_all(&secret).unwrap();
    git(&secret, &["init", "--quiet", "--bare", "."]);
    fs::write(bed.path().join("secret"), "of another client\n").unwrap();
    let file = bed.path().join("secret").display().to_string();
    let blob = git(&secret, &["hash-object", "-w", &file]);
    for through in ["alternates", "link", "nothing"] {
        let workspace = bed.workspace(1, "x").await;
        let tree = workspace.path();
        let objects = tree.join(".git/objects");
        // The agent knows the id, and makes a commit with it without ever having seen the content.
        let entry = format!("100644 blob {blob}\tstolen\n");
        let text = bed.path().join("entry");
        fs::write(&text, entry).unwrap();
        let script = format!("git mktree --missing < '{}'", text.display());
        let made = std::process::Command::new("sh")
            .args(["-c", &script])
            .current_dir(tree)
            .output()
            .unwrap();
        let made = String::from_utf8(made.stdout).unwrap();
        let stolen = git(tree, &["commit-tree", "-p", "HEAD", "-m", "m", made.trim()]);
        git(tree, &["update-ref", "--no-deref", "refs/heads/x", &stolen]);
        match through {
            "alternates" => {
                let mut lines = fs::read_to_string(objects.join("info/alternates")).unwrap();
                lines.push_str(secret.join("objects").to_str().unwrap());
                lines.push('\n');
                fs::write(objects.join("info/alternates"), lines).unwrap();
            }
            "link" => {
                let (dir, rest) = blob.split_at(2);
                fs::create_dir_all(objects.join(dir)).unwrap();
                let from = secret.join("objects").join(dir).join(rest);
                symlink(from, objects.join(dir).join(rest)).unwrap();
            }
            _ => {}
        }
        let taken = bed.git.commit_all(&workspace, "m").await;
        assert!(taken.is_err(), "{through}: {taken:?}");
        bed.git.save_work(&workspace, job(1)).await.unwrap();
        let removed = bed
            .git
            .remove_workspace(&bed.repo, job(1), &branch("x"))
            .await;
        removed.unwrap();
        assert_eq!(
            try_git(&bed.mirror(), &["cat-file", "-e", &blob]),
            None,
            "{through}"
        );
    }
}

#[tokio::test]
async fn objects_that_are_not_sound_do_not_get_in() {
    let bed = bed();
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    // A tree with a `.git` in it, by which checkouts were made to run things.
    let blob = git(tree, &["hash-object", "-w", "README"]);
    let text = bed.path().join("entry");
    fs::write(&text, format!("100644 blob {blob}\t.git\n")).unwrap();
    let script = format!("git mktree < '{}'", text.display());
    let made = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(tree)
        .output()
        .unwrap();
    let made = String::from_utf8(made.stdout).unwrap();
    let bad = git(tree, &["commit-tree", "-p", "HEAD", "-m", "m", made.trim()]);
    git(tree, &["update-ref", "refs/heads/x", &bad]);
    let error = bed.git.commit_all(&workspace, "m").await.unwrap_err();
    assert!(error.to_string().contains("hasDotgit"), "{error}");
}

#[tokio::test]
async fn a_takeover_cut_off_anywhere_can_be_repeated() {
    let bed = bed();
    for step in 0..30_u64 {
        let workspace = bed.workspace(1, "x").await;
        let own = commit(workspace.path(), "own");
        fs::write(workspace.path().join("rest"), "").unwrap();
        let limit = std::time::Duration::from_millis(step * 2);
        let cut = bed.git.commit_all(&workspace, "m");
        drop(tokio::time::timeout(limit, cut).await);
        let head = bed.git.commit_all(&workspace, "m").await.unwrap();
        let parent = git(&bed.mirror(), &["rev-parse", &format!("{head}^")]);
        assert_eq!(parent, own);
        assert_eq!(files(&bed, head.as_str()), "README\nown\nrest\nsrc/lib.rs");
        let removed = bed
            .git
            .remove_workspace(&bed.repo, job(1), &branch("x"))
            .await;
        removed.unwrap();
    }
}
