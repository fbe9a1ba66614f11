//! How runs end: limits of time, failures of the agent, and what its last words are taken for.

use std::fs;
use std::time::{Duration, Instant};

use agent_tests::job::{body, nothing_is_left, reached, with};
use agent_tests::process;
use agent_tests::repo::{BareRepo, git};
use agent_tests::server::{Builder, Server};
use serde_json::{Value, json};

fn start() -> (Server, BareRepo) {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "app").unwrap();
    (builder.start().unwrap(), repo)
}

/// Runs one job to its end.
fn run(server: &Server, repo: &BareRepo, script: &str, more: Value) -> Value {
    let body = with(body(repo, "fix/it", script), more);
    let id = server.submit(&body).unwrap();
    server.wait(&id).unwrap()
}

/// A job that failed for this reason.
fn failed<'a>(job: &'a Value, reason: &str) -> &'a str {
    assert_eq!(job["status"], "failed", "{job:#}");
    assert_eq!(job["reason"], reason, "{job:#}");
    job["error"].as_str().expect("a failed job says why")
}

fn kept(server: &Server, repo: &BareRepo, job: &Value, path: &str) -> String {
    let saved = job["savedRef"].as_str().expect("unfinished work is kept");
    git(&server.mirror(repo), &["show", &format!("{saved}:{path}")]).unwrap()
}

fn is_authenticated(server: &Server) -> bool {
    let health = server.client().get("/health").unwrap();
    health.expect(200).unwrap()["claude"]["authenticated"] == true
}

#[test]
fn a_job_that_runs_too_long_is_timed_out_with_its_tree_and_its_work_is_kept() {
    let (server, repo) = start();
    let pids = server.dir().join("pids");
    let script = format!(
        "write half.txt half\nsurvivor stubborn {0}\nsurvivor clean {0}\ntext working\nhang",
        pids.display()
    );
    let begun = Instant::now();
    let job = run(&server, &repo, &script, json!({"timeoutSeconds": 2}));
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert!(
        begun.elapsed() < Duration::from_secs(25),
        "took {:?}",
        begun.elapsed()
    );
    failed(&job, "timed_out");
    assert!(job["exitCode"].is_number(), "{job:#}");
    assert_eq!(kept(&server, &repo, &job, "half.txt"), "half");
    assert_eq!(fs::read_to_string(&pids).unwrap().lines().count(), 2);
    assert_eq!(repo.branches().unwrap(), ["main"]);
    nothing_is_left(&server).unwrap();
}

