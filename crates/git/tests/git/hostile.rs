//! What an agent may leave to make a git of ours run a program, take in what is another's, or push
//! somewhere else: a table of tricks, each played in both layouts, with a canary that no trick may touch.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use agent_git::{Layout, Workspace};

use crate::bed::{Bed, branch, git, job, make_executable, try_git};

/// One trick, played in the workspace of an agent that has ended.
type Trick = fn(&Stage);

/// Where a trick is played.
struct Stage<'a> {
    bed: &'a Bed,
    workspace: &'a Workspace,
    /// A program that leaves the canary and does what a filter would.
    program: String,
    /// Another client's bare repository, and a blob in it.
    other: PathBuf,
    secret: String,
}

impl Stage<'_> {
    fn tree(&self) -> &Path {
        self.workspace.path()
    }

    /// Git's own files as the agent has them: all jobs' in the mirror, or its own.
    fn shared(&self) -> PathBuf {
        match self.bed.layout {
            Layout::Linked => self.bed.mirror(),
            Layout::Owned => self.tree().join(".git"),
        }
    }

    /// Git's own files of this workspace alone.
    fn private(&self) -> PathBuf {
        match self.bed.layout {
            Layout::Linked => self.bed.mirror().join("worktrees").join(job(1).to_string()),
            Layout::Owned => self.tree().join(".git"),
        }
    }

    fn set(&self, key: &str, value: &str) {
        git(self.tree(), &["config", key, value]);
    }

    fn attribute(&self, line: &str) {
        fs::write(self.tree().join(".gitattributes"), line).unwrap();
    }
}

