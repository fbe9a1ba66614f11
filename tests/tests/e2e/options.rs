//! What a job and its client say of how the agent is run, from the command line to the agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_tests::callback::Receiver;
use agent_tests::repo::git;
use agent_tests::server::{Builder, Server};
use serde_json::{Value, json};

use crate::admin;
use crate::scripted;

fn start() -> Server {
    let builder = Builder::new().unwrap();
    builder.repo("acme", "site").unwrap();
    builder.start().unwrap()
}

fn file(server: &Server, name: &str, content: &Value) -> String {
    let path = server.dir().join(name);
    std::fs::write(&path, content.to_string()).unwrap();
    path.display().to_string()
}

/// What the agent wrote down of how it was started.
fn record(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What follows a flag, up to the next one.
fn given(record: &Value, flag: &str) -> Vec<String> {
    let argv: Vec<String> = serde_json::from_value(record["argv"].clone()).unwrap();
    let mut rest = argv.into_iter().skip_while(|word| word != flag);
    assert!(rest.next().is_some(), "{flag} is not there");
    rest.take_while(|word| !word.starts_with("--")).collect()
}

/// Submits a job with every option there is on the command line, and waits for its end.
fn submit(server: &Server, agents: &Value, servers: &Value, seen: &Path) {
    let agents = file(server, "agents.json", agents);
    let servers = file(server, "servers.json", servers);
    let body = scripted("b", &format!("record {}", seen.display()));
    let mut line = vec![
        "jobs",
        "submit",
        "--repo",
        "acme/site",
        "--branch",
        "b",
        "--wait",
    ];
    for (flag, value) in [
        ("--prompt", body["prompt"].as_str().unwrap()),
        ("--model", "opus"),
        ("--fallback-model", "sonnet,haiku"),
        ("--permission-mode", "acceptEdits"),
        ("--timeout", "600"),
        ("--idle-timeout", "300"),
        ("--max-turns", "50"),
        ("--allowed-tool", "Edit"),
        ("--allowed-tool", "Bash(git *)"),
        ("--disallowed-tool", "WebFetch"),
        ("--append-system-prompt", "- Be brief."),
        ("--agents", &agents),
        ("--mcp-servers", &servers),
        ("--env", "CI=1"),
        ("--env", "GREETING=two words"),
    ] {
        line.extend([flag, value]);
    }
    admin::text(server, &line);
}

#[test]
fn every_option_of_the_command_line_reaches_the_agent() {
    let server = start();
    let seen = server.dir().join("seen.json");
    let started = server.dir().join("server-ran");
    let servers = json!({"mcpServers": {
        "mine": {"command": "touch", "args": [started], "env": {"TOKEN": "hidden"}},
    }});
    let agents = json!({"critic": {"description": "Reads", "prompt": "Read."}});
    submit(&server, &agents, &servers, &seen);
    let record = record(&seen);
    for (flag, words) in [
        ("--model", &["opus"][..]),
        ("--fallback-model", &["sonnet,haiku"]),
        ("--permission-mode", &["acceptEdits"]),
        ("--max-turns", &["50"]),
        ("--allowedTools", &["Edit", "Bash(git *)"]),
        ("--disallowedTools", &["WebFetch"]),
        ("--append-system-prompt", &["- Be brief."]),
        ("--agents", &[&agents.to_string()]),
    ] {
        assert_eq!(given(&record, flag), words, "{flag}");
    }
    assert!(given(&record, "--mcp-config")[0].ends_with(".1/mcp.json"));
    assert!(!record["argv"].to_string().contains("hidden"));
    assert!(started.exists(), "though the repository is not trusted");
    let env = |name: &str| record["env"][name].clone();
    assert_eq!(
        (env("CI"), env("GREETING")),
        (json!("1"), json!("two words"))
    );

    let jobs = server.client().get("/jobs").unwrap().json();
    let shown = admin::text(
        &server,
        &["jobs", "show", jobs["jobs"][0]["id"].as_str().unwrap()],
    );
    for (name, value) in [
        ("max turns:", "50"),
        ("environment:", "CI=1, GREETING=two words"),
    ] {
        let line = shown.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.ends_with(&format!(" {value}")), "{line}");
    }
}