#[test]
fn an_agent_that_ignores_signals_is_timed_out_all_the_same() {
    let (server, repo) = start();
    let script = "write half.txt half\nignore INT TERM HUP\nhang";
    let job = run(&server, &repo, script, json!({"timeoutSeconds": 1}));
    failed(&job, "timed_out");
    assert_eq!(job["exitCode"], 137);
    assert_eq!(kept(&server, &repo, &job, "half.txt"), "half");
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_silent_agent_is_idle_and_its_work_is_kept() {
    let (server, repo) = start();
    let script = "write half.txt half\nhang";
    let limits = json!({"timeoutSeconds": 60, "idleTimeoutSeconds": 2});
    let job = run(&server, &repo, script, limits);
    failed(&job, "idle");
    assert!(job["exitCode"].is_number(), "{job:#}");
    assert_eq!(kept(&server, &repo, &job, "half.txt"), "half");
    nothing_is_left(&server).unwrap();
}

#[test]
fn an_agent_that_never_says_a_word_is_idle() {
    let (server, repo) = start();
    let job = run(
        &server,
        &repo,
        "no-init\nhang",
        json!({"idleTimeoutSeconds": 1}),
    );
    failed(&job, "idle");
    nothing_is_left(&server).unwrap();
}

#[test]
fn an_agent_that_closed_its_output_and_does_not_end_is_idle() {
    let (server, repo) = start();
    let job = run(
        &server,
        &repo,
        "close-stdout\nhang",
        json!({"idleTimeoutSeconds": 1}),
    );
    failed(&job, "idle");
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_chatty_agent_is_not_idle_however_long_it_works() {
    let (server, repo) = start();
    let words: Vec<String> = (0..12)
        .map(|n| format!("text word {n}\nsleep 250ms"))
        .collect();
    let begun = Instant::now();
    let script = format!("{}\nwrite done.txt done", words.join("\n"));
    let job = run(&server, &repo, &script, json!({"idleTimeoutSeconds": 2}));
    assert!(begun.elapsed() > Duration::from_secs(3));
    assert_eq!(job["status"], "completed", "{job:#}");
    nothing_is_left(&server).unwrap();
}

#[test]
fn words_on_standard_error_are_signs_of_life_too() {
    let (server, repo) = start();
    let words: Vec<String> = (0..12)
        .map(|n| format!("stderr word {n}\nsleep 250ms"))
        .collect();
    let job = run(
        &server,
        &repo,
        &words.join("\n"),
        json!({"idleTimeoutSeconds": 2}),
    );
    assert_eq!(job["status"], "completed", "{job:#}");
    nothing_is_left(&server).unwrap();
}

#[test]
fn the_servers_own_limits_hold_for_jobs_that_name_none() {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.env("JOB_TIMEOUT_SECONDS", "1").start().unwrap();
    failed(&run(&server, &repo, "hang", json!({})), "timed_out");
    let longer = json!({"timeoutSeconds": 60});
    let job = run(&server, &repo, "sleep 2s\nresult ok", longer);
    assert_eq!(job["status"], "completed", "{job:#}");
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_limit_goes_on_counting_while_the_server_is_away() {
    let (mut server, repo) = start();
    let here = server.dir().join("here");
    let script = format!("write half.txt half\nmark {}\nhang", here.display());
    let body = with(body(&repo, "fix/it", &script), json!({"timeoutSeconds": 2}));
    let id = server.submit(&body).unwrap();
    reached(&here).unwrap();
    server.kill().unwrap();
    // The supervisor ends the agent all by itself.
    let gone = || {
        let all = process::belonging_to(server.dir());
        !all.iter().any(|one| one.command.contains("stream-json"))
    };
    assert!(process::wait_until(Duration::from_secs(30), gone));
    server.start().unwrap();
    let job = server.wait(&id).unwrap();
    failed(&job, "timed_out");
    assert_eq!(kept(&server, &repo, &job, "half.txt"), "half");
    nothing_is_left(&server).unwrap();
}

/// What pays for one job and no other.
fn own_key() -> Value {
    json!({"secrets": {"anthropicApiKey": "sk-ant-of-the-job-alone"}})
}

/// Every way the fake can end a run with a result: its name, and what the job then says.
const OUTCOMES: [(&str, &str); 24] = [
    ("ok", ""),
    ("max_turns", "max_turns"),
    ("budget", "budget"),
    ("schema_retries", "output_schema"),
    ("execution_error", "agent_failed"),
    ("usage_limit", "usage_limit"),
    ("usage_limit_weekly", "usage_limit"),
    ("rate_limited", "api"),
    ("rate_limited_long", "api"),
    ("overloaded", "api"),
    ("server_error", "api"),
    ("bad_gateway", "api"),
    ("unreachable", "api"),
    ("invalid_key", "auth"),
    ("revoked_token", "auth"),
    ("no_credentials", "auth"),
    ("forbidden", "auth"),
    ("low_credit", "billing"),
    ("model_not_found", "model_not_found"),
    ("prompt_too_long", "prompt_too_long"),
    ("refusal", "refused"),
    ("max_tokens", "max_output_tokens"),
    ("cut_stream", ""),
    ("silent_stream", ""),
];

/// Cancels a job that waits for this reason, and returns it when its workspace is gone.
fn cancelled_while_it_waits(server: &Server, job: &Value, reason: &str) -> Value {
    assert_eq!(
        (&job["status"], &job["reason"]),
        (&"queued".into(), &reason.into()),
        "{job:#}"
    );
    let id = job["id"].as_str().unwrap();
    let path = format!("/jobs/{id}/cancel");
    let cancelled = server.client().post(&path, &json!({})).unwrap();
    cancelled.expect(200).unwrap();
    let kept = |job: &Value| job["savedRef"].is_string();
    server.wait_for(id, kept).unwrap()
}

#[test]
fn every_outcome_of_a_run_has_its_reason() {
    let builder = Builder::new().unwrap().env("MAX_CONCURRENT_JOBS", "4");
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let ids: Vec<String> = OUTCOMES
        .iter()
        .map(|(outcome, _)| {
            let script = format!("write {outcome}.txt {outcome}\nresult {outcome}");
            let body = body(&repo, &format!("fix/{outcome}"), &script);
            // A key of its own, so that no outcome has to do with another job.
            server.submit(&with(body, own_key())).unwrap()
        })
        .collect();
    for ((outcome, reason), id) in OUTCOMES.iter().zip(&ids) {
        let settled = |job: &Value| job["completedAt"].is_string() || job["notBefore"].is_string();
        let job = server.wait_for(id, settled).unwrap();
        if reason.is_empty() {
            assert_eq!(job["status"], "completed", "{outcome}");
            assert_eq!(job["exitCode"], 0);
            assert_eq!(job["reason"], Value::Null);
            assert_eq!(job["error"], Value::Null);
            continue;
        }
        let waits = ["usage_limit", "api"].contains(reason);
        let job = if waits {
            cancelled_while_it_waits(&server, &job, reason)
        } else {
            let error = failed(&job, reason);
            assert!(!error.is_empty(), "{outcome}");
            job
        };
        assert_eq!(job["exitCode"], 1, "{outcome}");
        assert!(job["sessionId"].is_string(), "{outcome}");
        assert!(job["costUsd"].is_number(), "{outcome}");
        assert_eq!(
            kept(&server, &repo, &job, &format!("{outcome}.txt")),
            *outcome
        );
        assert!(
            repo.rev(&format!("fix/{outcome}")).is_none(),
            "{outcome} was pushed"
        );
    }
    nothing_is_left(&server).unwrap();
}

#[test]
fn the_error_of_a_failed_job_is_what_the_agent_said() {
    let (server, repo) = start();
    let job = run(
        &server,
        &repo,
        "result execution_error The disk of the model is full",
        json!({}),
    );
    assert_eq!(
        failed(&job, "agent_failed"),
        "The disk of the model is full"
    );
}

#[test]
fn an_error_result_with_exit_code_0_and_a_success_with_exit_code_1_both_fail() {
    let (server, repo) = start();
    let lied = run(
        &server,
        &repo,
        "write a.txt a\nresult execution_error no\nexit 0",
        json!({}),
    );
    assert_eq!(failed(&lied, "agent_failed"), "no");
    assert_eq!(lied["exitCode"], 0);
    assert_eq!(kept(&server, &repo, &lied, "a.txt"), "a");
    let fell = run(
        &server,
        &repo,
        "write a.txt a\nresult ok fine\nexit 1",
        json!({}),
    );
    let error = failed(&fell, "agent_failed");
    assert!(error.contains("exited with 1"), "{error}");
    assert_eq!(fell["exitCode"], 1);
    assert_eq!(repo.branches().unwrap(), ["main"]);
    nothing_is_left(&server).unwrap();
}

/// A turn, its result, and another one that what was left in the background has brought about.
fn two_turns(last: &str) -> String {
    let noted = json!({
        "type": "system", "subtype": "task_notification", "task_id": "b1", "status": "completed",
    });
    format!(
        "init\nprice 0.25\nwrite a.txt a\nresult ok I wait for the tests.\nsilence 500ms\nevent {noted}\n\
         init\nwrite b.txt b\nresult {last}"
    )
}

#[test]
fn of_two_results_the_last_one_counts_and_is_paid_for_once() {
    let (server, repo) = start();
    let well = run(&server, &repo, &two_turns("ok The tests pass."), json!({}));
    assert_eq!(well["status"], "completed", "{well:#}");
    assert_eq!(
        (&well["filesChanged"], &well["costUsd"]),
        (&json!(2), &json!(0.5))
    );
    let spent = || {
        let usage = server.client().get("/usage").unwrap().expect(200).unwrap();
        usage["total"]["costUsd"].clone()
    };
    assert_eq!(spent(), 0.5);
    let body = with(body(&repo, "fix/more", &two_turns("max_turns")), json!({}));
    let badly = server.wait(&server.submit(&body).unwrap()).unwrap();
    failed(&badly, "max_turns");
    assert_eq!(badly["costUsd"], 0.5);
    assert_eq!(spent(), 1.0);
    nothing_is_left(&server).unwrap();
}

#[test]
fn an_agent_that_says_a_result_and_never_exits_is_ended_and_its_work_is_delivered() {
    let (server, repo) = start();
    let pids = server.dir().join("pids");
    let script = format!(
        "price 0.25\nsurvivor setsid {}\nwrite a.txt a\nresult ok done\nprice 0\nhang",
        pids.display()
    );
    let job = run(&server, &repo, &script, json!({"idleTimeoutSeconds": 2}));
    assert_eq!(job["status"], "completed", "{job:#}");
    assert_eq!(
        (&job["reason"], &job["costUsd"]),
        (&Value::Null, &json!(0.25))
    );
    assert!(repo.rev("fix/it").is_some(), "it is pushed");
    let log = server.log(job["id"].as_str().unwrap()).unwrap();
    assert!(log.contains("silent for 2 s since its result"), "{log}");
    nothing_is_left(&server).unwrap();
}

#[test]
fn an_agent_that_ends_without_a_result_fails_whatever_its_exit_code() {
    let (server, repo) = start();
    for code in [0, 1, 3] {
        let script = format!("write a.txt a\nexit {code}");
        let job = run(&server, &repo, &script, json!({}));
        let error = failed(&job, "agent_failed");
        assert!(error.contains(&format!("exited with {code}")), "{error}");
        assert_eq!(job["exitCode"], code);
    }
    nothing_is_left(&server).unwrap();
}

#[test]
fn an_agent_that_dies_by_a_signal_fails_with_the_shells_exit_code() {
    let (server, repo) = start();
    for (signal, code) in [("KILL", 137), ("SEGV", 139), ("TERM", 143)] {
        let job = run(
            &server,
            &repo,
            &format!("write a.txt a\ndie {signal}"),
            json!({}),
        );
        failed(&job, "agent_failed");
        assert_eq!(job["exitCode"], code, "{signal}");
        assert_eq!(kept(&server, &repo, &job, "a.txt"), "a");
    }
    nothing_is_left(&server).unwrap();
}

#[test]
fn an_agent_that_cannot_start_shows_its_standard_error() {
    let (server, repo) = start();
    let job = run(
        &server,
        &repo,
        "startup-failure error: unknown option '--frobnicate'",
        json!({}),
    );
    let error = failed(&job, "agent_failed");
    assert!(error.contains("unknown option '--frobnicate'"), "{error}");
    assert_eq!(job["exitCode"], 1);
    let log = server.log(job["id"].as_str().unwrap()).unwrap();
    assert!(
        log.contains(" stderr F error: unknown option '--frobnicate'\n"),
        "{log}"
    );
    nothing_is_left(&server).unwrap();
}

#[test]
fn without_the_cli_a_job_fails_with_spawn_and_the_path_that_was_tried() {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder
        .env("CLAUDE_BIN", "/nowhere/claude")
        .start()
        .unwrap();
    let job = run(&server, &repo, "result ok", json!({}));
    let error = failed(&job, "spawn");
    assert!(error.contains("/nowhere/claude"), "{error}");
    assert_eq!(job["exitCode"], Value::Null);
    assert!(!is_authenticated(&server));
    assert!(server.output().contains("/nowhere/claude is not installed"));
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_cli_that_is_no_program_fails_with_spawn() {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "app").unwrap();
    let file = builder.dir().join("claude");
    fs::write(&file, "not a program").unwrap();
    let server = builder.env("CLAUDE_BIN", &file).start().unwrap();
    failed(&run(&server, &repo, "result ok", json!({})), "spawn");
    nothing_is_left(&server).unwrap();
}

/// Waits for a login or an account, with nothing to count down to.
fn waits_for_somebody(job: &Value) -> bool {
    job["status"] == "queued" && job["reason"] == "auth" && job["notBefore"].is_null()
}

#[test]
fn a_refused_login_fails_no_job_shows_in_health_and_is_told_once() {
    let builder = Builder::new().unwrap().env("MAX_CONCURRENT_JOBS", "1");
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let soon = Duration::from_secs(20);
    assert!(process::wait_until(soon, || is_authenticated(&server)));
    let mended = server.dir().join("mended");
    let script = "write a.txt a\nunless M result invalid_key\nunless M exit 1\nresult ok";
    let script = script.replace('M', &mended.display().to_string());
    let ids: Vec<String> = (0..6)
        .map(|number| {
            let body = body(&repo, &format!("fix/{number}"), &script);
            server.submit(&body).unwrap()
        })
        .collect();
    for id in &ids {
        server.wait_for(id, waits_for_somebody).unwrap();
    }
    assert!(!is_authenticated(&server));
    let attempts = ids
        .iter()
        .map(|id| server.job(id).unwrap()["attempt"].as_u64());
    assert_eq!(
        attempts.flatten().sum::<u64>(),
        1,
        "one was started, one refused"
    );
    assert_eq!(server.output().matches("credential stopped").count(), 1);
    // What has nothing to do with that login goes on.
    let own = run(&server, &repo, "result ok", own_key());
    assert_eq!(own["status"], "completed", "{own:#}");
    assert!(!is_authenticated(&server));

    fs::write(&mended, "").unwrap();
    let path = "/credentials/default/resume";
    let resumed = server.client().post(path, &json!({})).unwrap();
    assert_eq!(resumed.expect(200).unwrap()["status"], "ok");
    for id in &ids {
        assert_eq!(server.wait(id).unwrap()["status"], "completed");
    }
    assert!(is_authenticated(&server));
    nothing_is_left(&server).unwrap();
}

#[test]
fn without_a_login_health_says_so_and_jobs_wait() {
    let builder = Builder::new().unwrap().without("ANTHROPIC_API_KEY");
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let id = server.submit(&body(&repo, "fix/it", "result ok")).unwrap();
    server.wait_for(&id, waits_for_somebody).unwrap();
    assert!(!is_authenticated(&server));
    assert!(server.output().contains("is not logged in"));
    let cancelled = server
        .client()
        .post(&format!("/jobs/{id}/cancel"), &json!({}));
    cancelled.unwrap().expect(200).unwrap();
    assert!(process::wait_until(Duration::from_secs(30), || server
        .workspaces()
        .is_empty()));
    nothing_is_left(&server).unwrap();
}

#[test]
fn background_processes_that_survive_the_agent_do_not_keep_a_job_alive() {
    let (server, repo) = start();
    for kind in ["setsid", "nohup", "stubborn", "hold", "clean", "fork"] {
        let pids = server.dir().join(format!("pids.{kind}"));
        let script = format!(
            "write {kind}.txt x\nsurvivor {kind} {0}\nwait {0}\nresult ok",
            pids.display()
        );
        let begun = Instant::now();
        let body = body(&repo, &format!("fix/{kind}"), &script);
        let id = server.submit(&body).unwrap();
        let job = server.wait(&id).unwrap();
        assert_eq!(job["status"], "completed", "{kind}: {job:#}");
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{kind} took {:?}",
            begun.elapsed()
        );
        nothing_is_left(&server).unwrap();
    }
}

#[test]
fn a_background_command_of_the_agent_is_run_in_the_foreground() {
    let (server, repo) = start();
    let script = "background echo later > later.txt\nresult ok";
    let job = run(&server, &repo, script, json!({}));
    assert_eq!(job["status"], "completed");
    assert_eq!(repo.show("fix/it", "later.txt").unwrap(), b"later\n");
    nothing_is_left(&server).unwrap();
}
