//! The commands of the agent server specification's "Testing the Server", run by a shell as they
//! stand there, but for host, port and token.

use std::process::Command;
use std::time::Duration;

use agent_tests::server::Builder;
use serde_json::Value;

const CREATE_CLIENT: &str = r#"curl -X POST http://localhost:3456/clients \
  -H "Authorization: Bearer test123" \
  -H "Content-Type: application/json" \
  -d '{
    "name": "Test Client",
    "githubOrg": "SupportKings",
    "githubRepo": "french-language-solutions"
  }'"#;

const CREATE_JOB: &str = r#"curl -X POST http://localhost:3456/jobs \
  -H "Authorization: Bearer test123" \
  -H "Content-Type: application/json" \
  -d '{
    "githubOrg": "SupportKings",
    "githubRepo": "french-language-solutions",
    "branchName": "feature/test-agent",
    "title": "Test Agent Job",
    "prompt": "Find a small TODO comment in the codebase and implement it. If there are no TODOs, add a helpful code comment somewhere."
  }'"#;

const CHECK_STATUS: &str = r#"curl http://localhost:3456/jobs/JOB_ID_HERE \
  -H "Authorization: Bearer test123""#;

const VIEW_QUEUE: &str = r#"curl http://localhost:3456/queue \
  -H "Authorization: Bearer test123""#;

#[test]
fn the_commands_of_the_specification_work_as_they_stand() {
    // The specification's own token, seven characters long.
    let builder = Builder::new().unwrap().env("AGENT_API_SECRET", "test123");
    let repo = builder
        .repo("SupportKings", "french-language-solutions")
        .unwrap();
    let server = builder.start().unwrap();
    let run = |command: &str| -> Value {
        let command = command.replace("http://localhost:3456", server.url());
        let output = Command::new("sh").arg("-c").arg(&command).output().unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{command}: {error}: {output:?}"))
    };

    let client = run(CREATE_CLIENT);
    assert_eq!(client["name"], "Test Client");
    assert_eq!(client["githubOrg"], "SupportKings");
    assert_eq!(client["defaultBranch"], "main");
    assert_eq!(client["repoCloned"], true, "{client:#}");
    assert!(
        client["bareRepoPath"]
            .as_str()
            .unwrap()
            .ends_with("french-language-solutions.git")
    );

    let job = run(CREATE_JOB);
    assert_eq!(job["clientId"], client["id"]);
    assert_eq!(job["status"], "queued");
    assert_eq!(job["position"], 1);
    assert_eq!(job["branchName"], "feature/test-agent");

    let queue = run(VIEW_QUEUE);
    assert_eq!(queue["maxConcurrent"], 2);
    assert!(queue["running"].is_array() && queue["queued"].is_array());

    let check = CHECK_STATUS.replace("JOB_ID_HERE", job["id"].as_str().unwrap());
    let mut done = Value::Null;
    agent_tests::process::wait_until(Duration::from_secs(90), || {
        done = run(&check);
        done["completedAt"].is_string()
    });
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(done["title"], "Test Agent Job");
    assert_eq!(done["client"]["name"], "Test Client");
    assert!(repo.rev("feature/test-agent").is_some());
}
