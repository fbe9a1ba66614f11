//! What happens when a server or a supervisor dies.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Place, until};
use agent_domain::{LogStream, Stop};
use agent_runner::{Reconnected, RunnerError, Surveyed};
use rustix::process::{Pid, Signal};

async fn reconnect(place: &Place) -> Reconnected {
    let runner = agent_runner::Runner::new(place.config.clone());
    runner.reconnect(place.job, 1, &place.log()).await.unwrap()
}

fn signal(pid: Option<u32>, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid.unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[tokio::test]
async fn a_run_goes_on_without_its_server_and_is_found_again() {
    let place = Place::new("touch up; read -r x < ../go; seq 20000");
    let fifo = place.path("go");
    Command::new("mkfifo").arg(&fifo).status().unwrap();
    let run = place.start().await;
    let pids = (run.supervisor_pid(), run.agent_pid());
    place.made("up").await;
    drop(run);
    let Reconnected::Living(mut run) = reconnect(&place).await else {
        panic!("not living");
    };
    assert_eq!((run.supervisor_pid(), run.agent_pid()), pids);
    fs::write(&fifo, "\n").unwrap();
    assert_eq!(place.wait(&mut run).await.unwrap().exit_code, Some(0));
    let expected: String = (1..=20000)
        .flat_map(|number| [number.to_string(), "\n".into()])
        .collect();
    assert_eq!(place.stdout(), expected);
    place.assert_gone();
}

#[tokio::test]
async fn a_run_that_ended_meanwhile_is_told_until_it_is_forgotten() {
    let place = Place::new("echo done; exit 4");
    drop(place.start().await);
    until("the run is over", || {
        place.attempt().join("exit.json").exists()
    })
    .await;
    for _ in 0..2 {
        let Reconnected::Ended(end) = reconnect(&place).await else {
            panic!("not ended");
        };
        assert_eq!(end.exit_code, Some(4));
    }
    until("the supervisor is gone", || place.processes().is_empty()).await;
    for _ in 0..2 {
        place.runner.forget(place.job, 1).await.unwrap();
        assert!(matches!(reconnect(&place).await, Reconnected::NeverStarted));
    }
}

#[tokio::test]
async fn a_supervisor_killed_before_it_could_put_its_record_in_place_has_ended_its_run_all_the_same()
 {
    let place = Place::new("echo done; exit 4");
    drop(place.start().await);
    until("the supervisor is gone", || place.processes().is_empty()).await;
    let [record, unplaced] = ["exit.json", "exit.json.new"].map(|name| place.attempt().join(name));
    fs::rename(&record, &unplaced).unwrap();
    let surveyed = place.runner.survey(vec![(place.job, 1)]).await.unwrap();
    assert_eq!(surveyed, [((place.job, 1), Surveyed::Ended)]);
    let Reconnected::Ended(end) = reconnect(&place).await else {
        panic!("not ended");
    };
    assert_eq!(end.exit_code, Some(4));
    // What is torn says nothing.
    let text = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    fs::write(&unplaced, &text[..text.len() / 2]).unwrap();
    assert!(matches!(reconnect(&place).await, Reconnected::Lost(_)));
}

#[tokio::test]
async fn another_server_can_cancel() {
    let place = Place::new("touch up; sleep 1000");
    drop(place.start().await);
    place.made("up").await;
    let Reconnected::Living(mut run) = reconnect(&place).await else {
        panic!("not living");
    };
    run.cancel().await;
    assert_eq!(
        place.wait(&mut run).await.unwrap().stop,
        Some(Stop::Cancelled)
    );
    place.assert_gone();
}

#[tokio::test]
async fn limits_hold_while_no_server_is_there() {
    let mut place = Place::new("sleep 1000");
    place.options.timeout = Some(Duration::from_millis(200));
    drop(place.start().await);
    until("the run is over", || {
        place.attempt().join("exit.json").exists()
    })
    .await;
    let Reconnected::Ended(end) = reconnect(&place).await else {
        panic!("not ended");
    };
    assert_eq!(end.stop, Some(Stop::TimedOut));
    until("the supervisor is gone", || place.processes().is_empty()).await;
}

#[tokio::test]
async fn a_wait_that_is_dropped_can_be_taken_up_again() {
    let place = Place::new("touch up; sleep 0.5; echo end");
    let mut run = place.start().await;
    place.made("up").await;
    for _ in 0..5 {
        let waited = tokio::time::timeout(Duration::from_millis(20), run.wait()).await;
        assert!(waited.is_err());
    }
    assert_eq!(place.wait(&mut run).await.unwrap().exit_code, Some(0));
    assert_eq!(place.wait(&mut run).await.unwrap().exit_code, Some(0));
    place.assert_gone();
}

#[tokio::test]
async fn signals_meant_for_everyone_do_not_end_a_supervisor() {
    let place = Place::new("touch up; read -r x < ../go; echo end");
    let fifo = place.path("go");
    Command::new("mkfifo").arg(&fifo).status().unwrap();
    let mut run = place.start().await;
    place.made("up").await;
    for each in [Signal::TERM, Signal::INT, Signal::HUP] {
        signal(run.supervisor_pid(), each);
    }
    fs::write(&fifo, "\n").unwrap();
    assert_eq!(place.wait(&mut run).await.unwrap().exit_code, Some(0));
    assert_eq!(place.stdout(), "end\n");
    place.assert_gone();
}

#[tokio::test]
async fn the_tree_of_a_killed_supervisor_is_found_and_ended() {
    let script = r#"echo '{"type":"system","subtype":"init","session_id":"s1"}'
        setsid sleep 1000 > /dev/null 2>&1 &
        (setsid sh -c 'trap "" TERM; sleep 1000 & wait' &)
        touch up; sleep 1000"#;
    let place = Place::new(script);
    let mut run = place.start().await;
    place.made("up").await;
    until("the tree is there", || place.processes().len() >= 5).await;
    until("the log has it", || {
        !place.said(LogStream::Stdout).is_empty()
    })
    .await;
    signal(run.supervisor_pid(), Signal::KILL);
    let error = place.wait(&mut run).await.unwrap_err();
    let RunnerError::Lost(lost) = error else {
        panic!("{error}");
    };
    assert_eq!(lost.summary.session_id.as_deref(), Some("s1"));
    assert!(lost.unkillable.is_empty());
    place.assert_gone();
    assert!(matches!(reconnect(&place).await, Reconnected::Lost(_)));
}

#[tokio::test]
async fn a_supervisor_killed_with_its_server_is_settled_by_the_next_one() {
    let place = Place::new("setsid sleep 1000 & touch up; sleep 1000");
    let run = place.start().await;
    let supervisor = run.supervisor_pid();
    place.made("up").await;
    drop(run);
    signal(supervisor, Signal::KILL);
    // Its death takes a moment, in which it may still be found.
    match reconnect(&place).await {
        Reconnected::Lost(_) => {}
        Reconnected::Living(mut run) => {
            assert!(matches!(
                place.wait(&mut run).await,
                Err(RunnerError::Lost(_))
            ));
        }
        other => panic!("{other:?}"),
    }
    place.assert_gone();
    let error = place.runner.start(place.request()).await.unwrap_err();
    assert!(matches!(error, RunnerError::AlreadyStarted), "{error}");
}

#[tokio::test]
async fn even_what_hides_its_mark_is_found_once_it_has_been_seen() {
    let place = Place::new("env -i setsid sleep 1000 > /dev/null 2>&1 & touch up; sleep 1000");
    let mut run = place.start().await;
    place.made("up").await;
    let record = place.attempt().join("supervisor.json");
    until("the stray is noted", || {
        fs::read_to_string(&record).is_ok_and(|record| !record.contains("\"strays\":[]"))
    })
    .await;
    signal(run.supervisor_pid(), Signal::KILL);
    assert!(matches!(
        place.wait(&mut run).await,
        Err(RunnerError::Lost(_))
    ));
    place.assert_gone();
}

#[tokio::test]
async fn a_task_that_is_cut_off_starts_nothing() {
    let place = Place::new("touch started");
    for (cut, task) in ["", "{", "{\"program\":{\"Unix\":[47]}", "{}\n"]
        .iter()
        .enumerate()
    {
        let folder = place.attempt();
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("lock"), "").unwrap();
        let mut supervisor = Command::new(&place.config.supervisor.path)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = supervisor.stdin.take().unwrap();
        input.write_all(task.as_bytes()).unwrap();
        // Half of the cases are asked about while the supervisor still waits for the rest.
        let asked = reconnect(&place);
        let found = if cut % 2 == 0 {
            let later = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                drop(input);
            };
            tokio::join!(asked, later).0
        } else {
            drop(input);
            assert!(!supervisor.wait().unwrap().success());
            asked.await
        };
        assert!(matches!(found, Reconnected::NeverStarted), "{found:?}");
        assert!(!supervisor.wait().unwrap().success());
        assert!(!folder.exists() && !place.path("work/started").exists());
    }
    place.run().await;
    assert!(place.path("work/started").exists());
}

