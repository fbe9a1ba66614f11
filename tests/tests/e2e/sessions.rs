//! An ended job's session goes on as a new job: a message to it, or a repetition that resumes it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use agent_tests::client::Reply;
use agent_tests::github::GitHub;
use agent_tests::job::{nothing_is_left, prompt, reached};
use agent_tests::repo::{BareRepo, git};
use agent_tests::server::{Builder, Server};
use serde_json::{Value, json};

use crate::scripted;

const FIRST: &str = "write first.txt 1\nprice 0.5\nresult ok one";
const SECOND: &str = "fresh exit 9\nwrite second.txt 2\nprice 0.25\nresult ok two";

struct Scene {
    server: Server,
    repo: BareRepo,
    github: GitHub,
}

fn scene_of(builder: Builder) -> Scene {
    let repo = builder.repo("acme", "site").unwrap();
    let github = GitHub::start("ghp_x").unwrap();
    github.add(&repo);
    let builder = builder
        .env("GITHUB_TOKEN", "ghp_x")
        .env("GITHUB_API_URL", github.url());
    let server = builder.start().unwrap();
    Scene {
        server,
        repo,
        github,
    }
}

fn scene() -> Scene {
    scene_of(Builder::new().unwrap())
}

impl Scene {
    fn run(&self, script: &str) -> Value {
        let id = self.server.submit(&scripted("fix/it", script)).unwrap();
        self.server.wait(&id).unwrap()
    }

    fn post(&self, job: &Value, what: &str, body: Value) -> Reply {
        let path = format!("/jobs/{}/{what}", job["id"].as_str().unwrap());
        self.server.client().post(&path, &body).unwrap()
    }

    fn tell(&self, job: &Value, script: &str) -> Value {
        let sent = self.post(job, "messages", json!({"prompt": prompt(script)}));
        let sent = sent.expect(201).unwrap();
        assert_eq!(sent["continuedJobId"], job["id"]);
        self.server.wait(sent["id"].as_str().unwrap()).unwrap()
    }

    fn log(&self, job: &Value) -> String {
        self.server.log(job["id"].as_str().unwrap()).unwrap()
    }
}

#[test]
fn a_message_goes_on_in_the_session_on_the_branch_and_in_the_pull_request() {
    let scene = scene();
    let first = scene.run(FIRST);
    assert_eq!(first["status"], "completed", "{first:#}");
    let second = scene.tell(&first, SECOND);
    assert_eq!(
        second["status"],
        "completed",
        "{second:#}\n{}",
        scene.log(&second)
    );
    for same in ["sessionId", "branchName", "prUrl"] {
        assert_eq!(second[same], first[same], "{same}");
    }
    assert_eq!(second["continues"], first["id"]);
    assert_eq!(second["baseCommit"], first["headCommit"]);
    assert_eq!(
        (&second["filesChanged"], &second["costUsd"]),
        (&1.into(), &0.25.into())
    );
    assert_eq!(scene.repo.ahead("main", "fix/it").unwrap(), 2);
    assert_eq!(scene.repo.show("fix/it", "second.txt").unwrap(), b"2\n");
    assert_eq!(scene.github.pulls("acme", "site").len(), 1);
    // A message to the first job goes to the session as it is now.
    let third = scene.tell(&first, "fresh exit 9\nresult ok nothing to do");
    assert_eq!(
        third["status"],
        "completed",
        "{third:#}\n{}",
        scene.log(&third)
    );
    assert_eq!(
        (&third["continues"], &third["filesChanged"]),
        (&second["id"], &0.into())
    );
    assert_eq!(third["prUrl"], first["prUrl"]);
    assert_eq!(scene.github.pulls("acme", "site").len(), 1);
    nothing_is_left(&scene.server).unwrap();
}

#[test]
fn one_unfinished_job_at_a_time_has_a_session() {
    let scene = scene();
    let first = scene.run(FIRST);
    let (here, go) = (
        scene.server.dir().join("here"),
        scene.server.dir().join("go"),
    );
    let script = format!("mark {}\nwait {}\n{SECOND}", here.display(), go.display());
    let second = scene.post(&first, "messages", json!({"prompt": prompt(&script)}));
    let second = second.expect(201).unwrap();
    reached(&here).unwrap();
    let message = json!({"prompt": "and this"});
    for (what, body) in [
        ("messages", message.clone()),
        ("retry", json!({"resume": true})),
    ] {
        let busy = scene.post(&first, what, body).expect(409).unwrap();
        assert_eq!(busy["code"], "session_busy", "{what}");
    }
    let unfinished = scene
        .post(&second, "messages", message)
        .expect(409)
        .unwrap();
    assert_eq!(unfinished["code"], "job_unfinished");
    fs::write(go, "").unwrap();
    let second = scene.server.wait(second["id"].as_str().unwrap()).unwrap();
    assert_eq!(second["status"], "completed", "{second:#}");
}