#[test]
fn a_clients_defaults_count_until_a_job_says_otherwise_or_they_are_unset() {
    let server = start();
    let add = [
        "clients",
        "add",
        "acme/site",
        "--max-turns",
        "5",
        "--env",
        "FROM=client",
        "--env",
        "BOTH=client",
        "--allowed-tool",
        "Edit",
    ];
    admin::text(&server, &add);
    let run = |branch: &str, own: Value| {
        let path: PathBuf = server.dir().join(format!("{branch}.json"));
        let mut body = scripted(branch, &format!("record {}", path.display()));
        let own = own.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(own);
        let job = server.wait(&server.submit(&body).unwrap()).unwrap();
        assert_eq!(job["status"], "completed", "{job:#}");
        record(&path)
    };
    let plain = run("plain", json!({}));
    assert_eq!(given(&plain, "--max-turns"), ["5"]);
    assert_eq!(given(&plain, "--allowedTools"), ["Edit"]);
    assert_eq!(plain["env"]["FROM"], "client");

    let own = run("own", json!({"maxTurns": 9, "env": {"BOTH": "job"}}));
    assert_eq!(given(&own, "--max-turns"), ["9"]);
    assert_eq!(given(&own, "--allowedTools"), ["Edit"]);
    assert_eq!(
        (&own["env"]["BOTH"], &own["env"]["FROM"]),
        (&json!("job"), &Value::Null)
    );

    let update = [
        "clients",
        "update",
        "acme/site",
        "--unset",
        "env,allowed-tool",
    ];
    admin::text(&server, &update);
    let unset = run("unset", json!({}));
    assert_eq!(given(&unset, "--max-turns"), ["5"]);
    assert_eq!(unset["env"]["FROM"], Value::Null);
    assert!(!unset["argv"].to_string().contains("--allowedTools"));
}

