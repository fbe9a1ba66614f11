//! How a run is ended, and that nothing outlives it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::support::Place;
use agent_domain::{LogStream, Stop, judge};
use agent_runner::Ladder;

const LONG: Ladder = Ladder {
    int_to_term: Duration::from_mins(1),
    term_to_kill: Duration::from_mins(1),
    drain: Duration::from_mins(1),
    patience: Duration::from_mins(1),
    stay: Duration::from_mins(1),
};

const DONE: &str = r#"echo '{"type":"result","subtype":"success","is_error":false,"result":"done","total_cost_usd":0.25}'"#;

/// Starts a script, cancels it once it has made the file `up`, and waits for the end.
async fn cancelled(place: &Place) -> (agent_domain::RunEnd, Duration) {
    let mut run = place.start().await;
    place.made("up").await;
    let begun = Instant::now();
    run.cancel().await;
    let end = place.wait(&mut run).await.unwrap();
    let took = begun.elapsed();
    place.assert_gone();
    (end, took)
}

#[tokio::test]
async fn a_cancelled_agent_may_end_in_good_order() {
    let script = r#"trap 'echo "{\"type\":\"result\",\"subtype\":\"error_during_execution\"}"; exit 0' INT
        touch up; while :; do sleep 0.05; done"#;
    let place = Place::with(script, |config| config.ladder = LONG);
    let (end, _) = cancelled(&place).await;
    assert_eq!((end.stop, end.exit_code), (Some(Stop::Cancelled), Some(0)));
    assert_eq!(
        end.summary.result.unwrap().subtype,
        "error_during_execution"
    );
    let log = String::from_utf8(place.said(LogStream::System)).unwrap();
    assert!(log.contains("cancelled"), "{log}");
}

#[tokio::test]
async fn an_agent_that_ignores_the_interrupt_is_terminated() {
    let script = "trap '' INT; trap 'exit 143' TERM; touch up; while :; do sleep 0.05; done";
    let (end, took) = cancelled(&Place::new(script)).await;
    assert_eq!(
        (end.stop, end.exit_code),
        (Some(Stop::Cancelled), Some(143))
    );
    assert!(took >= Duration::from_millis(300), "{took:?}");
}

#[tokio::test]
async fn an_agent_that_ignores_everything_is_killed() {
    let script = "trap '' INT TERM HUP; touch up; while :; do sleep 0.05; done";
    let (end, took) = cancelled(&Place::new(script)).await;
    assert_eq!(
        (end.stop, end.exit_code),
        (Some(Stop::Cancelled), Some(137))
    );
    assert!(took >= Duration::from_millis(600), "{took:?}");
}

#[tokio::test]
async fn a_stopped_agent_is_ended_too() {
    let (end, _) = cancelled(&Place::new("touch up; kill -STOP $$; sleep 1000")).await;
    assert_eq!(end.stop, Some(Stop::Cancelled));
}

#[tokio::test]
async fn a_second_cancel_and_a_kill_do_not_wait() {
    let script = "trap '' INT TERM; touch up; while :; do sleep 0.05; done";
    for kill in [false, true] {
        let place = Place::with(script, |config| config.ladder = LONG);
        let mut run = place.start().await;
        place.made("up").await;
        if kill {
            run.kill().await;
        } else {
            run.cancel().await;
            run.cancel().await;
        }
        let begun = Instant::now();
        let end = place.wait(&mut run).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(
            (end.stop, end.exit_code),
            (Some(Stop::Cancelled), Some(137))
        );
        place.assert_gone();
    }
}

#[tokio::test]
async fn the_wall_clock_limit_holds_for_an_agent_that_talks() {
    let mut place = Place::new("while :; do echo talk; sleep 0.05; done");
    place.options.timeout = Some(Duration::from_millis(700));
    place.options.idle_timeout = Some(Duration::from_millis(500));
    let begun = Instant::now();
    let end = place.run().await;
    assert_eq!(end.stop, Some(Stop::TimedOut));
    assert!(begun.elapsed() >= Duration::from_millis(700));
}

#[tokio::test]
async fn silence_ends_a_run_and_a_byte_on_either_stream_is_no_silence() {
    let script = "for i in 1 2 3 4 5 6; do sleep 0.2; printf . >&2; done; sleep 1000";
    let mut place = Place::new(script);
    place.options.idle_timeout = Some(Duration::from_millis(600));
    let begun = Instant::now();
    let end = place.run().await;
    assert_eq!(end.stop, Some(Stop::Idle));
    assert_eq!(end.stderr_tail, "......");
    assert!(begun.elapsed() >= Duration::from_millis(1700));
}