const TRICKS: &[(&str, Trick)] = &[
    ("hooks in the place for them", |stage| {
        let hooks = stage.shared().join("hooks");
        fs::create_dir_all(&hooks).unwrap();
        for name in HOOKS {
            symlink(&stage.program, hooks.join(name)).unwrap();
        }
    }),
    ("hooks elsewhere", |stage| {
        let hooks = stage.bed.path().join("hooks");
        fs::create_dir_all(&hooks).unwrap();
        for name in HOOKS {
            symlink(&stage.program, hooks.join(name)).unwrap();
        }
        stage.set("core.hooksPath", hooks.to_str().unwrap());
    }),
    ("fsmonitor", |stage| {
        stage.set("core.fsmonitor", &stage.program);
    }),
    ("filter", |stage| {
        stage.attribute("* filter=evil\n");
        stage.set("filter.evil.clean", &stage.program);
        stage.set("filter.evil.smudge", &stage.program);
        stage.set("filter.evil.required", "true");
    }),
    ("long-running filter", |stage| {
        stage.attribute("* filter=evil\n");
        stage.set("filter.evil.process", &stage.program);
    }),
    ("filter by the files beside the tree", |stage| {
        let info = stage.shared().join("info");
        fs::create_dir_all(&info).unwrap();
        fs::write(info.join("attributes"), "* filter=evil\n").unwrap();
        stage.set("filter.evil.clean", &stage.program);
    }),
    ("filter in an included file", |stage| {
        stage.attribute("* filter=evil\n");
        let file = stage.tree().join("included");
        let text = format!("[filter \"evil\"]\n\tclean = {}\n", stage.program);
        fs::write(&file, text).unwrap();
        stage.set("include.path", file.to_str().unwrap());
    }),
    ("filter in the worktree's own settings", |stage| {
        stage.attribute("* filter=evil\n");
        stage.set("extensions.worktreeConfig", "true");
        let text = format!("[filter \"evil\"]\n\tclean = {}\n", stage.program);
        fs::write(stage.private().join("config.worktree"), text).unwrap();
    }),
    ("filter in the operator's settings", |stage| {
        stage.attribute("* filter=evil\n");
        let home = stage.bed.path().join("home");
        fs::create_dir_all(&home).unwrap();
        let text = format!("[filter \"evil\"]\n\tclean = {}\n", stage.program);
        fs::write(home.join(".gitconfig"), text).unwrap();
    }),
    ("attributes file", |stage| {
        let file = stage.tree().join("attributes");
        fs::write(&file, "* filter=evil\n").unwrap();
        stage.set("core.attributesFile", file.to_str().unwrap());
        stage.set("filter.evil.clean", &stage.program);
    }),
    ("diff programs", |stage| {
        stage.attribute("* diff=evil\n");
        stage.set("diff.external", &stage.program);
        stage.set("diff.evil.command", &stage.program);
        stage.set("diff.evil.textconv", &stage.program);
    }),
    ("signing program", |stage| {
        for (key, value) in [("commit.gpgSign", "true"), ("push.gpgSign", "if-asked")] {
            stage.set(key, value);
        }
        stage.set("gpg.program", &stage.program);
        stage.set("user.signingKey", "x");
    }),
    ("editors and pagers", |stage| {
        for key in [
            "core.editor",
            "sequence.editor",
            "core.pager",
            "pager.status",
            "pager.diff",
        ] {
            stage.set(key, &stage.program);
        }
    }),
    ("programs for speaking to remotes", |stage| {
        for key in [
            "core.sshCommand",
            "core.gitProxy",
            "core.askPass",
            "credential.helper",
        ] {
            stage.set(key, &stage.program);
        }
        stage.set("core.alternateRefsCommand", &stage.program);
        stage.set("uploadpack.packObjectsHook", &stage.program);
        let url = stage.bed.git.remote_url(&stage.bed.repo);
        for remote in ["origin", &url] {
            stage.set(&format!("remote.{remote}.receivepack"), &stage.program);
            stage.set(&format!("remote.{remote}.uploadpack"), &stage.program);
        }
    }),
    ("a remote that runs a program", |stage| {
        stage.set("protocol.ext.allow", "always");
        let base = stage.bed.path().join("remote").display().to_string();
        let url = format!("url.ext::{} .insteadOf", stage.program);
        stage.set(&url, &base);
    }),
    ("another remote", |stage| {
        let base = stage.bed.remote().display().to_string();
        let other = stage.other.display().to_string();
        stage.set(&format!("url.{other}.insteadOf"), &base);
        stage.set(&format!("url.{other}.pushInsteadOf"), &base);
        stage.set(&format!("remote.{base}.pushurl"), &other);
    }),
    ("another working tree", |stage| {
        stage.set("core.worktree", stage.other.to_str().unwrap());
    }),
    (
        "a nested repository with settings of its own, in the index",
        |stage| {
            let nested = nested(stage, "nested");
            git(stage.tree(), &["add", "nested"]);
            fs::write(nested.join("file"), "touched").unwrap();
        },
    ),
    (
        "a nested repository with settings of its own, committed",
        |stage| {
            let nested = nested(stage, "nested");
            git(stage.tree(), &["add", "nested"]);
            git(stage.tree(), &["commit", "--quiet", "-m", "nested"]);
            git(
                &nested,
                &["commit", "--quiet", "--allow-empty", "-m", "later"],
            );
            fs::write(nested.join("file"), "touched").unwrap();
        },
    ),
    ("submodule settings", |stage| {
        let text = format!(
            "[submodule \"s\"]\n\tpath = s\n\turl = ext::{0}\n\tupdate = !{0}\n",
            stage.program
        );
        fs::write(stage.tree().join(".gitmodules"), text).unwrap();
        stage.set("submodule.recurse", "true");
        stage.set("submodule.s.update", &format!("!{}", stage.program));
    }),
    ("a link in the place of .git", |stage| {
        let evil = evil_git_dir(stage);
        let dir = stage.tree().join(".git");
        fs::remove_dir_all(&dir)
            .or_else(|_| fs::remove_file(&dir))
            .unwrap();
        symlink(evil, dir).unwrap();
    }),
    (
        "a file in the place of .git that leads elsewhere",
        |stage| {
            let evil = evil_git_dir(stage);
            let dir = stage.tree().join(".git");
            fs::remove_dir_all(&dir)
                .or_else(|_| fs::remove_file(&dir))
                .unwrap();
            fs::write(dir, format!("gitdir: {}\n", evil.display())).unwrap();
        },
    ),
    ("another mirror's files for the shared ones", |stage| {
        let evil = evil_git_dir(stage);
        fs::write(stage.private().join("commondir"), evil.to_str().unwrap()).unwrap();
    }),
    (
        "objects of another client by a list of alternates",
        |stage| {
            let info = stage.shared().join("objects/info");
            fs::create_dir_all(&info).unwrap();
            let mut lines = fs::read_to_string(info.join("alternates")).unwrap_or_default();
            lines.push_str(stage.other.join("objects").to_str().unwrap());
            fs::write(info.join("alternates"), lines + "\n").unwrap();
            let tree = git(stage.tree(), &["rev-parse", "HEAD^{tree}"]);
            assert_ne!(tree, "");
            let entry = format!("100644,{},stolen", stage.secret);
            git(
                stage.tree(),
                &["update-index", "--add", "--cacheinfo", &entry],
            );
            let stolen = try_git(stage.tree(), &["commit", "--quiet", "-m", "stolen"]);
            assert!(stolen.is_some());
            fs::write(stage.tree().join("stolen"), "").unwrap();
        },
    ),
    ("replaced and grafted history", |stage| {
        let base = stage.workspace.base().as_str();
        git(
            stage.tree(),
            &["commit", "--quiet", "--allow-empty", "-m", "own"],
        );
        let own = git(stage.tree(), &["rev-parse", "HEAD"]);
        git(stage.tree(), &["replace", base, &own]);
        let info = stage.shared().join("info");
        fs::create_dir_all(&info).unwrap();
        fs::write(info.join("grafts"), format!("{own}\n")).unwrap();
        fs::write(stage.shared().join("shallow"), format!("{own}\n")).unwrap();
    }),
    ("pipes that nobody writes to", |stage| {
        for file in [
            stage.private().join("MERGE_HEAD"),
            stage.shared().join("shallow"),
        ] {
            let made = std::process::Command::new("mkfifo").arg(file).status();
            assert!(made.unwrap().success());
        }
        let info = stage.shared().join("info");
        fs::create_dir_all(&info).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(info.join("exclude"))
            .status();
        made.unwrap();
    }),
    ("names that look like something else", |stage| {
        for name in [
            "-f",
            "--help",
            ":(top)",
            "a\nb",
            "HEAD",
            "refs",
            "\u{202e}x",
            "tab\there",
        ] {
            fs::write(stage.tree().join(name), "x").unwrap();
        }
        let long = "n".repeat(250);
        fs::create_dir_all(stage.tree().join(&long).join(&long)).unwrap();
        fs::write(stage.tree().join(&long).join(&long).join(&long), "x").unwrap();
        let empty = stage.tree().join("no 'commits'\nhere");
        fs::create_dir(&empty).unwrap();
        git(&empty, &["init", "--quiet", "."]);
    }),
    ("files that are hidden from being added", |stage| {
        let info = stage.shared().join("info");
        fs::create_dir_all(&info).unwrap();
        fs::write(info.join("exclude"), "*\n").unwrap();
        let file = stage.bed.path().join("ignore");
        fs::write(&file, "*\n").unwrap();
        stage.set("core.excludesFile", file.to_str().unwrap());
    }),
];

