//! What is left behind, and the order of the mirrors.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use agent_domain::{FoundWorkspace, Maintained, Reclaimed, Upkeep as _, WorkOrigin};
use agent_git::Workspace;

use crate::bed::{Bed, branch, config, git, job, make_executable, try_git};

async fn reclaim(bed: &Bed, workspace: &Workspace) -> Reclaimed {
    let (found, origin) = (found(workspace), origin(workspace));
    bed.git.reclaim(&found, Some(&origin)).await.unwrap()
}

fn found(workspace: &Workspace) -> FoundWorkspace {
    FoundWorkspace {
        repo: workspace.repo().clone(),
        job: workspace.job(),
    }
}

fn origin(workspace: &Workspace) -> WorkOrigin {
    WorkOrigin {
        branch: workspace.branch().clone(),
        base: Some(workspace.base().clone()),
    }
}

/// Makes everything in a directory as old as this.
fn age(path: &Path, by: Duration) {
    let status = Command::new("find")
        .arg(path)
        .args(["-exec", "touch", "-h", "-d"])
        .arg(format!("{} seconds ago", by.as_secs()))
        .args(["{}", "+"])
        .status();
    assert!(status.unwrap().success());
}

const DAYS: Duration = Duration::from_hours(50);

#[tokio::test]
async fn every_workspace_is_found_also_by_what_is_left_of_it() {
    let bed = Bed::new();
    let whole = bed.workspace(1, "one").await;
    let no_files = bed.workspace(2, "two").await;
    fs::remove_dir_all(no_files.path()).unwrap();
    let only_files = bed
        .path()
        .join("worktrees/org/other")
        .join(job(3).to_string());
    fs::create_dir_all(&only_files).unwrap();
    fs::create_dir_all(bed.path().join("worktrees/org/repo/someone's own")).unwrap();
    let mut all: Vec<_> = bed.git.workspaces().await.unwrap();
    all.sort_by_key(|found| found.job.to_string());
    let names: Vec<_> = all
        .iter()
        .map(|found| format!("{} {}", found.repo, found.job))
        .collect();
    let expected =
        [("repo", 1), ("repo", 2), ("other", 3)].map(|(repo, n)| format!("org/{repo} {}", job(n)));
    assert_eq!(names, expected);
    assert!(all.contains(&found(&whole)));
}

#[tokio::test]
async fn an_ended_jobs_workspace_goes_and_its_unfinished_work_is_kept() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "one").await;
    fs::write(workspace.path().join("half"), "done").unwrap();
    let reclaimed = reclaim(&bed, &workspace).await;
    let saved = format!("refs/agent/{}", job(1));
    assert_eq!(
        reclaimed,
        Reclaimed::Removed {
            saved: Some(saved.clone())
        }
    );
    assert_eq!(
        git(&bed.mirror(), &["show", &format!("{saved}:half")]),
        "done"
    );
    assert!(!workspace.path().exists());
    assert!(bed.git.workspaces().await.unwrap().is_empty());
    assert_eq!(
        try_git(&bed.mirror(), &["rev-parse", "refs/heads/one"]),
        None
    );
}

#[tokio::test]
async fn a_workspace_without_changes_leaves_nothing() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "one").await;
    let reclaimed = reclaim(&bed, &workspace).await;
    assert_eq!(reclaimed, Reclaimed::Removed { saved: None });
    assert_eq!(git(&bed.mirror(), &["for-each-ref", "refs/agent"]), "");
}

#[tokio::test]
async fn a_branch_that_an_ended_job_could_not_let_go_of_is_freed_for_the_next_and_its_work_kept() {
    let bed = Bed::new();
    let held = bed.workspace(1, "one").await;
    let other = bed.workspace(3, "three").await;
    fs::write(held.path().join("half"), "done").unwrap();
    let name = branch("one");
    let make = || {
        let base = held.base();
        bed.git
            .add_workspace(&bed.repo, job(2), &name, base, bed.layout)
    };
    assert!(make().await.is_err());
    let freed = bed.git.free_branch(&bed.repo, job(2), &name).await.unwrap();
    let saved = format!("refs/agent/{}", job(1));
    let reclaimed = Reclaimed::Removed {
        saved: Some(saved.clone()),
    };
    assert_eq!(freed, [(job(1), reclaimed)]);
    make().await.unwrap();
    let kept = git(&bed.mirror(), &["show", &format!("{saved}:half")]);
    assert_eq!(kept, "done");
    assert!(!held.path().exists() && other.path().exists());
}

#[tokio::test]
async fn a_workspace_somebody_works_in_stays() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "one").await;
    let mut agent = Command::new("sleep")
        .arg("60")
        .current_dir(workspace.path())
        .spawn()
        .unwrap();
    let reclaimed = reclaim(&bed, &workspace).await;
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(matches!(reclaimed, Reclaimed::Kept { .. }));
    assert!(workspace.path().join("README").exists());
}