#[tokio::test]
async fn a_supervisor_that_comes_too_late_starts_nothing() {
    let place = Place::new("touch started");
    let folder = place.attempt();
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("lock"), "").unwrap();
    let mut supervisor = Command::new("/bin/sh");
    supervisor.args(["-c", "read -r x; exec \"$0\""]);
    supervisor.arg(&place.config.supervisor.path);
    supervisor
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut supervisor = supervisor.stderr(Stdio::null()).spawn().unwrap();
    assert!(matches!(reconnect(&place).await, Reconnected::NeverStarted));
    // A directory of the same name, for the next start, is not the one it works in.
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("lock"), "").unwrap();
    supervisor
        .stdin
        .take()
        .unwrap()
        .write_all(b"go\n{}\n")
        .unwrap();
    assert!(!supervisor.wait().unwrap().success());
    assert!(!folder.join("supervisor.json").exists());
}

#[tokio::test]
async fn an_attempt_is_started_once() {
    let place = Place::new("touch up; sleep 1000");
    let mut run = place.start().await;
    let error = place.runner.start(place.request()).await.unwrap_err();
    assert!(matches!(error, RunnerError::AlreadyStarted), "{error}");
    place.made("up").await;
    run.kill().await;
    place.wait(&mut run).await.unwrap();
    let error = place.runner.start(place.request()).await.unwrap_err();
    assert!(matches!(error, RunnerError::AlreadyStarted), "{error}");
    place.assert_gone();
}

