//! What the real CLI sends to the model's API on each credential, and what becomes of jobs when one is
//! limited or refused.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use agent_tests::http_server::Request;
use agent_tests::messages_api::{ApiError, MessagesApi, Turn};
use agent_tests::server::{Builder, Server};
use serde_json::{Value, json};

use crate::builder;

const TOKEN: &str = "sk-ant-oat01-of-a-subscription";
const KEY: &str = "sk-ant-api03-of-an-api-key";

/// A server with a subscription and an API key, each for the repositories named (`""`: all). Its own
/// environment has both, of no use to anybody.
fn paying(api: &MessagesApi, subscription: &str, key: &str) -> Builder {
    let builder = builder(api)
        .env("ANTHROPIC_API_KEY", "sk-ant-of-the-server")
        .env("CLAUDE_CODE_OAUTH_TOKEN", "oauth-of-the-server")
        .env("MAX_CONCURRENT_JOBS", "1");
    let mut text = String::new();
    for (name, kind, secret, clients) in [
        ("team", "subscription", TOKEN, subscription),
        ("paid", "api_key", KEY, key),
    ] {
        let path = builder.dir().join(name);
        fs::write(&path, secret).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        text += &format!("[[credential]]\nname = {name:?}\nkind = {kind:?}\n");
        text += &format!("secret_file = {name:?}\n");
        if !clients.is_empty() {
            text += &format!("clients = [{clients:?}]\n");
        }
    }
    let file = builder.dir().join("credentials.toml");
    fs::write(&file, text).unwrap();
    for name in ["app", "site"] {
        builder.repo("acme", name).unwrap();
    }
    builder.env("CREDENTIALS_FILE", file)
}

fn submit(server: &Server, repo: &str, branch: &str, prompt: &str) -> String {
    let job = json!({
        "githubOrg": "acme", "githubRepo": repo, "branchName": branch, "prompt": prompt,
    });
    server.submit(&job).unwrap()
}

fn completed(server: &Server, id: &str) -> Value {
    let job = server.wait(id).unwrap();
    let log = server.log(id).unwrap();
    assert_eq!(job["status"], "completed", "{job:#}\n{log}");
    job
}

/// What each request was paid with; exactly one way.
fn paid(requests: &[Request]) -> Vec<&'static str> {
    let paid =
        |request: &Request| match (request.header("x-api-key"), request.header("authorization")) {
            (Some(KEY), None) => "key",
            (None, Some(bearer)) if bearer.strip_prefix("Bearer ") == Some(TOKEN) => "token",
            other => panic!("{other:?}"),
        };
    let messages = requests.iter().filter(|request| request.method == "POST");
    messages.map(paid).collect()
}

fn credential(server: &Server, name: &str) -> Value {
    let all = server.client().get("/credentials").unwrap();
    let all = all.expect(200).unwrap();
    let mut all = all["credentials"].as_array().unwrap().iter();
    all.find(|one| one["name"] == name).unwrap().clone()
}

#[test]
fn each_run_sends_the_secret_of_its_credential_and_no_other_at_every_level() {
    for level in ["off", "workspace", "isolated"] {
        let api = MessagesApi::start(vec![Turn::Text("Done.".into())]).unwrap();
        let server = paying(&api, "acme/site", "acme/app").behind(level);
        let server = server.start().unwrap();
        for (repo, way) in [("site", "token"), ("app", "key")] {
            let before = api.requests().len();
            let id = submit(&server, repo, "x/one", "Say done.");
            completed(&server, &id);
            let ways = paid(&api.requests()[before..]);
            assert!(
                !ways.is_empty() && ways.iter().all(|paid| *paid == way),
                "{level} {ways:?}"
            );
        }
    }
}

#[test]
fn a_limit_of_the_subscription_moves_the_job_to_the_key_in_the_same_session() {
    let limit = ApiError::new(429, "rate_limit_error", "limit")
        .header("anthropic-ratelimit-unified-status", "rejected")
        .header("anthropic-ratelimit-unified-reset", "1999999999")
        .header(
            "anthropic-ratelimit-unified-representative-claim",
            "five_hour",
        );
    let write = Turn::Tool {
        name: "Write".into(),
        input: json!({"file_path": "a.txt", "content": "1\n"}),
    };
    let api = MessagesApi::by_prompt(vec![
        ("heliotrope", vec![Turn::Error(limit)]),
        ("Go on with the task", vec![write.clone(), write]),
    ])
    .unwrap();
    let server = paying(&api, "", "").start().unwrap();
    let id = submit(&server, "app", "x/one", "Remember the word heliotrope.");
    let job = completed(&server, &id);
    let requests = api.requests();
    let ways = paid(&requests);
    let moved = ways.iter().position(|paid| *paid == "key").unwrap();
    assert!(
        moved > 0 && ways[moved..].iter().all(|paid| *paid == "key"),
        "{ways:?}"
    );
    let last = String::from_utf8_lossy(&requests.last().unwrap().body).into_owned();
    assert!(last.contains("heliotrope") && last.contains("Go on with the task"));
    let log = server.log(&id).unwrap();
    let session = job["sessionId"].as_str().unwrap();
    assert!(
        log.contains(&format!("Going on in session {session}")),
        "{log}"
    );
    let team = credential(&server, "team");
    assert_eq!(team["status"], "limited", "{team:#}");
    assert_eq!(team["windows"][0]["kind"], "five_hour", "{team:#}");
    assert_eq!(credential(&server, "paid")["status"], "ok");
}

#[test]
fn a_revoked_token_stops_its_credential_and_the_next_job_runs_on_the_other() {
    let refused = ApiError::new(401, "authentication_error", "OAuth token has been revoked");
    let api = MessagesApi::by_prompt(vec![
        ("heliotrope", vec![Turn::Error(refused)]),
        ("Go on with the task", vec![]),
        ("verbena", vec![]),
    ])
    .unwrap();
    let server = paying(&api, "", "").start().unwrap();
    let first = submit(&server, "app", "x/one", "Remember the word heliotrope.");
    completed(&server, &first);
    let ways = paid(&api.requests());
    assert_eq!((ways.first(), ways.last()), (Some(&"token"), Some(&"key")));
    let team = credential(&server, "team");
    assert_eq!(
        (&team["status"], &team["reason"]),
        (&json!("stopped"), &json!("auth"))
    );
    let before = ways.len();
    let second = submit(&server, "app", "x/two", "Remember the word verbena.");
    completed(&server, &second);
    let ways = paid(&api.requests());
    assert!(
        ways.len() > before && ways[before..].iter().all(|paid| *paid == "key"),
        "{ways:?}"
    );
}
