//! From what the agent's process and its transcript said, to how the attempt ended.
//!
//! Neither the exit code nor the result event is believed alone: the CLI reports failures of the
//! model's API with subtype `success`, and an interrupted run exits with 0.

use crate::{DeniedCall, LimitWindow, Policy, Reason, RunUsage, Timestamp, failures};

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The agent succeeded and its work is delivered.
    Completed,
    /// It failed for good.
    Failed {
        /// Stable code.
        reason: Reason,
        /// A sentence for people.
        error: String,
    },
    /// It was stopped because someone asked for it.
    Cancelled,
    /// It goes back to the queue, at no cost in attempts.
    Parked {
        /// Not to be started earlier; `None`: before somebody has seen to what it waits for.
        until: Option<Timestamp>,
        /// Why.
        reason: Reason,
    },
    /// The run was lost through no fault of its own; it may be tried again.
    Lost {
        /// A sentence for people.
        error: String,
    },
}

impl Ending {
    /// Whether something that the agent has started may still be at work.
    pub fn leaves_processes(&self) -> bool {
        matches!(
            self,
            Self::Failed {
                reason: Reason::Unkillable,
                ..
            }
        )
    }
}

/// Why the supervisor ended the agent, where it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Asked to.
    Cancelled,
    /// The wall-clock limit.
    TimedOut,
    /// The silence limit.
    Idle,
    /// It has cost more than it may.
    Budget,
    /// It had said its result and was silent since, and its process stayed; or ended with its
    /// supervisor, so that nobody knows how.
    Stayed,
}

/// How a run of the agent ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunEnd {
    /// Why the supervisor ended it; `None` when it ended by itself.
    pub stop: Option<Stop>,
    /// Exit code, `128 + n` for signal `n`; `None` when it is not known.
    pub exit_code: Option<i32>,
    /// Set when the agent could not be started at all.
    pub spawn_error: Option<String>,
    /// Set when there was no room on the disk for what the agent needs, so it was not started.
    pub disk_full: Option<String>,
    /// Set when what was to be around the agent could not be set up, so it was not started.
    pub sandbox_error: Option<String>,
    /// What the transcript said.
    pub summary: RunSummary,
    /// The end of standard error, for a run that never got as far as a result.
    pub stderr_tail: String,
    /// Whether anything of the run was killed for want of memory.
    pub out_of_memory: bool,
    /// Numbers of processes of the run that could not be ended, and may be at work still.
    pub unkillable: Vec<u32>,
}

/// What a transcript said, as far as the outcome needs it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunSummary {
    /// `session_id`.
    pub session_id: Option<String>,
    /// `model` of the init event.
    pub model: Option<String>,
    /// `claude_code_version` of the init event.
    pub cli_version: Option<String>,
    /// `error` of the last synthetic assistant message.
    pub assistant_error: Option<String>,
    /// When a rejected limit resets, in seconds since 1970.
    pub limit_resets_at: Option<i64>,
    /// What the rejected limit is called, `five_hour`.
    pub limit_kind: Option<String>,
    /// The windows of the subscription's limit, as last told; each once.
    pub windows: Vec<LimitWindow>,
    /// Tool calls that were denied, the first [`crate::DENIED_CALLS_MAX`] of them.
    pub denied: Vec<DeniedCall>,
    /// The last result event.
    pub result: Option<ResultSummary>,
    /// What the run used.
    pub usage: RunUsage,
}

impl RunSummary {
    /// Whether it had said its result and no model has answered since. The same run again would be
    /// paid for twice.
    pub fn is_over(&self) -> bool {
        self.result.is_some() && self.usage.messages.0.is_empty()
    }
}

/// What a result event said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResultSummary {
    /// `subtype`.
    pub subtype: String,
    /// `is_error`.
    pub is_error: bool,
    /// `terminal_reason`.
    pub terminal_reason: Option<String>,
    /// `stop_reason`.
    pub stop_reason: Option<String>,
    /// `api_error_status`.
    pub api_error_status: Option<i64>,
    /// `api_error`.
    pub api_error: Option<String>,
    /// `result`, else the first of `errors`, shortened.
    pub text: String,
    /// `num_turns`.
    pub num_turns: Option<u64>,
    /// `total_cost_usd`.
    pub cost_usd: Option<f64>,
    /// `structured_output` as JSON. One that is longer than [`crate::limits::OUTPUT_BYTES`] is cut
    /// right behind that.
    pub structured_output: Option<String>,
    /// How many tool calls were denied.
    pub permission_denials: u64,
}

