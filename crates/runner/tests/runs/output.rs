//! What the agent is given, what it writes, and what is made of it.

use std::fs;
use std::time::Duration;

use crate::support::{Place, until};
use agent_domain::{LogStream, PermissionMode, Secret};
use agent_runner::RunnerError;

/// Bytes of every value, lines of every length; the same on every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn every_byte_of_both_streams_is_in_the_log() {
    let place = Place::new("cat ../out; cat ../err >&2");
    let mut out = noise(3_000_000);
    out.extend_from_slice(b"\r\n\n\nlast line");
    let mut err = noise(500_000);
    err.push(b'\n');
    fs::write(place.path("out"), &out).unwrap();
    fs::write(place.path("err"), &err).unwrap();
    let end = place.run().await;
    assert_eq!(end.exit_code, Some(0));
    out.push(b'\n');
    assert!(place.said(LogStream::Stdout) == out);
    assert!(place.said(LogStream::Stderr) == err);
}

#[tokio::test]
async fn a_line_of_200_megabytes_takes_little_memory_and_leaves_a_marker() {
    let place = Place::with(
        "head -c 200000000 /dev/zero | tr '\\0' x; echo; echo after; grep VmHWM /proc/$PPID/status >&2",
        |config| config.secrets.push(Secret::new("x-of-a-long-secret")),
    );
    let mut run = place.start().await;
    let end = tokio::time::timeout(Duration::from_mins(3), run.wait());
    let end = end.await.expect("the run does not end").unwrap();
    let peak = end.stderr_tail.split_whitespace().nth(1);
    let peak: u64 = peak.unwrap().parse().unwrap();
    assert!(peak < 64 * 1024, "peak {peak} KiB");
    let out = place.said(LogStream::Stdout);
    let kept = 256 * 1024;
    assert!(out[..kept].iter().all(|byte| *byte == b'x'));
    assert_eq!(&out[kept..], b"\nafter\n");
    assert_eq!(
        String::from_utf8(place.said(LogStream::System)).unwrap(),
        format!(
            "{} more bytes of a long line on stdout are not kept\n",
            200_000_000 - kept
        )
    );
    place.assert_gone();
}

#[tokio::test]
async fn a_result_too_long_for_the_log_still_says_how_the_run_went() {
    let place = Place::new(
        r#"printf '{"type":"result","subtype":"success","is_error":false,"filler":"'
        head -c 1000000 /dev/zero | tr '\0' x
        echo '","result":"well done","total_cost_usd":0.5}'"#,
    );
    let end = place.run().await;
    let result = end.summary.result.unwrap();
    assert_eq!(
        (result.text.as_str(), result.cost_usd),
        ("well done", Some(0.5))
    );
    assert_eq!(place.said(LogStream::Stdout).len(), 256 * 1024 + 1);
}

#[tokio::test]
async fn an_agent_whose_log_is_full_goes_on_and_its_result_counts() {
    let place = Place::with(
        r#"seq 1 50000; echo an error >&2; echo '{"type":"result","subtype":"success","is_error":false,"result":"done"}'; exec sleep 100"#,
        |config| config.log_limits.total = 100_000,
    );
    let mut run = place.start().await;
    until("the log is full", || {
        fs::read_to_string(place.log()).is_ok_and(|log| log.contains("is not kept"))
    })
    .await;
    until("the agent sleeps", || {
        place
            .processes()
            .iter()
            .any(|process| process.contains("sleep"))
    })
    .await;
    run.cancel().await;
    let end = place.wait(&mut run).await.unwrap();
    assert_eq!(end.summary.result.unwrap().text, "done");
    assert_eq!(end.stderr_tail, "an error\n");
    let kept = place.stdout();
    let whole: Vec<String> = (1..=50_000).map(|n| n.to_string()).collect();
    let whole = whole.join("\n");
    // The last line may be cut by the limit.
    assert!(whole.starts_with(kept.trim_end()) && kept.len() < 100_000);
    let system = String::from_utf8(place.said(LogStream::System)).unwrap();
    let mut lines = system.lines();
    let full = "the log has reached 100000 bytes: what the agent writes from here on is not kept";
    assert_eq!(lines.next(), Some(full));
    assert_eq!(lines.next(), Some("cancelled: asking the agent to stop"));
    let left_out = lines.next().unwrap().split(' ').next().unwrap();
    assert!(left_out.parse::<u64>().unwrap() > 100_000, "{system}");
    let length = fs::metadata(place.log()).unwrap().len();
    assert!(length < 200_000, "{length}");
}

#[tokio::test]
async fn bytes_that_are_no_text_are_in_the_log_as_they_were() {
    let place = Place::with("cat ../out; sleep 0.1; cat ../rest", |config| {
        config.secrets.push(Secret::new("a-secret-of-someone"));
    });
    let mut out: Vec<u8> = (0..=255).collect();
    out.extend_from_slice(b"\0\0 lone\rCR \xf0\x9f\x98");
    fs::write(place.path("out"), &out).unwrap();
    fs::write(place.path("rest"), b"\x80 \xff\n").unwrap();
    place.run().await;
    out.extend_from_slice(b"\x80 \xff\n");
    assert_eq!(place.said(LogStream::Stdout), out);
}