#[test]
fn a_retry_may_resume_the_session_with_the_work_that_was_kept() {
    let scene = scene();
    let failed = scene.run("fresh write first.txt 1\nfresh result max_turns\nfresh exit 1\nwrite second.txt 2\nresult ok");
    assert_eq!(failed["reason"], "max_turns", "{failed:#}");
    let retried = scene
        .post(&failed, "retry", json!({"resume": true}))
        .expect(201)
        .unwrap();
    let done = scene.server.wait(retried["id"].as_str().unwrap()).unwrap();
    assert_eq!(
        done["status"],
        "completed",
        "{done:#}\n{}",
        scene.log(&done)
    );
    assert_eq!(
        (&done["sessionId"], &done["branchName"]),
        (&failed["sessionId"], &"fix/it".into())
    );
    assert_eq!(
        (&done["retryOf"], &done["filesChanged"]),
        (&failed["id"], &2.into())
    );
    assert_eq!(scene.repo.show("fix/it", "first.txt").unwrap(), b"1\n");
    assert_eq!(scene.repo.show("fix/it", "second.txt").unwrap(), b"2\n");
    nothing_is_left(&scene.server).unwrap();
}

#[test]
fn a_job_without_a_session_has_none_to_go_on_in() {
    let scene = scene();
    let failed = scene.run("startup-failure no");
    for (what, body) in [
        ("messages", json!({"prompt": "x"})),
        ("retry", json!({"resume": true})),
    ] {
        let refused = scene.post(&failed, what, body).expect(409).unwrap();
        assert_eq!(refused["code"], "no_session", "{what}");
    }
    let refused = scene.post(&failed, "messages", json!({"prompt": ""}));
    assert_eq!(refused.expect(400).unwrap()["field"], "prompt");
}

#[test]
fn a_branch_that_others_have_moved_is_not_pushed_to() {
    let scene = scene();
    let first = scene.run(FIRST);
    scene
        .repo
        .commit("fix/it", &[("other.txt", "x")], "By someone else")
        .unwrap();
    let second = scene.tell(&first, SECOND);
    assert_eq!(
        (&second["status"], &second["reason"]),
        (&"failed".into(), &"branch_moved".into()),
        "{second:#}"
    );
    assert_eq!(
        second["exitCode"],
        Value::Null,
        "before the agent has cost anything"
    );
}

#[test]
fn a_branch_that_others_move_while_the_session_goes_on_is_not_pushed_to() {
    let scene = scene();
    let first = scene.run(FIRST);
    let file = |name: &str| scene.server.dir().join(name);
    let (here, go) = (file("here"), file("go"));
    let script = format!("mark {}\nwait {}\n{SECOND}", here.display(), go.display());
    let sent = scene.post(&first, "messages", json!({"prompt": prompt(&script)}));
    let second = sent.expect(201).unwrap();
    reached(&here).unwrap();
    let theirs = [("other.txt", "x")];
    scene
        .repo
        .commit("fix/it", &theirs, "By someone else")
        .unwrap();
    let tip = scene.repo.rev("fix/it");
    fs::write(go, "").unwrap();
    let second = scene.server.wait(second["id"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&second["status"], &second["reason"]),
        (&"failed".into(), &"branch_moved".into()),
        "{second:#}"
    );
    assert_eq!(scene.repo.rev("fix/it"), tip, "what others have done stays");
    assert!(second["savedRef"].is_string(), "and so does the work");
}

#[test]
fn history_that_was_rewritten_is_not_pushed() {
    let scene = scene();
    let first = scene.run(FIRST);
    let rewrite = "shell git reset -q --hard HEAD~1\nwrite second.txt 2\nresult ok";
    let second = scene.tell(&first, rewrite);
    assert_eq!(
        (&second["status"], &second["reason"]),
        (&"failed".into(), &"git".into()),
        "{second:#}"
    );
    assert!(
        second["error"].as_str().unwrap().contains("rewritten"),
        "{second:#}"
    );
    assert!(second["savedRef"].is_string());
    assert_eq!(
        scene.repo.rev("fix/it").unwrap(),
        first["headCommit"].as_str().unwrap()
    );
}

