//! What runs of the real CLI cost.

use agent_tests::messages_api::MessagesApi;
use serde_json::{Value, json};

use crate::{CONTENT, MODEL, builder};

#[test]
fn the_real_cli_keeps_to_a_budget_and_the_ledger_has_its_figure() {
    let api = MessagesApi::writing("note.md", CONTENT, "Done.").unwrap();
    let builder = builder(&api);
    builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    // A call is 12 tokens in and 7 out: 0.000094 dollars.
    for (branch, budget, status, reason, cost) in [
        ("a", 1.0, "completed", Value::Null, 0.000_188),
        ("b", 0.000_05, "failed", json!("budget"), 0.000_094),
    ] {
        let job = json!({
            "githubOrg": "acme", "githubRepo": "app", "branchName": branch,
            "prompt": "Write a note.", "budgetUsd": budget,
        });
        let id = server.submit(&job).unwrap();
        let job = server.wait(&id).unwrap();
        assert_eq!(
            (&job["status"], &job["reason"], &job["costUsd"]),
            (&json!(status), &reason, &json!(cost)),
            "{job:#}\n{}",
            server.log(&id).unwrap()
        );
    }
    let usage = server.client().get("/usage?by=model").unwrap();
    let usage = usage.expect(200).unwrap();
    assert_eq!(usage["rows"][0]["model"], MODEL);
    assert_eq!(usage["total"]["costUsd"], 0.000_282);
}
