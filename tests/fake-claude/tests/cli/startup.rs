//! Points 1 to 4, 10, 19 and 20: starting, refusing, reading input and environment.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{JOB, Place, fenced};

#[test]
fn the_version_is_printed_as_the_real_one_does() {
    let done = Place::new().bare(&["--version"]);
    assert_eq!(
        (done.code(), done.text().as_str()),
        (Some(0), "2.1.329 (Claude Code)\n")
    );
}

#[test]
fn arguments_environment_input_and_directory_are_recorded() {
    let place = Place::new().env("JOB_SECRET", "visible");
    place.script_with(&["--model", "sonnet"], "record seen.json");
    let seen: Value = serde_json::from_str(&place.read("seen.json")).unwrap();
    let argv = seen["argv"].as_array().unwrap();
    assert!(
        argv.ends_with(&["--model".into(), "sonnet".into()]),
        "{argv:?}"
    );
    assert_eq!(seen["env"]["JOB_SECRET"], "visible");
    assert_eq!(seen["cwd"], place.work().to_str().unwrap());
    assert_eq!(seen["stdin"], fenced("record seen.json"));
}

#[test]
fn an_unknown_flag_is_refused_on_standard_error() {
    let done = Place::new().bare(&["-p", "hi", "--bogus"]);
    assert_eq!((done.code(), done.text().as_str()), (Some(1), ""));
    assert_eq!(done.stderr, "error: unknown option '--bogus'\n");
}

#[test]
fn a_flag_that_takes_many_values_swallows_the_prompt() {
    let place = Place::new();
    let done = place.bare(&["-p", "--allowedTools", "Write", "hello"]);
    assert_eq!(done.code(), Some(1));
    assert!(
        done.stderr.contains("Input must be provided"),
        "{}",
        done.stderr
    );
    assert_eq!(
        place
            .bare(&["-p", "--allowedTools", "Write", "--", "hello"])
            .code(),
        Some(0)
    );
}

#[test]
fn auth_status_tells_presence_by_its_exit_code() {
    let none = Place::new().without("ANTHROPIC_API_KEY");
    let cases = [
        (none.bare(&["auth", "status"]), 1, "none"),
        (Place::new().bare(&["auth", "status"]), 0, "api_key"),
        (
            none.env("CLAUDE_CODE_OAUTH_TOKEN", "x")
                .bare(&["auth", "status"]),
            0,
            "oauth_token",
        ),
    ];
    for (done, code, method) in cases {
        let report: Value = serde_json::from_str(&done.text()).unwrap();
        assert_eq!(
            (done.code(), report["authMethod"].as_str()),
            (Some(code), Some(method))
        );
        assert_eq!(report["loggedIn"], code == 0);
    }
}

#[test]
fn a_credentials_file_counts_as_a_login_wherever_the_configuration_is() {
    let place = Place::new().without("ANTHROPIC_API_KEY");
    let config = place.home().join("elsewhere");
    std::fs::create_dir(&config).unwrap();
    std::fs::write(config.join(".credentials.json"), "{}").unwrap();
    assert_eq!(place.bare(&["auth", "status"]).code(), Some(1));
    let place = place.env("CLAUDE_CONFIG_DIR", config.to_str().unwrap());
    assert_eq!(place.bare(&["auth", "status"]).code(), Some(0));
}

#[test]
fn a_stream_without_verbose_is_refused() {
    let done = Place::new().bare(&["-p", "hi", "--output-format", "stream-json"]);
    assert_eq!((done.code(), done.text().as_str()), (Some(1), ""));
    assert!(
        done.stderr
            .contains("--output-format=stream-json requires --verbose")
    );
}

#[test]
fn root_may_not_skip_permissions_outside_a_sandbox() {
    let place = Place::new().without("IS_SANDBOX");
    let done = place.bare(&["-p", "hi", "--permission-mode", "bypassPermissions"]);
    let root = rustix::process::geteuid().is_root();
    assert_eq!(done.code(), Some(i32::from(root)));
    assert_eq!(done.stderr.contains("cannot be used with root/sudo"), root);
    assert_eq!(
        place
            .bare(&["-p", "hi", "--permission-mode", "acceptEdits"])
            .code(),
        Some(0)
    );
}

#[test]
fn standard_input_is_appended_to_the_prompt_and_may_be_long() {
    let place = Place::new();
    let long = format!("record seen.json\n#{}", "x".repeat(300_000));
    let done = place.script_with(&["And", "--"], &long);
    assert_eq!(done.code(), Some(0), "{}", done.stderr);
    let seen: Value = serde_json::from_str(&place.read("seen.json")).unwrap();
    let prompt = seen["prompt"].as_str().unwrap();
    assert!(prompt.starts_with("And\nPlease do it.") && prompt.len() > 300_000);
}

#[test]
fn no_prompt_at_all_is_an_error() {
    let done = Place::new().bare(&["-p"]);
    assert_eq!((done.code(), done.text().as_str()), (Some(1), ""));
    assert!(
        done.stderr
            .starts_with("Error: Input must be provided either through stdin")
    );
}