const HOOKS: &[&str] = &[
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "pre-commit",
    "pre-push",
    "prepare-commit-msg",
    "reference-transaction",
];

/// A git directory elsewhere whose settings run the program for everything.
fn evil_git_dir(stage: &Stage) -> PathBuf {
    let dir = stage.bed.path().join("evil.git");
    git(
        stage.bed.path(),
        &[
            "clone",
            "--quiet",
            "--bare",
            stage.other.to_str().unwrap(),
            "evil.git",
        ],
    );
    evil_settings(stage, &dir);
    dir
}

fn evil_settings(stage: &Stage, dir: &Path) {
    for key in [
        "core.fsmonitor",
        "filter.evil.clean",
        "filter.evil.process",
        "core.sshCommand",
    ] {
        git(dir, &["config", key, &stage.program]);
    }
    fs::create_dir_all(dir.join("info")).ok();
}

/// A repository inside the tree that has a commit, and runs the program where a git looks at it.
fn nested(stage: &Stage, name: &str) -> PathBuf {
    let dir = stage.tree().join(name);
    fs::create_dir(&dir).unwrap();
    git(&dir, &["init", "--quiet", "."]);
    fs::write(dir.join("file"), "x").unwrap();
    fs::write(dir.join(".gitattributes"), "* filter=evil\n").unwrap();
    git(&dir, &["add", "-A"]);
    git(&dir, &["commit", "--quiet", "-m", "inside"]);
    evil_settings(stage, &dir);
    dir
}