#[test]
fn sessions_are_kept_for_their_owner_only_masked_and_nowhere_else() {
    let key = "sk-ant-of-the-agent";
    let scene = scene();
    let first = scene.run(&format!("text the key is {key}\n{FIRST}"));
    let kept = scene
        .server
        .data_dir()
        .join("logs")
        .join(first["id"].as_str().unwrap());
    let kept = kept.join("session.jsonl");
    let mode = fs::metadata(&kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(&kept).unwrap();
    assert!(
        text.contains("the key is [masked]") && !text.contains(key),
        "{text}"
    );
    let projects = scene.server.home().join(".claude/projects");
    let left: Vec<_> = fs::read_dir(projects).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(scene.tell(&first, SECOND)["status"], "completed");
}

#[test]
fn behind_a_wall_too_a_message_goes_on_in_the_session() {
    for level in ["workspace", "isolated"] {
        let scene = scene_of(Builder::new().unwrap().behind(level));
        let first = scene.run(FIRST);
        let second = scene.tell(&first, SECOND);
        assert_eq!(
            second["status"],
            "completed",
            "{level}: {second:#}\n{}",
            scene.log(&second)
        );
        assert_eq!(second["sessionId"], first["sessionId"]);
        nothing_is_left(&scene.server).unwrap();
    }
}

/// The files of sessions where the CLI itself keeps them.
fn transcripts_of_the_cli(server: &Server) -> usize {
    let projects = fs::read_dir(server.home().join(".claude/projects"));
    let folders = projects.into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten());
    files.count()
}

/// Meets an outage when its work is half done, and is cancelled while it waits.
fn cancelled_while_it_waits(scene: &Scene) -> Value {
    let halves = "write first.txt 1\nfresh result server_error\nfresh exit 1";
    let id = scene.server.submit(&scripted("fix/it", halves)).unwrap();
    let waits = |job: &Value| job["notBefore"].is_string();
    let parked = scene.server.wait_for(&id, waits).unwrap();
    let cancelled = scene
        .post(&parked, "cancel", json!({}))
        .expect(200)
        .unwrap();
    assert_eq!(cancelled["wasRunning"], false);
    parked
}

fn goes_on_with_both_halves(scene: &Scene, cancelled: &Value) {
    let done = scene.tell(cancelled, SECOND);
    let log = scene.log(&done);
    assert_eq!(done["status"], "completed", "{done:#}\n{log}");
    assert_eq!(done["sessionId"], cancelled["sessionId"]);
    assert_eq!(done["filesChanged"], 2, "{log}");
    for (file, content) in [("first.txt", b"1\n"), ("second.txt", b"2\n")] {
        assert_eq!(scene.repo.show("fix/it", file).unwrap(), content);
    }
    nothing_is_left(&scene.server).unwrap();
    assert_eq!(transcripts_of_the_cli(&scene.server), 0);
}

#[test]
fn a_message_to_a_job_that_was_cancelled_while_it_waited_goes_on_with_its_work() {
    let scene = scene();
    let cancelled = cancelled_while_it_waits(&scene);
    let id = cancelled["id"].as_str().unwrap();
    let kept = |job: &Value| job["savedRef"].is_string();
    scene.server.wait_for(id, kept).unwrap();
    goes_on_with_both_halves(&scene, &cancelled);
}

#[test]
fn a_message_right_after_such_a_cancellation_loses_no_work_either() {
    let scene = scene();
    let cancelled = cancelled_while_it_waits(&scene);
    goes_on_with_both_halves(&scene, &cancelled);
}

#[test]
fn a_message_to_a_job_whose_work_stays_here_goes_on_with_it() {
    let scene = scene();
    let mut body = scripted("fix/it", FIRST);
    body["delivery"] = json!("none");
    let first = scene.server.submit(&body).unwrap();
    let first = scene.server.wait(&first).unwrap();
    assert_eq!(first["status"], "completed", "{first:#}");
    let second = scene.tell(&first, SECOND);
    let log = scene.log(&second);
    assert_eq!(second["status"], "completed", "{second:#}\n{log}");
    assert_eq!(second["filesChanged"], 2, "{second:#}");
    let third = scene.tell(&second, "fresh exit 9\nwrite third.txt 3\nresult ok");
    assert_eq!(third["filesChanged"], 3, "{third:#}\n{}", scene.log(&third));
    assert_eq!(scene.repo.branches().unwrap(), ["main"]);
    let saved = third["savedRef"].as_str().unwrap();
    let mirror = scene.server.mirror(&scene.repo);
    for (file, content) in [("first.txt", "1"), ("second.txt", "2"), ("third.txt", "3")] {
        let show = ["show", &format!("{saved}:{file}")];
        assert_eq!(git(&mirror, &show).unwrap(), content);
    }
    nothing_is_left(&scene.server).unwrap();
}