#[tokio::test]
async fn a_secret_reaches_neither_log_nor_outcome_however_slowly_it_comes() {
    let secret = "sk-ant-api03-0123456789abcdefghij";
    let place = Place::with(
        "cat > /dev/null; head -c 20 ../secret; touch half; read -r x < ../go
        tail -c +21 ../secret; echo; cat ../secret >&2
        printf '{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"result\":\"%s\"}\\n' \"$(cat ../secret)\"
        printf 'the end: '; head -c 30 ../secret",
        |config| config.secrets.push(Secret::new("another-secret")),
    );
    fs::write(place.path("secret"), secret).unwrap();
    let fifo = place.path("go");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let mut request = place.request();
    request.secrets.push(Secret::new(secret));
    let mut run = place.runner.start(request).await.unwrap();
    place.made("half").await;
    // Longer than text without its line end is held back for.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let early = fs::read(place.log()).unwrap();
    assert!(early.is_empty(), "{}", String::from_utf8_lossy(&early));
    fs::write(&fifo, "\n").unwrap();
    let end = place.wait(&mut run).await.unwrap();
    let log = fs::read_to_string(place.log()).unwrap();
    let record = fs::read_to_string(place.attempt().join("exit.json")).unwrap();
    for text in [&log, &record, &format!("{end:?}")] {
        assert!(
            !text.contains(&secret[..12]) && text.contains("[masked]"),
            "{text}"
        );
    }
    let lines: Vec<String> = place.stdout().lines().map(str::to_owned).collect();
    assert_eq!(
        (lines[0].as_str(), lines.last().unwrap().as_str()),
        ("[masked]", "the end: [masked]")
    );
    assert_eq!(end.stderr_tail, "[masked]");
    assert_eq!(end.summary.result.unwrap().text, "[masked]");
    place.assert_gone();
}

#[tokio::test]
async fn the_agent_sees_its_environment_its_prompt_and_its_workspace_and_nothing_else() {
    let place = Place::with("pwd; echo \"$@\"; cat; echo; env", |config| {
        config.environment.push(("CANARY".into(), "c4n4ry".into()));
    });
    let prompt = format!("{}\n", "p".repeat(1023)).repeat(1024);
    let prompt = prompt.trim_end();
    let mut request = place.request();
    request.prompt = prompt.into();
    request.options.model = Some("opus".into());
    request.options.permission_mode = Some(PermissionMode::Plan);
    let mut run = place.runner.start(request).await.unwrap();
    place.wait(&mut run).await.unwrap();
    let out = place.stdout();
    let mut lines = out.lines();
    assert_eq!(lines.next(), place.path("work").to_str());
    assert_eq!(
        lines.next(),
        Some("-p --output-format stream-json --verbose --model opus --permission-mode plan")
    );
    let heard: Vec<&str> = lines.by_ref().take(1024).collect();
    assert!(heard.join("\n") == prompt);
    let mut names: Vec<&str> = lines.filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    // PWD and _ are the shell's.
    names.retain(|name| !["PWD", "_", "OLDPWD", "SHLVL"].contains(name));
    assert_eq!(names, ["AGENT_SERVER_ATTEMPT", "CANARY", "PATH"]);
    place.assert_gone();
}