#[tokio::test]
async fn listeners_that_never_read_and_talk_nonsense_hold_up_nothing() {
    let place = Place::new("touch up; read -r x < ../go; seq 200000");
    let fifo = place.path("go");
    Command::new("mkfifo").arg(&fifo).status().unwrap();
    let mut run = place.start().await;
    place.made("up").await;
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut client = UnixStream::connect(place.attempt().join("sock")).unwrap();
        client.write_all(b"cancelled\ncance").unwrap();
        client.write_all(&[b'x'; 5000]).unwrap();
        client.write_all(b"\n\xff\n").unwrap();
        deaf.push(client);
    }
    fs::write(&fifo, "\n").unwrap();
    let end = place.wait(&mut run).await.unwrap();
    assert_eq!((end.exit_code, end.stop), (Some(0), None));
    assert_eq!(place.said(LogStream::Stdout).len(), 1_288_895);
    place.assert_gone();
}

#[tokio::test]
async fn a_deep_directory_is_no_obstacle() {
    let place = Place::with("touch up; sleep 1000", |config| {
        config.attempts_dir.push("d".repeat(120));
    });
    drop(place.start().await);
    place.made("up").await;
    let Reconnected::Living(mut run) = reconnect(&place).await else {
        panic!("not living");
    };
    run.kill().await;
    place.wait(&mut run).await.unwrap();
    place.assert_gone();
}

/// Numbers, each on a line, without end; every line says which stream it is for.
const COUNTING: &str = "touch up
    i=0; while :; do i=$((i + 1)); echo \"out $i of a line that may be cut\"; echo \"err $i\" >&2; done";

#[tokio::test]
async fn whenever_a_supervisor_is_killed_its_log_is_a_beginning_of_what_the_agent_wrote() {
    for round in 0..12_u64 {
        // Behind the runner's own limits there is a mask, so both hold text back.
        let place = Place::with(COUNTING, |config| {
            config
                .secrets
                .push(agent_domain::Secret::new("out 1 of a secret"));
        });
        let mut run = place.start().await;
        place.made("up").await;
        tokio::time::sleep(Duration::from_millis(3 + 11 * round)).await;
        signal(run.supervisor_pid(), Signal::KILL);
        let end = place.wait(&mut run).await;
        assert!(matches!(end, Err(RunnerError::Lost(_))), "{end:?}");
        place.assert_gone();

        let before = fs::read(place.log()).unwrap();
        let torn = before.last().is_some_and(|byte| *byte != b'\n');
        let mut log = agent_runner::LogWriter::open(&place.log()).unwrap();
        log.system(agent_domain::Timestamp::UNIX_EPOCH, "the server goes on");
        log.sync().unwrap();
        let after = fs::read(place.log()).unwrap();
        assert!(after.starts_with(&before), "what was written has changed");
        let said_torn = String::from_utf8_lossy(&after).contains(agent_domain::LINE_TORN);
        assert_eq!(said_torn, torn, "round {round}");
        for (stream, name) in [(LogStream::Stdout, "out"), (LogStream::Stderr, "err")] {
            assert_counts(&before, stream, name);
        }
    }
}

/// The lines of a stream are numbered from 1 without a gap; only the last one may be cut.
#[track_caller]
fn assert_counts(log: &[u8], stream: LogStream, name: &str) {
    let mut entries: Vec<&[u8]> = log.split(|byte| *byte == b'\n').collect();
    let torn = entries.pop().unwrap_or_default();
    let whole = entries
        .iter()
        .map(|entry| agent_domain::LogLine::parse(entry).expect("an entry"));
    let torn = agent_domain::LogLine::parse(torn);
    let mut text = Vec::new();
    for line in whole.chain(torn).filter(|line| line.stream == stream) {
        text.extend_from_slice(line.text);
        if !line.partial {
            text.push(b'\n');
        }
    }
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (line, number) in lines.iter().zip(1..) {
        let rest = if name == "out" {
            " of a line that may be cut"
        } else {
            ""
        };
        let expected = format!("{name} {number}{rest}");
        let is_last = number == lines.len();
        assert!(
            *line == expected || (is_last && expected.starts_with(line)),
            "{line}"
        );
    }
}
