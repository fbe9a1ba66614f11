//! A run behind a wall is a run like any other: signals, exit codes, output, limits, its end.

use std::fs;
use std::time::{Duration, Instant};

use agent_domain::{LogStream, Stop};
use agent_runner::{Ladder, Level, try_sandbox};

use crate::support::{Place, sandbox, until};

const WALLS: [Level; 2] = [Level::Workspace, Level::Isolated];

#[tokio::test]
async fn exit_codes_pass_through_and_death_by_a_signal_too() {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
        ("kill -SEGV $$", 139),
    ] {
        let end = Place::behind(Level::Workspace, script).run().await;
        assert_eq!(
            (end.exit_code, end.stop, end.spawn_error, end.sandbox_error),
            (Some(code), None, None, None),
            "{script}"
        );
    }
}

#[tokio::test]
async fn prompt_output_and_errors_pass_through_whole() {
    for level in WALLS {
        let mut place = Place::behind(level, "cat; seq 1 50000; echo oops >&2");
        place.prompt = "x".repeat(200_000).into();
        let end = place.run().await;
        assert_eq!(
            (end.exit_code, end.stderr_tail.as_str()),
            (Some(0), "oops\n")
        );
        let numbers: Vec<String> = (1..=50_000).map(|number| number.to_string()).collect();
        let expected = format!("{}{}\n", place.prompt, numbers.join("\n"));
        assert!(place.stdout() == expected, "{level}");
    }
}

#[tokio::test]
async fn an_interrupt_reaches_the_agent_and_leaves_the_wall_standing() {
    let script = "trap 'echo interrupted; exit 3' INT; touch up; while :; do sleep 0.05; done";
    for level in WALLS {
        let place = Place::with(script, |config| {
            config.sandbox = Some(sandbox(level));
            config.ladder = Ladder {
                int_to_term: Duration::from_mins(1),
                ..config.ladder
            };
        });
        let mut run = place.start().await;
        place.made("up").await;
        run.cancel().await;
        let end = place.wait(&mut run).await.unwrap();
        assert_eq!((end.stop, end.exit_code), (Some(Stop::Cancelled), Some(3)));
        assert_eq!(place.stdout(), "interrupted\n");
        place.assert_gone();
    }
}

#[tokio::test]
async fn the_ladder_is_climbed_to_its_end() {
    for (script, code) in [
        ("trap '' INT; trap 'exit 143' TERM", 143),
        ("trap '' INT TERM HUP", 137),
        ("kill -STOP $$; trap 'exit 9' TERM", 130),
    ] {
        let script = format!("touch up; {script}; touch ready; while :; do sleep 0.05; done");
        let place = Place::behind(Level::Workspace, &script);
        let mut run = place.start().await;
        place.made("up").await;
        if !script.contains("STOP") {
            place.made("ready").await;
        }
        run.cancel().await;
        let end = place.wait(&mut run).await.unwrap();
        assert_eq!(
            (end.stop, end.exit_code),
            (Some(Stop::Cancelled), Some(code)),
            "{script}"
        );
        place.assert_gone();
    }
}

#[tokio::test]
async fn limits_hold() {
    let mut place = Place::behind(Level::Workspace, "while :; do echo talk; sleep 0.05; done");
    place.options.timeout = Some(Duration::from_millis(700));
    assert_eq!(place.run().await.stop, Some(Stop::TimedOut));
    let mut place = Place::behind(Level::Workspace, "echo; sleep 1000");
    place.options.idle_timeout = Some(Duration::from_millis(500));
    assert_eq!(place.run().await.stop, Some(Stop::Idle));
}