#[tokio::test]
async fn an_agent_that_stays_after_its_result_is_ended_and_the_result_is_kept() {
    let aborted = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"total_cost_usd":0.25}"#;
    for (trap, code) in [
        (
            format!("trap 'echo {}; exit 0' INT", aborted.replace('"', r#"\""#)),
            0,
        ),
        ("trap '' INT TERM HUP".to_owned(), 137),
    ] {
        let script = format!("{trap}\n{DONE}\nwhile :; do sleep 0.05; done");
        let place = Place::with(&script, |config| {
            config.ladder.stay = Duration::from_millis(400);
        });
        let begun = Instant::now();
        let end = place.run().await;
        assert!(begun.elapsed() >= Duration::from_millis(400));
        assert_eq!((end.stop, end.exit_code), (Some(Stop::Stayed), Some(code)));
        assert_eq!(judge(&end), Ok(()), "{end:?}");
        assert_eq!(end.summary.result.unwrap().text, "done");
    }
}

#[tokio::test]
async fn an_agent_that_goes_on_after_a_result_is_judged_by_its_last_one() {
    let script = format!(
        r#"{DONE}; sleep 0.3
        echo '{{"type":"system","subtype":"task_notification","status":"completed"}}'
        echo '{{"type":"system","subtype":"init"}}'
        echo '{{"type":"assistant","message":{{"id":"m"}}}}'
        sleep 1.2
        echo '{{"type":"result","subtype":"success","is_error":false,"result":"all done","total_cost_usd":0.75}}'"#
    );
    let place = Place::with(&script, |config| {
        // Once it goes on, it may be silent for longer than between a result and the next turn.
        config.ladder.stay = Duration::from_secs(1);
    });
    let end = place.run().await;
    assert_eq!((end.stop, end.exit_code), (None, Some(0)));
    let result = end.summary.result.unwrap();
    assert_eq!(
        (result.text.as_str(), result.cost_usd),
        ("all done", Some(0.75))
    );
}

#[tokio::test]
async fn limits_of_the_server_hold_where_the_job_sets_none() {
    let place = Place::with("sleep 1000", |config| {
        config.defaults.timeout = Some(Duration::from_millis(100));
    });
    assert_eq!(place.run().await.stop, Some(Stop::TimedOut));
}

#[tokio::test]
async fn what_holds_the_output_open_after_the_end_is_ended_after_a_while() {
    let script = r#"sleep 1000 &
        echo '{"type":"result","subtype":"success","is_error":false}'"#;
    let begun = Instant::now();
    let end = Place::new(script).run().await;
    assert_eq!((end.stop, end.exit_code), (None, Some(0)));
    assert!(end.summary.result.is_some());
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(300) && took < Duration::from_secs(10),
        "{took:?}"
    );
}

#[tokio::test]
async fn output_of_a_child_that_ends_soon_after_the_agent_is_kept() {
    let place = Place::with("(sleep 0.2; echo late) & echo early", |config| {
        config.ladder.drain = Duration::from_secs(20);
    });
    place.run().await;
    assert_eq!(place.stdout(), "early\nlate\n");
}

#[tokio::test]
async fn nothing_outlives_an_agent_that_ends_by_itself() {
    for script in [
        "sleep 1000 > /dev/null 2>&1 &",
        "nohup sleep 1000 > /dev/null 2>&1 &",
        "setsid sleep 1000 > /dev/null 2>&1 & sleep 0.1",
        "(setsid sh -c 'sleep 1000 & exit' > /dev/null 2>&1 &) ; sleep 0.1",
        "env -i setsid sh -c '(sleep 1000 &)' > /dev/null 2>&1 & sleep 0.1",
        "setsid sh -c 'trap \"\" TERM INT HUP; while :; do sleep 0.1; done' > /dev/null 2>&1 & sleep 0.1",
        "setsid sh -c 'kill -STOP $$' > /dev/null 2>&1 & sleep 0.1",
        "i=0; while [ $i -lt 100 ]; do setsid sleep 1000 > /dev/null 2>&1 & i=$((i+1)); done; sleep 0.2",
        "setsid sleep 1000 &",
    ] {
        let end = Place::new(script).run().await;
        assert_eq!((end.stop, end.exit_code), (None, Some(0)), "{script}");
    }
}

#[tokio::test]
async fn what_starts_itself_anew_without_end_is_caught() {
    // Each is replaced at once by its child, in a new session every time; a file stops it should
    // we not.
    let hop = "[ -e ../stop ] && exit; echo $$ > ../alive; setsid ../hop > /dev/null 2>&1 &";
    for (wide, control_groups) in [(1, false), (50, false), (8, true)] {
        let script = format!(
            "for i in $(seq {wide}); do ../hop > /dev/null 2>&1; done; touch up; sleep 1000"
        );
        let place = Place::with(&script, |config| config.control_groups = control_groups);
        let path = place.path("hop");
        fs::write(&path, format!("#!/bin/sh\n{hop}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mut run = place.start().await;
        place.made("up").await;
        run.kill().await;
        let end = place.wait(&mut run).await;
        fs::remove_file(place.path("alive")).ok();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let alive = place.path("alive").exists();
        fs::write(place.path("stop"), "").unwrap();
        assert_eq!(end.unwrap().exit_code, Some(137));
        assert!(!alive, "it goes on");
        place.assert_gone();
    }
}

#[tokio::test]
async fn a_growing_crowd_is_killed() {
    // Every member starts two more until the bound is reached.
    let place = Place::new("touch up; ../grow 9");
    let path = place.path("grow");
    let grow = "#!/bin/sh\n[ $1 -gt 0 ] && { ../grow $(($1-1)) & setsid ../grow $(($1-1)) & }\nsleep 1000\n";
    fs::write(&path, grow).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut run = place.start().await;
    place.made("up").await;
    run.kill().await;
    place.wait(&mut run).await.unwrap();
    place.assert_gone();
}

#[tokio::test]
async fn orphans_that_end_during_a_run_leave_no_zombies() {
    let script = r"for i in 1 2 3 4 5 6 7 8 9 10; do (setsid true &) ; done
        sleep 0.5; ps -o stat= --ppid $PPID | grep -c Z";
    let place = Place::new(script);
    place.run().await;
    assert_eq!(place.stdout(), "0\n");
}