/// Another client's bare repository, and the id of a blob in it.
fn other_client(bed: &Bed) -> (PathBuf, String) {
    let other = bed.path().join("repos/other/secret.git");
    fs::create_dir_all(&other).unwrap();
    git(&other, &["init", "--quiet", "--bare", "."]);
    fs::write(bed.path().join("secret"), "of another client\n").unwrap();
    let file = bed.path().join("secret").display().to_string();
    let secret = git(&other, &["hash-object", "-w", &file]);
    (other, secret)
}

/// Plays a trick, does with its outcome all that a server would, and looks at what came of it.
async fn play(layout: Layout, name: &str, trick: Trick) {
    let bed = Bed::with(layout);
    let canary = bed.path().join("canary");
    let program = bed.path().join("program");
    let script = format!("#!/bin/sh\ntouch '{}'\ncat\n", canary.display());
    fs::write(&program, script).unwrap();
    make_executable(&program);
    let (other, secret) = other_client(&bed);
    let workspace = bed.workspace(1, "x").await;
    fs::write(workspace.path().join("work"), "done").unwrap();
    let stage = Stage {
        bed: &bed,
        workspace: &workspace,
        program: program.display().to_string(),
        other,
        secret,
    };
    trick(&stage);
    // The agent's own git may have run what it set.
    fs::remove_file(&canary).ok();
    let name = format!("{name}, {layout:?}");
    end_the_job(&stage, &name).await;
    assert!(!canary.exists(), "{name}: a program of the agent's has run");
    let elsewhere = git(&stage.other, &["for-each-ref"]);
    assert_eq!(elsewhere, "", "{name}: pushed elsewhere");
    for place in [bed.mirror(), bed.remote()] {
        let there = try_git(&place, &["cat-file", "-e", &stage.secret]);
        assert_eq!(there, None, "{name}: another client's object got in");
    }
    // The next job begins as if nothing had been.
    let next = bed.workspace(2, "y").await;
    let history = git(next.path(), &["log", "--format=%s"]);
    assert_eq!(history, "first", "{name}: the next job");
    assert!(
        !canary.exists(),
        "{name}: a program has run in the next job"
    );
}

/// Commits, pushes, saves, fetches and removes; the agent's work is delivered or saved.
async fn end_the_job(stage: &Stage<'_>, name: &str) {
    let (bed, workspace) = (stage.bed, stage.workspace);
    let x = branch("x");
    let mut delivered = false;
    if let Ok(head) = bed.git.commit_all(workspace, "m").await {
        let listed = ["ls-tree", "-r", "--name-only", head.as_str()];
        let files = git(&bed.mirror(), &listed);
        assert!(files.lines().any(|file| file == "work"), "{name}: {files}");
        match bed.git.push(&bed.repo, &head, &x).await {
            Ok(()) => {
                assert_eq!(bed.on_remote("x"), head.as_str(), "{name}");
                delivered = true;
            }
            // A history of which something is missing; saved all the same.
            Err(error) => {
                assert!(name.starts_with("objects of another"), "{name}: {error}");
                assert_eq!(bed.on_remote("x"), "");
            }
        }
    }
    let saved = bed.git.save_work(workspace, job(1)).await;
    let saved = saved.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(saved.is_some() || delivered, "{name}: the work is lost");
    bed.fetch().await;
    let removed = bed.git.remove_workspace(&bed.repo, job(1), &x);
    removed
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_trick_works_in_a_linked_worktree() {
    for (name, trick) in TRICKS {
        play(Layout::Linked, name, *trick).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_trick_works_in_a_workspace_with_a_git_directory_of_its_own() {
    for (name, trick) in TRICKS {
        play(Layout::Owned, name, *trick).await;
    }
}
