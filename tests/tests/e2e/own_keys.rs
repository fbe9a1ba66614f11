//! Keys that a job brings: used in place of the server's, kept in its memory only, gone with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_tests::callback::Receiver;
use agent_tests::git_http::GitHttp;
use agent_tests::job::{body, nothing_is_left, reached, with};
use agent_tests::repo::{self, BareRepo};
use agent_tests::server::{Builder, Server};
use serde_json::{Value, json};

const API_KEY: &str = "sk-ant-canary-of-a-jobs-own-key";
const GIT_TOKEN: &str = "ghp_canaryOfAJobsOwnGitToken";

/// A server whose own ways to pay and to fetch are of no use.
fn builder() -> Builder {
    Builder::new()
        .unwrap()
        .env("ANTHROPIC_API_KEY", "sk-ant-of-the-server")
        .env("CLAUDE_CODE_OAUTH_TOKEN", "oauth-of-the-server")
        .env("GITHUB_TOKEN", "ghp_ofTheServer")
        .env("MAX_CONCURRENT_JOBS", "1")
}

/// A server that fetches over http, where only the job's own token is any good.
fn guarded() -> (Server, BareRepo, GitHttp) {
    let builder = builder();
    let repo = builder.repo("acme", "app").unwrap();
    let remote = GitHttp::start(&builder.remotes(), GIT_TOKEN).unwrap();
    let server = builder.env("GIT_REMOTE_BASE", remote.base());
    (server.start().unwrap(), repo, remote)
}

/// A script that waits until it is let go.
fn paused(server: &Server, name: &str) -> (PathBuf, PathBuf, String) {
    let here = server.dir().join(format!("{name}.here"));
    let go = server.dir().join(format!("{name}.go"));
    let script = format!("mark {}\nwait {}", here.display(), go.display());
    (here, go, script)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let below = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files(&entry.path()),
        Ok(kind) if kind.is_file() => vec![entry.path()],
        _ => Vec::new(),
    };
    entries.flat_map(below).collect()
}

/// What the CLI writes down of its own runs is not the server's.
fn nothing_on_disk(server: &Server) {
    let transcripts = server.home().join(".claude");
    let mut ours = files(server.dir());
    ours.retain(|path| !path.starts_with(&transcripts));
    for path in ours {
        let content = fs::read(&path).unwrap_or_default();
        for canary in [API_KEY, GIT_TOKEN] {
            let found = content
                .windows(canary.len())
                .any(|part| part == canary.as_bytes());
            assert!(!found, "{canary} in {}", path.display());
        }
    }
}

#[test]
fn a_jobs_own_keys_take_the_place_of_the_servers_and_are_found_nowhere() {
    let (server, repo, remote) = guarded();
    let elsewhere = tempfile::tempdir().unwrap();
    let record = elsewhere.path().join("record.json");
    let (here, go, pause) = paused(&server, "run");
    let script = format!(
        "record {}\nshell env\nwrite a.txt one\n{pause}",
        record.display()
    );
    let secrets = json!({"secrets": {"anthropicApiKey": API_KEY, "gitToken": GIT_TOKEN}});
    let id = server
        .submit(&with(body(&repo, "fix/it", &script), secrets))
        .unwrap();
    reached(&here).unwrap();
    nothing_on_disk(&server);
    fs::write(go, "").unwrap();
    let job = server.wait(&id).unwrap();
    assert_eq!(job["status"], "completed", "{job:#}");
    assert_eq!(job["hasSecrets"], true);
    assert!(remote.requests().join("\n").contains("git-receive-pack"));
    assert_eq!(repo.show("fix/it", "a.txt").unwrap(), b"one\n");

    let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    assert_eq!(record["env"]["ANTHROPIC_API_KEY"], API_KEY);
    assert_eq!(record["env"]["CLAUDE_CODE_OAUTH_TOKEN"], Value::Null);
    assert!(
        !record["env"].to_string().contains(GIT_TOKEN),
        "the agent saw it"
    );
    let log = server.log(&id).unwrap();
    assert!(
        log.contains("ANTHROPIC_API_KEY="),
        "the agent did not show its environment"
    );
    let history = server
        .client()
        .get(&format!("/jobs/{id}/history"))
        .unwrap()
        .text();
    for canary in [API_KEY, GIT_TOKEN] {
        for text in [&log, &job.to_string(), &history, &server.output()] {
            assert!(!text.contains(canary), "{canary} in {text}");
        }
    }
    nothing_on_disk(&server);
    nothing_is_left(&server).unwrap();
}

