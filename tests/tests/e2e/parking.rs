//! A usage limit, or a model's API in trouble, ends no job: it waits, and goes on in its session.

use agent_tests::job::{body, nothing_is_left, prompt, reached, with};
use agent_tests::process::{self, wait_until};
use agent_tests::repo::{BareRepo, git};
use agent_tests::server::{Builder, Server};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Meets a limit after the first half of its work, and goes on with the second. Each run leaves its
/// process id in the workspace, which is pushed with the rest.
const TWO_HALVES: &str = "shell echo run >> runs.txt\nfresh write first.txt 1\nfresh resets 3600\n\
     fresh result usage_limit\nfresh exit 1\nwrite second.txt 2\nprice 0.5\nresult ok both halves";

fn start(builder: Builder) -> (Server, BareRepo) {
    let repo = builder.repo("acme", "app").unwrap();
    (builder.start().unwrap(), repo)
}

fn plain() -> (Server, BareRepo) {
    start(Builder::new().unwrap())
}

fn is_parked(job: &Value) -> bool {
    job["status"] == "queued" && job["notBefore"].is_string()
}

/// Submits a job and waits until it is parked.
fn parked(server: &Server, repo: &BareRepo, script: &str) -> Value {
    parked_on(server, repo, "fix/it", script)
}

fn parked_on(server: &Server, repo: &BareRepo, branch: &str, script: &str) -> Value {
    let id = server.submit(&body(repo, branch, script)).unwrap();
    server.wait_for(&id, is_parked).unwrap()
}

fn id(job: &Value) -> &str {
    job["id"].as_str().unwrap()
}

fn release(server: &Server, id: &str) {
    let path = format!("/jobs/{id}/release");
    let released = server.client().post(&path, &json!({})).unwrap();
    let released = released.expect(200).unwrap();
    assert_eq!(released, json!({"id": id, "status": "queued"}));
}

fn seconds_from_now(job: &Value) -> i64 {
    let until: jiff::Timestamp = job["notBefore"].as_str().unwrap().parse().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    until.as_second() - i64::try_from(now.unwrap().as_secs()).unwrap()
}

/// Files of sessions, by the id of their session.
fn transcripts(server: &Server) -> Vec<PathBuf> {
    let projects = server.home().join(".claude/projects");
    let entries = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries(projects).map(|entry| entry.path());
    let files = folders.flat_map(entries).map(|entry| entry.path());
    files
        .filter(|file| file.extension().is_some_and(|ext| ext == "jsonl"))
        .collect()
}

/// The job went on where it was: one session, one workspace, one commit of both halves.
fn went_on(server: &Server, repo: &BareRepo, before: &Value) {
    let done = server.wait(id(before)).unwrap();
    let log = server.log(id(before)).unwrap();
    assert_eq!(done["status"], "completed", "{done:#}\n{log}");
    assert_eq!(done["sessionId"], before["sessionId"]);
    assert_eq!(done["baseCommit"], before["baseCommit"]);
    assert_eq!(done["attempt"], 2);
    let show = |path| String::from_utf8(repo.show("fix/it", path).unwrap()).unwrap();
    assert_eq!(show("first.txt") + &show("second.txt"), "1\n2\n");
    assert_eq!(show("runs.txt"), "run\nrun\n", "in one workspace");
    assert!(log.contains("Going on in session"), "{log}");
}

#[test]
fn a_job_that_meets_a_usage_limit_waits_at_no_cost_and_goes_on_in_its_session() {
    let (server, repo) = start(Builder::new().unwrap().env("MAX_CONCURRENT_JOBS", "1"));
    let job = parked(&server, &repo, TWO_HALVES);
    assert_eq!(job["reason"], "usage_limit", "{job:#}");
    let wait = seconds_from_now(&job);
    assert!((3600..3700).contains(&wait), "{wait}");
    assert!(
        job["sessionId"].is_string() && job["savedRef"].is_null(),
        "{job:#}"
    );
    let queue = server.client().get("/queue").unwrap().expect(200).unwrap();
    let queued = &queue["queued"][0];
    assert_eq!(queued["reason"], "usage_limit");
    assert_eq!(
        (&queued["notBefore"], &queued["position"]),
        (&job["notBefore"], &Value::Null)
    );
    let health = server.client().get("/health").unwrap().expect(200).unwrap();
    assert_eq!(health["queue"]["parked"], 1);
    assert_eq!(health["queue"]["parkedUntil"], job["notBefore"]);
    // Nothing is started before the limit resets that would only run into it.
    let next = parked_on(&server, &repo, "fix/next", "write n.txt n");
    assert_eq!(
        (&next["reason"], &next["notBefore"], &next["attempt"]),
        (&"usage_limit".into(), &job["notBefore"], &0.into())
    );
    // The only slot is free, and what has nothing to do with that limit is done.
    let own = json!({"secrets": {"anthropicApiKey": "sk-ant-of-the-job-alone"}});
    let other = with(body(&repo, "fix/other", "write o.txt o"), own);
    let other = server.submit(&other).unwrap();
    assert_eq!(server.wait(&other).unwrap()["status"], "completed");
    assert_eq!(server.workspaces().len(), 1);

    release(&server, id(&job));
    went_on(&server, &repo, &job);
    assert_eq!(server.wait(id(&next)).unwrap()["status"], "completed");
    let done = server.job(id(&job)).unwrap();
    let cost = done["costUsd"].as_f64().unwrap();
    assert!(
        (cost - 0.5).abs() < 1e-9,
        "the limit itself cost nothing: {cost}"
    );
    let left = transcripts(&server);
    assert!(left.is_empty(), "no second session was begun: {left:?}");
    nothing_is_left(&server).unwrap();
    let path = format!("/jobs/{}/release", id(&job));
    let refused = server.client().post(&path, &json!({})).unwrap();
    assert_eq!(refused.expect(409).unwrap()["code"], "job_not_parked");
}

