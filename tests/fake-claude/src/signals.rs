//! INT, TERM and HUP, as the real one takes them.
//!
//! Before [`install`] they kill the process outright, as in the real one's first third of a
//! second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::events::{self, Ending, ToolResult};
use crate::outcome::{self, Outcome};
use crate::state::{Shared, State};

/// How long a reader that does not read can hold up the end.
const PATIENCE: Duration = Duration::from_millis(300);

const REJECTED: &str = "The user doesn't want to proceed with this tool use. The tool use was rejected (eg. if it was a file edit, the new_string was NOT written to the file). STOP what you are doing and wait for the user to tell you how to proceed.";

/// Takes signals from here on.
pub(crate) fn install(shared: &Arc<Shared>) {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
        return;
    };
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        for signal in &mut signals {
            take(&shared, signal);
        }
    });
}

/// The number of a signal's name without `SIG`.
pub(crate) fn number(name: &str) -> Option<i32> {
    let name = name.trim_start_matches("SIG");
    let known = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("SEGV", 11),
        ("PIPE", 13),
        ("TERM", 15),
    ];
    known
        .into_iter()
        .find(|(one, _)| *one == name)
        .map(|(_, number)| number)
}

fn take(shared: &Shared, signal: i32) {
    let slowness = {
        let state = shared.lock_anyway();
        if state.ignored.contains(&signal) {
            return;
        }
        state.slowness
    };
    std::thread::sleep(slowness);
    if signal == SIGINT {
        let mut state = shared.lock_anyway();
        state.ending = true;
        kill_tools(&state);
        abort(&mut state);
        state.finish();
        std::process::exit(0);
    }
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(mut state) = shared.try_lock() {
            state.ending = true;
            kill_tools(&state);
            if let Some(call) = state.call.clone() {
                end_call(&mut state, &call.id, "Exit code 137", false);
            }
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    std::process::exit(128 + signal);
}

/// Kills the sessions that tools run in.
pub(crate) fn kill_tools(state: &State) {
    for leader in state.leaders.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        kill_process_group(leader, Signal::KILL).ok();
    }
}

fn end_call(state: &mut State, id: &str, content: &str, rejected: bool) {
    let result = ToolResult {
        id,
        content,
        is_error: true,
        rejected,
        detail: None,
    };
    events::tool_result(state, result);
}

/// Closes an open tool call and says the result of an interrupted turn.
pub(crate) fn abort(state: &mut State) {
    let call = state.call.clone();
    let (reason, note) = match &call {
        Some(call) => {
            end_call(state, &call.id, REJECTED, true);
            (
                "aborted_tools",
                "[Request interrupted by user for tool use]",
            )
        }
        None => ("aborted_streaming", "[Request interrupted by user]"),
    };
    events::user(state, &json!([{"type": "text", "text": note}]), Vec::new());
    let Some(base) = outcome::find("execution_error") else {
        return;
    };
    let outcome = Outcome {
        terminal_reason: reason,
        stop_reason: if call.is_some() {
            "tool_use"
        } else {
            "end_turn"
        },
        ..base
    };
    let text = "[ede_diagnostic] result_type=user last_content_type=n/a stop_reason=tool_use";
    events::result(
        state,
        &Ending {
            outcome: &outcome,
            text,
            notified: false,
        },
    );
    state.say_at_end("Execution error".into());
}
