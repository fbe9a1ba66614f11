//! Jobs on a plain remote: what is delivered, what is kept, what is refused.

use std::path::Path;
use std::time::Duration;

use agent_tests::process::wait_until;
use agent_tests::repo::{BareRepo, git};
use agent_tests::server::{Builder, Server};
use serde_json::{Value, json};

use crate::scripted;

fn start() -> (Server, BareRepo) {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "site").unwrap();
    (builder.start().unwrap(), repo)
}

fn run(server: &Server, body: &Value) -> Value {
    server.wait(&server.submit(body).unwrap()).unwrap()
}

#[test]
fn a_job_becomes_a_pushed_branch_with_one_commit() {
    let (server, repo) = start();
    let script = "text Let me see.\nwrite hello.txt Hello\nresult ok Said hello.";
    let mut body = scripted("feature/hello", script);
    body["title"] = json!("Say hello");
    let done = run(&server, &body);
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(done["filesChanged"], 1);
    assert_eq!(done["exitCode"], 0);
    assert!(done["prUrl"].is_null() && done["prNumber"].is_null());
    assert_eq!(done["baseCommit"].as_str(), repo.rev("main").as_deref());
    assert_eq!(
        done["headCommit"].as_str(),
        repo.rev("feature/hello").as_deref()
    );
    assert!(done["costUsd"].as_f64().unwrap() > 0.0);
    assert_eq!(repo.subject("feature/hello").unwrap().trim(), "Say hello");
    assert_eq!(repo.ahead("main", "feature/hello").unwrap(), 1);
    assert_eq!(repo.show("feature/hello", "hello.txt").unwrap(), b"Hello\n");
    assert!(server.workspaces().is_empty());
    let messages = server.messages(done["id"].as_str().unwrap()).unwrap();
    for said in ["stdout: Let me see.", "stdout: Said hello."] {
        assert!(messages.iter().any(|line| line == said), "{messages:?}");
    }
}

#[test]
fn without_a_title_the_commit_names_the_branch() {
    let (server, repo) = start();
    assert_eq!(
        run(&server, &scripted("fix/a", "write a.txt a"))["status"],
        "completed"
    );
    assert_eq!(repo.subject("fix/a").unwrap().trim(), "feat: fix/a");
}

#[test]
fn a_hostile_title_is_only_text() {
    let (server, repo) = start();
    let titles = [
        "\"; rm -rf / #",
        "$(touch ~/pwned)",
        "`touch ~/pwned`",
        "-m --amend",
        "# heading",
    ];
    for (n, title) in titles.into_iter().enumerate() {
        let branch = format!("t/{n}");
        let mut body = scripted(&branch, "write a.txt a");
        body["title"] = json!(title);
        let done = run(&server, &body);
        assert_eq!(done["status"], "completed", "{done:#}");
        assert_eq!(repo.subject(&branch).unwrap().trim_end_matches('\n'), title);
    }
    assert!(!server.home().join("pwned").exists());
}

#[test]
fn a_branch_name_that_looks_like_shell_is_only_a_name() {
    let (server, repo) = start();
    for branch in ["a;b", "$(x)", "`y`", "q\"q", "ünï/cödé", "a&b|c"] {
        let done = run(&server, &scripted(branch, "write a.txt a"));
        assert_eq!(done["status"], "completed", "{done:#}");
        assert!(repo.rev(branch).is_some(), "{branch}");
    }
}

#[test]
fn when_nothing_changed_the_branch_is_pushed_at_its_base() {
    let (server, repo) = start();
    let done = run(&server, &scripted("idle", "text Nothing to do."));
    assert_eq!(done["status"], "completed");
    assert_eq!(done["filesChanged"], 0);
    assert_eq!(repo.rev("idle"), repo.rev("main"));
}