/// Judges a run: `Ok` when the agent succeeded, else why it did not.
///
/// Success takes an exit code of 0 and a last result that is no error, and that we did not end
/// the run ourselves, save one that was done and only stayed. A run of which something lives on has
/// not ended well, whatever it said.
pub fn judge(end: &RunEnd) -> Result<(), Ending> {
    if !end.unkillable.is_empty() {
        return Err(unkillable(&end.unkillable));
    }
    match end.stop {
        Some(Stop::Cancelled) => return Err(Ending::Cancelled),
        Some(Stop::TimedOut) => {
            return failed(Reason::TimedOut, "the agent ran longer than allowed");
        }
        Some(Stop::Idle) => {
            return failed(Reason::Idle, "the agent was silent longer than allowed");
        }
        // One that was done but for what it had left in the background has kept to the rules, and
        // its exit code is of our making.
        Some(Stop::Budget | Stop::Stayed) if has_succeeded(end) => return Ok(()),
        Some(Stop::Budget) => {
            return failed(Reason::Budget, "the agent has cost more than it may");
        }
        Some(Stop::Stayed) | None => {}
    }
    if let Some(error) = &end.spawn_error {
        return failed(Reason::Spawn, error);
    }
    if let Some(error) = &end.sandbox_error {
        return failed(Reason::Sandbox, error);
    }
    if let Some(error) = &end.disk_full {
        return failed(Reason::DiskFull, error);
    }
    match (&end.summary.result, end.exit_code) {
        (Some(result), Some(0)) if result.subtype == "success" && !result.is_error => Ok(()),
        (Some(result), _) if tells_failure(result) => failed(
            failures::of(result, &end.summary).0,
            &sentence(&result.text, end),
        ),
        _ if end.out_of_memory => failed(
            Reason::OutOfMemory,
            "the agent was killed for want of memory",
        ),
        _ => failed(Reason::AgentFailed, &without_result(end)),
    }
}

/// What is done about a run for which [`judge`] gives this ending.
pub fn policy(end: &RunEnd, ending: &Ending) -> Policy {
    let Ending::Failed { reason, .. } = ending else {
        return Policy::Final;
    };
    let told = end.summary.result.as_ref().filter(|it| tells_failure(it));
    let told = told.map(|result| failures::of(result, &end.summary));
    // Where the ending has another cause, what the result says of the API does not matter.
    told.filter(|(told, _)| told == reason)
        .map_or(Policy::Final, |(_, policy)| policy)
}

fn tells_failure(result: &ResultSummary) -> bool {
    result.is_error || result.subtype != "success"
}

fn has_succeeded(end: &RunEnd) -> bool {
    let result = end.summary.result.as_ref();
    result.is_some_and(|result| result.subtype == "success" && !result.is_error)
}

/// How an attempt has ended of which the processes with these numbers cannot be ended.
pub fn unkillable(pids: &[u32]) -> Ending {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    Ending::Failed {
        reason: Reason::Unkillable,
        error: format!(
            "processes of the agent cannot be ended and may still be at work in the workspace, which is kept: {}",
            pids.join(", ")
        ),
    }
}

fn failed(reason: Reason, error: &str) -> Result<(), Ending> {
    Err(Ending::Failed {
        reason,
        error: error.to_owned(),
    })
}

fn sentence(text: &str, end: &RunEnd) -> String {
    if text.is_empty() {
        without_result(end)
    } else {
        text.to_owned()
    }
}

