//! Agents behind a wall: work is delivered as without one, and what lies outside is not reached.

use std::fs;
use std::time::Duration;

use agent_tests::job::nothing_is_left;
use agent_tests::messages_api::MessagesApi;
use agent_tests::process::{belonging_to, wait_until};
use agent_tests::repo::BareRepo;
use agent_tests::server::{Builder, Server, program};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::scripted;

fn start(level: &str) -> (Server, BareRepo) {
    let builder = Builder::new().unwrap().behind(level);
    let repo = builder.repo("acme", "site").unwrap();
    (builder.start().unwrap(), repo)
}

fn run(server: &Server, body: &Value) -> Value {
    server.wait(&server.submit(body).unwrap()).unwrap()
}

#[test]
fn work_and_commits_of_an_agent_behind_a_wall_are_delivered() {
    for level in ["workspace", "isolated"] {
        let (server, repo) = start(level);
        let script = "write a.txt a\ncommit First of mine\nshell git log --oneline origin/main && git checkout -q -b aside && git checkout -q -\nwrite b.txt b";
        let done = run(&server, &scripted("own", script));
        assert_eq!(done["status"], "completed", "{done:#}");
        assert_eq!(done["filesChanged"], 2);
        assert_eq!(repo.ahead("main", "own").unwrap(), 2);
        assert_eq!(repo.show("own", "b.txt").unwrap(), b"b\n");
        assert_eq!(repo.branches().unwrap(), ["main", "own"]);
        nothing_is_left(&server).unwrap();
    }
}

#[test]
fn a_job_that_fails_behind_a_wall_keeps_its_work() {
    let (server, repo) = start("workspace");
    let script = "write a.txt a\ncommit Half of it\nwrite b.txt b\nresult execution_error It broke";
    let failed = run(&server, &scripted("own", script));
    assert_eq!(
        (&failed["status"], &failed["reason"]),
        (&json!("failed"), &json!("agent_failed"))
    );
    let saved = failed["savedRef"].as_str().unwrap();
    let mirror = server.mirror(&repo);
    let files = agent_tests::repo::git(&mirror, &["ls-tree", "--name-only", saved]).unwrap();
    assert!(
        files.contains("a.txt") && files.contains("b.txt"),
        "{files}"
    );
    nothing_is_left(&server).unwrap();
}

/// The script of an agent that writes down in its workspace what it gets hold of.
fn spy(server: &Server) -> String {
    let home = server.home();
    let home = home.display();
    let places = [
        format!("{home}/agent-server"),
        format!("{home}/repos"),
        format!("{home}/worktrees"),
        format!("{home}/.ssh"),
        server.dir().display().to_string(),
    ];
    format!(
        "shell find {} ! -path '*/node_modules/*' -type f > seen.txt 2>/dev/null; cat /proc/[0-9]*/environ | tr '\\0' '\\n' > environment.txt; ls ~ >> seen.txt; true",
        places.join(" ")
    )
}

#[test]
fn of_the_server_and_of_other_repositories_an_agent_sees_nothing() {
    let builder = Builder::new()
        .unwrap()
        .behind("workspace")
        .env("WEBHOOK_SECRET", "canary-of-the-server");
    let repo = builder.repo("acme", "site").unwrap();
    let other = builder.repo("acme", "other").unwrap();
    let server = builder.start().unwrap();
    fs::create_dir(server.home().join(".ssh")).unwrap();
    fs::write(server.home().join(".ssh/id"), "x").unwrap();
    let mut body = scripted("first", "write a.txt a");
    body["githubRepo"] = json!(other.name());
    assert_eq!(run(&server, &body)["status"], "completed");
    let done = run(&server, &scripted("spy", &spy(&server)));
    assert_eq!(done["status"], "completed", "{done:#}");
    let seen = String::from_utf8(repo.show("spy", "seen.txt").unwrap()).unwrap();
    let id = done["id"].as_str().unwrap();
    let objects = server.mirror(&repo).join("objects");
    // Its own workspace, the objects it stands on, and its own state of the CLI.
    let strange = |line: &&str| {
        !line.contains(&format!("/worktrees/acme/site/{id}/"))
            && !line.starts_with(objects.to_str().unwrap())
            && !line.contains("/.claude")
            && !line.ends_with(".gitconfig")
            && line.contains('/')
    };
    let strange: Vec<&str> = seen.lines().filter(strange).collect();
    assert!(strange.is_empty(), "{strange:#?}");
    let environment = repo.show("spy", "environment.txt").unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains("HOME="), "{environment}");
    assert!(!environment.contains("canary-of-the-server"));
}