#[tokio::test]
async fn neither_prompt_nor_credentials_are_on_disk_or_in_a_list_of_processes() {
    let place = Place::with("cat > /dev/null; touch up; read -r x < ../go", |config| {
        config.environment.push(("CANARY".into(), "c4n4ry".into()));
    });
    let fifo = place.path("go");
    std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .unwrap();
    let mut request = place.request();
    request.prompt = "pr0mpt".into();
    let mut run = place.runner.start(request).await.unwrap();
    place.made("up").await;
    for process in place.processes() {
        assert!(
            !process.contains("c4n4ry") && !process.contains("pr0mpt"),
            "{process}"
        );
    }
    let supervisor = run.supervisor_pid().unwrap();
    let environment = fs::read(format!("/proc/{supervisor}/environ")).unwrap();
    assert!(
        environment.is_empty(),
        "{}",
        String::from_utf8_lossy(&environment)
    );
    for file in fs::read_dir(place.attempt()).unwrap().flatten() {
        let text = fs::read(file.path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        assert!(
            !text.contains("c4n4ry") && !text.contains("pr0mpt"),
            "{text}"
        );
    }
    fs::write(&fifo, "\n").unwrap();
    place.wait(&mut run).await.unwrap();
    place.assert_gone();
}

#[tokio::test]
async fn the_outcome_has_exit_code_result_and_the_end_of_standard_error() {
    let place = Place::new(
        r#"echo '{"type":"system","subtype":"init","session_id":"s","model":"m"}'
        echo 'not json'; echo 'oh dear' >&2
        printf '%s' '{"is_error":true,"result":"no","type":"result","subtype":"success"}'
        exit 3"#,
    );
    let end = place.run().await;
    assert_eq!(
        (end.exit_code, end.stop, end.spawn_error),
        (Some(3), None, None)
    );
    assert_eq!(end.stderr_tail, "oh dear\n");
    assert_eq!(end.summary.session_id.as_deref(), Some("s"));
    assert_eq!(end.summary.result.unwrap().text, "no");
}

#[tokio::test]
async fn death_by_a_signal_reads_as_128_and_its_number() {
    assert_eq!(Place::new("kill -9 $$").run().await.exit_code, Some(137));
    assert_eq!(Place::new("kill -15 $$").run().await.exit_code, Some(143));
}

#[tokio::test]
async fn an_agent_that_cannot_be_started_is_a_run_that_says_so() {
    let missing = Place::with("", |config| config.claude = "/nowhere/claude".into());
    let folder = Place::with("", |config| config.claude = "/tmp".into());
    let unnamed = Place::with("", |config| config.claude = "no-such-claude".into());
    for (place, word) in [
        (missing, "/nowhere"),
        (folder, "/tmp"),
        (unnamed, "no-such"),
    ] {
        let end = place.run().await;
        let error = end.spawn_error.clone().unwrap();
        assert!(error.contains(word), "{error}");
        let log = String::from_utf8(place.said(LogStream::System)).unwrap();
        assert_eq!(log.trim_end(), error);
        assert!(matches!(
            agent_domain::judge(&end),
            Err(agent_domain::Ending::Failed {
                reason: agent_domain::Reason::Spawn,
                ..
            })
        ));
    }
    let place = Place::new("");
    fs::remove_dir(place.path("work")).unwrap();
    assert!(place.run().await.spawn_error.unwrap().contains("work"));
}

#[tokio::test]
async fn a_supervisor_that_cannot_be_started_is_an_error_and_leaves_nothing() {
    for program in ["/nowhere/agent-server", "/bin/false", "/bin/true"] {
        let place = Place::with("touch started", |config| {
            config.supervisor.path = program.into();
        });
        let error = place.runner.start(place.request()).await.unwrap_err();
        assert!(matches!(error, RunnerError::Supervisor(_)), "{error}");
        assert!(!place.attempt().exists());
        assert!(!place.path("work/started").exists());
    }
}

#[tokio::test]
async fn a_piece_of_a_line_is_shown_before_the_line_ends() {
    let place = Place::new("printf 'wait...'; read -r x < ../go; echo done");
    let fifo = place.path("go");
    std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .unwrap();
    let mut run = place.start().await;
    until("the piece is in the log", || {
        fs::read_to_string(place.log()).is_ok_and(|log| log.contains("stdout P wait..."))
    })
    .await;
    fs::write(&fifo, "\n").unwrap();
    place.wait(&mut run).await.unwrap();
    assert_eq!(place.stdout(), "wait...done\n");
    place.assert_gone();
}

#[tokio::test]
async fn whoever_waits_is_told_how_the_log_grows() {
    let place = Place::new("echo one; read -r x < ../go; echo two");
    let fifo = place.path("go");
    std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .unwrap();
    let mut run = place.start().await;
    let mut growth = run.log_growth();
    let first = async {
        loop {
            growth.changed().await.unwrap();
            if *growth.borrow_and_update() > 0 {
                break;
            }
        }
    };
    tokio::select! {
        () = first => {}
        _ = run.wait() => panic!("ended early"),
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("never told"),
    }
    fs::write(&fifo, "\n").unwrap();
    place.wait(&mut run).await.unwrap();
    assert_eq!(*growth.borrow(), fs::metadata(place.log()).unwrap().len());
    place.assert_gone();
}

#[tokio::test]
async fn the_probe_reads_version_and_login_and_never_hangs() {
    let logged_in = |answer: &str| {
        format!("case $1 in --version) echo '2.1.329 (Claude Code)';; auth) {answer};; esac")
    };
    let place = Place::new(&logged_in(r#"echo '{"loggedIn":true,"authMethod":"x"}'"#));
    let probe = place.runner.probe().await;
    assert_eq!(
        (probe.version.as_deref(), probe.authenticated),
        (Some("2.1.329"), true)
    );
    let place = Place::new(&logged_in(r#"echo '{"loggedIn":false}'; exit 1"#));
    assert!(!place.runner.probe().await.authenticated);
    let place = Place::with("", |config| config.claude = "/nowhere/claude".into());
    let probe = place.runner.probe().await;
    assert_eq!((probe.version, probe.authenticated), (None, false));
    let place = Place::new(&logged_in("sleep 1000 & sleep 1000"));
    let probe = place.runner.probe_within(Duration::from_millis(500)).await;
    assert_eq!(
        (probe.version.as_deref(), probe.authenticated),
        (Some("2.1.329"), false)
    );
    until("the hanging probe is gone", || place.processes().is_empty()).await;
}