#[test]
fn commits_of_the_agents_own_are_delivered() {
    let (server, repo) = start();
    let script = "write a.txt a\ncommit First of mine\nwrite b.txt b";
    let done = run(&server, &scripted("own", script));
    assert_eq!(done["status"], "completed");
    assert_eq!(done["filesChanged"], 2);
    assert_eq!(repo.ahead("main", "own").unwrap(), 2);
}

#[test]
fn work_of_an_agent_that_switched_away_from_the_branch_is_delivered() {
    let (server, repo) = start();
    let script = "shell git checkout -q --detach\nwrite a.txt a\ncommit Detached\n\
                  shell git checkout -q -b elsewhere\nwrite b.txt b";
    let done = run(&server, &scripted("away", script));
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(repo.show("away", "a.txt").unwrap(), b"a\n");
    assert_eq!(repo.show("away", "b.txt").unwrap(), b"b\n");
    assert_eq!(repo.rev("elsewhere"), None);
}

#[test]
fn a_failed_job_keeps_its_work_in_the_mirror_and_pushes_nothing() {
    let (server, repo) = start();
    let script = "write half.txt half\ncommit Half\nwrite more.txt more\nresult execution_error";
    let done = run(&server, &scripted("broken", script));
    assert_eq!(done["status"], "failed");
    assert_eq!(done["reason"], "agent_failed");
    assert_eq!(done["exitCode"], 1);
    assert!(!done["error"].as_str().unwrap().is_empty());
    let id = done["id"].as_str().unwrap();
    assert_eq!(done["savedRef"], format!("refs/agent/{id}"));
    assert_eq!(repo.rev("broken"), None);
    let kept = |path: &str| {
        git(
            &server.mirror(&repo),
            &["show", &format!("refs/agent/{id}:{path}")],
        )
        .unwrap()
    };
    assert_eq!(
        (kept("half.txt").trim(), kept("more.txt").trim()),
        ("half", "more")
    );
    assert!(server.workspaces().is_empty());
}

#[test]
fn a_branch_on_the_remote_is_refused_before_the_agent_starts() {
    let (server, repo) = start();
    run(&server, &scripted("warm", "write a.txt a"));
    // Nobody has told the server of this one yet.
    let theirs = repo
        .branch("taken", "main", &[("theirs.txt", "theirs")])
        .unwrap();
    let done = run(&server, &scripted("taken", "write a.txt a"));
    assert_eq!(done["reason"], "branch_exists", "{done:#}");
    assert!(done["sessionId"].is_null(), "the agent was not started");
    let known = server
        .client()
        .post("/jobs", &scripted("taken", "text x"))
        .unwrap();
    assert_eq!(known.status, 409);
    assert_eq!(known.json()["code"], "branch_exists");
    assert_eq!(repo.rev("taken"), Some(theirs));
}

#[test]
fn a_branch_that_appears_while_the_agent_works_is_not_overwritten() {
    let (server, repo) = start();
    let (here, go) = (server.dir().join("here"), server.dir().join("go"));
    let script = format!(
        "write a.txt a\nmark {}\nwait {}",
        here.display(),
        go.display()
    );
    let id = server.submit(&scripted("raced", &script)).unwrap();
    assert!(wait_until(Duration::from_secs(60), || here.exists()));
    let theirs = repo
        .branch("raced", "main", &[("theirs.txt", "theirs")])
        .unwrap();
    std::fs::write(&go, "").unwrap();
    let done = server.wait(&id).unwrap();
    assert_eq!(done["status"], "failed", "{done:#}");
    assert_eq!(repo.rev("raced"), Some(theirs));
    assert!(!done["savedRef"].is_null(), "{done:#}");
}

#[test]
fn a_retry_finds_a_free_branch_and_remembers_its_origin() {
    let (server, repo) = start();
    let first = run(&server, &scripted("again", "write a.txt a"));
    let id = first["id"].as_str().unwrap();
    let retry = server
        .client()
        .post(&format!("/jobs/{id}/retry"), &json!({}))
        .unwrap();
    let retry = retry.expect(201).unwrap();
    assert_eq!(retry["originalJobId"], id);
    assert_eq!(retry["status"], "queued");
    assert_eq!(retry["position"], 1);
    let done = server.wait(retry["id"].as_str().unwrap()).unwrap();
    assert_eq!(done["status"], "completed");
    assert_eq!(done["branchName"], "again-retry-1");
    assert!(repo.rev("again-retry-1").is_some());
}