#[test]
fn what_the_agent_was_not_allowed_to_do_is_told_of_a_job_that_completed() {
    let server = start();
    let script = r#"denied WebFetch {"url": "https://example.org/"}
write a.txt a
shell touch never
result ok Did what I could."#;
    let mut body = scripted("b", script);
    body["permissionMode"] = json!("acceptEdits");
    let job = server.wait(&server.submit(&body).unwrap()).unwrap();
    assert_eq!(job["status"], "completed", "{job:#}");
    let denied = job["permissionDenials"].as_array().unwrap();
    let fetch = json!({"tool": "WebFetch", "input": r#"{"url":"https://example.org/"}"#});
    assert_eq!((denied.len(), &denied[0]), (2, &fetch), "{denied:?}");
    assert_eq!(denied[1]["tool"], "Bash");
    assert!(denied[1]["input"].as_str().unwrap().contains("touch never"));
    let shown = admin::text(&server, &["jobs", "show", job["id"].as_str().unwrap()]);
    assert!(
        shown.contains("denied:") && shown.contains("; Bash {"),
        "{shown}"
    );
}

#[test]
fn an_answer_of_the_form_that_was_asked_for_is_returned_as_json() {
    let receiver = Receiver::start().unwrap();
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "site").unwrap();
    let server = builder.start().unwrap();
    let run = |branch: &str, answer: &str| {
        let script = format!("write a.txt a\n{answer}\nresult ok Done.");
        let mut body = scripted(branch, &script);
        body["outputSchema"] = json!({
            "type": "object", "required": ["risk"],
            "properties": {"risk": {"enum": ["low", "high"]}},
        });
        body["osCallbackUrl"] = json!(receiver.url());
        server.wait(&server.submit(&body).unwrap()).unwrap()
    };
    let good = run("good", r#"structured {"risk": "low", "why": ["small"]}"#);
    let answer = json!({"risk": "low", "why": ["small"]});
    assert_eq!(
        (&good["status"], &good["output"]),
        (&json!("completed"), &answer)
    );

    for (branch, answer) in [
        ("none", "text I forgot."),
        ("other", r#"structured {"risk": "medium"}"#),
    ] {
        let bad = run(branch, answer);
        let told = (&bad["status"], &bad["reason"], &bad["exitCode"]);
        assert_eq!(
            told,
            (&json!("failed"), &json!("output_schema"), &json!(0)),
            "{bad:#}"
        );
        assert_eq!((&bad["output"], repo.rev(branch)), (&Value::Null, None));
        assert!(bad["savedRef"].is_string());
    }
    let told = receiver.wait_for(3, Duration::from_secs(60)).unwrap();
    let outputs = told.iter().map(|request| {
        let body = request.json().unwrap();
        let is_good = body["jobId"] == good["id"];
        assert_eq!(body.get("output"), is_good.then_some(&answer), "{body}");
        is_good
    });
    assert_eq!(outputs.filter(|is_good| *is_good).count(), 1);
}

#[test]
fn work_may_stay_on_the_machine_or_end_with_the_pushed_branch() {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "site").unwrap();
    let server = builder.start().unwrap();
    let run = |branch: &str, delivery: &str| {
        let mut body = scripted(branch, "write a.txt a");
        body["delivery"] = json!(delivery);
        server.wait(&server.submit(&body).unwrap()).unwrap()
    };
    let pushed = run("pushed", "branch");
    let told = (&pushed["status"], &pushed["savedRef"]);
    assert_eq!(told, (&json!("completed"), &Value::Null));
    assert_eq!(pushed["headCommit"].as_str(), repo.rev("pushed").as_deref());

    let kept = run("kept", "none");
    let name = format!("refs/agent/{}", kept["id"].as_str().unwrap());
    let told = (&kept["status"], &kept["savedRef"], &kept["filesChanged"]);
    assert_eq!(told, (&json!("completed"), &json!(name), &json!(1)));
    assert_eq!(repo.rev("kept"), None);
    let mirror = server.mirror(&repo);
    assert_eq!(
        git(&mirror, &["show", &format!("{name}:a.txt")]).unwrap(),
        "a"
    );
}

#[test]
fn a_job_starts_from_the_branch_or_the_commit_it_names() {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "site").unwrap();
    let first = repo.rev("main").unwrap();
    let release = repo.branch("release", "main", &[("r.txt", "r")]).unwrap();
    repo.commit("main", &[("m.txt", "m")], "Go on").unwrap();
    let server = builder.start().unwrap();
    let run = |branch: &str, base: &str| {
        let mut body = scripted(branch, "write a.txt a");
        body["base"] = json!(base);
        server.wait(&server.submit(&body).unwrap()).unwrap()
    };
    for (branch, base, commit) in [("a", "release", &release), ("b", &*first, &first)] {
        let done = run(branch, base);
        let told = (&done["status"], &done["baseCommit"], &done["base"]);
        assert_eq!(told, (&json!("completed"), &json!(commit), &json!(base)));
        assert_eq!(repo.rev(&format!("{branch}^")).as_ref(), Some(commit));
    }
    // Of the second only this machine knows.
    let mut body = scripted("unpushed", "write a.txt a");
    body["delivery"] = json!("none");
    let unpushed = server.wait(&server.submit(&body).unwrap()).unwrap();
    let unpushed = unpushed["headCommit"].as_str().unwrap();
    for missing in ["nowhere", unpushed, &"0".repeat(40)] {
        let failed = run("c", missing);
        let told = (&failed["reason"], &failed["sessionId"]);
        assert_eq!(told, (&json!("git"), &Value::Null), "{missing}");
    }
}

#[test]
fn metadata_comes_back_with_the_job_and_its_callback() {
    let receiver = Receiver::start().unwrap();
    let server = start();
    let mut body = scripted("b", "write a.txt a");
    body["metadata"] = json!({"ticket": {"id": 7}, "tags": ["x"]});
    body["osCallbackUrl"] = json!(receiver.url());
    let done = server.wait(&server.submit(&body).unwrap()).unwrap();
    assert_eq!(done["metadata"], body["metadata"]);
    let told = receiver.wait_for(1, Duration::from_secs(60)).unwrap();
    assert_eq!(told[0].json().unwrap()["metadata"], body["metadata"]);
}
