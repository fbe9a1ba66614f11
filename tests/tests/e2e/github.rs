//! Jobs on GitHub: git over http with a token, pull requests through the API.

use std::time::Duration;

use agent_tests::fault::Fault;
use agent_tests::git_http::GitHttp;
use agent_tests::github::GitHub;
use agent_tests::repo::BareRepo;
use agent_tests::server::{Builder, Server};
use serde_json::{Value, json};

use crate::scripted;

const TOKEN: &str = "ghp_token_of_the_operator";

struct Scene {
    github: GitHub,
    git: GitHttp,
    repo: BareRepo,
    server: Server,
}

fn scene() -> Scene {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "site").unwrap();
    let git = GitHttp::start(&builder.remotes(), TOKEN).unwrap();
    let github = GitHub::start(TOKEN).unwrap();
    github.add(&repo);
    let builder = builder
        .env("GIT_REMOTE_BASE", git.base())
        .env("GITHUB_TOKEN", TOKEN);
    let server = builder.env("GITHUB_API_URL", github.url()).start().unwrap();
    Scene {
        github,
        git,
        repo,
        server,
    }
}

impl Scene {
    fn run(&self, body: &Value) -> Value {
        self.server
            .wait(&self.server.submit(body).unwrap())
            .unwrap()
    }

    fn pulls(&self) -> Vec<Value> {
        self.github.pulls("acme", "site")
    }
}

#[test]
fn a_job_that_wants_no_pull_request_ends_with_the_pushed_branch_or_without_one() {
    let scene = scene();
    for (branch, delivery) in [("pushed", "branch"), ("kept", "none")] {
        let mut body = scripted(branch, "write a.txt a");
        body["delivery"] = json!(delivery);
        let done = scene.run(&body);
        assert_eq!(
            (
                &done["status"],
                &done["prUrl"],
                scene.repo.rev(branch).is_some()
            ),
            (&json!("completed"), &Value::Null, delivery == "branch")
        );
    }
    assert!(scene.pulls().is_empty());
    // What starts from a commit goes to the default branch.
    let mut body = scripted("asked", "write a.txt a");
    body["base"] = json!(scene.repo.rev("main"));
    body["delivery"] = json!("pull_request");
    assert_eq!(scene.run(&body)["prNumber"], 1);
    assert_eq!(scene.pulls()[0]["base"]["ref"], "main");
}

#[test]
fn a_pull_request_goes_to_the_base_as_a_draft_with_labels() {
    let scene = scene();
    scene.repo.branch("release", "main", &[("r", "r")]).unwrap();
    let mut body = scripted("fix", "write a.txt a");
    body["base"] = json!("release");
    body["draft"] = json!(true);
    body["labels"] = json!(["bot", "needs review"]);
    let done = scene.run(&body);
    assert_eq!(done["status"], "completed", "{done:#}");
    let pull = &scene.pulls()[0];
    assert_eq!(
        (&pull["draft"], &pull["base"]["ref"]),
        (&json!(true), &json!("release"))
    );
    assert_eq!(pull["labels"], json!(["bot", "needs review"]));

    // The first request is for the pull request, the second for its labels.
    scene.github.faults().next(1, &Fault::Slow(Duration::ZERO));
    scene.github.faults().next(1, &Fault::status(422));
    body["branchName"] = json!("unlabelled");
    let done = scene.run(&body);
    assert_eq!(
        (&done["status"], &done["prNumber"]),
        (&json!("completed"), &json!(2))
    );
    assert_eq!(scene.pulls()[1]["labels"], json!([]));
    let log = scene.server.log(done["id"].as_str().unwrap()).unwrap();
    assert!(log.contains("could not be labelled"), "{log}");
}

#[test]
fn a_job_ends_with_a_pull_request_that_says_what_it_is() {
    let scene = scene();
    let mut body = scripted("feature/x", "write a.txt a\nwrite b.txt b");
    body["title"] = json!("\"; rm -rf / #");
    body["osFeatureId"] = json!("feature-7");
    let done = scene.run(&body);
    assert_eq!(done["status"], "completed", "{done:#}");
    let pulls = scene.pulls();
    assert_eq!(pulls.len(), 1);
    assert_eq!(pulls[0]["title"], "\"; rm -rf / #");
    assert_eq!(
        pulls[0]["body"],
        "Automated by Claude Code Agent\n\nFeature ID: feature-7"
    );
    assert_eq!(pulls[0]["base"]["ref"], "main");
    assert_eq!(pulls[0]["head"]["ref"], "feature/x");
    assert_eq!(done["prNumber"], pulls[0]["number"]);
    assert_eq!(done["prUrl"], pulls[0]["html_url"]);
    assert_eq!(done["filesChanged"], 2);
    assert_eq!(scene.repo.ahead("main", "feature/x").unwrap(), 1);
}

#[test]
fn without_title_and_feature_the_pull_request_says_so() {
    let scene = scene();
    let done = scene.run(&scripted("plain", "write a.txt a"));
    assert_eq!(done["status"], "completed", "{done:#}");
    let pull = &scene.pulls()[0];
    assert_eq!(pull["title"], "plain");
    assert_eq!(
        pull["body"],
        "Automated by Claude Code Agent\n\nFeature ID: N/A"
    );
}