fn without_result(end: &RunEnd) -> String {
    let code = end
        .exit_code
        .map_or_else(|| "an unknown code".to_owned(), |code| code.to_string());
    let tail = end.stderr_tail.trim();
    if !tail.is_empty() {
        format!("the agent exited with {code}: {tail}")
    } else if end.summary.result.is_some() {
        format!("the agent reported success but exited with {code}")
    } else {
        format!("the agent exited with {code} and reported no result")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit_code: i32, result: Option<ResultSummary>) -> RunEnd {
        RunEnd {
            exit_code: Some(exit_code),
            summary: RunSummary {
                result,
                ..RunSummary::default()
            },
            ..RunEnd::default()
        }
    }

    fn result(subtype: &str, is_error: bool) -> ResultSummary {
        ResultSummary {
            subtype: subtype.into(),
            is_error,
            text: "said so".into(),
            ..ResultSummary::default()
        }
    }

    fn reason(end: &RunEnd) -> Option<Reason> {
        match judge(end) {
            Err(Ending::Failed { reason, .. }) => Some(reason),
            _ => None,
        }
    }

    #[test]
    fn success_takes_exit_code_and_result_together() {
        assert_eq!(judge(&ended(0, Some(result("success", false)))), Ok(()));
        assert_eq!(
            reason(&ended(1, Some(result("success", false)))),
            Some(Reason::AgentFailed)
        );
        assert_eq!(
            reason(&ended(0, Some(result("success", true)))),
            Some(Reason::AgentFailed)
        );
        assert_eq!(reason(&ended(0, None)), Some(Reason::AgentFailed));
    }

    #[test]
    fn a_run_that_was_ended_for_its_cost_has_failed_unless_it_was_done() {
        for (said, expected) in [
            (None, Some(Reason::Budget)),
            (
                Some(result("error_during_execution", true)),
                Some(Reason::Budget),
            ),
            (Some(result("success", false)), None),
        ] {
            let mut end = ended(143, said);
            end.stop = Some(Stop::Budget);
            assert_eq!(reason(&end), expected);
            assert_eq!(judge(&end).is_ok(), expected.is_none());
        }
    }

    #[test]
    fn a_run_that_stayed_after_its_result_is_judged_by_that_result() {
        for (said, expected) in [
            (Some(result("success", false)), None),
            (
                Some(result("error_max_turns", true)),
                Some(Reason::MaxTurns),
            ),
            (None, Some(Reason::AgentFailed)),
        ] {
            for code in [0, 143] {
                let mut end = ended(code, said.clone());
                end.stop = Some(Stop::Stayed);
                assert_eq!(reason(&end), expected);
                assert_eq!(judge(&end).is_ok(), expected.is_none());
            }
        }
    }

    #[test]
    fn an_interrupted_run_that_exits_with_zero_is_cancelled() {
        let mut end = ended(0, Some(result("error_during_execution", true)));
        end.stop = Some(Stop::Cancelled);
        assert_eq!(judge(&end), Err(Ending::Cancelled));
    }

    #[test]
    fn a_run_of_which_something_lives_on_has_failed_whatever_it_said() {
        let mut end = ended(0, Some(result("success", false)));
        end.unkillable = vec![12, 345];
        for stop in [None, Some(Stop::Cancelled), Some(Stop::TimedOut)] {
            end.stop = stop;
            assert_eq!(reason(&end), Some(Reason::Unkillable));
        }
        let Err(Ending::Failed { error, .. }) = judge(&end) else {
            panic!("not failed")
        };
        assert!(error.ends_with("kept: 12, 345"), "{error}");
    }

    #[test]
    fn want_of_memory_is_the_reason_only_where_it_ended_the_agent() {
        let judged = |exit_code, result| {
            let mut end = ended(exit_code, result);
            end.out_of_memory = true;
            (judge(&end).is_ok(), reason(&end))
        };
        assert_eq!(judged(137, None), (false, Some(Reason::OutOfMemory)));
        let success = || Some(result("success", false));
        assert_eq!(judged(137, success()), (false, Some(Reason::OutOfMemory)));
        // It was one of its tools, and the agent has coped with it, or not.
        assert_eq!(judged(0, success()), (true, None));
        let error = Some(result("error_max_turns", true));
        assert_eq!(judged(1, error), (false, Some(Reason::MaxTurns)));
    }

    #[test]
    fn a_failure_of_the_api_with_subtype_success_is_recognised() {
        let mut limit = result("success", true);
        limit.api_error_status = Some(429);
        limit.api_error = Some("usage_limit_reached".into());
        assert_eq!(
            reason(&ended(1, Some(limit.clone()))),
            Some(Reason::UsageLimit)
        );
        limit.api_error = None;
        assert_eq!(reason(&ended(1, Some(limit))), Some(Reason::Api));
    }

    fn policy_of(end: &RunEnd) -> Policy {
        policy(end, &judge(end).unwrap_err())
    }

    #[test]
    fn what_is_done_about_a_failure_follows_from_what_the_cli_said_of_it() {
        let api = |status, name: Option<&str>| {
            let mut said = result("success", true);
            said.api_error_status = status;
            said.api_error = name.map(str::to_owned);
            ended(1, Some(said))
        };
        let limit = api(Some(429), Some("usage_limit_reached"));
        assert_eq!(policy_of(&limit), Policy::Park);
        for trouble in [
            api(Some(529), None),
            api(Some(429), None),
            api(None, Some("connection_failed")),
        ] {
            let Policy::Retry(waits) = policy_of(&trouble) else {
                panic!("{trouble:?}")
            };
            assert!(waits.wait_after(1).is_some() && waits.wait_after(9).is_none());
        }
        assert_eq!(policy_of(&api(Some(401), None)), Policy::StopCredential);
        assert_eq!(policy_of(&api(Some(400), None)), Policy::Final);
        let turns = ended(1, Some(result("error_max_turns", true)));
        assert_eq!(policy_of(&turns), Policy::Final);
        assert_eq!(policy_of(&ended(1, None)), Policy::Final);
    }

    #[test]
    fn a_run_that_we_ended_is_not_begun_again_whatever_its_result_said() {
        let mut limit = result("success", true);
        limit.api_error = Some("usage_limit_reached".into());
        let mut end = ended(1, Some(limit));
        for stop in [Stop::Cancelled, Stop::TimedOut, Stop::Idle] {
            end.stop = Some(stop);
            assert_eq!(policy_of(&end), Policy::Final, "{stop:?}");
        }
    }

    #[test]
    fn a_run_without_a_result_shows_the_end_of_standard_error() {
        let mut end = ended(1, None);
        end.stderr_tail = "error: unknown option '--x'\n".into();
        let Err(Ending::Failed { error, .. }) = judge(&end) else {
            panic!("not failed")
        };
        assert_eq!(
            error,
            "the agent exited with 1: error: unknown option '--x'"
        );
    }
}