#[test]
fn what_one_job_leaves_in_the_clis_settings_the_next_does_not_find() {
    let (server, repo) = start("workspace");
    let script = "shell mkdir -p ~/.claude && echo '{\"hooks\":{}}' > ~/.claude/settings.json && echo alias x=y > ~/.bashrc\nwrite a.txt a";
    assert_eq!(
        run(&server, &scripted("first", script))["status"],
        "completed"
    );
    let script = "shell ls -A ~ ~/.claude > seen.txt";
    assert_eq!(
        run(&server, &scripted("second", script))["status"],
        "completed"
    );
    let seen = String::from_utf8(repo.show("second", "seen.txt").unwrap()).unwrap();
    assert!(
        !seen.contains("settings.json") && !seen.contains(".bashrc"),
        "{seen}"
    );
    assert!(!server.home().join(".claude/settings.json").exists());
    assert!(!server.home().join(".bashrc").exists());
}

/// Waits until the agent of a job has said something.
fn said(server: &Server, id: &str, text: &str) {
    let heard = wait_until(Duration::from_secs(60), || {
        server.log(id).is_ok_and(|log| log.contains(text))
    });
    assert!(heard, "{:?}", server.log(id));
}

#[test]
fn a_cancelled_agent_behind_a_wall_is_asked_first_and_gone_when_the_answer_comes() {
    let (server, _repo) = start("workspace");
    let id = server
        .submit(&scripted("own", "write a.txt a\ntext here\nhang"))
        .unwrap();
    said(&server, &id, "here");
    let answer = server
        .client()
        .post(&format!("/jobs/{id}/cancel"), &json!({}))
        .unwrap();
    assert_eq!(answer.expect(200).unwrap()["wasRunning"], true);
    let job = server.job(&id).unwrap();
    assert_eq!(job["status"], "cancelled");
    // It had the time to end by itself, which takes an interrupt that reached it.
    assert_eq!(job["exitCode"], 0, "{job:#}");
    nothing_is_left(&server).unwrap();
}

