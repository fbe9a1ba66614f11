//! Points 7 to 9: every way a run was seen to end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::Place;

/// Outcome, exit code, subtype, is_error, terminal_reason, api_error_status, api_error.
type Row = (
    &'static str,
    i32,
    &'static str,
    bool,
    &'static str,
    Option<u16>,
    Option<&'static str>,
);

const TABLE: &[Row] = &[
    ("ok", 0, "success", false, "completed", None, None),
    (
        "max_turns",
        1,
        "error_max_turns",
        true,
        "max_turns",
        None,
        None,
    ),
    (
        "budget",
        1,
        "error_max_budget_usd",
        true,
        "budget_exhausted",
        None,
        None,
    ),
    (
        "schema_retries",
        1,
        "error_max_structured_output_retries",
        true,
        "structured_output_retry_exhausted",
        None,
        None,
    ),
    (
        "execution_error",
        1,
        "error_during_execution",
        true,
        "model_error",
        None,
        None,
    ),
    (
        "usage_limit",
        1,
        "success",
        true,
        "api_error",
        Some(429),
        Some("usage_limit_reached"),
    ),
    (
        "usage_limit_weekly",
        1,
        "success",
        true,
        "api_error",
        Some(429),
        Some("usage_limit_reached"),
    ),
    (
        "rate_limited",
        1,
        "success",
        true,
        "api_error",
        Some(429),
        None,
    ),
    (
        "rate_limited_long",
        1,
        "success",
        true,
        "api_error",
        Some(429),
        None,
    ),
    (
        "overloaded",
        1,
        "success",
        true,
        "api_error",
        Some(529),
        None,
    ),
    (
        "server_error",
        1,
        "success",
        true,
        "api_error",
        Some(500),
        None,
    ),
    (
        "bad_gateway",
        1,
        "success",
        true,
        "api_error",
        Some(502),
        None,
    ),
    (
        "unreachable",
        1,
        "success",
        true,
        "api_error",
        None,
        Some("connection_failed"),
    ),
    (
        "invalid_key",
        1,
        "success",
        true,
        "api_error",
        Some(401),
        None,
    ),
    (
        "revoked_token",
        1,
        "success",
        true,
        "api_error",
        Some(401),
        None,
    ),
    (
        "no_credentials",
        1,
        "success",
        true,
        "api_error",
        None,
        None,
    ),
    (
        "forbidden",
        1,
        "success",
        true,
        "api_error",
        Some(403),
        None,
    ),
    (
        "low_credit",
        1,
        "success",
        true,
        "api_error",
        Some(400),
        None,
    ),
    (
        "model_not_found",
        1,
        "success",
        true,
        "api_error",
        Some(404),
        None,
    ),
    (
        "prompt_too_long",
        1,
        "success",
        true,
        "prompt_too_long",
        Some(400),
        None,
    ),
    ("refusal", 1, "success", true, "api_error", None, None),
    (
        "max_tokens",
        1,
        "success",
        true,
        "api_error",
        None,
        Some("max_output_tokens"),
    ),
    ("cut_stream", 0, "success", false, "completed", None, None),
    (
        "silent_stream",
        0,
        "success",
        false,
        "completed",
        None,
        None,
    ),
];

#[test]
fn every_outcome_has_the_fields_and_the_exit_code_of_the_real_one() {
    for (name, code, subtype, is_error, reason, status, api_error) in TABLE {
        let done = Place::new().script(&format!("text hi\nresult {name}"));
        let result = done.result();
        assert_eq!(done.code(), Some(*code), "{name}");
        assert_eq!(result["subtype"], *subtype, "{name}");
        assert_eq!(result["is_error"], *is_error, "{name}");
        assert_eq!(result["terminal_reason"], *reason, "{name}");
        assert_eq!(result["api_error_status"], json!(status), "{name}");
        assert_eq!(
            result.get("api_error").cloned(),
            api_error.map(Value::from),
            "{name}"
        );
        let is_text = result["result"].is_string();
        assert_eq!(
            (is_text, result["errors"].is_array()),
            (*subtype == "success", !is_text),
            "{name}"
        );
    }
}

#[test]
fn a_failure_of_the_api_shows_as_a_message_of_the_assistant_first() {
    let done = Place::new().script("result low_credit");
    assert_eq!(done.kinds(), ["system/init", "assistant", "result"]);
    let message = &done.of("assistant")[0];
    assert_eq!(
        (&message["error"], &message["message"]["model"]),
        (&"billing_error".into(), &"<synthetic>".into())
    );
    assert_eq!(message["is_api_error_message"], true);
}

#[test]
fn a_usage_limit_says_when_it_resets_before_it_fails() {
    let done = Place::new().script("resets 90\nresult usage_limit");
    assert_eq!(
        done.kinds(),
        ["system/init", "rate_limit_event", "assistant", "result"]
    );
    let info = done.of("rate_limit_event")[0]["rate_limit_info"].clone();
    assert_eq!(
        (&info["status"], &info["rateLimitType"]),
        (&"rejected".into(), &"five_hour".into())
    );
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    let resets = info["resetsAt"].as_u64().unwrap();
    assert!((now + 60..=now + 90).contains(&resets), "{resets}");
    let text = done.result()["result"].as_str().unwrap().to_owned();
    assert!(
        text.starts_with("You've hit your 5-hour limit · resets ") && text.ends_with("m (UTC)"),
        "{text}"
    );
}

#[test]
fn retries_are_told_and_can_be_far_apart() {
    let before = Instant::now();
    let done =
        Place::new().script("retry-silence 150\nretry 2 529 overloaded\nretry 1 -\nresult ok");
    assert!(before.elapsed() >= Duration::from_millis(450));
    let retries = done.of("system/api_retry");
    assert_eq!(retries.len(), 3);
    assert_eq!(
        (&retries[1]["attempt"], &retries[1]["error_status"]),
        (&2.into(), &529.into())
    );
    assert!(retries[0]["retry_delay_ms"].is_u64() && retries[2]["error_status"].is_null());
}

#[test]
fn a_budget_is_checked_after_the_money_is_spent() {
    let done = Place::new().script_with(&["--max-budget-usd", "1.5"], "price 1.6\nresult ok");
    assert_eq!(
        (done.code(), done.result()["subtype"].as_str()),
        (Some(1), Some("error_max_budget_usd"))
    );
    assert_eq!(done.result()["total_cost_usd"], 1.6);
}

#[test]
fn text_mode_prints_errors_on_standard_output() {
    let prompt = crate::harness::fenced("shell true\nshell true\nshell true");
    let args = [
        "-p",
        &prompt,
        "--max-turns",
        "2",
        "--dangerously-skip-permissions",
    ];
    let done = Place::new().bare(&args);
    assert_eq!(
        (done.code(), done.text().as_str()),
        (Some(1), "Error: Reached max turns (2)\n")
    );
}
