//! Every way a run was seen to end, by name.

/// How long until a limit resets, where the script does not say.
pub(crate) const RESETS_IN_SECONDS: i64 = 3600;

/// Requests that were tried again before the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retries {
    pub(crate) count: u32,
    /// HTTP status; `None` for a connection that failed.
    pub(crate) status: Option<u16>,
    pub(crate) error: &'static str,
}

/// A row of the table.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) exit_code: u8,
    pub(crate) subtype: &'static str,
    pub(crate) is_error: bool,
    pub(crate) terminal_reason: &'static str,
    pub(crate) stop_reason: &'static str,
    /// `result`, or the first of `errors` for the `error_*` subtypes.
    pub(crate) text: &'static str,
    /// What text mode prints, where it is not `text`.
    pub(crate) plain: Option<&'static str>,
    pub(crate) retries: Option<Retries>,
    /// `error` of the synthetic assistant message; `None`: the model's own words.
    pub(crate) assistant_error: Option<&'static str>,
    pub(crate) api_status: Option<u16>,
    pub(crate) api_error_type: Option<&'static str>,
    pub(crate) api_error: Option<&'static str>,
    /// Kind of the limit that was hit.
    pub(crate) limit: Option<&'static str>,
}

const OK: Outcome = Outcome {
    name: "ok",
    exit_code: 0,
    subtype: "success",
    is_error: false,
    terminal_reason: "completed",
    stop_reason: "end_turn",
    text: "Done.",
    plain: None,
    retries: None,
    assistant_error: None,
    api_status: None,
    api_error_type: None,
    api_error: None,
    limit: None,
};

const FAILED: Outcome = Outcome {
    exit_code: 1,
    is_error: true,
    ..OK
};

/// A failure of the API: the subtype says success all the same.
const API: Outcome = Outcome {
    terminal_reason: "api_error",
    stop_reason: "stop_sequence",
    ..FAILED
};

const fn retried(count: u32, status: Option<u16>, error: &'static str) -> Option<Retries> {
    Some(Retries {
        count,
        status,
        error,
    })
}

const fn api(
    name: &'static str,
    status: u16,
    kind: &'static str,
    error: &'static str,
    text: &'static str,
) -> Outcome {
    Outcome {
        name,
        text,
        assistant_error: Some(error),
        api_status: Some(status),
        api_error_type: Some(kind),
        ..API
    }
}

const LIMIT: &str = "You've hit your 5-hour limit";
const WEEKLY_LIMIT: &str = "You've hit your weekly limit";
const RATE: &str =
    "API Error: Request rejected (429) · Number of requests has exceeded your rate limit";
const INTERNAL: &str = "API Error: 500 Internal server error";

