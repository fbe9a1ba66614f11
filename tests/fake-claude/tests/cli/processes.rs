//! Points 11 to 14: signals, what survives them, and results that are not the end.

use std::time::Instant;

use rustix::process::Signal;

use crate::harness::{Place, catches, eventually, is_alive, kill, session_of};

const IN_TOOL: &str = "shell echo $$ > tool; sleep 60; echo never";

#[test]
fn an_interrupt_in_a_tool_ends_with_a_result_and_exit_code_zero() {
    let place = Place::new();
    let running = place.start(&[], IN_TOOL);
    assert!(eventually(|| place.pids("tool").len() == 1));
    let tool = place.pids("tool")[0];
    let own = running.pid();
    assert!(
        session_of(tool) == tool && session_of(own) != tool,
        "a session of its own"
    );
    running.signal(Signal::INT);
    let done = running.done();
    let result = done.result();
    assert_eq!(done.code(), Some(0));
    assert_eq!(
        (&result["subtype"], &result["terminal_reason"]),
        (&"error_during_execution".into(), &"aborted_tools".into())
    );
    assert_eq!(result["is_error"], true);
    assert!(eventually(|| !is_alive(tool)));
}

#[test]
fn an_interrupt_outside_a_tool_aborts_the_stream() {
    let place = Place::new();
    let running = place.start(&[], "text hi\nmark here\nhang");
    place.wait_for("here");
    running.signal(Signal::INT);
    let done = running.done();
    assert_eq!(
        (done.code(), &done.result()["terminal_reason"]),
        (Some(0), &"aborted_streaming".into())
    );
}

#[test]
fn term_and_hup_end_without_a_result_and_kill_the_tool() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let place = Place::new();
        let running = place.start(&[], IN_TOOL);
        assert!(eventually(|| place.pids("tool").len() == 1));
        running.signal(signal);
        let done = running.done();
        assert_eq!((done.code(), done.results().len()), (Some(code), 0));
        let last = done.events().pop().unwrap();
        assert_eq!(last["message"]["content"][0]["content"], "Exit code 137");
        assert!(eventually(|| !is_alive(place.pids("tool")[0])));
    }
}

#[test]
fn term_while_starting_is_a_plain_death() {
    let place = Place::new();
    let running = place.start(&[], "startup 30s\nresult ok");
    // There is no event to wait for; that it has read its prompt shows in its sleep.
    let stat = format!("/proc/{}/wchan", running.pid());
    eventually(|| std::fs::read_to_string(&stat).is_ok_and(|text| text.contains("nanosleep")));
    running.signal(Signal::TERM);
    assert_eq!(running.done().signal(), Some(15));
}

#[test]
fn signals_can_be_ignored_or_taken_slowly() {
    let place = Place::new();
    let running = place.start(&[], "ignore INT TERM HUP\nmark here\nwait go\nresult ok");
    place.wait_for("here");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        running.signal(signal);
    }
    std::fs::write(place.work().join("go"), "").unwrap();
    assert_eq!(running.done().code(), Some(0));

    let place = Place::new();
    let running = place.start(&[], "slow 400\nmark here\nhang");
    place.wait_for("here");
    let before = Instant::now();
    running.signal(Signal::TERM);
    assert_eq!(running.done().code(), Some(143));
    assert!(before.elapsed().as_millis() >= 400);
}

#[test]
fn tools_survive_a_kill_of_the_run_and_of_its_group() {
    let place = Place::new();
    let running = place.start(&[], IN_TOOL);
    assert!(eventually(|| place.pids("tool").len() == 1));
    let tool = place.pids("tool")[0];
    running.signal(Signal::KILL);
    assert_eq!(running.done().signal(), Some(9));
    assert!(is_alive(tool));
    kill(tool);
}

#[test]
fn survivors_outlive_the_run_in_sessions_of_their_own() {
    for kind in ["setsid", "nohup", "stubborn", "clean"] {
        let place = Place::new();
        let file = place.work().join("pids");
        let done = place.script(&format!("survivor {kind} {}\nresult ok", file.display()));
        assert_eq!(done.code(), Some(0));
        assert!(eventually(|| place.pids("pids").len() == 1), "{kind}");
        let pid = place.pids("pids")[0];
        assert!(is_alive(pid) && session_of(pid) != session_of(0), "{kind}");
        // The mask tells at once and for sure what a signal and a glance might miss.
        assert_eq!(catches(pid, Signal::TERM), kind == "stubborn", "{kind}");
        kill(pid);
        assert!(eventually(|| !is_alive(pid)), "{kind}");
    }
}

#[test]
fn a_fork_loop_changes_its_process_id_until_it_is_caught() {
    let place = Place::new();
    place.script("survivor fork pids\nresult ok");
    assert!(eventually(|| place.pids("pids").len() > 5));
    // Caught as a supervisor would: by looking again and again.
    let caught = eventually(|| {
        let last = place.pids("pids").last().copied().unwrap();
        kill(last);
        std::thread::sleep(std::time::Duration::from_millis(100));
        place.pids("pids").last() == Some(&last)
    });
    assert!(caught);
}

#[test]
fn a_survivor_can_hold_the_pipes_open_after_the_run() {
    let place = Place::new();
    let mut running = place.start(&[], "survivor hold pids\nresult ok");
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    assert!(eventually(|| place.pids("pids").len() == 1));
    let holder = place.pids("pids")[0];
    let mut stdout = running.child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    assert!(!reader.is_finished());
    kill(holder);
    reader.join().unwrap().unwrap();
}

#[test]
fn a_background_command_brings_a_second_result_at_a_higher_cost() {
    let place = Place::new();
    let done = place.script(
        "price 0.25\nbackground until [ -e go ]; do sleep 0.01; done\nresult ok first\nmark go",
    );
    let inits = done.of("system/init").len();
    let results = done.results();
    assert_eq!((done.code(), inits, results.len()), (Some(0), 2, 2));
    assert_eq!(
        (&results[0]["total_cost_usd"], &results[1]["total_cost_usd"]),
        (&0.25.into(), &0.5.into())
    );
    assert_eq!(results[1]["origin"]["kind"], "task-notification");
    assert_eq!(
        (&results[0]["result_index"], &results[1]["result_index"]),
        (&0.into(), &1.into())
    );
    assert_eq!(
        done.of("system/task_notification")[0]["status"],
        "completed"
    );
}

#[test]
fn background_tasks_can_be_switched_off() {
    let place = Place::new().env("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1");
    let done = place.script("background echo $$ > pid; touch made\nresult ok");
    assert_eq!(
        (done.results().len(), done.of("system/task_started").len()),
        (1, 0)
    );
    assert!(place.work().join("made").exists());
}

#[test]
fn a_run_may_stay_for_ever_after_its_result() {
    let place = Place::new();
    let mut running = place.start(&[], "result ok\nmark said\nhang");
    place.wait_for("said");
    assert!(running.child.try_wait().unwrap().is_none());
    running.signal(Signal::TERM);
    let done = running.done();
    assert_eq!((done.code(), done.results().len()), (Some(143), 1));
}

#[test]
fn an_exit_code_can_be_chosen_and_a_death_by_signal_too() {
    assert_eq!(Place::new().script("text hi\nexit 42").code(), Some(42));
    for (name, number) in [("KILL", 9), ("SEGV", 11), ("TERM", 15)] {
        let done = Place::new().script(&format!("text hi\ndie {name}"));
        assert_eq!(
            (done.signal(), done.results().len()),
            (Some(number), 0),
            "{name}"
        );
    }
}