#[test]
fn nothing_changed_means_a_pushed_branch_and_no_pull_request() {
    let scene = scene();
    let done = scene.run(&scripted("idle", "text Nothing."));
    assert_eq!(done["status"], "completed");
    assert_eq!(done["filesChanged"], 0);
    assert!(done["prUrl"].is_null());
    assert_eq!(scene.repo.rev("idle"), scene.repo.rev("main"));
    assert!(scene.pulls().is_empty());
}

#[test]
fn a_server_error_of_github_is_tried_again() {
    let scene = scene();
    scene.github.faults().next(1, &Fault::status(502));
    let done = scene.run(&scripted("retry", "write a.txt a"));
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(scene.pulls().len(), 1);
}

#[test]
fn a_rate_limit_is_waited_out_as_github_asks() {
    let scene = scene();
    scene.github.limit_next(1, 3);
    let done = scene.run(&scripted("limited", "write a.txt a"));
    assert_eq!(done["status"], "completed", "{done:#}");
    let messages = scene.server.messages(done["id"].as_str().unwrap()).unwrap();
    assert!(
        messages.iter().any(|line| line.contains("next try in 3 s")),
        "{messages:?}"
    );
}

#[test]
fn a_fault_of_the_git_server_is_tried_again() {
    let scene = scene();
    scene.git.faults().next(1, &Fault::status(503));
    let done = scene.run(&scripted("flaky", "write a.txt a"));
    assert_eq!(done["status"], "completed", "{done:#}");
}

#[test]
fn a_refused_token_fails_for_delivery_and_keeps_the_pushed_branch() {
    let scene = scene();
    scene.github.faults().next(1, &Fault::status(401));
    let done = scene.run(&scripted("denied", "write a.txt a"));
    assert_eq!(done["reason"], "delivery", "{done:#}");
    assert!(scene.repo.rev("denied").is_some());
    assert!(!done.to_string().contains(TOKEN));
}

#[test]
fn a_wrong_token_for_git_fails_before_the_agent_starts() {
    let builder = Builder::new().unwrap();
    builder.repo("acme", "site").unwrap();
    let git = GitHttp::start(&builder.remotes(), TOKEN).unwrap();
    let ran = builder.dir().join("ran");
    let builder = builder
        .env("GIT_REMOTE_BASE", git.base())
        .env("GITHUB_TOKEN", "ghp_wrong");
    let server = builder
        .env("GITHUB_API_URL", "http://127.0.0.1:9")
        .start()
        .unwrap();
    let script = format!("mark {}", ran.display());
    let done = server
        .wait(&server.submit(&scripted("x", &script)).unwrap())
        .unwrap();
    assert_eq!(done["reason"], "git", "{done:#}");
    assert!(!done.to_string().contains("ghp_wrong"));
    assert!(!ran.exists());
}

#[test]
fn without_token_and_without_gh_a_github_job_fails_before_it_costs_anything() {
    let builder = Builder::new().unwrap();
    builder.repo("acme", "site").unwrap();
    let ran = builder.dir().join("ran");
    let builder = builder.env("GITHUB_API_URL", "http://127.0.0.1:9");
    let server = builder.env("GH_BIN", "/nonexistent/gh").start().unwrap();
    let script = format!("mark {}", ran.display());
    let done = server
        .wait(&server.submit(&scripted("x", &script)).unwrap())
        .unwrap();
    assert_eq!(done["reason"], "delivery", "{done:#}");
    assert!(
        done["error"].as_str().unwrap().contains("GITHUB_TOKEN"),
        "{done:#}"
    );
    assert!(!ran.exists());
}

#[test]
fn a_job_with_a_token_of_its_own_needs_none_of_the_server() {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "site").unwrap();
    let git = GitHttp::start(&builder.remotes(), TOKEN).unwrap();
    let github = GitHub::start(TOKEN).unwrap();
    github.add(&repo);
    let server = builder
        .env("GIT_REMOTE_BASE", git.base())
        .env("GITHUB_API_URL", github.url())
        .env("GH_BIN", "/nonexistent/gh")
        .start()
        .unwrap();
    let mut body = scripted("own", "write a.txt a");
    body["secrets"] = json!({"gitToken": TOKEN});
    let done = server.wait(&server.submit(&body).unwrap()).unwrap();
    assert_eq!(
        (&done["status"], &done["prNumber"]),
        (&json!("completed"), &json!(1)),
        "{done:#}"
    );
    assert_eq!(github.pulls("acme", "site").len(), 1);
}

#[test]
fn a_pull_request_that_is_open_already_is_found_and_returned() {
    let scene = scene();
    // GitHub has opened it, but its answer is lost: the next try meets its own pull request.
    scene.github.faults().next(1, &Fault::DropAfter);
    let done = scene.run(&scripted("twice", "write a.txt a"));
    assert_eq!(done["status"], "completed", "{done:#}");
    let pulls = scene.pulls();
    assert_eq!(pulls.len(), 1);
    assert_eq!(done["prNumber"], pulls[0]["number"]);
}