/// The table.
pub(crate) const OUTCOMES: &[Outcome] = &[
    OK,
    Outcome {
        name: "max_turns",
        subtype: "error_max_turns",
        terminal_reason: "max_turns",
        stop_reason: "tool_use",
        text: "Reached maximum number of turns (3)",
        plain: Some("Error: Reached max turns (3)"),
        ..FAILED
    },
    Outcome {
        name: "budget",
        subtype: "error_max_budget_usd",
        terminal_reason: "budget_exhausted",
        stop_reason: "tool_use",
        text: "Reached maximum budget ($1.5)",
        plain: Some("Error: Exceeded USD budget (1.5)"),
        ..FAILED
    },
    Outcome {
        name: "schema_retries",
        subtype: "error_max_structured_output_retries",
        terminal_reason: "structured_output_retry_exhausted",
        stop_reason: "tool_use",
        text: "Failed to provide valid structured output after 5 attempts",
        ..FAILED
    },
    Outcome {
        name: "execution_error",
        subtype: "error_during_execution",
        terminal_reason: "model_error",
        text: "[ede_diagnostic] result_type=assistant last_content_type=none stop_reason=null",
        plain: Some("Execution error"),
        ..FAILED
    },
    Outcome {
        limit: Some("five_hour"),
        api_error: Some("usage_limit_reached"),
        ..api("usage_limit", 429, "rate_limit_error", "rate_limit", LIMIT)
    },
    Outcome {
        limit: Some("seven_day"),
        api_error: Some("usage_limit_reached"),
        ..api(
            "usage_limit_weekly",
            429,
            "rate_limit_error",
            "rate_limit",
            WEEKLY_LIMIT,
        )
    },
    Outcome {
        retries: retried(10, Some(429), "rate_limit"),
        ..api("rate_limited", 429, "rate_limit_error", "rate_limit", RATE)
    },
    api(
        "rate_limited_long",
        429,
        "rate_limit_error",
        "rate_limit",
        RATE,
    ),
    Outcome {
        retries: retried(2, Some(529), "overloaded"),
        ..api(
            "overloaded",
            529,
            "overloaded_error",
            "server_error",
            "API Error: 529 Overloaded. This is a server-side issue, usually temporary — try again in a moment.",
        )
    },
    Outcome {
        retries: retried(10, Some(500), "server_error"),
        ..api("server_error", 500, "api_error", "server_error", INTERNAL)
    },
    Outcome {
        retries: retried(10, Some(502), "server_error"),
        ..api(
            "bad_gateway",
            502,
            "api_error",
            "server_error",
            "API Error: 502 Bad Gateway",
        )
    },
    Outcome {
        name: "unreachable",
        text: "API Error: Connection refused — a firewall or proxy may be blocking it (ECONNREFUSED)",
        retries: retried(10, None, "unknown"),
        assistant_error: Some("server_error"),
        api_error: Some("connection_failed"),
        ..API
    },
    Outcome {
        retries: retried(10, Some(401), "authentication_failed"),
        ..api(
            "invalid_key",
            401,
            "authentication_error",
            "authentication_failed",
            "Invalid API key · Fix external API key",
        )
    },
    Outcome {
        retries: retried(2, Some(401), "authentication_failed"),
        ..api(
            "revoked_token",
            401,
            "authentication_error",
            "authentication_failed",
            "Failed to authenticate. API Error: 401 OAuth token has been revoked",
        )
    },
    Outcome {
        name: "no_credentials",
        text: "Not logged in · Please run /login",
        assistant_error: Some("authentication_failed"),
        ..API
    },
    api(
        "forbidden",
        403,
        "permission_error",
        "authentication_failed",
        "Failed to authenticate. API Error: 403 Request not allowed",
    ),
    api(
        "low_credit",
        400,
        "invalid_request_error",
        "billing_error",
        "Credit balance is too low",
    ),
    api(
        "model_not_found",
        404,
        "not_found_error",
        "model_not_found",
        "There's an issue with the selected model. It may not exist or you may not have access to it. Run --model to pick a different model.",
    ),
    Outcome {
        terminal_reason: "prompt_too_long",
        ..api(
            "prompt_too_long",
            400,
            "invalid_request_error",
            "invalid_request",
            "Prompt is too long",
        )
    },
    Outcome {
        name: "refusal",
        stop_reason: "refusal",
        text: "API Error: Claude Code is unable to respond to this request, which appears to violate our Usage Policy",
        assistant_error: Some("invalid_request"),
        ..API
    },
    Outcome {
        name: "max_tokens",
        stop_reason: "max_tokens",
        text: "API Error: Claude's response exceeded the output token maximum",
        assistant_error: Some("max_output_tokens"),
        api_error: Some("max_output_tokens"),
        ..API
    },
    Outcome {
        name: "cut_stream",
        retries: retried(10, None, "unknown"),
        ..OK
    },
    Outcome {
        name: "silent_stream",
        retries: retried(1, None, "unknown"),
        ..OK
    },
];

/// Finds a row.
pub(crate) fn find(name: &str) -> Option<Outcome> {
    OUTCOMES
        .iter()
        .find(|outcome| outcome.name == name)
        .cloned()
}