#[test]
fn a_server_that_is_killed_or_stopped_while_a_job_is_parked_loses_nothing() {
    let (mut server, repo) = plain();
    let job = parked(&server, &repo, TWO_HALVES);
    server.kill().unwrap();
    server.start().unwrap();
    server.terminate().unwrap();
    server.start().unwrap();
    // Whatever a start looks through has been looked through.
    let settled = || server.output().matches("settled in").count() >= 2;
    assert!(wait_until(Duration::from_secs(30), settled));
    let still = server.job(id(&job)).unwrap();
    assert_eq!(
        (&still["notBefore"], &still["reason"]),
        (&job["notBefore"], &job["reason"])
    );
    assert_eq!(server.workspaces().len(), 1);
    release(&server, id(&job));
    went_on(&server, &repo, &job);
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_server_that_is_killed_when_the_limit_is_met_parks_the_job_at_its_next_start() {
    let (mut server, repo) = plain();
    let here = server.dir().join("here");
    let go = server.dir().join("go");
    let (mark, wait) = (here.display(), go.display());
    let waits = format!("fresh mark {mark}\nfresh wait {wait}\nfresh result");
    let script = TWO_HALVES.replace("fresh result", &waits);
    let id = server.submit(&body(&repo, "fix/it", &script)).unwrap();
    reached(&here).unwrap();
    server.kill().unwrap();
    fs::write(&go, "").unwrap();
    let gone = || {
        let all = process::belonging_to(server.dir());
        !all.iter().any(|one| one.command.contains("stream-json"))
    };
    assert!(wait_until(Duration::from_secs(60), gone));
    server.start().unwrap();
    let job = server.wait_for(&id, is_parked).unwrap();
    assert_eq!(job["reason"], "usage_limit");
    release(&server, &id);
    went_on(&server, &repo, &job);
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_server_that_is_killed_while_a_session_goes_on_takes_that_run_up() {
    let (mut server, repo) = plain();
    let here = server.dir().join("here");
    let go = server.dir().join("go");
    let halves = TWO_HALVES.replace(
        "write second",
        &format!(
            "mark {}\nwait {}\nwrite second",
            here.display(),
            go.display()
        ),
    );
    let job = parked(&server, &repo, &halves);
    release(&server, id(&job));
    reached(&here).unwrap();
    server.kill().unwrap();
    fs::write(go, "").unwrap();
    server.start().unwrap();
    went_on(&server, &repo, &job);
    let cost = server.job(id(&job)).unwrap()["costUsd"].as_f64().unwrap();
    assert!((cost - 0.5).abs() < 1e-9, "{cost}");
    nothing_is_left(&server).unwrap();
}

#[test]
fn cancelling_a_parked_job_keeps_its_work_and_removes_its_workspace() {
    let (server, repo) = plain();
    let job = parked(&server, &repo, TWO_HALVES);
    let path = format!("/jobs/{}/cancel", id(&job));
    let cancelled = server.client().post(&path, &json!({})).unwrap();
    assert_eq!(cancelled.expect(200).unwrap()["wasRunning"], false);
    let job = server
        .wait_for(id(&job), |job| job["savedRef"].is_string())
        .unwrap();
    assert_eq!(
        (&job["status"], &job["reason"]),
        (&"cancelled".into(), &"cancelled_by_user".into())
    );
    let saved = job["savedRef"].as_str().unwrap();
    let kept = git(
        &server.mirror(&repo),
        &["show", &format!("{saved}:first.txt")],
    )
    .unwrap();
    assert_eq!(kept, "1");
    assert!(wait_until(Duration::from_secs(30), || server
        .workspaces()
        .is_empty()));
    assert_eq!(repo.branches().unwrap(), ["main"]);
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_session_that_is_gone_is_begun_anew_and_the_log_says_so() {
    let (server, repo) = plain();
    let anew = "resumed exit 9\nif again write done.txt anew\nunless again resets 60\n\
                unless again result usage_limit\nunless again exit 1\nresult ok";
    let again = server.dir().join("again");
    let anew = anew.replace("again", &again.display().to_string());
    let job = parked(&server, &repo, &format!("write first.txt 1\n{anew}"));
    for file in transcripts(&server) {
        fs::remove_file(file).unwrap();
    }
    fs::write(&again, "").unwrap();
    release(&server, id(&job));
    let done = server.wait(id(&job)).unwrap();
    let log = server.log(id(&job)).unwrap();
    assert_eq!(done["status"], "completed", "{done:#}\n{log}");
    assert_ne!(done["sessionId"], job["sessionId"]);
    assert!(
        log.contains("begun anew: the CLI has no transcript of it"),
        "{log}"
    );
    // What the first run had done is not thrown away.
    let saved = done["savedRef"].as_str().unwrap();
    git(
        &server.mirror(&repo),
        &["show", &format!("{saved}:first.txt")],
    )
    .unwrap();
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_workspace_that_is_gone_is_made_anew_and_the_log_says_so() {
    let (server, repo) = plain();
    let again = server.dir().join("again");
    let script =
        "resumed exit 9\nunless again result usage_limit\nunless again exit 1\nwrite a.txt a";
    let job = parked(
        &server,
        &repo,
        &script.replace("again", &again.display().to_string()),
    );
    for workspace in server.workspaces() {
        fs::remove_dir_all(workspace).unwrap();
    }
    fs::write(&again, "").unwrap();
    release(&server, id(&job));
    let done = server.wait(id(&job)).unwrap();
    let log = server.log(id(&job)).unwrap();
    assert_eq!(done["status"], "completed", "{done:#}\n{log}");
    assert!(log.contains("begun anew: its workspace is gone"), "{log}");
    nothing_is_left(&server).unwrap();
}

#[test]
fn an_api_in_trouble_is_tried_again_in_the_same_session_and_given_up_in_the_end() {
    let (server, repo) = plain();
    let script = "shell echo run >> runs.txt\nprice 0.25\nresult server_error";
    let mut job = parked(&server, &repo, script);
    let session = job["sessionId"].clone();
    for minutes in [1, 5, 15, 30] {
        assert_eq!(
            (&job["reason"], &job["sessionId"]),
            (&"api".into(), &session)
        );
        let wait = seconds_from_now(&job);
        assert!(
            (minutes * 45..=minutes * 72 + 1).contains(&wait),
            "{minutes} min: {wait} s"
        );
        let attempt = job["attempt"].as_u64().unwrap();
        release(&server, id(&job));
        job = server
            .wait_for(id(&job), |job| {
                job["attempt"].as_u64() > Some(attempt) && job["status"] != "running"
            })
            .unwrap();
    }
    let job = server.wait(id(&job)).unwrap();
    assert_eq!(
        (&job["status"], &job["reason"]),
        (&"failed".into(), &"api".into()),
        "{job:#}"
    );
    assert_eq!((&job["attempt"], &job["sessionId"]), (&5.into(), &session));
    let saved = job["savedRef"].as_str().unwrap();
    let runs = git(
        &server.mirror(&repo),
        &["show", &format!("{saved}:runs.txt")],
    )
    .unwrap();
    assert_eq!(runs.lines().count(), 5, "in one workspace");
    nothing_is_left(&server).unwrap();
}

#[test]
fn parking_can_be_switched_off() {
    let (server, repo) = start(Builder::new().unwrap().env("USAGE_LIMIT", "fail"));
    let id = server.submit(&body(&repo, "fix/it", TWO_HALVES)).unwrap();
    let job = server.wait(&id).unwrap();
    assert_eq!(
        (&job["status"], &job["reason"]),
        (&"failed".into(), &"usage_limit".into())
    );
    assert!(job["savedRef"].is_string());
    nothing_is_left(&server).unwrap();
}

#[test]
fn behind_a_wall_too_a_session_goes_on_in_its_workspace() {
    for level in ["workspace", "isolated"] {
        let (server, repo) = start(Builder::new().unwrap().behind(level));
        let job = parked(&server, &repo, TWO_HALVES);
        release(&server, id(&job));
        went_on(&server, &repo, &job);
        nothing_is_left(&server).unwrap();
    }
}

#[test]
fn a_job_is_told_to_go_on_and_not_told_its_prompt_again() {
    let (server, repo) = plain();
    let record = server.dir().join("record.json");
    let script = format!("resumed record {}\n{TWO_HALVES}", record.display());
    let wished = with(body(&repo, "fix/it", &script), json!({"model": "haiku"}));
    let id = server.submit(&wished).unwrap();
    server.wait_for(&id, is_parked).unwrap();
    release(&server, &id);
    server.wait(&id).unwrap();
    let told = fs::read_to_string(record).unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    let text = told.to_string();
    assert!(
        text.contains("Go on with the task where you left off"),
        "{text}"
    );
    assert!(!text.contains(&prompt("")[..20]), "{text}");
    assert!(
        text.contains("--resume") && text.contains("haiku"),
        "{text}"
    );
}
