//! Committing what an agent leaves, in whatever state.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use agent_git::{Git, Identity};

use crate::bed::{Bed, config, git, in_both_layouts, make_executable};

in_both_layouts! {
    nothing_changed_is_the_base,
    a_commit_is_made_once_with_our_name,
    the_identity_of_the_operator_counts_and_a_given_one_counts_more,
    agents_commit_under_the_same_name,
    a_title_arrives_as_it_is,
    every_kind_of_file_is_committed,
    a_merge_left_open_is_concluded,
    a_repository_without_commits_does_not_keep_the_rest_out,
    what_only_looks_changed_is_no_commit,
}

async fn nothing_changed_is_the_base(bed: Bed) {
    let workspace = bed.workspace(1, "x").await;
    for _ in 0..2 {
        let head = bed.git.commit_all(&workspace, "m").await.unwrap();
        assert_eq!(&head, workspace.base());
    }
}

async fn a_commit_is_made_once_with_our_name(bed: Bed) {
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    fs::write(tree.join("new"), "").unwrap();
    fs::remove_file(tree.join("README")).unwrap();
    let head = bed.git.commit_all(&workspace, "m").await.unwrap();
    let again = bed.git.commit_all(&workspace, "again").await.unwrap();
    assert_eq!(again, head);
    assert_eq!(git(tree, &["rev-list", "--count", "HEAD"]), "2");
    let who = git(tree, &["log", "-1", "--format=%an <%ae> %cn <%ce>"]);
    let ours = "agent-server <agent-server@localhost>";
    assert_eq!(who, format!("{ours} {ours}"));
    assert_eq!(git(tree, &["status", "--porcelain"]), "");
}

async fn the_identity_of_the_operator_counts_and_a_given_one_counts_more(bed: Bed) {
    fs::create_dir_all(bed.path().join("home")).unwrap();
    let text =
        "[user]\n\tname = Olga Operator\n\temail = olga@example.org\n[commit]\n\tgpgSign = true\n";
    fs::write(bed.path().join("home/.gitconfig"), text).unwrap();
    let workspace = bed.workspace(1, "x").await;
    fs::write(workspace.path().join("a"), "").unwrap();
    // What an agent sets is not the operator's.
    git(workspace.path(), &["config", "user.name", "Agent"]);
    bed.git.commit_all(&workspace, "m").await.unwrap();
    let who = || git(workspace.path(), &["log", "-1", "--format=%an <%ae>"]);
    assert_eq!(who(), "Olga Operator <olga@example.org>");

    let base = bed.path().join("remote").display().to_string();
    let mut config = config(bed.path(), &base);
    config.identity = Some(Identity {
        name: "Bot \"B\" One".into(),
        email: "bot@example.org".into(),
    });
    fs::write(workspace.path().join("b"), "").unwrap();
    let given = Git::new(config).unwrap();
    given.commit_all(&workspace, "m").await.unwrap();
    assert_eq!(who(), "Bot \"B\" One <bot@example.org>");
}

async fn agents_commit_under_the_same_name(bed: Bed) {
    let workspace = bed.workspace(1, "x").await;
    let status = Command::new("git")
        .args(["commit", "--quiet", "--allow-empty", "-m", "by the agent"])
        .current_dir(workspace.path())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .status();
    assert!(status.unwrap().success());
    let who = git(workspace.path(), &["log", "-1", "--format=%an <%ae>"]);
    assert_eq!(who, "agent-server <agent-server@localhost>");
}

async fn a_title_arrives_as_it_is(bed: Bed) {
    let workspace = bed.workspace(1, "x").await;
    let titles = [
        "\"; rm -rf / #",
        "# not a comment",
        "-F /etc/passwd",
        "--amend",
        "  spaces  ",
        "$(id) `id` %s é\u{1f980}",
        "title\n\n# body\n\n\n",
        "Signed-off-by: x <y>",
    ];
    for (n, title) in titles.iter().enumerate() {
        fs::write(workspace.path().join("n"), n.to_string()).unwrap();
        bed.git.commit_all(&workspace, title).await.unwrap();
        let output = Command::new("git")
            .args(["cat-file", "commit", "HEAD"])
            .current_dir(workspace.path())
            .output()
            .unwrap();
        let raw = String::from_utf8(output.stdout).unwrap();
        let (_, message) = raw.split_once("\n\n").unwrap();
        let end = if title.ends_with('\n') { "" } else { "\n" };
        assert_eq!(message, format!("{title}{end}"));
    }
}