#[test]
fn an_idle_pipe_is_waited_for_three_seconds() {
    let place = Place::new();
    let mut child = place
        .command(&["-p", "hi"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take();
    let before = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(before.elapsed() >= Duration::from_secs(3));
    assert!(output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .starts_with("Warning: no stdin data received in 3s")
    );
    drop(stdin);
}

#[test]
fn streamed_input_has_a_turn_per_message_until_it_ends() {
    let place = Place::new();
    let args = [&JOB[..], &["--input-format", "stream-json"]].concat();
    let mut child = place.command(&args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for word in ["one", "two"] {
        let script = fenced(&format!("text {word}\nresult ok {word}"));
        let line =
            serde_json::json!({"type": "user", "message": {"role": "user", "content": script}});
        writeln!(stdin, "{line}").unwrap();
    }
    writeln!(stdin, "not json").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let count =
        |kind: &str, value: &str| events.iter().filter(|event| event[kind] == value).count();
    assert_eq!(
        (
            count("subtype", "init"),
            count("type", "result"),
            count("result", "two")
        ),
        (2, 2, 1)
    );
    assert_eq!(output.status.code(), Some(1), "a bad line ends the run");
    assert!(String::from_utf8_lossy(&output.stderr).contains("Error parsing streaming input line"));
}

#[test]
fn a_turn_of_streamed_input_can_be_interrupted() {
    let place = Place::new();
    let args = [&JOB[..], &["--input-format", "stream-json"]].concat();
    let mut child = place.command(&args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let line =
        serde_json::json!({"type": "user", "message": {"content": fenced("mark started\nhang")}});
    writeln!(stdin, "{line}").unwrap();
    place.wait_for("started");
    writeln!(
        stdin,
        r#"{{"type":"control_request","request_id":"c1","request":{{"subtype":"interrupt"}}}}"#
    )
    .unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("control_response") && text.contains("error_during_execution"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_failure_to_start_says_so_on_standard_error_only() {
    let done = Place::new().script("startup-failure Error: bad settings");
    assert_eq!((done.code(), done.text().as_str()), (Some(1), ""));
    assert_eq!(done.stderr, "Error: bad settings\n");
}

#[test]
fn a_run_may_hang_before_its_first_event_or_after_init() {
    for (script, events) in [
        ("no-init\nmark here\nhang", 0),
        ("init\nmark here\nhang", 1),
    ] {
        let place = Place::new();
        let running = place.start(&[], script);
        place.wait_for("here");
        running.signal(Signal::TERM);
        let done = running.done();
        assert_eq!(
            (done.code(), done.events().len()),
            (Some(143), events),
            "{script}"
        );
    }
}

#[test]
fn without_credentials_the_run_fails_after_init() {
    let place = Place::new().without("ANTHROPIC_API_KEY");
    let done = place.script("write never.txt x");
    assert_eq!(done.code(), Some(1));
    assert_eq!(done.kinds(), ["system/init", "assistant", "result"]);
    assert_eq!(done.result()["result"], "Not logged in · Please run /login");
    assert!(!place.work().join("never.txt").exists());
    assert_eq!(place.script("anonymous\nresult ok").code(), Some(0));
}

#[test]
fn the_kind_of_credential_shows_in_init_and_chooses_the_model() {
    let key = Place::new().script("init").of("system/init").remove(0);
    assert_eq!(
        (&key["apiKeySource"], &key["model"]),
        (&"ANTHROPIC_API_KEY".into(), &"claude-opus-5-5".into())
    );
    let place = Place::new()
        .without("ANTHROPIC_API_KEY")
        .env("CLAUDE_CODE_OAUTH_TOKEN", "t");
    let done = place.script("text hi");
    let init = done.of("system/init").remove(0);
    assert_eq!(
        (&init["apiKeySource"], &init["model"]),
        (&"none".into(), &"claude-sonnet-5-5".into())
    );
    assert_eq!(
        done.of("rate_limit_event")[0]["rate_limit_info"]["status"],
        "allowed"
    );
}

#[test]
fn turns_and_retries_are_limited_by_the_environment() {
    let place = Place::new()
        .env("CLAUDE_CODE_MAX_TURNS", "1")
        .env("CLAUDE_CODE_MAX_RETRIES", "2");
    let done = place.script("shell true\nshell true");
    assert_eq!(done.result()["subtype"], "error_max_turns");
    assert_eq!(done.result()["num_turns"], 2);
    let done = place.script("result server_error");
    assert_eq!(done.of("system/api_retry").len(), 2);
}

#[test]
fn tools_see_the_marks_of_the_session_and_not_the_oauth_token() {
    let place = Place::new()
        .without("ANTHROPIC_API_KEY")
        .env("CLAUDE_CODE_OAUTH_TOKEN", "secret-token")
        .env("JOB_SECRET", "visible");
    let done = place.script("shell env > env.txt; echo $PPID > parent.txt");
    let seen = place.read("env.txt");
    let session = done.result()["session_id"].as_str().unwrap().to_owned();
    assert!(seen.contains("CLAUDECODE=1\n") && seen.contains("JOB_SECRET=visible\n"));
    assert!(seen.contains(&format!("CLAUDE_CODE_SESSION_ID={session}\n")));
    assert!(seen.contains(&format!("CLAUDE_PID={}", place.read("parent.txt").trim())));
    assert!(!seen.contains("secret-token"));
}

#[test]
fn a_mistake_in_a_script_has_an_exit_code_of_its_own() {
    let done = Place::new().script("text hi\njump");
    assert_eq!(done.code(), Some(64));
    assert!(
        done.stderr.contains("line 2: unknown verb \"jump\""),
        "{}",
        done.stderr
    );
}
