//! Stopping, starting again, and starts that are refused.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use agent_tests::callback::Receiver;
use agent_tests::fault::Fault;
use agent_tests::job::{self, body, nothing_is_left, reached, with};
use agent_tests::process;
use agent_tests::repo::BareRepo;
use agent_tests::server::{Builder, SECRET, Server, program};
use rustix::process::Signal;
use serde_json::{Value, json};
use ureq::http::Method;

/// A stop that waits for no agent.
const QUICK: Duration = Duration::from_secs(15);

fn start(grace: &str) -> (Server, BareRepo) {
    let builder = Builder::new()
        .unwrap()
        .env("SHUTDOWN_GRACE_SECONDS", grace)
        .env("MAX_CONCURRENT_JOBS", "1");
    let repo = builder.repo("acme", "app").unwrap();
    (builder.start().unwrap(), repo)
}

/// A job whose agent counts its runs and goes on when it is told to.
struct Paused {
    id: String,
    go: PathBuf,
    runs: PathBuf,
}

impl Paused {
    fn submit(server: &Server, repo: &BareRepo, more: Value) -> Self {
        let at = |name: &str| server.dir().join(name);
        let (here, go, runs) = (at("here"), at("go"), at("runs"));
        let script = format!(
            "append {} run\nmark {}\nwait {}\nwrite a.txt one",
            runs.display(),
            here.display(),
            go.display()
        );
        let id = server
            .submit(&with(body(repo, "fix/it", &script), more))
            .unwrap();
        reached(&here).unwrap();
        Self { id, go, runs }
    }

    fn go_on(&self) {
        fs::write(&self.go, "").unwrap();
    }

    fn runs(&self) -> usize {
        fs::read_to_string(&self.runs).unwrap().lines().count()
    }
}

fn wait_until_draining(server: &Server) {
    let draining = process::wait_until(QUICK, || {
        let health = server.client().get("/health");
        health.is_ok_and(|health| health.json()["status"] == "draining")
    });
    assert!(draining, "the server does not say that it is stopping");
}

/// Finishes a job on the server started again, and checks that its agent ran once.
fn finish_after_restart(server: &mut Server, repo: &BareRepo, job: &Paused) {
    let agents = job::left_by_agents(server);
    assert!(!agents.is_empty(), "the agent did not live on");
    server.start().unwrap();
    assert_eq!(server.job(&job.id).unwrap()["status"], "running");
    job.go_on();
    let ended = server.wait(&job.id).unwrap();
    assert_eq!(ended["status"], "completed", "{ended:#}");
    assert_eq!(ended["attempt"], 1);
    assert_eq!(job.runs(), 1);
    assert_eq!(repo.show("fix/it", "a.txt").unwrap(), b"one\n");
    nothing_is_left(server).unwrap();
}

#[test]
fn a_server_with_nothing_to_do_leaves_with_0_on_either_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut server, _) = start("30");
        let begun = Instant::now();
        server.signal(signal);
        let status = server.exited().unwrap();
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert!(begun.elapsed() < QUICK, "took {:?}", begun.elapsed());
        assert_eq!(process::belonging_to(server.dir()), []);
    }
}

#[test]
fn a_job_that_ends_within_the_grace_is_delivered_before_the_server_leaves() {
    let (mut server, repo) = start("60");
    let receiver = Receiver::start().unwrap();
    let job = Paused::submit(&server, &repo, json!({"osCallbackUrl": receiver.url()}));
    server.signal(Signal::TERM);
    wait_until_draining(&server);
    job.go_on();
    assert_eq!(server.exited().unwrap().code(), Some(0));
    assert_eq!(repo.show("fix/it", "a.txt").unwrap(), b"one\n");
    assert_eq!(process::belonging_to(server.dir()), []);
    server.start().unwrap();
    let ended = server.job(&job.id).unwrap();
    assert_eq!(ended["status"], "completed", "{ended:#}");
    assert_eq!(job.runs(), 1);
    let got = receiver.wait_for(1, Duration::from_secs(40)).unwrap();
    assert_eq!(got[0].json().unwrap()["status"], "completed");
    nothing_is_left(&server).unwrap();
}

