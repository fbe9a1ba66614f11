//! Cancelling: what is answered when, what is gone by then, and what is kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_tests::callback::Receiver;
use agent_tests::client::Reply;
use agent_tests::fault::Fault;
use agent_tests::git_http::GitHttp;
use agent_tests::github::GitHub;
use agent_tests::job::{self, body, nothing_is_left, reached, with};
use agent_tests::process;
use agent_tests::repo::{BareRepo, git};
use agent_tests::server::{Builder, Server};
use anyhow::Result;
use rustix::process::Signal;
use serde_json::{Value, json};
use ureq::http::Method;

/// From INT to KILL, when nobody asks twice.
const LADDER: Duration = Duration::from_secs(10);

fn start() -> (Server, BareRepo) {
    let builder = Builder::new().unwrap().env("MAX_CONCURRENT_JOBS", "1");
    let repo = builder.repo("acme", "app").unwrap();
    (builder.start().unwrap(), repo)
}

/// Submits a job whose agent does `script` and then hangs, and waits until it does.
fn running(server: &Server, repo: &BareRepo, script: &str) -> String {
    let here = server.dir().join("here");
    let script = format!("{script}\nmark {}\nhang", here.display());
    let id = server.submit(&body(repo, "fix/it", &script)).unwrap();
    reached(&here).unwrap();
    id
}

fn cancel(server: &Server, id: &str, query: &str) -> Result<Reply> {
    let path = format!("/jobs/{id}/cancel{query}");
    server.client().send(Method::POST, &path, &[], Vec::new())
}

/// A file of the unfinished work kept for a job.
fn kept(server: &Server, repo: &BareRepo, id: &str, path: &str) -> Result<String> {
    git(
        &server.mirror(repo),
        &["show", &format!("refs/agent/{id}:{path}")],
    )
}

