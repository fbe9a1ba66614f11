//! Mirrors: made whole or not at all, brought up to date, removed.

use std::fs;
use std::time::Duration;

use agent_domain::{Class, Mirrors as _, RepoSlug};
use agent_git::{Git, GitError};

use crate::bed::{Bed, branch, config, git, make_executable};

#[tokio::test]
async fn a_mirror_has_the_branches_of_the_remote_and_none_of_its_own() {
    let bed = Bed::new();
    assert!(!bed.git.exists(&bed.repo));
    let base = bed.fetch().await;
    assert!(bed.git.exists(&bed.repo));
    assert_eq!(base.to_string(), bed.on_remote("main"));
    let refs = git(&bed.mirror(), &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/remotes/origin/main");
    assert_eq!(git(&bed.mirror(), &["fsck", "--strict"]), "");
    let agents_see = git(&bed.mirror(), &["config", "remote.origin.url"]);
    assert_eq!(agents_see, bed.git.remote_url(&bed.repo));
}

#[tokio::test]
async fn a_fetch_follows_what_happened_on_the_remote() {
    let bed = Bed::new();
    bed.publish("HEAD:refs/heads/old");
    let first = bed.fetch().await;
    bed.author_commits("second");
    bed.publish("HEAD:refs/heads/main");
    // A branch that makes way for one it is a directory of.
    bed.publish(":refs/heads/old");
    bed.publish("HEAD:refs/heads/old/new");
    assert_ne!(bed.fetch().await, first);
    let refs = git(&bed.mirror(), &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(
        refs,
        "refs/remotes/origin/main\nrefs/remotes/origin/old/new"
    );
}

#[tokio::test]
async fn a_missing_base_branch_is_a_clear_final_error() {
    let bed = Bed::new();
    let fetched = bed.git.fetch_base(&bed.repo, &branch("dev")).await;
    let error = fetched.unwrap_err();
    assert!(matches!(error, GitError::MissingBase { .. }), "{error}");
    assert!(!error.is_transient());
    assert_eq!(error.to_string(), "the remote repository has no branch dev");
}

#[tokio::test]
async fn a_repository_that_is_not_there_leaves_nothing_behind() {
    let bed = Bed::new();
    let nowhere = RepoSlug::new("org", "nowhere").unwrap();
    let error = bed.git.ensure(&nowhere).await.unwrap_err();
    assert_eq!(error.class, Class::NotFound, "{error}");
    let left: Vec<_> = fs::read_dir(bed.path().join("repos/org"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["nowhere.git.lock"]);
}

#[tokio::test]
async fn a_killed_clone_leaves_no_mirror_and_the_next_one_clears_up() {
    let bed = Bed::new();
    let half = bed.path().join("repos/org/repo.git.new");
    fs::create_dir_all(half.join("objects/pack")).unwrap();
    fs::write(half.join("HEAD.lock"), "").unwrap();
    fs::write(half.join("objects/pack/tmp_pack_x"), "half").unwrap();
    assert!(!bed.git.exists(&bed.repo));
    bed.git.ensure(&bed.repo).await.unwrap();
    assert!(bed.git.exists(&bed.repo) && !half.exists());
    assert!(!bed.mirror().join("objects/pack/tmp_pack_x").exists());
}

#[tokio::test]
async fn a_clone_cut_off_anywhere_leaves_a_whole_mirror_or_none() {
    let bed = Bed::new();
    for step in 0..20_u64 {
        let clone = bed.git.ensure(&bed.repo);
        drop(tokio::time::timeout(Duration::from_millis(step), clone).await);
        if bed.git.exists(&bed.repo) {
            assert_eq!(git(&bed.mirror(), &["fsck", "--strict"]), "");
            bed.git.remove(&bed.repo).await.unwrap();
        }
    }
    bed.fetch().await;
    assert_eq!(git(&bed.mirror(), &["fsck", "--strict"]), "");
}

#[tokio::test]
async fn many_who_want_the_same_mirror_get_one() {
    let bed = Bed::new();
    let other = bed.other_server();
    let (a, b, c, d) = tokio::join!(
        bed.git.ensure(&bed.repo),
        bed.git.fetch(&bed.repo),
        other.ensure(&bed.repo),
        other.fetch(&bed.repo),
    );
    for result in [a, b, c, d] {
        result.unwrap();
    }
    assert_eq!(git(&bed.mirror(), &["fsck", "--strict"]), "");
}

#[tokio::test]
async fn a_removed_mirror_is_gone_with_its_branches() {
    let bed = Bed::new();
    bed.fetch().await;
    assert_eq!(bed.git.remove(&bed.repo).await, Ok(true));
    assert!(!bed.mirror().exists());
    assert_eq!(bed.git.remove(&bed.repo).await, Ok(false));
    let left = fs::read_dir(bed.path().join("repos/org")).unwrap();
    assert_eq!(left.count(), 1, "the lock file alone");
    bed.fetch().await;
}

#[tokio::test]
async fn clashes_of_a_branch_with_the_remote_are_known() {
    let bed = Bed::new();
    let clash = async |name: &str| bed.git.clashing_branch(&bed.repo, &branch(name)).await;
    assert_eq!(clash("main").await, None, "without a mirror");
    bed.publish("HEAD:refs/heads/a/b");
    bed.fetch().await;
    for packed in [false, true] {
        if packed {
            git(&bed.mirror(), &["pack-refs", "--all"]);
        }
        assert_eq!(clash("main").await, Some("main".into()));
        assert_eq!(clash("main/x").await, Some("main".into()));
        assert_eq!(clash("a").await, Some("a/b".into()));
        assert_eq!(clash("a/b/c/d").await, Some("a/b".into()));
        for free in ["a/c", "mai", "main2", "a-b", "b/c/d"] {
            assert_eq!(clash(free).await, None, "{free}");
        }
    }
}

#[tokio::test]
async fn clashes_follow_every_change_of_the_mirror_even_its_removal() {
    let bed = Bed::new();
    let clash = async |name: &str| bed.git.clashing_branch(&bed.repo, &branch(name)).await;
    bed.fetch().await;
    assert_eq!(clash("x").await, None);
    bed.publish("HEAD:refs/heads/x");
    bed.fetch().await;
    assert_eq!(clash("x").await, Some("x".into()));
    git(&bed.mirror(), &["pack-refs", "--all"]);
    bed.publish(":refs/heads/x");
    bed.fetch().await;
    assert_eq!(clash("x").await, None);
    bed.git.remove(&bed.repo).await.unwrap();
    assert_eq!(clash("main").await, None, "without a mirror");
    bed.publish("HEAD:refs/heads/y");
    bed.fetch().await;
    assert_eq!(clash("y").await, Some("y".into()));
}

#[tokio::test]
async fn what_an_agent_does_to_the_settings_is_undone() {
    let bed = Bed::new();
    bed.fetch().await;
    let proof = bed.path().join("proof");
    let evil = format!("!touch {}; true", proof.display());
    for (name, value) in [
        ("core.sshCommand", evil.as_str()),
        ("credential.helper", evil.as_str()),
        ("core.fsmonitor", evil.as_str()),
        ("user.email", "agent@example.org"),
    ] {
        git(&bed.mirror(), &["config", name, value]);
    }
    bed.fetch().await;
    let config = fs::read_to_string(bed.mirror().join("config")).unwrap();
    assert!(!config.contains("touch") && !config.contains("agent@example.org"));
    assert!(!proof.exists());
}

#[tokio::test]
async fn hooks_in_the_mirror_do_not_run() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "x").await;
    let hooks = bed.mirror().join("hooks");
    fs::create_dir_all(&hooks).unwrap();
    let proof = bed.path().join("proof");
    for hook in [
        "pre-commit",
        "post-commit",
        "pre-push",
        "reference-transaction",
        "commit-msg",
        "post-index-change",
    ] {
        let path = hooks.join(hook);
        let script = format!("#!/bin/sh\ntouch {}\nexit 1\n", proof.display());
        fs::write(&path, script).unwrap();
        make_executable(&path);
    }
    fs::write(workspace.path().join("new"), "").unwrap();
    let head = bed.git.commit_all(&workspace, "m").await.unwrap();
    let pushed = bed.git.push(&bed.repo, &head, &branch("x")).await;
    pushed.unwrap();
    bed.fetch().await;
    assert!(!proof.exists());
}

#[tokio::test]
async fn renames_and_modes_are_counted_as_a_pull_request_shows_them() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    fs::create_dir(tree.join("lib")).unwrap();
    fs::rename(tree.join("src/lib.rs"), tree.join("lib/moved.rs")).unwrap();
    fs::create_dir_all(tree.join("new/deep")).unwrap();
    for file in ["new/deep/a", "new/b"] {
        fs::write(tree.join(file), file).unwrap();
    }
    make_executable(&tree.join("README"));
    let head = bed.git.commit_all(&workspace, "m").await.unwrap();
    let base = workspace.base();
    let count = async |from, to| bed.git.files_changed(&bed.repo, from, to).await.unwrap();
    let range = [base.as_str(), head.as_str()];
    let names = git(tree, &["diff", "-M", "--name-only", range[0], range[1]]);
    assert_eq!(count(base, &head).await, names.lines().count() as u64);
    assert_eq!(count(base, &head).await, 4);
    assert_eq!(count(&head, base).await, 4);
    assert_eq!(count(base, base).await, 0);
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for base in ["", "ext::sh -c x", "https://a:b@host/"] {
        let error = Git::new(config(dir.path(), base)).err().unwrap();
        assert_eq!(error.class(), Class::Invalid, "{base}");
    }
    let mut without_git = config(dir.path(), "/srv");
    without_git.env = vec![("PATH".into(), dir.path().into())];
    let error = Git::new(without_git).err().unwrap();
    assert!(matches!(error, GitError::Spawn(_)), "{error}");
}