async fn every_kind_of_file_is_committed(bed: Bed) {
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    for name in ["line\nfeed", "-dash", ":(exclude)x", "run", "ignored"] {
        fs::write(tree.join(name), name).unwrap();
    }
    symlink("README", tree.join("link")).unwrap();
    make_executable(&tree.join("run"));
    fs::write(tree.join(".gitignore"), "ignored\n").unwrap();
    let remote = bed.remote().display().to_string();
    git(tree, &["submodule", "--quiet", "add", &remote, "sub"]);
    bed.git.commit_all(&workspace, "m").await.unwrap();
    let listed = git(tree, &["ls-tree", "-rz", "HEAD"]);
    let mode = |name: &str| {
        let end = format!("\t{name}");
        let mut entries = listed.split('\0');
        entries.find_map(|entry| entry.ends_with(&end).then(|| entry[..6].to_owned()))
    };
    assert_eq!(mode("line\nfeed").as_deref(), Some("100644"));
    assert_eq!(mode("-dash").as_deref(), Some("100644"));
    assert_eq!(mode(":(exclude)x").as_deref(), Some("100644"));
    assert_eq!(mode("link").as_deref(), Some("120000"));
    assert_eq!(mode("run").as_deref(), Some("100755"));
    assert_eq!(mode("sub").as_deref(), Some("160000"));
    assert_eq!(mode("ignored"), None);
    let status = ["status", "--porcelain", "--ignore-submodules=all"];
    assert_eq!(git(tree, &status), "");
}

#[tokio::test]
async fn an_agent_may_commit_switch_branches_or_detach_its_head() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    git(tree, &["commit", "--quiet", "--allow-empty", "-m", "own"]);
    let own = git(tree, &["rev-parse", "HEAD"]);
    let head = bed.git.commit_all(&workspace, "m").await.unwrap();
    assert_eq!(head.as_str(), own, "nothing was left to commit");

    git(tree, &["checkout", "--quiet", "-b", "elsewhere"]);
    fs::write(tree.join("a"), "").unwrap();
    let head = bed.git.commit_all(&workspace, "m").await.unwrap();
    assert_eq!(git(tree, &["rev-parse", "elsewhere"]), head.as_str());

    git(tree, &["checkout", "--quiet", "--detach"]);
    fs::write(tree.join("b"), "").unwrap();
    let head = bed.git.commit_all(&workspace, "m").await.unwrap();
    assert_eq!(git(tree, &["rev-parse", "HEAD"]), head.as_str());
    assert_eq!(git(tree, &["rev-list", "--count", "HEAD"]), "4");
    let again = bed.git.commit_all(&workspace, "m").await.unwrap();
    assert_eq!(again, head);
}

async fn a_merge_left_open_is_concluded(bed: Bed) {
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    git(tree, &["checkout", "--quiet", "-b", "side"]);
    git(tree, &["commit", "--quiet", "--allow-empty", "-m", "side"]);
    git(tree, &["checkout", "--quiet", "x"]);
    git(tree, &["commit", "--quiet", "--allow-empty", "-m", "ours"]);
    git(tree, &["merge", "--quiet", "--no-commit", "side"]);
    bed.git.commit_all(&workspace, "merged").await.unwrap();
    let parents = git(tree, &["log", "-1", "--format=%P"]);
    assert_eq!(parents.split(' ').count(), 2);
}

async fn a_repository_without_commits_does_not_keep_the_rest_out(bed: Bed) {
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    for name in ["empty one", "b/two"] {
        fs::create_dir_all(tree.join(name)).unwrap();
        git(&tree.join(name), &["init", "--quiet", "."]);
        fs::write(tree.join(name).join("inside"), "").unwrap();
    }
    fs::write(tree.join("good"), "").unwrap();
    bed.git.commit_all(&workspace, "m").await.unwrap();
    let files = git(tree, &["ls-tree", "-r", "--name-only", "HEAD"]);
    assert_eq!(files, "README\ngood\nsrc/lib.rs");
}

async fn what_only_looks_changed_is_no_commit(bed: Bed) {
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    // The same content at another time, and an empty directory.
    let text = fs::read(tree.join("README")).unwrap();
    fs::write(tree.join("README"), text).unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    let head = bed.git.commit_all(&workspace, "m").await.unwrap();
    assert_eq!(&head, workspace.base());
    // The index says changed, the files say not.
    fs::write(tree.join("README"), "other").unwrap();
    git(tree, &["add", "README"]);
    fs::write(tree.join("README"), "hello\n").unwrap();
    let head = bed.git.commit_all(&workspace, "m").await.unwrap();
    assert_eq!(&head, workspace.base());
}

#[tokio::test]
async fn a_workspace_whose_git_file_was_replaced_is_still_ours() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "x").await;
    let tree = workspace.path();
    fs::remove_file(tree.join(".git")).unwrap();
    git(tree, &["init", "--quiet", "."]);
    fs::write(tree.join("new"), "").unwrap();
    let head = bed.git.commit_all(&workspace, "m").await.unwrap();
    let listed = ["ls-tree", "-r", "--name-only", head.as_str()];
    assert_eq!(git(&bed.mirror(), &listed), "README\nnew\nsrc/lib.rs");
}