fn pids(file: &Path) -> Vec<i32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn a_queued_job_is_cancelled_at_once_calls_back_and_never_runs() {
    let (server, repo) = start();
    let receiver = Receiver::start().unwrap();
    let first = running(&server, &repo, "");
    let never = server.dir().join("never");
    let body = with(
        body(&repo, "fix/other", &format!("mark {}", never.display())),
        json!({"osCallbackUrl": receiver.url()}),
    );
    let id = server.submit(&body).unwrap();

    let answer = cancel(&server, &id, "").unwrap().expect(200).unwrap();
    assert_eq!(
        answer,
        json!({"id": id, "status": "cancelled", "wasRunning": false})
    );

    let got = receiver.wait_for(1, Duration::from_secs(20)).unwrap();
    let told = got[0].json().unwrap();
    assert_eq!(told["jobId"], json!(id));
    assert_eq!(told["status"], "cancelled");
    let job = server.job(&id).unwrap();
    assert_eq!(job["status"], "cancelled");
    assert_eq!(job["reason"], "cancelled_by_user");
    assert_eq!(job["startedAt"], Value::Null);
    assert_eq!(job["attempt"], 0);
    assert!(job["completedAt"].is_string());

    // The slot goes to whoever is next, which is not the cancelled one.
    let third = server
        .submit(&self::body(&repo, "fix/third", "result ok"))
        .unwrap();
    cancel(&server, &first, "").unwrap().expect(200).unwrap();
    assert_eq!(server.wait(&third).unwrap()["status"], "completed");
    assert!(!never.exists(), "a cancelled job ran");
    assert_eq!(server.job(&id).unwrap()["attempt"], 0);
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_running_job_is_answered_for_when_its_tree_is_gone_and_its_work_is_kept() {
    let (server, repo) = start();
    let kinds = ["setsid", "nohup", "stubborn", "fork", "hold", "clean"];
    let file = |kind: &str| server.dir().join(format!("pids.{kind}"));
    let survivors: Vec<String> = kinds
        .iter()
        .map(|kind| format!("survivor {kind} {}", file(kind).display()))
        .collect();
    let script = format!(
        "write unfinished.txt half of it\nappend README.md more\n{}",
        survivors.join("\n")
    );
    let id = running(&server, &repo, &script);
    for kind in kinds {
        reached(&file(kind)).unwrap();
    }

    let answer = cancel(&server, &id, "").unwrap().expect(200).unwrap();

    let left = job::left_by_agents(&server);
    assert!(left.is_empty(), "answered while these ran: {left:?}");
    for kind in kinds {
        let pids = pids(&file(kind));
        assert!(!pids.is_empty(), "{kind} never ran");
        let living: Vec<_> = pids
            .into_iter()
            .filter(|pid| process::is_alive(*pid))
            .collect();
        assert!(living.is_empty(), "{kind} is alive: {living:?}");
    }
    assert_eq!(
        answer,
        json!({"id": id, "status": "cancelled", "wasRunning": true})
    );
    let job = server.job(&id).unwrap();
    assert_eq!(job["status"], "cancelled");
    assert_eq!(job["reason"], "cancelled_by_user");
    assert_eq!(job["error"], Value::Null);
    assert!(job["cancelRequestedAt"].is_string());
    assert_eq!(job["savedRef"], format!("refs/agent/{id}"));
    assert_eq!(
        kept(&server, &repo, &id, "unfinished.txt").unwrap(),
        "half of it"
    );
    assert!(
        kept(&server, &repo, &id, "README.md")
            .unwrap()
            .ends_with("\nmore")
    );
    assert_eq!(
        repo.branches().unwrap(),
        ["main"],
        "unfinished work was pushed"
    );
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_job_that_changed_nothing_is_cancelled_without_a_saved_ref() {
    let (server, repo) = start();
    let id = running(&server, &repo, "");
    cancel(&server, &id, "").unwrap().expect(200).unwrap();
    assert_eq!(server.job(&id).unwrap()["savedRef"], Value::Null);
    assert!(kept(&server, &repo, &id, "README.md").is_err());
    nothing_is_left(&server).unwrap();
}

#[test]
fn what_the_agent_committed_itself_is_kept_too() {
    let (server, repo) = start();
    let id = running(
        &server,
        &repo,
        "write a.txt one\ncommit Half\nwrite b.txt two",
    );
    cancel(&server, &id, "").unwrap().expect(200).unwrap();
    assert_eq!(kept(&server, &repo, &id, "a.txt").unwrap(), "one");
    assert_eq!(kept(&server, &repo, &id, "b.txt").unwrap(), "two");
    nothing_is_left(&server).unwrap();
}

#[test]
fn an_agent_that_ignores_int_and_term_is_killed_at_the_end_of_the_ladder() {
    let (server, repo) = start();
    let id = running(&server, &repo, "write a.txt one\nignore INT TERM HUP");
    let begun = Instant::now();
    let answer = cancel(&server, &id, "").unwrap().expect(200).unwrap();
    assert!(
        begun.elapsed() > LADDER - Duration::from_secs(1),
        "killed after {:?}",
        begun.elapsed()
    );
    assert_eq!(answer["status"], "cancelled");
    assert_eq!(server.job(&id).unwrap()["exitCode"], 137);
    assert_eq!(kept(&server, &repo, &id, "a.txt").unwrap(), "one");
    nothing_is_left(&server).unwrap();
}

#[test]
fn without_waiting_the_recorded_request_is_answered_and_a_second_one_kills_at_once() {
    let (server, repo) = start();
    let id = running(&server, &repo, "ignore INT TERM HUP");
    let first = cancel(&server, &id, "?wait=false")
        .unwrap()
        .expect(202)
        .unwrap();
    assert_eq!(first["status"], "running");
    assert_eq!(first["wasRunning"], true);
    let at = first["cancelRequestedAt"].as_str().unwrap();
    let job = server.job(&id).unwrap();
    assert_eq!(job["status"], "running");
    assert_eq!(job["cancelRequestedAt"], at);

    let begun = Instant::now();
    let second = cancel(&server, &id, "").unwrap().expect(200).unwrap();
    assert!(
        begun.elapsed() < LADDER - Duration::from_secs(4),
        "took {:?}",
        begun.elapsed()
    );
    assert_eq!(second["status"], "cancelled");
    assert_eq!(server.job(&id).unwrap()["cancelRequestedAt"], at);
    nothing_is_left(&server).unwrap();
}

#[test]
fn whoever_waits_is_answered_too_when_another_asks_for_a_kill() {
    let (server, repo) = start();
    let id = running(&server, &repo, "ignore INT TERM HUP");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| cancel(&server, &id, "").unwrap());
        server
            .wait_for(&id, |job| job["cancelRequestedAt"].is_string())
            .unwrap();
        let second = cancel(&server, &id, "").unwrap();
        assert_eq!(second.status, 200, "{}", second.text());
        let first = waiting.join().unwrap();
        assert_eq!(first.status, 200, "{}", first.text());
    });
    assert!(
        begun.elapsed() < LADDER - Duration::from_secs(2),
        "took {:?}",
        begun.elapsed()
    );
    nothing_is_left(&server).unwrap();
}