#[test]
fn an_agent_behind_a_wall_outlives_its_server_and_is_delivered_by_the_next() {
    let (mut server, repo) = start("workspace");
    let script =
        "write a.txt a\ntext begun\nshell while ! test -e go; do sleep 0.1; done\nwrite b.txt b";
    let id = server.submit(&scripted("own", script)).unwrap();
    said(&server, &id, "begun");
    server.kill().unwrap();
    let workspace = server.workspaces().pop().unwrap();
    fs::write(workspace.join("go"), "").unwrap();
    server.start().unwrap();
    let done = server.wait(&id).unwrap();
    assert_eq!(
        (&done["status"], &done["attempt"]),
        (&json!("completed"), &json!(1)),
        "{done:#}"
    );
    assert_eq!(repo.show("own", "b.txt").unwrap(), b"b\n");
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_supervisor_killed_behind_a_wall_leaves_nothing_and_the_job_runs_again() {
    let (server, repo) = start("workspace");
    let script = "write a.txt a\ntext begun\nshell setsid sleep 1000 & sleep 3";
    let id = server.submit(&scripted("own", script)).unwrap();
    said(&server, &id, "begun");
    let supervisors = belonging_to(server.dir());
    let supervisor = supervisors
        .iter()
        .find(|one| one.command.contains(" supervise "));
    agent_tests::process::signal(supervisor.unwrap().pid, Signal::KILL);
    let done = server.wait(&id).unwrap();
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(repo.ahead("main", "own").unwrap(), 1);
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_wall_that_cannot_be_had_refuses_jobs_unless_less_is_allowed_by_name() {
    let no_bwrap = |builder: Builder| {
        let folder = builder.dir().join("bin");
        fs::create_dir(&folder).unwrap();
        for program in ["git", "sh", "env", "cat"] {
            let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
                .map(|dir| dir.join(program))
                .find(|path| path.is_file());
            std::os::unix::fs::symlink(found.unwrap(), folder.join(program)).unwrap();
        }
        builder.env("PATH", folder)
    };
    let builder = no_bwrap(Builder::new().unwrap()).behind("workspace");
    builder.repo("acme", "site").unwrap();
    let mut server = builder.start().unwrap();
    let refused = run(&server, &scripted("own", "write a.txt a"));
    assert_eq!(
        (&refused["status"], &refused["reason"]),
        (&json!("failed"), &json!("sandbox")),
        "{refused:#}"
    );
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains("bwrap is not installed"), "{error}");
    assert!(refused["sessionId"].is_null());
    assert!(server.output().contains("jobs will be refused"));

    server.terminate().unwrap();
    server.set_env("SANDBOX_FALLBACK", "off");
    server.start().unwrap();
    let done = run(&server, &scripted("less", "write a.txt a"));
    assert_eq!(done["status"], "completed", "{done:#}");

    // Not asked for, it is done without, and said loudly.
    server.terminate().unwrap();
    server.set_env("SANDBOX_FALLBACK", "");
    server.set_env("SANDBOX", "");
    server.start().unwrap();
    let done = run(&server, &scripted("none", "write a.txt a"));
    assert_eq!(done["status"], "completed", "{done:#}");
    assert!(
        server.output().contains("NO SANDBOX"),
        "{}",
        server.output()
    );
}

#[test]
fn where_it_works_a_wall_is_the_default() {
    let builder = Builder::new().unwrap().without("SANDBOX");
    let repo = builder.repo("acme", "site").unwrap();
    let server = builder.start().unwrap();
    let done = run(&server, &scripted("own", "shell hostname > name.txt"));
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(repo.show("own", "name.txt").unwrap(), b"agent\n");
}

#[test]
fn an_isolated_agent_reaches_the_models_api_and_nothing_else_of_the_machine() {
    let api = MessagesApi::start(Vec::new()).unwrap();
    let builder = Builder::new()
        .unwrap()
        .behind("isolated")
        .env("ANTHROPIC_BASE_URL", api.url());
    let repo = builder.repo("acme", "site").unwrap();
    let server = builder.start().unwrap();
    let script = format!(
        "shell curl -s -o /dev/null -w '%{{http_code}} ' {}/v1/nothing > codes.txt; curl -s -o /dev/null -w '%{{http_code}}' {}/health >> codes.txt; true",
        api.url(),
        server.url()
    );
    let done = run(&server, &scripted("own", &script));
    assert_eq!(done["status"], "completed", "{done:#}");
    let codes = String::from_utf8(repo.show("own", "codes.txt").unwrap()).unwrap();
    let (model, own) = codes.split_once(' ').unwrap();
    assert!(model.starts_with('4') && model != "403", "{codes}");
    assert_eq!(own, "403", "{codes}");
    let log = server.log(done["id"].as_str().unwrap()).unwrap();
    assert!(log.contains("the sandbox refused 127.0.0.1:"), "{log}");
}

/// Asks the doctor in a server's environment, without any other settings.
fn doctor(builder: &Builder, more: &[(&str, &str)], args: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(program("agent-server").unwrap());
    command.arg("doctor").args(args).env_clear();
    command.envs(builder.variables().iter().cloned());
    command.envs(more.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text)
}

#[test]
fn the_doctor_says_what_works_and_how_to_get_the_rest_and_leaves_nothing() {
    let builder = Builder::new().unwrap().without("SANDBOX");
    let (code, text) = doctor(&builder, &[], &["--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["ok"]), (Some(0), &json!(true)), "{report:#}");
    let found = |name: &str, text: &str| {
        let checks = report["checks"].as_array().unwrap();
        checks
            .iter()
            .any(|check| check["name"] == name && check["found"].as_str().unwrap().contains(text))
    };
    for (name, text) in [
        ("git", "/git"),
        ("claude", "logged in"),
        ("sandbox", "isolated can be had"),
        ("sandbox", "workspace is used"),
        ("directory", "DATA_DIR"),
        ("disk", "MiB free"),
        ("processes", "limits are kept"),
    ] {
        assert!(found(name, text), "{name}: {text}: {report:#}");
    }
    assert_eq!(fs::read_dir(builder.dir().join("home")).unwrap().count(), 0);

    let (code, text) = doctor(
        &builder,
        &[
            ("AGENT_API_SECRET", ""),
            ("CLAUDE_BIN", "/nowhere/claude"),
            ("JOB_IDLE_TIMEOUT_SECONDS", "300"),
        ],
        &[],
    );
    assert_eq!(code, Some(1), "{text}");
    for line in [
        "JOB_IDLE_TIMEOUT_SECONDS=300 ends jobs",
        "AGENT_API_SECRET is not set",
        "-> export AGENT_API_SECRET=",
        "/nowhere/claude is not installed",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains(agent_tests::server::SECRET));

    let (code, text) = doctor(
        &builder,
        &[("SANDBOX", "workspace"), ("PATH", "/nowhere")],
        &[],
    );
    assert_eq!(code, Some(1), "{text}");
    for line in [
        "bwrap is not installed",
        "jobs are refused",
        "install bubblewrap",
    ] {
        assert!(text.contains(line), "{text}");
    }

    let (code, text) = doctor(&builder, &[("SANDBOX", "high")], &[]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("SANDBOX") && text.contains("workspace"),
        "{text}"
    );
}
