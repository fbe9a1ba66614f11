//! Servers that are stopped and go on, that die together with their agents, and that find what is
//! not theirs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use agent_tests::process::{belonging_to, signal, wait_until};
use agent_tests::server::{Builder, Server};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::scripted;

const WAIT: Duration = Duration::from_secs(60);
/// Short, so that a stop can be longer; the margins are half a second.
const LEASE_SECONDS: u64 = 3;

/// A job whose agent notes that it ran, changes a file, and waits for a sign.
fn waiting(server: &Server, branch: &str) -> Value {
    let dir = server.dir().display();
    scripted(
        branch,
        &format!(
            "shell echo {branch} >> {dir}/runs\nwrite a.txt {branch}\nmark {dir}/up-{branch}\nwait {dir}/go"
        ),
    )
}

fn builder() -> Builder {
    let builder = Builder::new().unwrap();
    builder.repo("acme", "site").unwrap();
    builder.env("LEASE_SECONDS", LEASE_SECONDS.to_string())
}

fn is_up(server: &Server, branch: &str) {
    let up = server.dir().join(format!("up-{branch}"));
    assert!(wait_until(WAIT, || up.exists()), "{branch}");
}

fn runs(server: &Server) -> Vec<String> {
    let text = fs::read_to_string(server.dir().join("runs")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The supervisor of an attempt, once its record is there.
fn supervisor(server: &Server, attempt: &str) -> i32 {
    let record = server
        .data_dir()
        .join("attempts")
        .join(attempt)
        .join("supervisor.json");
    let mut found = None;
    assert!(wait_until(WAIT, || {
        let all = belonging_to(server.dir());
        let is_it = |command: &str| command.contains(" supervise ") && command.contains(attempt);
        found = all
            .iter()
            .find(|one| is_it(&one.command))
            .map(|one| one.pid);
        found.is_some() && record.exists()
    }));
    found.unwrap()
}

#[test]
fn a_server_that_is_stopped_for_longer_than_a_lease_goes_on_with_every_job() {
    let server = builder().start().unwrap();
    let id = server.submit(&waiting(&server, "stopped")).unwrap();
    is_up(&server, "stopped");
    for _ in 0..2 {
        server.signal(Signal::STOP);
        // What is measured is the stop itself, so it has to last.
        std::thread::sleep(Duration::from_secs(2 * LEASE_SECONDS));
        server.signal(Signal::CONT);
        std::thread::sleep(Duration::from_secs(LEASE_SECONDS + 1));
        let job = server.job(&id).unwrap();
        assert_eq!(
            (&job["phase"], &job["attempt"]),
            (&json!("agent"), &json!(1))
        );
    }
    fs::write(server.dir().join("go"), "").unwrap();
    let done = server.wait(&id).unwrap();
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(runs(&server), ["stopped"]);
    let health = server.client().get("/health").unwrap().expect(200).unwrap();
    assert_eq!(health["queue"]["staleWrites"], 0);
}

#[test]
fn a_job_that_dies_with_its_server_three_times_is_poison_and_its_work_is_kept() {
    let mut server = builder().start().unwrap();
    let id = server.submit(&waiting(&server, "deadly")).unwrap();
    for attempt in 1..=3 {
        let running = |job: &Value| job["phase"] == "agent" && job["attempt"] == attempt;
        server.wait_for(&id, running).unwrap();
        let wrote = || runs(&server).len() == attempt;
        assert!(wait_until(WAIT, wrote), "attempt {attempt}");
        let pid = supervisor(&server, &format!("{id}.{attempt}"));
        server.kill().unwrap();
        signal(pid, Signal::KILL);
        server.start().unwrap();
    }
    let done = server.wait(&id).unwrap();
    assert_eq!(done["reason"], "poison", "{done:#}");
    let error = done["error"].as_str().unwrap();
    for attempt in 1..=3 {
        assert!(error.contains(&format!("attempt {attempt} at ")), "{error}");
    }
    assert_eq!(done["savedRef"], format!("refs/agent/{id}"), "{done:#}");
    let nothing_left = || server.workspaces().is_empty() && attempts(&server).is_empty();
    assert!(wait_until(WAIT, nothing_left));
}

fn attempts(server: &Server) -> Vec<PathBuf> {
    let entries = fs::read_dir(server.data_dir().join("attempts"));
    entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

#[test]
fn an_agent_of_a_job_that_the_database_does_not_know_is_ended() {
    let mut server = builder().start().unwrap();
    assert!(server.terminate().unwrap().success());
    let database = server.data_dir().join("agent.db");
    let saved = server.dir().join("saved.db");
    fs::copy(&database, &saved).unwrap();
    server.start().unwrap();
    let id = server.submit(&waiting(&server, "forgotten")).unwrap();
    is_up(&server, "forgotten");
    server.kill().unwrap();
    for name in ["agent.db-wal", "agent.db-shm"] {
        fs::remove_file(server.data_dir().join(name)).ok();
    }
    fs::copy(&saved, &database).unwrap();
    assert_eq!(attempts(&server).len(), 1);
    server.start().unwrap();
    assert!(wait_until(WAIT, || attempts(&server).is_empty()));
    let own = server.pid();
    let left: Vec<_> = belonging_to(server.dir())
        .into_iter()
        .filter(|found| Some(found.pid) != own)
        .collect();
    assert!(left.is_empty(), "{left:?}");
    server
        .client()
        .get(&format!("/jobs/{id}"))
        .unwrap()
        .expect(404)
        .unwrap();
}

#[test]
fn more_living_agents_than_slots_are_all_watched_and_nothing_new_is_begun() {
    let mut server = builder().env("MAX_CONCURRENT_JOBS", "3").start().unwrap();
    let branches = ["one", "two", "three"];
    let submitted = branches.map(|branch| server.submit(&waiting(&server, branch)).unwrap());
    for branch in branches {
        is_up(&server, branch);
    }
    server.kill().unwrap();
    server.set_env("MAX_CONCURRENT_JOBS", "1");
    server.start().unwrap();
    let fourth = server.submit(&waiting(&server, "four")).unwrap();
    let settled = || server.output().contains("settled in ");
    assert!(wait_until(WAIT, settled));
    assert!(server.output().contains("living=3"), "{}", server.output());
    // Each is heard of by a cancellation, which only reaches who is watched.
    let cancelled = server
        .client()
        .post(&format!("/jobs/{}/cancel", submitted[2]), &json!({}));
    assert_eq!(
        cancelled.unwrap().expect(200).unwrap()["status"],
        "cancelled"
    );
    assert_eq!(server.job(&fourth).unwrap()["status"], "queued");
    fs::write(server.dir().join("go"), "").unwrap();
    for id in submitted[..2].iter().chain([&fourth]) {
        assert_eq!(server.wait(id).unwrap()["status"], "completed");
    }
    let mut ran = runs(&server);
    ran.sort();
    assert_eq!(ran, ["four", "one", "three", "two"]);
}