#[test]
fn after_a_crash_a_queued_job_with_keys_fails_and_calls_back_while_a_running_one_goes_on() {
    let builder = builder();
    let repo = builder.repo("acme", "app").unwrap();
    let mut server = builder.start().unwrap();
    let receiver = Receiver::start().unwrap();
    let (here, go, pause) = paused(&server, "run");
    let secrets = json!({"claudeCodeOauthToken": API_KEY});
    let extra = json!({"secrets": secrets, "osCallbackUrl": receiver.url()});
    let running = server
        .submit(&with(
            body(&repo, "fix/a", &pause),
            json!({"secrets": secrets}),
        ))
        .unwrap();
    reached(&here).unwrap();
    let queued = server
        .submit(&with(body(&repo, "fix/b", "result ok"), extra))
        .unwrap();
    let plain = server.submit(&body(&repo, "fix/c", "result ok")).unwrap();
    server.kill().unwrap();
    server.start().unwrap();
    let failed = server.job(&queued).unwrap();
    assert_eq!(
        failed["reason"], "credentials_lost",
        "settled before it listens: {failed:#}"
    );
    let told = receiver.wait_for(1, Duration::from_secs(30)).unwrap();
    let told: Value = serde_json::from_slice(&told[0].body).unwrap();
    assert_eq!(
        (&told["jobId"], &told["status"]),
        (&json!(queued), &json!("failed"))
    );
    fs::write(go, "").unwrap();
    assert_eq!(server.wait(&running).unwrap()["status"], "completed");
    assert_eq!(server.wait(&plain).unwrap()["status"], "completed");
    nothing_on_disk(&server);
}

#[test]
fn work_whose_git_token_is_gone_is_kept_and_not_pushed_with_another() {
    let (mut server, repo, _remote) = guarded();
    let (here, go, pause) = paused(&server, "run");
    let script = format!("write a.txt one\n{pause}");
    let secrets = json!({"secrets": {"gitToken": GIT_TOKEN}});
    let id = server
        .submit(&with(body(&repo, "fix/it", &script), secrets.clone()))
        .unwrap();
    reached(&here).unwrap();
    server.kill().unwrap();
    server.start().unwrap();
    fs::write(go, "").unwrap();
    let job = server.wait(&id).unwrap();
    assert_eq!(job["reason"], "credentials_lost", "{job:#}");
    let kept = job["savedRef"].as_str().expect("kept").to_owned();
    let file = format!("{kept}:a.txt");
    assert_eq!(
        repo::git(&server.mirror(&repo), &["show", &file]).unwrap(),
        "one"
    );
    assert_eq!(repo.rev("fix/it"), None);
    nothing_is_left(&server).unwrap();

    let path = format!("/jobs/{id}/retry");
    let without = server.client().post(&path, &json!({})).unwrap();
    assert_eq!(
        (without.status, &without.json()["code"]),
        (400, &json!("secrets_required"))
    );
    let again = server
        .client()
        .post(&path, &secrets)
        .unwrap()
        .expect(201)
        .unwrap();
    let again = server.wait(again["id"].as_str().unwrap()).unwrap();
    assert_eq!(again["status"], "completed", "{again:#}");
    nothing_on_disk(&server);
}
