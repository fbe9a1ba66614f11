//! What a failed run's transcript says, and what that means: one table, read from the top.

use crate::{Reason, ResultSummary, RunSummary};

/// One way in which a run fails that the CLI reports with a result.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// What happened.
    pub situation: &'static str,
    /// What of the transcript tells it.
    pub told_by: &'static str,
    /// The reason of the job.
    pub reason: Reason,
    is: fn(&ResultSummary, &RunSummary) -> bool,
}

/// Every such way; the first that fits counts.
///
/// Observed with version 2.1.329 of the CLI. `subtype` is `success` for every failure of the
/// model's API, so it tells little by itself.
pub const FAILURES: [Failure; 20] = [
    row(
        "the turn limit is reached",
        "subtype `error_max_turns`",
        Reason::MaxTurns,
        |result, _| result.subtype == "error_max_turns",
    ),
    row(
        "the run's money cap is reached",
        "subtype `error_max_budget_usd`",
        Reason::Budget,
        |result, _| result.subtype == "error_max_budget_usd",
    ),
    row(
        "the answer never had the form that was asked for",
        "subtype `error_max_structured_output_retries`",
        Reason::OutputSchema,
        |result, _| result.subtype == "error_max_structured_output_retries",
    ),
    row(
        "the run broke off",
        "any other subtype but `success`",
        Reason::AgentFailed,
        |result, _| result.subtype != "success",
    ),
    row(
        "the subscription's limit is reached",
        "api_error `usage_limit_reached`",
        Reason::UsageLimit,
        |result, _| result.api_error.as_deref() == Some("usage_limit_reached"),
    ),
    row(
        "the subscription's limit is reached, as older versions tell it",
        "a rejected rate_limit_event, then status 429",
        Reason::UsageLimit,
        |result, run| run.limit_resets_at.is_some() && result.api_error_status == Some(429),
    ),
    row(
        "the model refused",
        "stop_reason `refusal`",
        Reason::Refused,
        |result, _| result.stop_reason.as_deref() == Some("refusal"),
    ),
    row(
        "the prompt is too long",
        "terminal_reason `prompt_too_long`",
        Reason::PromptTooLong,
        |result, _| result.terminal_reason.as_deref() == Some("prompt_too_long"),
    ),
    row(
        "the answer is longer than the model can write",
        "api_error `max_output_tokens`",
        Reason::MaxOutputTokens,
        |result, _| result.api_error.as_deref() == Some("max_output_tokens"),
    ),
    row(
        "nobody is logged in, or the credentials are refused",
        "error `authentication_failed`",
        Reason::Auth,
        |_, run| said(run, "authentication_failed"),
    ),
    row(
        "the organisation may not use the CLI",
        "error `oauth_org_not_allowed`",
        Reason::Auth,
        |_, run| said(run, "oauth_org_not_allowed"),
    ),
    row(
        "the account is on hold",
        "error `account_on_hold`",
        Reason::Auth,
        |_, run| said(run, "account_on_hold"),
    ),
    row(
        "the account cannot pay",
        "error `billing_error`",
        Reason::Billing,
        |_, run| said(run, "billing_error"),
    ),
    row(
        "there is no such model",
        "error `model_not_found`",
        Reason::ModelNotFound,
        |_, run| said(run, "model_not_found"),
    ),
    row(
        "too many requests, and every retry too",
        "error `rate_limit`",
        Reason::Api,
        |_, run| said(run, "rate_limit"),
    ),
    row(
        "the API is overloaded or broken, and at every retry too",
        "error `overloaded` or `server_error`",
        Reason::Api,
        |_, run| said(run, "overloaded") || said(run, "server_error"),
    ),
    row(
        "the API cannot be reached",
        "api_error `connection_failed`",
        Reason::Api,
        |result, _| result.api_error.as_deref() == Some("connection_failed"),
    ),
    row(
        "the API refuses the credentials",
        "status 401 or 403",
        Reason::Auth,
        |result, _| matches!(result.api_error_status, Some(401 | 403)),
    ),
    row(
        "the API is in trouble",
        "status 429 or 5xx",
        Reason::Api,
        |result, _| matches!(result.api_error_status, Some(429 | 500..=599)),
    ),
    row(
        "anything else",
        "is_error, or an exit code other than 0",
        Reason::AgentFailed,
        |_, _| true,
    ),
];

const fn row(
    situation: &'static str,
    told_by: &'static str,
    reason: Reason,
    is: fn(&ResultSummary, &RunSummary) -> bool,
) -> Failure {
    Failure {
        situation,
        told_by,
        reason,
        is,
    }
}

/// Whether the CLI, speaking in the model's place, named this error last.
fn said(run: &RunSummary, error: &str) -> bool {
    run.assistant_error.as_deref() == Some(error)
}

/// Why a run failed whose last result was `result`.
pub(crate) fn reason(result: &ResultSummary, run: &RunSummary) -> Reason {
    let found = FAILURES.iter().find(|failure| (failure.is)(result, run));
    found.map_or(Reason::AgentFailed, |failure| failure.reason)
}