#[tokio::test]
async fn the_workspace_of_an_unknown_job_is_left_alone_for_a_day_and_then_always_kept_in_the_mirror()
 {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "one").await;
    fs::write(workspace.path().join("half"), "done").unwrap();
    let young = bed.git.reclaim(&found(&workspace), None).await.unwrap();
    assert!(matches!(young, Reclaimed::Kept { .. }), "{young:?}");
    age(workspace.path(), DAYS);
    let admin = bed.mirror().join("worktrees").join(job(1).to_string());
    let still = bed.git.reclaim(&found(&workspace), None).await.unwrap();
    assert!(
        matches!(still, Reclaimed::Kept { .. }),
        "git was used since"
    );
    age(&admin, DAYS);
    let old = bed.git.reclaim(&found(&workspace), None).await.unwrap();
    let saved = format!("refs/agent/{}", job(1));
    assert_eq!(
        old,
        Reclaimed::Removed {
            saved: Some(saved.clone())
        }
    );
    assert_eq!(
        git(&bed.mirror(), &["show", &format!("{saved}:half")]),
        "done"
    );
    assert!(!workspace.path().exists());
}

#[tokio::test]
async fn work_of_an_unknown_job_without_a_mirror_stays() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "one").await;
    fs::remove_dir_all(bed.mirror()).unwrap();
    age(workspace.path(), DAYS);
    let kept = bed.git.reclaim(&found(&workspace), None).await.unwrap();
    assert!(matches!(kept, Reclaimed::Kept { .. }), "{kept:?}");
    let known = reclaim(&bed, &workspace).await;
    assert_eq!(known, Reclaimed::Removed { saved: None });
    assert!(!workspace.path().exists());
}

#[tokio::test]
async fn leftovers_of_killed_programs_go_and_what_is_young_or_in_use_stays() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "one").await;
    let (mirror, trees) = (bed.mirror(), bed.path().join("worktrees/org/repo"));
    let trash = [
        trees.join(".removed-0123-0"),
        bed.path().join("repos/org/.removed-repo.git-0"),
        bed.path().join("repos/org/repo.git.new"),
    ];
    for dir in &trash {
        fs::create_dir_all(dir.join("deep")).unwrap();
    }
    let old = [
        mirror.join("packed-refs.lock"),
        mirror.join("refs/heads/x.lock"),
        mirror.join("objects/pack/tmp_pack_x"),
        mirror.join("objects/tmp_objdir-incoming-x"),
        mirror.join(format!("agent-index-{}", job(9))),
    ];
    let stays = [
        mirror.join("objects/pack/tmp_pack_young"),
        mirror.join("HEAD.lock"),
        mirror.join("refs/heads/agent-index-is-a-branch"),
        mirror.join("made-before-the-clock-was-set-back.lock"),
        bed.path().join("repos/org/.removed-other.git-0"),
        trees.join("someone's own"),
    ];
    for file in old.iter().chain(&stays) {
        fs::write(file, "").unwrap();
    }
    let (old_ones, now) = (
        old.iter().chain([&stays[2], &stays[4], &stays[5]]),
        SystemTime::now(),
    );
    let dated = old_ones.map(|file| (file, now - DAYS));
    for (file, at) in dated.chain([(&stays[3], now + DAYS)]) {
        fs::File::options()
            .append(true)
            .open(file)
            .unwrap()
            .set_modified(at)
            .unwrap();
    }
    assert_eq!(
        bed.git.sweep(&bed.repo).await.unwrap(),
        trash.len() + old.len()
    );
    for path in trash.iter().chain(&old) {
        assert!(!path.exists(), "{}", path.display());
    }
    for path in &stays {
        assert!(path.exists(), "{}", path.display());
    }
    assert!(workspace.path().join("README").exists());
}

/// Gives a mirror so many loose objects that it wants to be packed.
fn untidy(bed: &Bed) {
    let dir = bed.path().join("many");
    fs::create_dir(&dir).unwrap();
    let paths: Vec<_> = (0..2100)
        .map(|n| {
            let path = dir.join(n.to_string());
            fs::write(&path, n.to_string()).unwrap();
            path.display().to_string()
        })
        .collect();
    let list = bed.path().join("list");
    fs::write(&list, paths.join("\n")).unwrap();
    let hashed = Command::new("git")
        .args(["hash-object", "-w", "--stdin-paths"])
        .current_dir(bed.mirror())
        .stdin(fs::File::open(list).unwrap())
        .output();
    assert!(hashed.unwrap().status.success());
}

