//! What a run may take of the machine, and what happens when it cannot be ended.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent_domain::{Ending, LogStream, Reason, RunEnd, judge};
use agent_runner::{Limits, Means, ProcessControl};

use crate::support::Place;

/// What this machine offers; each caller asks under a name of its own.
fn offered(name: &str) -> ProcessControl {
    agent_runner::process_control(&format!("{name}-{}", std::process::id()))
}

fn skipped(why: &str) {
    println!("skipped: {why}");
}

fn reason(end: &RunEnd) -> Option<Reason> {
    match judge(end) {
        Err(Ending::Failed { reason, .. }) => Some(reason),
        _ => None,
    }
}

fn limited(script: &str, limits: Limits, control_groups: bool) -> Place {
    Place::with(script, |config| {
        config.limits = limits;
        config.control_groups = control_groups;
    })
}

const MEMORY: Limits = Limits {
    memory: Some(64 << 20),
    processes: None,
    cpu_millis: None,
};
/// Holds all it is given until the end, since there is no line in it.
const GREEDY: &str = "head -c 1000000000 /dev/zero | tail -n 1 > /dev/null";

#[tokio::test]
async fn an_agent_that_takes_more_memory_than_allowed_has_run_out_of_memory() {
    for control_groups in [true, false] {
        let script = format!("{GREEDY}; exit $?");
        let end = limited(&script, MEMORY, control_groups).run().await;
        assert_eq!(reason(&end), Some(Reason::OutOfMemory), "{end:?}");
        assert_eq!(end.stop, None);
    }
}

#[tokio::test]
async fn an_agent_that_copes_with_the_loss_of_a_tool_goes_on() {
    if offered("cope").memory != Means::ControlGroup {
        return skipped("no memory controller");
    }
    let script = format!(
        "{GREEDY}; echo '{{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false}}'"
    );
    let place = limited(&script, MEMORY, true);
    let end = place.run().await;
    assert!(end.out_of_memory, "{end:?}");
    assert_eq!(judge(&end), Ok(()));
    let log = String::from_utf8(place.said(LogStream::System)).unwrap();
    assert!(log.contains("for want of memory"), "{log}");
}

#[tokio::test]
async fn memory_within_the_limit_ends_nothing() {
    for control_groups in [true, false] {
        let script = "head -c 20000000 /dev/zero | tail -n 1 > /dev/null; sleep 1.2; exit 3";
        let end = limited(script, MEMORY, control_groups).run().await;
        assert_eq!((end.exit_code, end.out_of_memory), (Some(3), false));
    }
}

#[tokio::test]
async fn a_run_has_no_more_processes_than_allowed() {
    let means = offered("crowd").processes;
    if means == Means::Nothing {
        return skipped("processes of root are limited by control groups only");
    }
    let limits = Limits {
        processes: Some(64),
        ..Limits::default()
    };
    let crowd = "sh -c 'i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done' 2>&1; touch up; sleep 1000";
    let place = limited(crowd, limits, true);
    let mut run = place.start().await;
    place.made("up").await;
    let count = place.processes().len();
    run.kill().await;
    place.wait(&mut run).await.unwrap();
    place.assert_gone();
    // The supervisor is outside of it. An rlimit counts what else the user does meanwhile.
    let most = if means == Means::ControlGroup {
        65
    } else {
        200
    };
    assert!(count <= most, "{count} processes");
    assert!(place.stdout().contains("fork"), "{}", place.stdout());
}

#[tokio::test]
async fn a_run_gets_its_share_of_the_processors() {
    if offered("share").cpu != Means::ControlGroup {
        return skipped("no cpu controller");
    }
    let limits = Limits {
        cpu_millis: Some(1500),
        ..Limits::default()
    };
    let place = limited("touch up; sleep 1000", limits, true);
    let mut run = place.start().await;
    place.made("up").await;
    let groups = place.groups();
    let read = |file: &str| {
        let texts = groups
            .iter()
            .filter_map(|group| fs::read_to_string(group.join(file)).ok());
        texts.map(|text| text.trim().to_owned()).collect::<String>()
    };
    let set = [read("cpu.max"), read("cpu.cfs_quota_us")];
    run.kill().await;
    place.wait(&mut run).await.unwrap();
    place.assert_gone();
    assert!(
        set == ["150000 100000", ""] || set == ["", "150000"],
        "{set:?}"
    );
}

