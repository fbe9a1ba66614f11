//! What a job shows of its agent while it runs.

use agent_tests::job::{body, nothing_is_left, reached, with};
use agent_tests::server::Builder;
use serde_json::{Value, json};
use std::fs;

fn is_held_up(job: &Value) -> bool {
    let detail = job["phaseDetail"].as_str().unwrap_or_default();
    detail.starts_with("the API is overloaded (529): try 1 of 10 at 2")
}

#[test]
fn an_api_that_is_asked_again_is_shown_until_the_run_goes_on_also_over_a_restart() {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "app").unwrap();
    let mut server = builder.start().unwrap();
    let file = |name: &str| server.dir().join(name);
    let (on, went_on, end) = (file("on"), file("went-on"), file("end"));
    let script = format!(
        "text I begin.\nretry 1 529 overloaded\nwait {}\ntext It works again.\nmark {}\nwait {}\n\
         write a.txt done",
        on.display(),
        went_on.display(),
        end.display()
    );
    let id = server.submit(&body(&repo, "fix/it", &script)).unwrap();
    let job = server.wait_for(&id, is_held_up).unwrap();
    assert_eq!(
        (&job["status"], &job["phase"]),
        (&json!("running"), &json!("agent"))
    );

    server.kill().unwrap();
    server.start().unwrap();
    server.wait_for(&id, is_held_up).unwrap();

    // While nobody is there to hear it, the run goes on.
    server.kill().unwrap();
    fs::write(&on, "").unwrap();
    reached(&went_on).unwrap();
    server.start().unwrap();
    let goes_on = |job: &Value| job["phaseDetail"].is_null();
    let job = server.wait_for(&id, goes_on).unwrap();
    assert_eq!(
        (&job["status"], &job["phase"]),
        (&json!("running"), &json!("agent"))
    );

    fs::write(&end, "").unwrap();
    let done = server.wait(&id).unwrap();
    assert_eq!(
        (&done["status"], &done["phaseDetail"]),
        (&json!("completed"), &Value::Null)
    );
    let history = server.client().get(&format!("/jobs/{id}/history")).unwrap();
    let history = history.expect(200).unwrap();
    let entries = history["history"].as_array().unwrap();
    let agent = entries.iter().filter(|entry| entry["event"] == "agent");
    assert_eq!(agent.count(), 1, "{history:#}");
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_stall_of_the_api_ends_well_unless_it_is_longer_than_the_idle_limit() {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let run = |branch: &str, stall: &str, limit: u32| {
        let script = format!("text I begin.\n{stall}\nretry 1 -\n{stall}\nwrite a.txt done");
        let limit = json!({ "idleTimeoutSeconds": limit });
        let body = with(body(&repo, branch, &script), limit);
        let id = server.submit(&body).unwrap();
        server.wait(&id).unwrap()
    };
    // Silent twice, for longer than the limit in all, but each time for less.
    let patient = run("fix/patient", "silence 4s", 7);
    assert_eq!(patient["status"], "completed", "{patient:#}");
    let impatient = run("fix/impatient", "silence 1m", 2);
    assert_eq!(
        (
            &impatient["status"],
            &impatient["reason"],
            &impatient["phaseDetail"]
        ),
        (&json!("failed"), &json!("idle"), &Value::Null),
        "{impatient:#}"
    );
    nothing_is_left(&server).unwrap();
}
