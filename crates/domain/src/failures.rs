//! What a failed run's transcript says, and what that means: one table, read from the top.

use std::fmt;
use std::time::Duration;

use crate::{Backoff, Reason, ResultSummary, RunSummary};

/// What is done about a run that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The job has failed: the same again would fail again, or cost again.
    Final,
    /// The job waits and then goes on in its session, once for each of these waits in a row; then it
    /// has failed.
    Retry(Backoff),
    /// The job waits until the limit resets and then goes on in its session.
    Park,
    /// Every job that runs on the same credential waits until somebody has seen to it; one that runs
    /// on a key of its own has failed.
    StopCredential,
}

/// For failures of the model's API, which the CLI has tried again for minutes by itself.
const LATER: Policy = Policy::Retry(Backoff(&[
    Duration::from_mins(1),
    Duration::from_mins(5),
    Duration::from_mins(15),
    Duration::from_mins(30),
]));

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Final => f.write_str("final"),
            Self::Retry(backoff) => {
                let minutes = backoff.0.iter().map(|wait| wait.as_secs() / 60);
                let minutes: Vec<String> = minutes.map(|wait| wait.to_string()).collect();
                write!(f, "resumed after {} min, then final", minutes.join(", "))
            }
            Self::Park => f.write_str("parked, then resumed"),
            Self::StopCredential => f.write_str("stops the credential"),
        }
    }
}

/// One way in which a run fails that the CLI reports with a result.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// What happened.
    pub situation: &'static str,
    /// What of the transcript tells it.
    pub told_by: &'static str,
    /// The reason of the job.
    pub reason: Reason,
    /// What is done about it.
    pub policy: Policy,
    is: fn(&ResultSummary, &RunSummary) -> bool,
}

/// Every such way; the first that fits counts.
///
/// Observed with version 2.1.329 of the CLI. `subtype` is `success` for every failure of the
/// model's API, so it tells little by itself.
pub const FAILURES: [Failure; 22] = [
    row(
        "the turn limit is reached",
        "subtype `error_max_turns`",
        Reason::MaxTurns,
        Policy::Final,
        |result, _| result.subtype == "error_max_turns",
    ),
    row(
        "the run's money cap is reached",
        "subtype `error_max_budget_usd`",
        Reason::Budget,
        Policy::Final,
        |result, _| result.subtype == "error_max_budget_usd",
    ),
    row(
        "the answer never had the form that was asked for",
        "subtype `error_max_structured_output_retries`",
        Reason::OutputSchema,
        Policy::Final,
        |result, _| result.subtype == "error_max_structured_output_retries",
    ),
    row(
        "the run broke off",
        "any other subtype but `success`",
        Reason::AgentFailed,
        Policy::Final,
        |result, _| result.subtype != "success",
    ),
    row(
        "the subscription's limit is reached",
        "api_error `usage_limit_reached`",
        Reason::UsageLimit,
        Policy::Park,
        |result, _| result.api_error.as_deref() == Some("usage_limit_reached"),
    ),
    row(
        "the subscription's limit is reached, as older versions tell it",
        "a rejected rate_limit_event, then status 429",
        Reason::UsageLimit,
        Policy::Park,
        |result, run| run.limit_resets_at.is_some() && result.api_error_status == Some(429),
    ),
    row(
        "the model refused",
        "stop_reason `refusal`",
        Reason::Refused,
        Policy::Final,
        |result, _| result.stop_reason.as_deref() == Some("refusal"),
    ),
    row(
        "the prompt is too long",
        "terminal_reason `prompt_too_long`",
        Reason::PromptTooLong,
        Policy::Final,
        |result, _| result.terminal_reason.as_deref() == Some("prompt_too_long"),
    ),
    row(
        "the answer is longer than the model can write",
        "api_error `max_output_tokens`",
        Reason::MaxOutputTokens,
        Policy::Final,
        |result, _| result.api_error.as_deref() == Some("max_output_tokens"),
    ),
    row(
        "nobody is logged in, or the credentials are refused",
        "error `authentication_failed`",
        Reason::Auth,
        Policy::StopCredential,
        |_, run| said(run, "authentication_failed"),
    ),
    row(
        "the organisation may not use the CLI",
        "error `oauth_org_not_allowed`",
        Reason::Auth,
        Policy::StopCredential,
        |_, run| said(run, "oauth_org_not_allowed"),
    ),
    row(
        "the account is on hold",
        "error `account_on_hold`",
        Reason::Auth,
        Policy::StopCredential,
        |_, run| said(run, "account_on_hold"),
    ),
    row(
        "the account is to be verified first",
        "error `verification_required`",
        Reason::Auth,
        Policy::StopCredential,
        |_, run| said(run, "verification_required"),
    ),
    row(
        "the cloud that serves the model refuses the credentials",
        "error `cloud_credential_error`",
        Reason::Auth,
        Policy::StopCredential,
        |_, run| said(run, "cloud_credential_error"),
    ),
    row(
        "the account cannot pay",
        "error `billing_error`",
        Reason::Billing,
        Policy::StopCredential,
        |_, run| said(run, "billing_error"),
    ),
    row(
        "there is no such model",
        "error `model_not_found`",
        Reason::ModelNotFound,
        Policy::Final,
        |_, run| said(run, "model_not_found"),
    ),
    row(
        "too many requests, and every retry too",
        "error `rate_limit`",
        Reason::Api,
        LATER,
        |_, run| said(run, "rate_limit"),
    ),
    row(
        "the API is overloaded or broken, and at every retry too",
        "error `overloaded` or `server_error`",
        Reason::Api,
        LATER,
        |_, run| said(run, "overloaded") || said(run, "server_error"),
    ),
    row(
        "the API cannot be reached",
        "api_error `connection_failed`",
        Reason::Api,
        LATER,
        |result, _| result.api_error.as_deref() == Some("connection_failed"),
    ),
    row(
        "the API refuses the credentials",
        "status 401 or 403",
        Reason::Auth,
        Policy::StopCredential,
        |result, _| matches!(result.api_error_status, Some(401 | 403)),
    ),
    row(
        "the API is in trouble",
        "status 429 or 5xx",
        Reason::Api,
        LATER,
        |result, _| matches!(result.api_error_status, Some(429 | 500..=599)),
    ),
    row(
        "anything else",
        "is_error, or an exit code other than 0",
        Reason::AgentFailed,
        Policy::Final,
        |_, _| true,
    ),
];

const fn row(
    situation: &'static str,
    told_by: &'static str,
    reason: Reason,
    policy: Policy,
    is: fn(&ResultSummary, &RunSummary) -> bool,
) -> Failure {
    Failure {
        situation,
        told_by,
        reason,
        policy,
        is,
    }
}

/// Whether the CLI, speaking in the model's place, named this error last.
fn said(run: &RunSummary, error: &str) -> bool {
    run.assistant_error.as_deref() == Some(error)
}

/// How a run failed whose last result was `result`.
pub(crate) fn of(result: &ResultSummary, run: &RunSummary) -> (Reason, Policy) {
    let found = FAILURES.iter().find(|failure| (failure.is)(result, run));
    found.map_or((Reason::AgentFailed, Policy::Final), |failure| {
        (failure.reason, failure.policy)
    })
}
