//! The command line against a live server: every command, its exit codes, its JSON.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use agent_tests::job::{nothing_is_left, prompt, reached};
use agent_tests::process;
use agent_tests::repo::BareRepo;
use agent_tests::server::{Builder, SECRET, Server, program};
use rustix::process::Signal;
use serde_json::{Value, json};

fn start() -> (Server, BareRepo) {
    let builder = Builder::new().unwrap().env("MAX_CONCURRENT_JOBS", "1");
    let repo = builder.repo("acme", "app").unwrap();
    (builder.start().unwrap(), repo)
}

/// The command line, told where the server is and not more.
fn command(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(program("agent-admin").unwrap());
    command
        .env_clear()
        .env("AGENT_URL", server.url())
        .env("AGENT_API_SECRET", SECRET)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn admin(server: &Server, args: &[&str]) -> Output {
    command(server, args).output().unwrap()
}

/// What a command printed, when it ended with this code.
fn printed(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Runs a command that succeeds, and returns what it printed.
pub(crate) fn text(server: &Server, args: &[&str]) -> String {
    let output = admin(server, args);
    assert!(output.stderr.is_empty(), "{output:?}");
    printed(&output, 0)
}

/// Runs a command that succeeds with `--json`.
fn json(server: &Server, args: &[&str]) -> Value {
    let with_json: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&text(server, &with_json)).expect("--json prints JSON")
}

/// Runs a command that ends with this code, and returns what it complained of.
fn refusal(server: &Server, args: &[&str], code: i32) -> String {
    let output = admin(server, args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Submits a job that does `script`, and returns its id.
fn submit(server: &Server, branch: &str, script: &str) -> String {
    let prompt = prompt(script);
    let args = ["jobs", "submit", "--repo", "acme/app", "--branch", branch];
    let args: Vec<&str> = args.into_iter().chain(["--prompt", &prompt]).collect();
    let created = json(server, &args);
    created["id"].as_str().unwrap().to_owned()
}

/// A job that runs until the file `go` is made.
fn paused(server: &Server, script: &str) -> String {
    let (here, go) = (server.dir().join("here"), server.dir().join("go"));
    let script = format!("{script}\nmark {}\nwait {}", here.display(), go.display());
    let id = submit(server, "fix/paused", &script);
    reached(&here).unwrap();
    id
}

fn go_on(server: &Server) {
    fs::write(server.dir().join("go"), "").unwrap();
}

#[test]
fn clients_are_added_listed_shown_changed_and_removed() {
    let (server, _) = start();
    let client = |args: &[&str]| {
        let args: Vec<&str> = ["clients"].iter().chain(args).copied().collect();
        json(&server, &args)
    };
    let added = client(&[
        "add",
        "acme/app",
        "--name",
        "The App",
        "--os-client-id",
        "c-1",
    ]);
    let id = added["id"].as_str().unwrap();
    assert_eq!(added["repoCloned"], true);
    assert_eq!(added["githubOrg"], "acme");
    let list = client(&["list"]);
    assert_eq!(list["clients"][0]["id"], id);
    // An id and a repository name the same client.
    assert_eq!(client(&["show", id]), client(&["show", "Acme/App"]));
    assert_eq!(client(&["show", id])["osClientId"], "c-1");
    let changed = client(&[
        "update",
        "acme/app",
        "--name",
        "New",
        "--default-branch",
        "dev",
    ]);
    assert_eq!(changed["name"], "New");
    assert_eq!(changed["defaultBranch"], "dev");
    let shown = text(&server, &["clients", "show", id]);
    assert!(
        shown.contains("New") && shown.contains("acme/app"),
        "{shown}"
    );
    let listed = text(&server, &["clients", "list"]);
    assert!(listed.starts_with("ID"), "{listed}");
    assert_eq!(listed.lines().count(), 2);
    let removed = client(&["rm", "acme/app", "--remove-repo"]);
    assert_eq!(removed, json!({"deleted": true, "repoRemoved": true}));
    assert_eq!(client(&["list"]), json!({"clients": []}));
    refusal(&server, &["clients", "show", id], 3);
    refusal(&server, &["clients", "show", "acme/app"], 3);
}

#[test]
fn the_same_commands_speak_to_people_without_json() {
    let (server, _) = start();
    let added = text(&server, &["clients", "add", "acme/app"]);
    assert!(
        added.contains("acme/app") && added.contains("cloned:"),
        "{added}"
    );
    let changed = text(
        &server,
        &["clients", "update", "acme/app", "--name", "Other"],
    );
    assert!(changed.contains("\"Other\""), "{changed}");
    let synced = text(&server, &["repos", "sync"]);
    assert!(
        synced.contains("acme/app") && synced.contains("up to date"),
        "{synced}"
    );
    let health = text(&server, &["health"]);
    assert!(health.contains("0 of 1"), "{health}");
    let queue = text(&server, &["queue"]);
    assert!(queue.contains("0 of 1 running"), "{queue}");
    let removed = text(&server, &["clients", "rm", "acme/app"]);
    assert!(removed.contains("its repository stays"), "{removed}");
}

#[test]
fn sync_tells_which_repository_failed_and_ends_with_9() {
    let (server, repo) = start();
    text(&server, &["clients", "add", "acme/app"]);
    assert_eq!(
        json(&server, &["repos", "sync"])["synced"],
        json!([{"repo": "app", "githubOrg": "acme", "success": true, "error": null}])
    );
    fs::rename(repo.path(), repo.path().with_extension("gone")).unwrap();
    let output = admin(&server, &["repos", "sync", "--json"]);
    let result: Value = serde_json::from_str(&printed(&output, 9)).unwrap();
    assert_eq!(result["synced"][0]["success"], false);
    assert!(result["synced"][0]["error"].is_string());
}

#[test]
fn a_prompt_comes_from_an_argument_a_file_or_standard_input_and_arrives_as_it_is() {
    let (server, _) = start();
    let told = format!(
        "  {}\tand \"quotes\" $HOME `id` -- é\n\n",
        prompt("result ok")
    );
    let file = server.dir().join("prompt.txt");
    fs::write(&file, &told).unwrap();
    let file = file.to_str().unwrap();
    let ways = [
        ("a", ["--prompt", &told]),
        ("b", ["--prompt-file", file]),
        ("c", ["--prompt", "-"]),
        ("d", ["--prompt-file", "-"]),
    ];
    for (branch, way) in ways {
        let fixed = ["jobs", "submit", "--repo", "acme/app", "--branch", branch];
        let args: Vec<&str> = fixed.into_iter().chain(way).chain(["--json"]).collect();
        let mut child = command(&server, &args)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let written = child.stdin.take().unwrap().write_all(told.as_bytes());
        // Only two of the four read it.
        drop(written);
        let output = child.wait_with_output().unwrap();
        let created: Value = serde_json::from_str(&printed(&output, 0)).unwrap();
        let job = json(&server, &["jobs", "show", created["id"].as_str().unwrap()]);
        assert_eq!(job["prompt"], told, "{branch}");
    }
}

#[test]
fn every_field_of_a_submission_arrives() {
    let (server, _) = start();
    let id = json(&server, &["clients", "add", "acme/app"])["id"].clone();
    let prompt = prompt("result ok");
    let args = [
        ["jobs", "submit"],
        ["--client", id.as_str().unwrap()],
        ["--prompt", &prompt],
        ["--branch", "feature/all"],
        ["--title", "\"; rm -rf / #"],
        ["--os-feature-id", "f-1"],
        ["--callback-url", "http://127.0.0.1:9/x"],
        ["--model", "opus"],
        ["--permission-mode", "acceptEdits"],
        ["--timeout", "60"],
        ["--idle-timeout", "30"],
    ];
    let created = json(&server, args.as_flattened());
    let job = json(&server, &["jobs", "show", created["id"].as_str().unwrap()]);
    assert_eq!(job["clientId"], id);
    assert_eq!(job["branchName"], "feature/all");
    assert_eq!(job["title"], "\"; rm -rf / #");
    assert_eq!(job["osFeatureId"], "f-1");
    assert_eq!(job["osCallbackUrl"], "http://127.0.0.1:9/x");
    let ended = server.wait(created["id"].as_str().unwrap()).unwrap();
    assert_eq!(ended["status"], "completed", "{ended:#}");
}

#[test]
fn jobs_are_listed_by_status_client_and_page() {
    let (server, _) = start();
    let ended = submit(&server, "one", "result ok");
    server.wait(&ended).unwrap();
    let running = paused(&server, "text working");
    let queued = submit(&server, "three", "result ok");
    let ids = |args: &[&str]| -> Vec<String> {
        let args: Vec<&str> = ["jobs", "list"].iter().chain(args).copied().collect();
        let list = json(&server, &args);
        let jobs = list["jobs"].as_array().unwrap();
        jobs.iter()
            .map(|job| job["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&[]), [&*queued, &*running, &*ended]);
    assert_eq!(ids(&["--status", "completed"]), [&*ended]);
    assert_eq!(ids(&["--status", "queued,running"]), [&*queued, &*running]);
    assert_eq!(ids(&["--client", "acme/app", "--limit", "1"]), [&*queued]);
    assert_eq!(ids(&["--offset", "2"]), [&*ended]);
    assert_eq!(ids(&["--before", &running]), [&*ended]);
    refusal(&server, &["jobs", "list", "--status", "sleeping"], 2);
    refusal(&server, &["jobs", "list", "--client", "no/such"], 3);

    let listed = text(&server, &["jobs", "list"]);
    assert_eq!(listed.lines().count(), 4, "{listed}");
    let queue = json(&server, &["queue"]);
    assert_eq!(queue["running"][0]["id"], json!(running));
    assert_eq!(queue["queued"][0]["id"], json!(queued));
    assert_eq!(queue["queued"][0]["position"], 1);
    let shown = text(&server, &["queue"]);
    assert!(
        shown.contains(&running) && shown.contains(&queued),
        "{shown}"
    );
    let health = json(&server, &["health"]);
    assert_eq!(health["queue"]["running"], 1);
    assert_eq!(health["queue"]["queued"], 1);
    let shown = text(&server, &["jobs", "show", &running]);
    assert!(
        shown.contains("status:") && shown.contains("running"),
        "{shown}"
    );
    go_on(&server);
    server.wait(&queued).unwrap();
}

#[test]
fn waiting_tells_by_its_exit_code_how_a_job_ended() {
    let (server, _) = start();
    let completed = submit(&server, "one", "write a.txt one");
    let said = printed(&admin(&server, &["jobs", "wait", &completed]), 0);
    assert!(said.contains("completed: branch one"), "{said}");
    let failed = submit(&server, "two", "result execution_error It broke");
    let said = printed(&admin(&server, &["jobs", "wait", &failed]), 1);
    assert_eq!(said, "failed (agent_failed): It broke\n");
    let output = admin(&server, &["jobs", "wait", &failed, "--json"]);
    let job: Value = serde_json::from_str(&printed(&output, 1)).unwrap();
    assert_eq!(job["reason"], "agent_failed");
    let running = paused(&server, "text working");
    let said = refusal(&server, &["jobs", "wait", &running, "--timeout", "1"], 7);
    assert!(said.contains("still running"), "{said}");
    text(&server, &["jobs", "cancel", &running]);
    assert_eq!(
        printed(&admin(&server, &["jobs", "wait", &running]), 8),
        "cancelled\n"
    );

    let prompt = prompt("result ok");
    let args = ["jobs", "submit", "--repo", "acme/app", "--branch", "four"];
    let args: Vec<&str> = args
        .into_iter()
        .chain(["--wait", "--prompt", &prompt])
        .collect();
    let said = text(&server, &args);
    assert!(said.contains("completed: nothing changed"), "{said}");
}

#[test]
fn waiting_goes_on_through_a_restart_of_the_server() {
    let builder = Builder::new().unwrap();
    builder.repo("acme", "app").unwrap();
    // A port of its own, so that the second server is where the first was.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let mut server = builder.env("PORT", port).start().unwrap();
    let id = paused(&server, "text working");
    let mut waiting = command(&server, &["jobs", "wait", &id]).spawn().unwrap();
    server.kill().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(waiting.try_wait().unwrap().is_none(), "it gave up");
    server.start().unwrap();
    go_on(&server);
    let output = waiting.wait_with_output().unwrap();
    assert!(printed(&output, 0).contains("completed"));
}

#[test]
fn cancelling_waits_unless_told_otherwise_and_an_ended_job_is_refused() {
    let (server, _) = start();
    let running = paused(&server, "ignore INT TERM HUP");
    let queued = submit(&server, "two", "result ok");
    let said = text(&server, &["jobs", "cancel", &queued]);
    assert_eq!(said, format!("job {queued} cancelled\n"));
    let asked = text(&server, &["jobs", "cancel", &running, "--no-wait"]);
    assert!(asked.contains("is being cancelled"), "{asked}");
    let said = text(&server, &["jobs", "cancel", &running]);
    assert!(said.contains("cancelled; it was running"), "{said}");
    let said = refusal(&server, &["jobs", "cancel", &running], 2);
    assert!(said.contains("Job already cancelled"), "{said}");
    nothing_is_left(&server).unwrap();
}

#[test]
fn an_ended_job_is_retried_under_its_name_or_a_free_one() {
    let (server, _) = start();
    let first = submit(&server, "fix/it", "write a.txt one");
    server.wait(&first).unwrap();
    let again = json(&server, &["jobs", "retry", &first]);
    assert_eq!(again["originalJobId"], json!(first));
    assert_eq!(again["branchName"], "fix/it-retry-1");
    let id = again["id"].as_str().unwrap();
    assert_eq!(server.wait(id).unwrap()["status"], "completed");
    let said = text(&server, &["jobs", "retry", id]);
    assert!(said.contains("fix/it-retry-2"), "{said}");
    let unknown = "0".repeat(32);
    refusal(&server, &["jobs", "retry", &unknown], 3);
    let running = paused(&server, "text working");
    refusal(&server, &["jobs", "retry", &running], 4);
    go_on(&server);
    server.wait(&running).unwrap();
}

#[test]
fn a_log_is_printed_readable_raw_from_an_offset_and_as_json() {
    let (server, _) = start();
    let id = submit(
        &server,
        "fix/it",
        "text Hello from the agent\nstderr a warning\nresult ok All done.",
    );
    server.wait(&id).unwrap();
    let readable = text(&server, &["jobs", "logs", &id]);
    assert!(readable.contains("Hello from the agent\n"), "{readable}");
    assert!(readable.contains("[stderr] a warning\n"), "{readable}");
    assert!(!readable.contains("\"type\""), "{readable}");
    let raw = text(&server, &["jobs", "logs", &id, "--raw"]);
    assert_eq!(raw, server.log(&id).unwrap());
    let second = raw.find('\n').unwrap() + 1;
    let rest = text(
        &server,
        &[
            "jobs",
            "logs",
            &id,
            "--raw",
            "--offset",
            &second.to_string(),
        ],
    );
    assert_eq!(rest, raw[second..]);
    let lines = text(&server, &["jobs", "logs", &id, "--json"]);
    let kinds: BTreeSet<String> = lines
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("each line is JSON");
            assert!(line["createdAt"].is_string() && line["content"].is_string());
            line["type"].as_str().unwrap().to_owned()
        })
        .collect();
    let expected = ["stderr", "stdout", "system"].map(str::to_owned);
    assert_eq!(kinds, BTreeSet::from(expected));
    refusal(&server, &["jobs", "logs", &"0".repeat(32)], 3);
}

/// Reads what a command prints until it has printed `wanted`.
fn read_until(child: &mut Child, wanted: &str) -> String {
    let mut out = child.stdout.take().unwrap();
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let read = out.read(&mut buffer).unwrap();
        assert!(
            read > 0,
            "it ended after {}",
            String::from_utf8_lossy(&seen)
        );
        seen.extend_from_slice(&buffer[..read]);
    }
    child.stdout = Some(out);
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn following_a_log_shows_each_line_as_it_comes_and_ends_with_the_job() {
    let (server, _) = start();
    let id = paused(&server, "text The first word");
    let mut following = command(&server, &["jobs", "logs", "-f", &id])
        .spawn()
        .unwrap();
    read_until(&mut following, "The first word\n");
    assert!(following.try_wait().unwrap().is_none());
    go_on(&server);
    let output = following.wait_with_output().unwrap();
    let rest = printed(&output, 0);
    assert!(!rest.contains("The first word"), "{rest}");
    assert!(rest.contains("Done."), "{rest}");
}

#[test]
fn following_a_log_loses_and_doubles_nothing_when_the_server_is_killed() {
    let builder = Builder::new().unwrap();
    builder.repo("acme", "app").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let mut server = builder.env("PORT", port).start().unwrap();
    let id = paused(&server, "text The first word");
    let args = ["jobs", "logs", "-f", "--raw", &id];
    let mut following = command(&server, &args).spawn().unwrap();
    let first = read_until(&mut following, "The first word");
    server.kill().unwrap();
    server.start().unwrap();
    go_on(&server);
    let output = following.wait_with_output().unwrap();
    let rest = printed(&output, 0);
    assert_eq!(format!("{first}{rest}"), server.log(&id).unwrap());
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let (server, _) = start();
    let id = submit(&server, "fix/it", "line 200000 20\nresult ok");
    server.wait(&id).unwrap();
    for args in [["jobs", "logs", &id], ["jobs", "list", "--json"]] {
        let mut child = command(&server, &args).spawn().unwrap();
        let mut one = [0];
        child.stdout.take().unwrap().read_exact(&mut one).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_told_with_its_address_and_ends_with_6() {
    let (mut server, _) = start();
    server.terminate().unwrap();
    let said = refusal(&server, &["health"], 6);
    assert!(said.contains("Is agent-server running?"), "{said}");
    assert!(
        said.contains(server.url().trim_start_matches("http://")),
        "{said}"
    );
    let said = refusal(&server, &["health", "--json"], 6);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["exitCode"], 6);
}

#[test]
fn a_wrong_token_ends_with_5_and_a_missing_one_with_2() {
    let (server, _) = start();
    let said = refusal(&server, &["health", "--token", "not-the-token"], 5);
    assert!(said.contains("AGENT_API_SECRET"), "{said}");
    assert!(!said.contains("not-the-token"), "{said}");
    let output = command(&server, &["health"])
        .env_remove("AGENT_API_SECRET")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no token"));
}

#[test]
fn flags_win_over_the_environment() {
    let (server, _) = start();
    let output = command(
        &server,
        &["health", "--url", server.url(), "--token", SECRET],
    )
    .env("AGENT_URL", "http://127.0.0.1:1")
    .env("AGENT_API_SECRET", "wrong")
    .output()
    .unwrap();
    assert!(printed(&output, 0).contains("status:"));
}

#[test]
fn wrong_usage_and_refused_requests_end_with_2_and_a_clash_with_4() {
    let (server, repo) = start();
    for args in [
        vec!["frobnicate"],
        vec!["jobs", "submit"],
        vec!["clients", "add", "no-slash"],
        vec!["clients", "update", "acme/app"],
        vec!["jobs", "wait", "x", "--timeout", "soon"],
        vec!["jobs", "logs", "x", "--raw", "--json"],
        vec!["health", "--url", "ftp://x"],
    ] {
        refusal(&server, &args, 2);
    }
    let submit = [
        "jobs", "submit", "--prompt", "x", "--repo", "acme/app", "--branch",
    ];
    let on = |branch| [&submit[..], &[branch]].concat();
    let said = refusal(&server, &on("no..good"), 2);
    assert!(said.contains("branchName"), "{said}");
    refusal(&server, &on("main"), 2);
    repo.branch("taken", "main", &[("x.txt", "x\n")]).unwrap();
    let running = paused(&server, "text working");
    let said = refusal(&server, &on("fix/paused"), 4);
    assert!(said.contains("branch_exists"), "{said}");
    let said = refusal(&server, &["clients", "rm", "acme/app"], 4);
    assert!(said.contains("client_busy"), "{said}");
    go_on(&server);
    server.wait(&running).unwrap();
}

#[test]
fn a_stopping_server_takes_no_work_and_the_exit_code_is_6() {
    let builder = Builder::new().unwrap().env("SHUTDOWN_GRACE_SECONDS", "600");
    builder.repo("acme", "app").unwrap();
    let mut server = builder.start().unwrap();
    let running = paused(&server, "text working");
    server.signal(Signal::TERM);
    let draining = || json(&server, &["health"])["status"] == "draining";
    assert!(process::wait_until(Duration::from_secs(20), draining));
    let args = [
        "jobs", "submit", "--prompt", "x", "--repo", "acme/app", "--branch", "b",
    ];
    let said = refusal(&server, &args, 6);
    assert!(said.contains("try again in"), "{said}");
    text(&server, &["jobs", "cancel", &running]);
    assert_eq!(server.exited().unwrap().code(), Some(0));
}

#[test]
fn the_help_lists_every_command_and_every_exit_code() {
    let (server, _) = start();
    let help = text(&server, &["--help"]);
    for word in [
        "clients",
        "repos",
        "jobs",
        "credentials",
        "usage",
        "queue",
        "health",
        "--url",
        "--token",
        "--json",
    ] {
        assert!(help.contains(word), "{word}: {help}");
    }
    let (_, table) = help
        .split_once("Exit codes:")
        .expect("a table of exit codes");
    for code in (0..=9).chain([130]) {
        let row = format!("\n  {code:<4} ");
        assert!(table.contains(&row), "{code}: {table}");
    }
    assert!(!help.contains(SECRET), "{help}");
    for group in ["clients", "repos", "jobs"] {
        text(&server, &[group, "--help"]);
    }
}

#[test]
fn a_hostile_title_reaches_a_terminal_as_harmless_text() {
    let (server, _) = start();
    let id = submit(
        &server,
        "fix/it",
        "result execution_error \u{1b}[2J\u{1b}]0;owned\u{7}",
    );
    server.wait(&id).unwrap();
    let shown = text(&server, &["jobs", "show", &id]);
    assert!(shown.contains("owned"), "{shown:?}");
    assert!(
        !shown.contains('\u{1b}') && !shown.contains('\u{7}'),
        "{shown:?}"
    );
}

#[test]
fn a_stopped_credential_is_shown_wherever_one_would_look_and_is_let_go_on() {
    let (server, _repo) = start();
    let mended = server.dir().join("mended");
    let script = "unless M result revoked_token\nunless M exit 1\nresult ok";
    let script = script.replace('M', &mended.display().to_string());
    let id = submit(&server, "fix/it", &script);
    let waits = |job: &Value| job["status"] == "queued" && job["reason"] == "auth";
    server.wait_for(&id, waits).unwrap();

    let listed = text(&server, &["credentials", "list"]);
    let line = listed.lines().nth(1).unwrap();
    assert!(line.starts_with("default"), "{listed}");
    assert!(
        line.contains("environment") && line.contains("stopped: "),
        "{listed}"
    );
    let one = &json(&server, &["credentials", "list"])["credentials"][0];
    assert_eq!(
        (&one["status"], &one["reason"]),
        (&json!("stopped"), &json!("auth"))
    );
    let health = text(&server, &["health"]);
    assert!(
        health.contains("default stopped") && health.contains("not logged in"),
        "{health}"
    );
    let queue = text(&server, &["queue"]);
    assert!(
        queue
            .lines()
            .any(|line| line.contains(&id) && line.contains("auth")),
        "{queue}"
    );

    let unknown = refusal(&server, &["credentials", "resume", "nobody"], 3);
    assert!(unknown.contains("Credential not found"), "{unknown}");
    fs::write(mended, "").unwrap();
    assert_eq!(
        text(&server, &["credentials", "resume", "default"]),
        "default: ok\n"
    );
    assert_eq!(server.wait(&id).unwrap()["status"], "completed");
    assert!(text(&server, &["health"]).contains("default ok"));
    nothing_is_left(&server).unwrap();
}