#[test]
fn the_retry_of_a_failed_job_keeps_its_branch_name() {
    let (server, repo) = start();
    let marker = server.dir().join("second-time");
    let script = format!(
        "write a.txt a\nif {0} result ok\nif {0} exit 0\nmark {0}\nresult execution_error",
        marker.display()
    );
    let first = run(&server, &scripted("once-more", &script));
    assert_eq!(first["status"], "failed", "{first:#}");
    let path = format!("/jobs/{}/retry", first["id"].as_str().unwrap());
    let retry = server
        .client()
        .post(&path, &json!({}))
        .unwrap()
        .expect(201)
        .unwrap();
    let done = server.wait(retry["id"].as_str().unwrap()).unwrap();
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(done["branchName"], "once-more");
    assert_eq!(repo.show("once-more", "a.txt").unwrap(), b"a\n");
}

#[test]
fn jobs_of_one_repository_run_side_by_side() {
    let builder = Builder::new().unwrap().env("MAX_CONCURRENT_JOBS", "4");
    let repo = builder.repo("acme", "site").unwrap();
    let server = builder.start().unwrap();
    let here = |n| server.dir().join(format!("here-{n}"));
    let all: Vec<_> = (0..4)
        .map(|n| format!("wait {}", here(n).display()))
        .collect();
    let ids: Vec<_> = (0..4)
        .map(|n| {
            let mark = format!("mark {}", here(n).display());
            let script = format!("{mark}\n{}\nwrite f{n}.txt {n}", all.join("\n"));
            server
                .submit(&scripted(&format!("side/{n}"), &script))
                .unwrap()
        })
        .collect();
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(server.wait(id).unwrap()["status"], "completed");
        let content = repo
            .show(&format!("side/{n}"), &format!("f{n}.txt"))
            .unwrap();
        assert_eq!(content, format!("{n}\n").into_bytes());
    }
}

#[test]
fn jobs_wait_for_a_slot_in_the_order_in_which_they_came() {
    let builder = Builder::new().unwrap().env("MAX_CONCURRENT_JOBS", "1");
    builder.repo("acme", "site").unwrap();
    let server = builder.start().unwrap();
    let (go, order) = (server.dir().join("go"), server.dir().join("order"));
    let script = |n| {
        format!(
            "shell echo {n} >> {}\nwait {}",
            order.display(),
            go.display()
        )
    };
    let ids: Vec<_> = (0..4)
        .map(|n| {
            server
                .submit(&scripted(&format!("q/{n}"), &script(n)))
                .unwrap()
        })
        .collect();
    server
        .wait_for(&ids[0], |job| job["phase"] == "agent")
        .unwrap();
    let queue = server.client().get("/queue").unwrap().expect(200).unwrap();
    assert_eq!(queue["running"].as_array().unwrap().len(), 1);
    assert!(
        queue["running"][0]["runningFor"]
            .as_str()
            .unwrap()
            .ends_with('s')
    );
    let place = |job: &Value| {
        (
            job["id"].as_str().unwrap().to_owned(),
            job["position"].as_u64().unwrap(),
        )
    };
    let waiting: Vec<_> = queue["queued"]
        .as_array()
        .unwrap()
        .iter()
        .map(place)
        .collect();
    assert_eq!(
        waiting,
        ids[1..].iter().cloned().zip(1..).collect::<Vec<_>>()
    );
    std::fs::write(&go, "").unwrap();
    for id in &ids {
        assert_eq!(server.wait(id).unwrap()["status"], "completed");
    }
    assert_eq!(std::fs::read_to_string(order).unwrap(), "0\n1\n2\n3\n");
}

