//! The support itself: what tests rely on is real git, real ssh and GitHub's manners.

use std::process::Output;
use std::time::{Duration, Instant};

use agent_tests::client::JsonClient;
use agent_tests::fault::Fault;
use agent_tests::git_http::GitHttp;
use agent_tests::git_ssh::GitSsh;
use agent_tests::github::GitHub;
use agent_tests::messages_api::{ApiError, MessagesApi, Turn};
use agent_tests::repo::{self, BareRepo};
use serde_json::{Value, json};
use tempfile::TempDir;

const TOKEN: &str = "ghs_test";

struct World {
    dir: TempDir,
    repo: BareRepo,
    github: GitHub,
    client: JsonClient,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = BareRepo::create(&dir.path().join("remote"), "Acme", "app").unwrap();
        let github = GitHub::start(TOKEN).unwrap();
        github.add(&repo);
        let client = JsonClient::new(&github.url(), Some(TOKEN));
        Self {
            dir,
            repo,
            github,
            client,
        }
    }

    fn open(&self, head: &str) -> agent_tests::client::Reply {
        let body = json!({"title": "T", "head": head, "base": "main", "body": "B"});
        self.client.post("/repos/acme/APP/pulls", &body).unwrap()
    }
}

fn refused(reply: &agent_tests::client::Reply) -> Value {
    let body = reply.expect(422).unwrap();
    assert_eq!(
        (&body["message"], &body["status"]),
        (&"Validation Failed".into(), &"422".into())
    );
    body["errors"][0].clone()
}

#[test]
fn a_pull_request_is_opened_found_and_counts_its_files_with_git() {
    let world = World::new();
    let files = [
        ("a.txt", "1\n2\n"),
        ("b.txt", "x\n"),
        ("README.md", "new\n"),
    ];
    world.repo.branch("feature/x", "main", &files).unwrap();
    let made = world.open("feature/x");
    let pull = made.expect(201).unwrap();
    assert_eq!(
        (&pull["number"], &pull["state"], &pull["changed_files"]),
        (&1.into(), &"open".into(), &3.into())
    );
    assert_eq!(
        pull["head"]["sha"].as_str(),
        world.repo.rev("feature/x").as_deref()
    );
    assert_eq!(pull["html_url"], "https://github.com/Acme/app/pull/1");

    let found = |query: &str| {
        let reply = world
            .client
            .get(&format!("/repos/Acme/app/pulls?{query}"))
            .unwrap();
        reply.expect(200).unwrap().as_array().unwrap().len()
    };
    assert_eq!(found("head=acme%3Afeature%2Fx&base=main&state=open"), 1);
    assert_eq!(found("head=acme%3Aother&state=all"), 0);
    assert_eq!(found("base=develop"), 0);
    assert_eq!(found("state=closed"), 0);
    assert!(world.github.close("acme", "app", 1));
    assert_eq!((found("state=open"), found("state=closed")), (0, 1));
}

#[test]
fn a_pull_request_is_shown_by_its_number_with_its_files() {
    let world = World::new();
    let files = [
        ("a.txt", "1\n2\n"),
        ("b.txt", "x\n"),
        ("README.md", "new\n"),
    ];
    world.repo.branch("feature/x", "main", &files).unwrap();
    world.open("feature/x").expect(201).unwrap();
    assert!(world.github.close("acme", "app", 1));
    let one = world
        .client
        .get("/repos/Acme/app/pulls/1")
        .unwrap()
        .expect(200)
        .unwrap();
    assert_eq!(
        (&one["state"], &one["title"]),
        (&"closed".into(), &"T".into())
    );
    let files = world
        .client
        .get("/repos/Acme/app/pulls/1/files")
        .unwrap()
        .expect(200)
        .unwrap();
    let names: Vec<_> = files
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["filename"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["README.md", "a.txt", "b.txt"]);
    assert_eq!(
        (
            &files[0]["status"],
            &files[1]["status"],
            &files[1]["additions"]
        ),
        (&"modified".into(), &"added".into(), &2.into())
    );
}