fn loose(bed: &Bed) -> usize {
    let counted = git(&bed.mirror(), &["count-objects", "-v"]);
    let count = counted
        .lines()
        .find_map(|line| line.strip_prefix("count: "));
    count.unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_untidy_mirror_is_packed_once_a_day_and_loses_nothing() {
    let bed = Bed::new();
    bed.fetch().await;
    let maintain = || bed.git.maintain(&bed.repo);
    assert_eq!(maintain().await.unwrap(), Maintained::NotNeeded);
    untidy(&bed);
    let young = git(
        &bed.mirror(),
        &[
            "hash-object",
            &bed.path().join("many/7").display().to_string(),
        ],
    );
    let kept = format!("refs/agent/{}", job(5));
    let head = git(&bed.mirror(), &["rev-parse", "refs/remotes/origin/main"]);
    git(&bed.mirror(), &["update-ref", &kept, &head]);
    assert_eq!(maintain().await.unwrap(), Maintained::Done);
    assert_eq!(loose(&bed), 0);
    assert_eq!(git(&bed.mirror(), &["rev-parse", &kept]), head);
    // Nobody refers to it, but it is young.
    assert_eq!(git(&bed.mirror(), &["cat-file", "-t", &young]), "blob");
    git(&bed.mirror(), &["fsck", "--strict"]);
    untidy_again(&bed);
    assert_eq!(
        maintain().await.unwrap(),
        Maintained::NotNeeded,
        "not twice a day"
    );
    let marker = fs::File::options()
        .append(true)
        .open(bed.mirror().join("agent-maintained"));
    marker
        .unwrap()
        .set_modified(SystemTime::now() - DAYS)
        .unwrap();
    assert_eq!(maintain().await.unwrap(), Maintained::Done);
    bed.workspace(1, "still/works").await;
}

fn untidy_again(bed: &Bed) {
    fs::remove_dir_all(bed.path().join("many")).unwrap();
    let pack = fs::read_dir(bed.mirror().join("objects/pack"))
        .unwrap()
        .flatten();
    let packs: Vec<_> = pack
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "pack"))
        .collect();
    let aside = bed.path().join("aside");
    fs::create_dir_all(&aside).unwrap();
    for pack in packs {
        let stem = pack.with_extension("");
        for kind in ["pack", "idx", "rev", "mtimes", "bitmap"] {
            let from = stem.with_extension(kind);
            if from.exists() {
                fs::rename(&from, aside.join(from.file_name().unwrap())).unwrap();
            }
        }
        let unpacked = Command::new("git")
            .args(["unpack-objects", "-q"])
            .current_dir(bed.mirror())
            .stdin(fs::File::open(aside.join(pack.file_name().unwrap())).unwrap())
            .status();
        assert!(unpacked.unwrap().success());
    }
    assert!(loose(bed) > 2000);
}

#[tokio::test]
async fn a_mirror_that_a_job_works_in_is_not_packed() {
    let bed = Bed::new();
    let workspace = bed.workspace(1, "one").await;
    untidy(&bed);
    let maintained = bed.git.maintain(&bed.repo).await.unwrap();
    assert_eq!(maintained, Maintained::InUse);
    bed.git
        .remove_workspace(&bed.repo, workspace.job(), workspace.branch())
        .await
        .unwrap();
    let maintained = bed.git.maintain(&bed.repo).await.unwrap();
    assert_eq!(maintained, Maintained::Done);
}

#[tokio::test]
async fn packing_gives_way_to_a_job_that_wants_the_mirror() {
    let bed = Bed::new();
    bed.fetch().await;
    untidy(&bed);
    // A git that never ends packing, until it is told to.
    let bin = bed.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let begun = bed.path().join("begun");
    let real =
        String::from_utf8(Command::new("which").arg("git").output().unwrap().stdout).unwrap();
    let script = format!(
        "#!/bin/sh\nfor word; do if [ \"$word\" = gc ]; then touch {}; exec sleep 600; fi; done\nexec {} \"$@\"\n",
        begun.display(),
        real.trim()
    );
    fs::write(bin.join("git"), script).unwrap();
    make_executable(&bin.join("git"));
    let mut settings = config(bed.path(), &bed.path().join("remote").display().to_string());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    settings.env.retain(|(name, _)| name != "PATH");
    settings.env.push(("PATH".into(), path.into()));
    let git = agent_git::Git::new(settings).unwrap();
    let packing = tokio::spawn({
        let (git, repo) = (git.clone(), bed.repo.clone());
        async move { git.maintain(&repo).await }
    });
    while !begun.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let main = branch("main");
    let fetched = git.fetch_base(&bed.repo, &main);
    tokio::time::timeout(Duration::from_secs(30), fetched)
        .await
        .expect("the fetch waited for the packing")
        .unwrap();
    assert_eq!(packing.await.unwrap().unwrap(), Maintained::Interrupted);
}