#[test]
fn an_ended_job_is_refused_by_its_status() {
    let (server, repo) = start();
    let ended = |branch: &str, script: &str| {
        let id = server.submit(&body(&repo, branch, script)).unwrap();
        server.wait(&id).unwrap();
        id
    };
    let completed = ended("one", "result ok");
    let failed = ended("two", "result execution_error");
    let cancelled = running(&server, &repo, "");
    cancel(&server, &cancelled, "")
        .unwrap()
        .expect(200)
        .unwrap();
    for (id, status) in [
        (&completed, "completed"),
        (&failed, "failed"),
        (&cancelled, "cancelled"),
    ] {
        for query in ["", "?wait=false"] {
            let refusal = cancel(&server, id, query).unwrap().expect(400).unwrap();
            assert_eq!(refusal["error"], format!("Job already {status}"));
            assert_eq!(refusal["code"], "job_ended");
        }
    }
    assert_eq!(
        server.job(&completed).unwrap()["cancelRequestedAt"],
        Value::Null
    );
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_job_whose_clone_hangs_is_cancelled_with_its_git() {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "app").unwrap();
    let remote = GitHttp::start(&builder.remotes(), "unused").unwrap();
    remote.faults().next(9, &Fault::Hang);
    let server = builder
        .env("GIT_REMOTE_BASE", remote.base())
        .start()
        .unwrap();
    let id = server.submit(&body(&repo, "fix/it", "result ok")).unwrap();
    assert!(process::wait_until(Duration::from_secs(30), || !remote
        .requests()
        .is_empty()));
    assert_eq!(server.job(&id).unwrap()["phase"], "fetching");
    let begun = Instant::now();
    let answer = cancel(&server, &id, "").unwrap().expect(200).unwrap();
    assert!(begun.elapsed() < LADDER, "took {:?}", begun.elapsed());
    assert_eq!(
        answer,
        json!({"id": id, "status": "cancelled", "wasRunning": true})
    );
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_job_delivered_before_the_request_took_hold_is_completed_because_that_is_the_truth() {
    let (server, repo) = start();
    let (here, go) = pausing_hook(&server, &repo);
    let id = server
        .submit(&body(&repo, "fix/it", "write a.txt one"))
        .unwrap();
    reached(&here).unwrap();
    assert_eq!(server.job(&id).unwrap()["phase"], "delivering");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| cancel(&server, &id, "").unwrap());
        server
            .wait_for(&id, |job| !job["cancelRequestedAt"].is_null())
            .unwrap();
        fs::write(go, "").unwrap();
        let answer = waiting.join().unwrap().expect(400).unwrap();
        assert_eq!(answer["error"], "Job already completed");
    });
    let job = server.wait(&id).unwrap();
    assert_eq!(job["status"], "completed");
    let path = format!("/jobs/{id}/history");
    let history = server.client().get(&path).unwrap().expect(200).unwrap();
    let events = history["history"].as_array().unwrap();
    assert!(events.iter().any(|one| one["event"] == "cancel_requested"));
    assert_eq!(repo.show("fix/it", "a.txt").unwrap(), b"one\n");
    nothing_is_left(&server).unwrap();
}

/// Makes a push to a repository make the first file and wait for the second.
fn pausing_hook(server: &Server, repo: &BareRepo) -> (PathBuf, PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let (here, go) = (server.dir().join("pushing"), server.dir().join("go"));
    let hook = repo.path().join("hooks/pre-receive");
    fs::create_dir_all(repo.path().join("hooks")).unwrap();
    let text = format!(
        "#!/bin/sh\ntouch {}\nuntil test -e {}; do sleep 0.02; done\n",
        here.display(),
        go.display()
    );
    fs::write(&hook, text).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    (here, go)
}

/// A job on a GitHub, its agent done with its work but for the file that is returned last.
fn about_to_deliver(
    remote: &GitHttp,
    github: &GitHub,
    builder: Builder,
) -> (Server, String, PathBuf) {
    let repo = BareRepo::create(&builder.remotes(), "acme", "app").unwrap();
    github.add(&repo);
    let server = builder
        .env("GIT_REMOTE_BASE", remote.base())
        .env("GITHUB_API_URL", github.url())
        .env("GITHUB_TOKEN", TOKEN)
        .start()
        .unwrap();
    let (here, go) = (server.dir().join("here"), server.dir().join("go"));
    let script = format!(
        "write a.txt one\nmark {}\nwait {}",
        here.display(),
        go.display()
    );
    let id = server.submit(&body(&repo, "fix/it", &script)).unwrap();
    reached(&here).unwrap();
    (server, id, go)
}

const TOKEN: &str = "ghp_of_the_test";

/// Cancels a job once it waits for the next try of its delivery.
fn cancel_between_tries(server: &Server, id: &str) -> Value {
    let waits = || server.log(id).unwrap().contains("failed, next try in");
    assert!(process::wait_until(Duration::from_secs(60), waits));
    let begun = Instant::now();
    let answer = cancel(server, id, "").unwrap().expect(200).unwrap();
    // All tries together take half a minute.
    assert!(begun.elapsed() < LADDER, "took {:?}", begun.elapsed());
    answer
}