#[tokio::test]
async fn groups_of_runs_are_made_beside_the_one_called_server() {
    let machine = offered("beside");
    let is_v2 = |group: &&PathBuf| group.join("cgroup.subtree_control").exists();
    let Some(base) = machine.groups.iter().find(is_v2) else {
        return skipped("no control group of version 2");
    };
    let delegated = base.join(format!("runner-test-{}", std::process::id()));
    let server = delegated.join("server");
    fs::create_dir_all(&server).unwrap();
    let place = Place::with("touch up; sleep 1000", |config| {
        let enter = format!(
            "echo 0 > {}/cgroup.procs; exec \"$0\" \"$@\"",
            server.display()
        );
        let supervisor = config.supervisor.path.clone();
        config.supervisor.path = "/bin/sh".into();
        let args = ["-c".into(), enter.into(), supervisor.into()];
        config.supervisor.args.splice(..0, args);
    });
    let mut run = place.start().await;
    place.made("up").await;
    let groups = place.groups();
    run.kill().await;
    place.wait(&mut run).await.unwrap();
    place.assert_gone();
    let removed = fs::remove_dir(&server).and_then(|()| fs::remove_dir(&delegated));
    let beside = |group: &PathBuf| group.parent() == Some(delegated.as_path());
    assert!(groups.iter().any(beside), "{groups:?}");
    removed.unwrap();
}

/// A supervisor that may not signal what belongs to another user, as one without root may not,
/// and an agent that has started something as another user, as it may with sudo.
fn with_a_stranger(script: &str, control_groups: bool) -> Place {
    Place::with(script, |config| {
        let supervisor = config.supervisor.path.clone();
        config.supervisor.path = "/usr/bin/setpriv".into();
        config.supervisor.args.splice(
            ..0,
            [
                "--bounding-set=-kill".into(),
                "--".into(),
                supervisor.into(),
            ],
        );
        config.ladder.patience = Duration::from_millis(500);
        config.control_groups = control_groups;
    })
}

fn can_make_strangers() -> bool {
    let can = rustix::process::geteuid().is_root() && fs::exists("/usr/bin/setpriv").unwrap();
    if !can {
        skipped("needs root and setpriv");
    }
    can
}

/// Says in file 8 that it is there.
const STRANGER: &str =
    "setpriv --reuid=65534 --clear-groups sh -c 'echo here >&8; exec sleep 1000' 8>here";
const ARRIVED: &str = "until [ -s here ]; do sleep 0.01; done";
const RESULT: &str = r#"echo '{"type":"result","subtype":"success","is_error":false}'"#;

#[tokio::test]
async fn what_cannot_be_ended_is_named_and_stands_above_success() {
    if !can_make_strangers() {
        return;
    }
    for output in [">/dev/null 2>&1", ""] {
        let script = format!("{STRANGER} {output} & echo $! > pid; {ARRIVED}; {RESULT}");
        let place = with_a_stranger(&script, false);
        let begun = Instant::now();
        let mut run = place.start().await;
        let end = place.wait(&mut run).await.unwrap();
        let took = begun.elapsed();
        let pid = fs::read_to_string(place.path("work/pid")).unwrap();
        assert_eq!(end.unkillable, [pid.trim().parse::<u32>().unwrap()]);
        assert_eq!((end.exit_code, end.stop), (Some(0), None));
        assert_eq!(reason(&end), Some(Reason::Unkillable));
        assert!(took < Duration::from_secs(20), "{took:?}");
        let log = String::from_utf8(place.said(LogStream::System)).unwrap();
        assert_eq!(log.matches("cannot be ended").count(), 1, "{log}");
        assert_eq!(place.processes().len(), 1, "{:?}", place.processes());
    }
}

#[tokio::test]
async fn what_could_not_be_ended_is_remembered_until_it_is_gone() {
    if !can_make_strangers() {
        return;
    }
    let script = format!("env -i {STRANGER} & {ARRIVED}");
    let place = with_a_stranger(&script, false);
    let mut run = place.start().await;
    let end = place.wait(&mut run).await.unwrap();
    assert_eq!(end.unkillable.len(), 1);
    place.runner.forget(place.job, 1).await.unwrap();
    assert_eq!(place.runner.attempts().await.unwrap(), [(place.job, 1)]);
    // This process may do what the supervisor was not allowed to.
    let left = place.runner.end(place.job, 1).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    place.assert_gone();
    place.runner.forget(place.job, 1).await.unwrap();
    assert!(place.runner.attempts().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_cannot_be_ended_stands_above_a_cancellation() {
    if !can_make_strangers() {
        return;
    }
    let script = format!("{STRANGER} & {ARRIVED}; touch up; sleep 1000");
    let place = with_a_stranger(&script, false);
    let mut run = place.start().await;
    place.made("up").await;
    run.kill().await;
    let end = place.wait(&mut run).await.unwrap();
    assert_eq!(reason(&end), Some(Reason::Unkillable), "{end:?}");
}

#[tokio::test]
async fn a_control_group_ends_what_no_signal_of_ours_may_reach() {
    if !can_make_strangers() || !offered("stranger").ends_at_once {
        return skipped("no control group");
    }
    let script = format!("{STRANGER} & {ARRIVED}; {RESULT}");
    let end = with_a_stranger(&script, true).run().await;
    assert!(end.unkillable.is_empty());
    assert_eq!(judge(&end), Ok(()));
}