/// The CLI's arguments, as it recorded them.
fn argv(record: &Path) -> Vec<String> {
    let record: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    serde_json::from_value(record["argv"].clone()).unwrap()
}

fn after<'a>(argv: &'a [String], flag: &str) -> Option<&'a str> {
    let at = argv.iter().position(|arg| arg == flag)?;
    argv.get(at + 1).map(String::as_str)
}

#[test]
fn an_explicit_model_and_permission_mode_reach_the_cli() {
    let (server, _repo) = start();
    let record = server.dir().join("record.json");
    let mut body = scripted("opts", &format!("record {}", record.display()));
    body["model"] = json!("claude-sonnet-5-5");
    body["permissionMode"] = json!("acceptEdits");
    assert_eq!(run(&server, &body)["status"], "completed");
    let argv = argv(&record);
    let after = |flag| after(&argv, flag);
    assert_eq!(after("--model"), Some("claude-sonnet-5-5"), "{argv:?}");
    assert_eq!(after("--permission-mode"), Some("acceptEdits"));
    assert_eq!(after("--output-format"), Some("stream-json"));
    assert!(argv.iter().any(|arg| arg == "--verbose"));
    assert!(
        !argv.iter().any(|arg| arg.contains("Do it.")),
        "the prompt goes over standard input"
    );
}

#[test]
fn a_clients_model_and_permission_mode_reach_the_cli_unless_the_job_has_its_own() {
    let (server, _repo) = start();
    let record = server.dir().join("record.json");
    let client = json!({
        "name": "Site", "githubOrg": "acme", "githubRepo": "site",
        "model": "claude-sonnet-5-5", "permissionMode": "acceptEdits",
    });
    let api = server.client();
    api.post("/clients", &client).unwrap().expect(201).unwrap();
    let script = format!("record {}", record.display());
    let seen = |branch: &str, own: Option<&str>| {
        let mut body = scripted(branch, &script);
        body["permissionMode"] = json!(own);
        assert_eq!(run(&server, &body)["status"], "completed");
        let argv = argv(&record);
        ["--model", "--permission-mode"].map(|flag| after(&argv, flag).unwrap().to_owned())
    };
    assert_eq!(seen("client", None), ["claude-sonnet-5-5", "acceptEdits"]);
    assert_eq!(seen("job", Some("auto")), ["claude-sonnet-5-5", "auto"]);
}

#[test]
fn a_missing_repository_and_a_missing_default_branch_fail_for_git() {
    let builder = Builder::new().unwrap();
    BareRepo::create_empty(&builder.remotes(), "acme", "empty").unwrap();
    let server = builder.start().unwrap();
    for repo in ["nowhere", "empty"] {
        let mut body = scripted("x", "write a.txt a");
        body["githubRepo"] = json!(repo);
        let done = run(&server, &body);
        assert_eq!(done["reason"], "git", "{done:#}");
        assert!(done["sessionId"].is_null());
    }
}

#[test]
fn output_that_is_not_utf_8_survives_in_the_raw_log() {
    let (server, _repo) = start();
    let done = run(
        &server,
        &scripted("bytes", "hex fffe0a\nstderr odd\nline 200000"),
    );
    assert_eq!(done["status"], "completed");
    let id = done["id"].as_str().unwrap();
    let raw = server
        .client()
        .get(&format!("/jobs/{id}/log"))
        .unwrap()
        .body;
    assert!(raw.windows(2).any(|pair| pair == b"\xff\xfe"));
    let file = std::fs::read(server.data_dir().join("logs").join(id).join("1.log")).unwrap();
    assert_eq!(raw, file);
    let messages = server.messages(id).unwrap();
    assert!(messages.contains(&"stderr: odd".to_owned()));
    assert!(
        messages.iter().any(|line| line.len() > 200_000),
        "the long line is joined again"
    );
}