#[test]
fn an_agent_that_needs_longer_than_the_grace_lives_on_and_is_finished_by_the_next_server() {
    for grace in ["0", "1"] {
        let (mut server, repo) = start(grace);
        let job = Paused::submit(&server, &repo, json!({}));
        let begun = Instant::now();
        assert_eq!(server.terminate().unwrap().code(), Some(0));
        assert!(begun.elapsed() < QUICK, "took {:?}", begun.elapsed());
        finish_after_restart(&mut server, &repo, &job);
    }
}

#[test]
fn an_agent_that_ends_while_no_server_runs_is_delivered_by_the_next() {
    let (mut server, repo) = start("0");
    let job = Paused::submit(&server, &repo, json!({}));
    server.terminate().unwrap();
    job.go_on();
    let gone = || process::belonging_to(server.dir()).is_empty();
    assert!(process::wait_until(QUICK, gone), "the supervisor stays");
    server.start().unwrap();
    let ended = server.wait(&job.id).unwrap();
    assert_eq!(ended["status"], "completed", "{ended:#}");
    assert_eq!(job.runs(), 1);
    assert_eq!(repo.show("fix/it", "a.txt").unwrap(), b"one\n");
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_second_signal_ends_the_server_at_once_and_costs_no_run() {
    let (mut server, repo) = start("600");
    let job = Paused::submit(&server, &repo, json!({}));
    server.signal(Signal::TERM);
    wait_until_draining(&server);
    let begun = Instant::now();
    assert_eq!(server.terminate().unwrap().code(), Some(0));
    assert!(begun.elapsed() < QUICK, "took {:?}", begun.elapsed());
    finish_after_restart(&mut server, &repo, &job);
}

#[test]
fn while_stopping_new_work_is_refused_with_a_time_to_come_back_and_reads_go_on() {
    let (mut server, repo) = start("600");
    let ended = server
        .submit(&body(&repo, "fix/before", "result ok"))
        .unwrap();
    server.wait(&ended).unwrap();
    let job = Paused::submit(&server, &repo, json!({}));
    server.signal(Signal::TERM);
    wait_until_draining(&server);

    let client = server.client();
    let another = json!({"name": "b", "githubOrg": "acme", "githubRepo": "b"});
    let new_job = body(&repo, "fix/late", "result ok");
    let refused = [
        ("/jobs".to_owned(), new_job.to_string()),
        ("/clients".to_owned(), another.to_string()),
        (format!("/jobs/{ended}/retry"), String::new()),
        ("/sync".to_owned(), String::new()),
    ];
    for (path, body) in refused {
        let headers = [("content-type", "application/json")];
        let answer = client
            .send(Method::POST, &path, &headers, body.into_bytes())
            .unwrap();
        assert_eq!(answer.status, 503, "{path}: {}", answer.text());
        let wait: u32 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!(wait > 0, "{path}");
        assert!(answer.json()["error"].is_string(), "{path}");
    }
    let reads = [
        "/health".to_owned(),
        "/queue".to_owned(),
        "/jobs".to_owned(),
        "/clients".to_owned(),
        format!("/jobs/{}?includeMessages=true", job.id),
        format!("/jobs/{}/log", job.id),
    ];
    for path in reads {
        assert_eq!(client.get(&path).unwrap().status, 200, "{path}");
    }
    // Stopping an agent is no new work.
    let path = format!("/jobs/{}/cancel", job.id);
    let cancelled = client.send(Method::POST, &path, &[], Vec::new()).unwrap();
    assert_eq!(cancelled.expect(200).unwrap()["status"], "cancelled");
    assert_eq!(server.exited().unwrap().code(), Some(0));
    assert_eq!(process::belonging_to(server.dir()), []);
}

#[test]
fn a_queued_job_stays_queued_over_a_stop_and_runs_afterwards() {
    let (mut server, repo) = start("0");
    let job = Paused::submit(&server, &repo, json!({}));
    let queued = server
        .submit(&body(&repo, "fix/next", "write b.txt two"))
        .unwrap();
    server.terminate().unwrap();
    server.start().unwrap();
    let seen = server.job(&queued).unwrap();
    assert_eq!(seen["status"], "queued");
    assert_eq!(seen["attempt"], 0);
    job.go_on();
    assert_eq!(server.wait(&job.id).unwrap()["status"], "completed");
    assert_eq!(server.wait(&queued).unwrap()["status"], "completed");
    assert_eq!(repo.show("fix/next", "b.txt").unwrap(), b"two\n");
    nothing_is_left(&server).unwrap();
}

#[test]
fn nobody_who_follows_a_log_or_waits_for_a_callback_holds_up_a_stop() {
    let (mut server, repo) = start("0");
    let receiver = Receiver::start().unwrap();
    receiver.answer_next(9, &Fault::Hang);
    let first = with(
        body(&repo, "fix/first", "result ok"),
        json!({"osCallbackUrl": receiver.url()}),
    );
    let first = server.submit(&first).unwrap();
    receiver.wait_for(1, QUICK).unwrap();
    server.wait(&first).unwrap();
    let job = Paused::submit(&server, &repo, json!({}));
    let client = server.client();
    let path = format!("/jobs/{}/log?follow=true", job.id);
    std::thread::scope(|scope| {
        let following = scope.spawn(|| client.get(&path));
        let requests = || server.output().contains("/log");
        process::wait_until(Duration::from_secs(1), requests);
        let begun = Instant::now();
        server.signal(Signal::TERM);
        // Ends with the server, in good order or not.
        drop(following.join());
        assert!(begun.elapsed() < QUICK, "took {:?}", begun.elapsed());
    });
    assert_eq!(server.exited().unwrap().code(), Some(0));
    finish_after_restart(&mut server, &repo, &job);
}

#[test]
fn a_server_can_be_stopped_and_started_many_times_under_one_run() {
    let (mut server, repo) = start("0");
    let job = Paused::submit(&server, &repo, json!({}));
    for round in 0..6 {
        if round % 2 == 0 {
            server.terminate().unwrap();
        } else {
            server.kill().unwrap();
        }
        server.start().unwrap();
    }
    job.go_on();
    let ended = server.wait(&job.id).unwrap();
    assert_eq!(ended["status"], "completed", "{ended:#}");
    assert_eq!(job.runs(), 1);
    nothing_is_left(&server).unwrap();
}

/// Starts a server that is expected to leave by itself, in a home of its own or another's.
fn refused(home: &Path, env: &[(&str, &str)]) -> Output {
    let mut child = Command::new(program("agent-server").unwrap())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", home)
        .env("PORT", "0")
        .env("AGENT_API_SECRET", SECRET)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let left = process::wait_until(QUICK, || matches!(child.try_wait(), Ok(Some(_))));
    if !left {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(left, "it started: {output:?}");
    output
}

/// Checks that a server did not start, and returns what it said.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().expect("ended by itself");
    assert_ne!(code, 0, "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_second_server_on_the_same_data_is_refused_and_disturbs_nobody() {
    let (server, repo) = start("30");
    let job = Paused::submit(&server, &repo, json!({}));
    let said = complaint(&refused(&server.home(), &[]));
    assert!(said.contains("agent.db"), "{said}");
    assert!(
        said.contains("in use") || said.contains("another"),
        "{said}"
    );
    assert_eq!(server.job(&job.id).unwrap()["status"], "running");
    job.go_on();
    assert_eq!(server.wait(&job.id).unwrap()["status"], "completed");
    assert_eq!(job.runs(), 1);
}

#[test]
fn a_missing_or_weak_secret_is_refused_with_the_way_to_make_a_good_one() {
    let home = tempfile::tempdir().unwrap();
    let thirty_one = "x".repeat(31);
    for (secret, host, word) in [
        ("", "127.0.0.1", "not set"),
        ("sixsix", "127.0.0.1", "too short"),
        (thirty_one.as_str(), "0.0.0.0", "at least 32"),
        (thirty_one.as_str(), "::", "at least 32"),
        ("with a space in it", "127.0.0.1", "printable"),
    ] {
        let env = [("AGENT_API_SECRET", secret), ("HOST", host)];
        let said = complaint(&refused(home.path(), &env));
        assert!(said.contains("AGENT_API_SECRET"), "{said}");
        assert!(said.contains(word), "{secret:?} on {host}: {said}");
        assert!(said.contains("openssl rand -hex 32"), "{said}");
        assert!(secret.is_empty() || !said.contains(secret), "{said}");
    }
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "a refused start left {left:?}");
}

#[test]
fn a_short_secret_is_good_enough_on_loopback_with_a_warning() {
    let builder = Builder::new().unwrap();
    let server = builder.env("AGENT_API_SECRET", "test123").start().unwrap();
    let said = server.output();
    assert!(said.contains("AGENT_API_SECRET has 7 characters"), "{said}");
    assert!(!said.contains("test123"), "{said}");
}

#[test]
fn an_occupied_port_is_named_and_no_job_is_touched() {
    let (mut server, repo) = start("0");
    let queued = Paused::submit(&server, &repo, json!({}));
    server.terminate().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = complaint(&refused(&server.home(), &[("PORT", &port)]));
    assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
    finish_after_restart(&mut server, &repo, &queued);
}

#[test]
fn a_setting_that_makes_no_sense_is_refused_by_its_name() {
    let home = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("PORT", "http"),
        ("HOST", "somewhere"),
        ("MAX_CONCURRENT_JOBS", "0"),
        ("JOB_TIMEOUT_SECONDS", "0"),
        ("JOB_IDLE_TIMEOUT_SECONDS", "soon"),
        ("PERMISSION_MODE", "whatever"),
        ("WEBHOOK_SECRET", "whsec_"),
        ("WEBHOOK_ALLOW", "10.0.0.0/64"),
        ("DATABASE_URL", "mysql://x"),
        ("COMMIT_NAME", "Only A Name"),
        ("GIT_REMOTE_BASE", "ext::sh -c whoami"),
        ("GIT_REMOTE_BASE", "--upload-pack=x"),
        ("LOG_LEVEL", "loud and clear"),
        ("LOG_FORMAT", "xml"),
        ("SHUTDOWN_GRACE_SECONDS", "-1"),
    ] {
        let said = complaint(&refused(home.path(), &[(name, value)]));
        let flag = name.to_lowercase().replace('_', "-");
        assert!(
            said.contains(name) || said.contains(&flag),
            "{name}={value}: {said}"
        );
    }
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let inside = file.join("data");
    let said = complaint(&refused(
        home.path(),
        &[("DATA_DIR", inside.to_str().unwrap())],
    ));
    assert!(said.contains(inside.to_str().unwrap()), "{said}");
}

#[test]
fn a_database_that_is_none_is_refused_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("agent-server");
    fs::create_dir_all(&data).unwrap();
    let content = "this is no database, but somebody's letter to somebody else".repeat(20);
    fs::write(data.join("agent.db"), &content).unwrap();
    let said = complaint(&refused(home.path(), &[]));
    assert!(said.contains("agent.db"), "{said}");
    assert_eq!(fs::read_to_string(data.join("agent.db")).unwrap(), content);
}

#[test]
fn without_git_the_server_says_how_to_get_it() {
    let home = tempfile::tempdir().unwrap();
    let said = complaint(&refused(home.path(), &[("PATH", "/nowhere")]));
    assert!(said.contains("git is not installed"), "{said}");
    assert!(said.contains("apt install git"), "{said}");
}