#[tokio::test]
async fn what_is_left_behind_is_heard_for_a_while_and_then_gone() {
    let place = Place::behind(
        Level::Workspace,
        "(sleep 0.1; echo late; sleep 1000) & exit 4",
    );
    let begun = Instant::now();
    let end = place.run().await;
    assert_eq!(end.exit_code, Some(4));
    assert_eq!(place.stdout(), "late\n");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_supervisor_that_is_killed_takes_everything_with_it() {
    let script = "setsid sleep 1000 & setsid env -i nohup sleep 1000 & touch up; sleep 1000";
    let place = Place::behind(Level::Workspace, script);
    let run = place.start().await;
    place.made("up").await;
    let supervisor = run.supervisor_pid().unwrap();
    let supervisor = rustix::process::Pid::from_raw(i32::try_from(supervisor).unwrap()).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    until("everything is gone", || place.processes().is_empty()).await;
}

#[tokio::test]
async fn a_wall_that_cannot_be_set_up_ends_the_run_before_the_agent_starts() {
    let place = Place::with("touch started", |config| {
        let mut wall = sandbox(Level::Workspace);
        wall.bwrap = "no-such-bwrap".into();
        config.sandbox = Some(wall);
    });
    let end = place.run().await;
    let error = end.sandbox_error.clone().unwrap();
    assert!(error.contains("no-such-bwrap is not installed"), "{error}");
    assert_eq!((end.exit_code, end.spawn_error), (None, None));
    let log = String::from_utf8(place.said(LogStream::System)).unwrap();
    assert!(log.contains(&error), "{log}");

    // One that fails says why, in its own words.
    let place = Place::with("touch started", |config| {
        let failing = config.attempts_dir.with_file_name("bwrap");
        fs::write(
            &failing,
            "#!/bin/sh\necho 'no namespaces for you' >&2; exit 1\n",
        )
        .unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&failing, mode).unwrap();
        let mut wall = sandbox(Level::Workspace);
        wall.bwrap = failing;
        config.sandbox = Some(wall);
    });
    let error = place.run().await.sandbox_error.unwrap();
    assert!(error.contains("no namespaces for you"), "{error}");
    assert!(!place.path("work/started").exists());
}

#[tokio::test]
async fn an_agent_that_cannot_be_started_is_not_the_walls_fault() {
    let place = Place::with("true", |config| {
        config.sandbox = Some(sandbox(Level::Workspace));
        config.claude = "/no/such/claude".into();
    });
    let end = place.run().await;
    assert!(end.spawn_error.unwrap().contains("/no/such/claude"));
    assert_eq!(end.sandbox_error, None);
}

#[tokio::test]
async fn work_stays_and_all_else_that_was_written_goes_with_the_attempt() {
    let script = "echo done > result; echo x > /tmp/a; mkdir -p ~/go/pkg/mod/b; touch ~/go/pkg/mod/b/c; chmod -R a-w ~/go; df / > /dev/null";
    let place = Place::with(script, |config| {
        config.sandbox = Some(sandbox(Level::Workspace));
        let home = config.attempts_dir.with_file_name("home");
        fs::create_dir(&home).unwrap();
        config.environment.push(("HOME".into(), home.into()));
    });
    let end = place.run().await;
    assert_eq!((end.exit_code, end.stderr_tail.as_str()), (Some(0), ""));
    assert_eq!(
        fs::read_to_string(place.path("work/result")).unwrap(),
        "done\n"
    );
    assert!(!place.path("home/go").exists());
    place.runner.forget(place.job, 1).await.unwrap();
    assert!(!place.attempt().exists());
}

#[tokio::test]
async fn the_wall_is_tried_by_setting_one_up() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("PATH".into(), "/usr/bin:/bin".into())];
    for level in WALLS {
        let path = folder.path().join("try");
        let tried = try_sandbox(&sandbox(level), &environment, &path).await;
        assert_eq!(tried, Ok(()));
        assert!(!path.exists());
    }
    let mut missing = sandbox(Level::Workspace);
    missing.bwrap = "no-such-bwrap".into();
    let tried = try_sandbox(&missing, &environment, &folder.path().join("try")).await;
    assert!(tried.unwrap_err().contains("not installed"));
}
