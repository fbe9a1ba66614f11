//! Money: budgets that the CLI is told of and that hold, caps that make jobs wait.

use agent_tests::job::{body, with};
use agent_tests::repo::BareRepo;
use agent_tests::server::{Builder, Server};
use serde_json::{Value, json};
use ureq::http::Method;

/// What each answer of the stand-in costs.
const PRICE: f64 = 0.0125;

fn start() -> (Server, BareRepo) {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "app").unwrap();
    (builder.start().unwrap(), repo)
}

fn submit(server: &Server, repo: &BareRepo, branch: &str, script: &str, more: Value) -> String {
    let body = with(body(repo, branch, script), more);
    server.submit(&body).unwrap()
}

#[test]
fn a_budget_is_passed_to_the_cli_and_one_that_is_reached_is_the_reason() {
    let (server, repo) = start();
    let record = server.dir().join("record");
    let script = format!(
        "record {}\nwrite half.txt half\nresult ok",
        record.display()
    );
    let id = submit(&server, &repo, "a", &script, json!({"budgetUsd": 0.01}));
    let job = server.wait(&id).unwrap();
    assert_eq!(
        (&job["status"], &job["reason"], &job["costUsd"]),
        (&json!("failed"), &json!("budget"), &json!(PRICE)),
        "{job:#}"
    );
    assert!(job["savedRef"].is_string(), "unfinished work is kept");
    let argv: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let argv = argv["argv"].to_string();
    assert!(argv.contains(r#""--max-budget-usd","0.01""#), "{argv}");
}

#[test]
fn a_run_whose_results_say_more_than_its_budget_is_ended() {
    let (server, repo) = start();
    let result = json!({
        "type": "result", "subtype": "error_during_execution", "is_error": true,
        "total_cost_usd": 0.75, "modelUsage": {}, "errors": ["went on"],
    });
    let script = format!("event {result}\nhang");
    let id = submit(&server, &repo, "a", &script, json!({"budgetUsd": 0.5}));
    let job = server.wait(&id).unwrap();
    assert_eq!(
        (&job["status"], &job["reason"]),
        (&json!("failed"), &json!("budget"))
    );
    let log = server.log(&id).unwrap();
    assert!(log.contains("has cost $0.75, more than $0.5"), "{log}");
}

#[test]
fn a_clients_cap_parks_what_it_leaves_no_money_for_until_its_day_is_over_or_it_is_raised() {
    let (server, repo) = start();
    let first = submit(&server, &repo, "a", "write a.txt a\nresult ok", json!({}));
    let first = server.wait(&first).unwrap();
    assert_eq!(first["costUsd"], PRICE);
    let client = format!("/clients/{}", first["clientId"].as_str().unwrap());
    let patch = |cap: Value| {
        let change = json!({ "budgetDailyUsd": cap });
        let changed = server.client().send_json(Method::PATCH, &client, &change);
        changed.unwrap().expect(200).unwrap()
    };
    assert_eq!(patch(json!(0.02))["budgetDailyUsd"], 0.02);
    // What is left is less than one call, by which the run overshoots.
    let second = submit(&server, &repo, "b", "write b.txt b\nresult ok", json!({}));
    let waits = |job: &Value| {
        let until = job["notBefore"].as_str().unwrap_or_default();
        job["status"] == "queued" && job["reason"] == "budget" && until.contains("T00:00:00.000")
    };
    let parked = server.wait_for(&second, waits).unwrap();
    assert_eq!(
        (&parked["costUsd"], &parked["attempt"]),
        (&json!(PRICE), &json!(1))
    );
    let third = submit(&server, &repo, "c", "result ok", json!({}));
    let parked = server.wait_for(&third, waits).unwrap();
    assert_eq!(
        (&parked["costUsd"], &parked["attempt"]),
        (&Value::Null, &json!(0))
    );
    patch(Value::Null);
    for id in [second, third] {
        let done = server.wait(&id).unwrap();
        assert_eq!(done["status"], "completed", "{done:#}");
    }
}

#[test]
fn at_a_cap_of_the_server_jobs_fail_where_that_is_set_and_say_until_when() {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "app").unwrap();
    let builder = builder
        .env("BUDGET_MONTHLY_USD", "0.0125")
        .env("BUDGET_REACHED", "fail");
    let server = builder.start().unwrap();
    let first = submit(&server, &repo, "a", "write a.txt a\nresult ok", json!({}));
    assert_eq!(server.wait(&first).unwrap()["status"], "completed");
    let second = submit(&server, &repo, "b", "result ok", json!({}));
    let job = server.wait(&second).unwrap();
    assert_eq!(
        (
            &job["status"],
            &job["reason"],
            &job["attempt"],
            &job["costUsd"]
        ),
        (&json!("failed"), &json!("budget"), &json!(0), &Value::Null),
        "{job:#}"
    );
    let error = job["error"].as_str().unwrap();
    let cap = "all jobs together have cost $0.0125 this month and may cost $0.0125 a month";
    assert!(error.contains(cap), "{error}");
    assert!(error.ends_with("-01T00:00:00.000Z"), "{error}");
}

#[test]
fn a_job_that_names_no_budget_has_the_servers() {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.env("JOB_BUDGET_USD", "0.01").start().unwrap();
    let without = submit(&server, &repo, "a", "result ok", json!({}));
    let own = submit(&server, &repo, "b", "result ok", json!({"budgetUsd": 0.02}));
    let without = server.wait(&without).unwrap();
    assert_eq!(
        (&without["status"], &without["reason"]),
        (&json!("failed"), &json!("budget"))
    );
    assert_eq!(server.wait(&own).unwrap()["status"], "completed");
}
