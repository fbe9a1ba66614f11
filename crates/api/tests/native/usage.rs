//! What was spent, as JSON and as CSV.

use agent_domain::{Ending, Facts, RunUsage, Share, Tokens, Usage, Usd};
use serde_json::{Value, json};

use crate::stage::Stage;

/// A job of the stage that has cost so much.
async fn spend(stage: &Stage, branch: &str, dollars: f64) {
    stage.job(branch).await;
    let assignment = stage.claim().await;
    let tokens = Tokens {
        input: 10,
        output: 5,
        ..Tokens::default()
    };
    let cost = Usd::from_dollars(dollars);
    let mut total = Usage::default();
    total.add("claude-opus-5-5", Share { tokens, cost });
    let facts = Facts {
        usage: Some(RunUsage {
            total: Some(total),
            ..RunUsage::default()
        }),
        ..Facts::default()
    };
    stage.finish(&assignment, Ending::Completed, facts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spent_is_added_up_by_what_is_asked_for() {
    let stage = Stage::new().await;
    spend(&stage, "a", 0.1).await;
    spend(&stage, "b", 0.2).await;
    let report = stage.get("/usage?by=day,model").await;
    let sums = json!({
        "inputTokens": 20, "outputTokens": 10, "cacheReadTokens": 0, "cacheCreationTokens": 0,
        "costUsd": 0.3, "estimatedUsd": 0.0, "unpricedTokens": 0,
    });
    let mut row = sums.clone();
    row["day"] = json!("2025-01-07");
    row["model"] = json!("claude-opus-5-5");
    assert_eq!((&report["total"], &report["rows"]), (&sums, &json!([row])));
    let other_day = stage.get("/usage?from=2025-01-01&to=2025-01-06").await;
    assert_eq!(
        (&other_day["total"]["costUsd"], &other_day["rows"]),
        (&json!(0.0), &json!([]))
    );
    let client = stage.get("/usage?by=client").await["rows"][0].clone();
    assert_eq!(client["clientName"].as_str(), Some("shop"), "{client}");
    let csv = stage
        .send("GET", "/usage?by=credential&format=csv", "")
        .await;
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    let lines: Vec<String> = String::from_utf8_lossy(&csv.body)
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(lines[1], "default,20,10,0,0,0.3,0,0");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_spending_that_makes_no_sense_is_refused() {
    let stage = Stage::new().await;
    for (query, at) in [
        ("from=2025-13-01", "from"),
        ("from=2025-01-08&to=2025-01-07", "from"),
        ("from=2020-01-01", "from"),
        ("by=day,week", "by"),
        ("by=day,day", "by"),
        ("format=xml", "format"),
    ] {
        let refused = stage.send("GET", &format!("/usage?{query}"), "").await;
        assert_eq!(
            (refused.status, &refused.json()["field"]),
            (400, &Value::from(at)),
            "{query}"
        );
    }
    stage.close().await;
}