#[test]
fn long_lists_come_in_pages_with_a_link() {
    let world = World::new();
    let names: Vec<String> = (0..35).map(|n| format!("many/{n}.txt")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x\n")).collect();
    world.repo.branch("many", "main", &files).unwrap();
    assert_eq!(world.open("many").expect(201).unwrap()["changed_files"], 35);
    let first = world.client.get("/repos/acme/app/pulls/1/files").unwrap();
    assert_eq!(first.json().as_array().unwrap().len(), 30);
    assert!(
        first
            .header("link")
            .unwrap()
            .contains("page=2>; rel=\"next\"")
    );
    let second = world
        .client
        .get("/repos/acme/app/pulls/1/files?page=2")
        .unwrap();
    assert_eq!(
        (
            second.json().as_array().unwrap().len(),
            second.header("link")
        ),
        (5, None)
    );
}

#[test]
fn what_github_refuses_is_refused_in_its_words() {
    let world = World::new();
    let error = refused(&world.open("never/pushed"));
    assert_eq!(
        (&error["field"], &error["code"]),
        (&"head".into(), &"invalid".into())
    );
    world.repo.branch("same", "main", &[]).unwrap();
    world
        .repo
        .git(&["update-ref", "refs/heads/same", "refs/heads/main"])
        .unwrap();
    assert_eq!(
        refused(&world.open("same"))["message"],
        "No commits between main and same"
    );
    world.repo.branch("x", "main", &[("x", "x")]).unwrap();
    world.open("x").expect(201).unwrap();
    assert_eq!(
        refused(&world.open("Acme:x"))["message"],
        "A pull request already exists for Acme:x."
    );
    let untitled = json!({"head": "x", "base": "main"});
    assert_eq!(
        refused(
            &world
                .client
                .post("/repos/acme/app/pulls", &untitled)
                .unwrap()
        )["field"],
        "title"
    );
    assert_eq!(world.github.pulls("acme", "app").len(), 1);
    assert_eq!(
        world.client.get("/repos/acme/other/pulls").unwrap().status,
        404
    );
    let stranger = JsonClient::new(&world.github.url(), Some("wrong"));
    let reply = stranger.get("/repos/acme/app/pulls").unwrap();
    assert_eq!(reply.expect(401).unwrap()["message"], "Bad credentials");
}

#[test]
fn faults_are_had_as_ordered_and_change_nothing() {
    let world = World::new();
    world.repo.branch("x", "main", &[("x", "x")]).unwrap();
    world.github.limit_next(1, 7);
    world.github.faults().next(1, &Fault::status(502));
    world.github.faults().next(1, &Fault::Drop);
    let limited = world.open("x");
    assert_eq!(
        (limited.status, limited.header("retry-after")),
        (403, Some("7"))
    );
    assert!(limited.text().contains("secondary rate limit"));
    assert_eq!(world.open("x").status, 502);
    let body = json!({"title": "T", "head": "x", "base": "main"});
    assert!(world.client.post("/repos/acme/app/pulls", &body).is_err());
    assert!(world.github.pulls("acme", "app").is_empty());
    world.github.faults().next(1, &Fault::DropAfter);
    assert!(world.client.post("/repos/acme/app/pulls", &body).is_err());
    assert_eq!(
        world.github.pulls("acme", "app").len(),
        1,
        "done, but nobody was told"
    );
    world
        .github
        .faults()
        .next(1, &Fault::Slow(Duration::from_millis(200)));
    let before = Instant::now();
    assert_eq!(world.open("x").status, 422);
    assert!(before.elapsed() >= Duration::from_millis(200));
    assert_eq!(
        (
            world.github.requests().len(),
            world.github.faults().pending()
        ),
        (5, 0)
    );
}

fn clone_and_push(world: &World, url: &str, ssh: Option<&str>) {
    let work = world.dir.path().join("clone");
    let run = |dir: &std::path::Path, args: &[&str]| -> Output {
        let mut git = repo::command(dir);
        if let Some(ssh) = ssh {
            git.env("GIT_SSH_COMMAND", ssh);
        }
        let output = git.args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        output
    };
    run(world.dir.path(), &["clone", "--quiet", url, "clone"]);
    // Larger than one buffer of git's http client, which then sends its body in chunks.
    std::fs::write(work.join("big.bin"), noise(3 << 20)).unwrap();
    run(&work, &["checkout", "--quiet", "-b", "feature/push"]);
    run(&work, &["add", "-A"]);
    run(&work, &["commit", "--quiet", "-m", "Pushed"]);
    run(&work, &["push", "--quiet", "origin", "feature/push"]);
    assert_eq!(world.repo.subject("feature/push").unwrap(), "Pushed");
    run(&work, &["fetch", "--quiet", "origin"]);
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(length)
    .collect()
}

#[test]
fn git_clones_pushes_and_fetches_over_http_with_the_token() {
    let world = World::new();
    let server = GitHttp::start(&world.dir.path().join("remote"), TOKEN).unwrap();
    clone_and_push(
        &world,
        &format!("{}Acme/app.git", server.base_with_token(TOKEN)),
        None,
    );
    assert!(
        server
            .requests()
            .iter()
            .any(|line| line == "POST /Acme/app.git/git-receive-pack")
    );
}

#[test]
fn git_over_http_is_refused_without_the_token_and_fails_on_order() {
    let world = World::new();
    let server = GitHttp::start(&world.dir.path().join("remote"), TOKEN).unwrap();
    let list = |base: String| {
        let url = format!("{base}Acme/app.git");
        repo::command(world.dir.path())
            .args(["ls-remote", &url])
            .output()
            .unwrap()
    };
    assert!(!list(server.base()).status.success());
    assert!(!list(server.base_with_token("wrong")).status.success());
    server.faults().next(1, &Fault::status(503));
    let failed = list(server.base_with_token(TOKEN));
    assert!(
        String::from_utf8_lossy(&failed.stderr).contains("503"),
        "{failed:?}"
    );
    assert!(list(server.base_with_token(TOKEN)).status.success());
}

#[test]
fn git_clones_pushes_and_fetches_over_ssh() {
    let world = World::new();
    let server = GitSsh::start(&world.dir.path().join("remote")).unwrap();
    let command = server.command();
    clone_and_push(
        &world,
        &format!("{}Acme/app.git", server.base()),
        Some(&command),
    );
    let stranger = "ssh -F /dev/null -i /dev/null -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no";
    let url = format!("{}Acme/app.git", server.base());
    let refused = repo::command(world.dir.path())
        .env("GIT_SSH_COMMAND", stranger)
        .args(["ls-remote", &url])
        .output()
        .unwrap();
    assert!(!refused.status.success(), "{refused:?}");
}

#[test]
fn the_model_streams_its_turns_in_order_and_knows_the_directory() {
    let api = MessagesApi::writing("src/a.txt", "héllo\n", "Done it.").unwrap();
    let client = JsonClient::new(&api.url(), Some("key"));
    let prompt = json!({"role": "user", "content": [{"type": "text", "text": "write"}]});
    let ask = |messages: Value, stream: bool| {
        let body = json!({
            "model": "claude-x", "stream": stream, "messages": messages,
            "system": [{"type": "text", "text": "# Environment\n - Primary working directory: /w d\n"}],
        });
        client.post("/v1/messages?beta=true", &body).unwrap()
    };
    let first = ask(json!([prompt]), true).text();
    let datas = first.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = datas
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(events[0]["type"], "message_start");
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    let parts = events
        .iter()
        .filter_map(|event| event["delta"]["partial_json"].as_str());
    let input: Value = serde_json::from_str(&parts.collect::<String>()).unwrap();
    assert_eq!(
        input,
        json!({"file_path": "/w d/src/a.txt", "content": "héllo\n"})
    );

    let call = json!({"role": "assistant", "content": [{"type": "tool_use"}]});
    let result = json!({"role": "user", "content": [{"type": "tool_result"}]});
    let second = ask(json!([prompt, call, result]), false).json();
    assert_eq!(
        (&second["content"][0]["text"], &second["stop_reason"]),
        (&"Done it.".into(), &"end_turn".into())
    );
    let third = ask(
        json!([prompt, call, result, {"role": "assistant", "content": "x"}, prompt]),
        false,
    )
    .json();
    assert_eq!(third["stop_reason"], "tool_use", "a new prompt begins anew");
}

#[test]
fn the_model_can_fail_and_wants_a_key() {
    let turn = Turn::Error(ApiError::new(529, "overloaded_error", "Overloaded"));
    let api = MessagesApi::start(vec![turn]).unwrap();
    let body = json!({"messages": [{"role": "user", "content": "x"}]});
    let failed = JsonClient::new(&api.url(), Some("key"))
        .post("/v1/messages", &body)
        .unwrap();
    assert_eq!(
        failed.expect(529).unwrap()["error"]["type"],
        "overloaded_error"
    );
    assert_eq!(
        JsonClient::new(&api.url(), None)
            .post("/v1/messages", &body)
            .unwrap()
            .status,
        401
    );
}