#[test]
fn a_cancellation_ends_the_tries_of_a_push_and_the_work_is_kept() {
    let builder = Builder::new().unwrap();
    let remote = GitHttp::start(&builder.remotes(), TOKEN).unwrap();
    let github = GitHub::start(TOKEN).unwrap();
    let (server, id, go) = about_to_deliver(&remote, &github, builder);
    remote.faults().next(99, &Fault::status(503));
    fs::write(go, "").unwrap();
    assert_eq!(cancel_between_tries(&server, &id)["status"], "cancelled");
    let saved = server.job(&id).unwrap()["savedRef"].clone();
    assert_eq!(saved, format!("refs/agent/{id}"));
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_cancellation_ends_the_tries_of_a_pull_request() {
    let builder = Builder::new().unwrap();
    let remote = GitHttp::start(&builder.remotes(), TOKEN).unwrap();
    let github = GitHub::start(TOKEN).unwrap();
    let (server, id, go) = about_to_deliver(&remote, &github, builder);
    github.faults().next(99, &Fault::status(502));
    fs::write(go, "").unwrap();
    assert_eq!(cancel_between_tries(&server, &id)["status"], "cancelled");
    assert!(github.pulls("acme", "app").is_empty());
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_job_is_cancelled_right_after_the_server_was_killed_and_started_again() {
    let (mut server, repo) = start();
    let pids_file = server.dir().join("pids");
    let script = format!(
        "write a.txt one\nsurvivor stubborn {}\nsurvivor clean {}",
        pids_file.display(),
        pids_file.display()
    );
    let id = running(&server, &repo, &script);
    assert!(process::wait_until(Duration::from_secs(20), || pids(
        &pids_file
    )
    .len()
        == 2));
    server.kill().unwrap();
    server.start().unwrap();
    let answer = cancel(&server, &id, "").unwrap().expect(200).unwrap();
    assert!(
        pids(&pids_file)
            .into_iter()
            .all(|pid| !process::is_alive(pid))
    );
    assert_eq!(
        answer,
        json!({"id": id, "status": "cancelled", "wasRunning": true})
    );
    assert_eq!(kept(&server, &repo, &id, "a.txt").unwrap(), "one");
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_request_recorded_before_the_server_was_killed_is_carried_out_by_the_next() {
    let (mut server, repo) = start();
    let id = running(&server, &repo, "write a.txt one\nignore INT TERM HUP");
    cancel(&server, &id, "?wait=false")
        .unwrap()
        .expect(202)
        .unwrap();
    server.kill().unwrap();
    server.start().unwrap();
    let job = server.wait(&id).unwrap();
    assert_eq!(job["status"], "cancelled");
    assert_eq!(kept(&server, &repo, &id, "a.txt").unwrap(), "one");
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_job_whose_supervisor_was_killed_is_cancelled_and_nothing_of_it_is_left() {
    let (server, repo) = start();
    let pids_file = server.dir().join("pids");
    let script = format!("survivor setsid {}", pids_file.display());
    let id = running(&server, &repo, &script);
    reached(&pids_file).unwrap();
    let all = process::belonging_to(server.dir());
    let supervisor = all
        .iter()
        .find(|one| one.command.contains(" supervise "))
        .unwrap();
    cancel(&server, &id, "?wait=false").unwrap();
    process::signal(supervisor.pid, Signal::KILL);
    assert_eq!(server.wait(&id).unwrap()["status"], "cancelled");
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_job_that_is_not_there_is_not_found_and_nonsense_is_refused() {
    let (server, _) = start();
    let unknown = "0".repeat(32);
    assert_eq!(cancel(&server, &unknown, "").unwrap().status, 404);
    assert_eq!(
        cancel(&server, &unknown, "?wait=perhaps").unwrap().status,
        400
    );
    assert_eq!(cancel(&server, &unknown, "?now=true").unwrap().status, 400);
}

#[test]
fn a_second_cancellation_does_not_wait_for_a_push_that_hangs() {
    let (server, repo) = start();
    let (pushing, _never) = pausing_hook(&server, &repo);
    let id = server
        .submit(&body(&repo, "fix/it", "write a.txt one"))
        .unwrap();
    reached(&pushing).unwrap();
    assert_eq!(cancel(&server, &id, "?wait=false").unwrap().status, 202);
    let begun = Instant::now();
    let answer = cancel(&server, &id, "").unwrap().expect(200).unwrap();
    assert!(begun.elapsed() < LADDER, "took {:?}", begun.elapsed());
    assert_eq!(answer["status"], "cancelled");
    let done = server.job(&id).unwrap();
    assert_eq!(done["savedRef"], format!("refs/agent/{id}"), "{done:#}");
    assert_eq!(kept(&server, &repo, &id, "a.txt").unwrap(), "one");
    // What is left is the remote's own hook.
    fs::write(server.dir().join("go"), "").unwrap();
}
