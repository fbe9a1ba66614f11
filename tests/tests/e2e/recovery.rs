//! kill -9 of the server at every step of a job, and of its supervisor: the job ends as it should,
//! the agent is paid once, its log is complete.

use std::path::Path;
use std::time::Duration;

use agent_tests::callback::{Receiver, verify};
use agent_tests::fault::Fault;
use agent_tests::git_shim::{GitShim, Side};
use agent_tests::github::GitHub;
use agent_tests::process::{belonging_to, signal, wait_until};
use agent_tests::repo::BareRepo;
use agent_tests::server::{Builder, Server};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::scripted;

const WEBHOOK_SECRET: &str = "secret-of-the-receiver";
const LINES: usize = 40;

struct Scene {
    server: Server,
    repo: BareRepo,
    shim: GitShim,
    receiver: Receiver,
    github: GitHub,
}

fn scene() -> Scene {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "site").unwrap();
    let shim = GitShim::install(&builder.dir().join("shim")).unwrap();
    let receiver = Receiver::start().unwrap();
    let github = GitHub::start("ghp_x").unwrap();
    github.add(&repo);
    let builder = builder
        .env("PATH", shim.path().unwrap())
        .env("WEBHOOK_SECRET", WEBHOOK_SECRET);
    let builder = builder
        .env("GITHUB_TOKEN", "ghp_x")
        .env("GITHUB_API_URL", github.url());
    let server = builder.start().unwrap();
    Scene {
        server,
        repo,
        shim,
        receiver,
        github,
    }
}

impl Scene {
    fn runs(&self) -> String {
        self.server.dir().join("runs").display().to_string()
    }

    /// A job whose agent notes that it ran, says numbered lines and changes one file.
    fn job(&self, branch: &str, more: &str) -> Value {
        let lines: String = (0..LINES).map(|n| format!("text line {n}.\n")).collect();
        let script = format!(
            "shell echo x >> {}\n{lines}{more}\nwrite a.txt {branch}",
            self.runs()
        );
        let mut body = scripted(branch, &script);
        body["osCallbackUrl"] = json!(self.receiver.url());
        body
    }

    /// The job ended well, once, with a complete log, and whoever waits was told.
    fn assert_delivered(&self, id: &str, branch: &str) {
        let done = self.server.wait(id).unwrap();
        assert_eq!(
            done["status"],
            "completed",
            "{done:#}\n{}",
            self.server.log(id).unwrap()
        );
        assert_eq!(self.repo.ahead("main", branch).unwrap(), 1);
        assert_eq!(
            self.repo.show(branch, "a.txt").unwrap(),
            format!("{branch}\n").into_bytes()
        );
        let ran = std::fs::read_to_string(self.runs()).unwrap();
        assert_eq!(ran, "x\n", "the agent ran once");
        assert_eq!(done["costUsd"], 0.0125, "and was booked once");
        std::fs::remove_file(self.runs()).unwrap();
        let pulls = self.github.pulls("acme", "site");
        let of_branch = pulls
            .iter()
            .filter(|pull| pull["head"]["ref"] == branch)
            .count();
        assert_eq!(of_branch, 1);
        self.assert_log_complete(id);
        self.assert_called_back(id);
        assert!(self.server.workspaces().is_empty());
        let attempts = std::fs::read_dir(self.server.data_dir().join("attempts")).unwrap();
        assert_eq!(attempts.count(), 0, "an attempt's directory is left");
    }

    fn assert_log_complete(&self, id: &str) {
        let messages = self.server.messages(id).unwrap();
        let said: Vec<_> = messages
            .iter()
            .filter(|line| line.starts_with("stdout: line "))
            .collect();
        let expected: Vec<_> = (0..LINES).map(|n| format!("stdout: line {n}.")).collect();
        assert_eq!(said, expected.iter().collect::<Vec<_>>());
    }

    fn assert_called_back(&self, id: &str) {
        let of_job = || {
            let all = self.receiver.received();
            let bodies = all
                .iter()
                .map(|request| verify(request, WEBHOOK_SECRET).unwrap());
            let pairs = bodies
                .zip(all.iter())
                .filter(|(body, _)| body["jobId"] == id);
            pairs
                .map(|(body, request)| (body, request.header("webhook-id").map(str::to_owned)))
                .collect::<Vec<_>>()
        };
        assert!(wait_until(Duration::from_secs(30), || !of_job().is_empty()));
        let calls = of_job();
        assert!(
            calls
                .iter()
                .all(|(body, name)| body["status"] == "completed" && *name == calls[0].1)
        );
    }

    /// Kills the server while a git command is stopped, lets that git go on alone, and starts the
    /// server again.
    fn crash_at(&mut self, side: Side, verb: &str, branch: &str) {
        self.shim.stop(side, verb).unwrap();
        let id = self.server.submit(&self.job(branch, "")).unwrap();
        self.shim.reached().unwrap();
        self.server.kill().unwrap();
        self.shim.go().unwrap();
        self.server.start().unwrap();
        self.assert_delivered(&id, branch);
    }
}

#[test]
fn a_crash_before_or_after_any_git_command_loses_and_doubles_nothing() {
    let mut scene = scene();
    for verb in ["fetch", "read-tree", "status", "add", "commit", "push"] {
        for side in [Side::Before, Side::After] {
            scene.crash_at(side, verb, &format!("crash/{verb}-{side:?}"));
        }
    }
}

#[test]
fn a_git_that_is_killed_says_nothing_about_the_work_and_is_run_again() {
    let scene = scene();
    for (verb, side) in [
        ("fetch", Side::Before),
        ("push", Side::Before),
        ("push", Side::After),
    ] {
        let branch = format!("killed/{verb}-{side:?}");
        scene.shim.stop(side, verb).unwrap();
        let id = scene.server.submit(&scene.job(&branch, "")).unwrap();
        scene.shim.reached().unwrap();
        let all = belonging_to(scene.server.dir());
        let mut gits = all.iter().filter(|one| one.command.contains("shim/git"));
        signal(gits.next().unwrap().pid, Signal::KILL);
        scene.assert_delivered(&id, &branch);
        assert_eq!(scene.server.job(&id).unwrap()["attempt"], 1);
    }
}

#[test]
fn a_crash_right_after_the_answer_to_a_submission_does_not_lose_the_job() {
    let mut scene = scene();
    for n in 0..5 {
        let branch = format!("early/{n}");
        let id = scene.server.submit(&scene.job(&branch, "")).unwrap();
        scene.server.kill().unwrap();
        scene.server.start().unwrap();
        scene.assert_delivered(&id, &branch);
    }
}

#[test]
fn an_agent_survives_a_crash_of_the_server_and_its_result_is_taken_over() {
    let mut scene = scene();
    let (here, go) = (
        scene.server.dir().join("here"),
        scene.server.dir().join("go"),
    );
    let more = format!(
        "write early.txt early\nmark {}\nwait {}\ntext line 40.",
        here.display(),
        go.display()
    );
    let id = scene.server.submit(&scene.job("alive", &more)).unwrap();
    assert!(wait_until(Duration::from_secs(60), || here.exists()));
    scene.server.kill().unwrap();
    scene.server.start().unwrap();
    scene
        .server
        .wait_for(&id, |job| job["phase"] == "agent")
        .unwrap();
    scene.server.kill().unwrap();
    scene.server.start().unwrap();
    std::fs::write(&go, "").unwrap();
    let done = scene.server.wait(&id).unwrap();
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(done["attempt"], 1);
    assert!(done["costUsd"].as_f64().unwrap() > 0.0);
    assert_eq!(std::fs::read_to_string(scene.runs()).unwrap(), "x\n");
    // The workspace is the one it had begun in.
    assert_eq!(scene.repo.show("alive", "early.txt").unwrap(), b"early\n");
    assert_eq!(scene.repo.show("alive", "a.txt").unwrap(), b"alive\n");
}

#[test]
fn a_log_is_complete_and_in_order_however_often_the_server_is_killed_while_it_is_written() {
    let mut scene = scene();
    let lines: String = (0..300).map(|n| format!("text number {n}.\n")).collect();
    let id = scene
        .server
        .submit(&scripted("long", &format!("delay 10ms\n{lines}")))
        .unwrap();
    // The phase is recorded before there is an agent; until it speaks, a crash begins a new attempt.
    let first = "stdout: number 0.";
    let speaks = || {
        let said = scene.server.messages(&id).unwrap();
        said.iter().any(|line| line == first)
    };
    assert!(wait_until(Duration::from_secs(60), speaks));
    for _ in 0..5 {
        scene.server.kill().unwrap();
        scene.server.start().unwrap();
    }
    let done = scene.server.wait(&id).unwrap();
    assert_eq!(
        (&done["status"], &done["attempt"]),
        (&json!("completed"), &json!(1))
    );
    let messages = scene.server.messages(&id).unwrap();
    let said: Vec<_> = messages
        .iter()
        .filter(|line| line.starts_with("stdout: number "))
        .cloned()
        .collect();
    let expected: Vec<_> = (0..300).map(|n| format!("stdout: number {n}.")).collect();
    assert_eq!(said, expected);
    let file = scene.server.data_dir().join("logs").join(&id).join("1.log");
    let raw = scene
        .server
        .client()
        .get(&format!("/jobs/{id}/log"))
        .unwrap()
        .body;
    let content = std::fs::read(file).unwrap();
    assert_eq!(raw, content);
    let sealed = &scene.server.job(&id).unwrap()["logs"][0];
    assert_eq!(sealed["bytes"], content.len());
    let digits = hmac_sha256::Hash::hash(&content).map(|byte| format!("{byte:02x}"));
    assert_eq!(sealed["sha256"], digits.concat());
}

#[test]
fn an_agent_that_ends_while_no_server_is_up_is_delivered_by_the_next_one() {
    let mut scene = scene();
    let (here, go) = (
        scene.server.dir().join("here"),
        scene.server.dir().join("go"),
    );
    let more = format!("mark {}\nwait {}", here.display(), go.display());
    let id = scene.server.submit(&scene.job("alone", &more)).unwrap();
    assert!(wait_until(Duration::from_secs(60), || here.exists()));
    scene.server.kill().unwrap();
    std::fs::write(&go, "").unwrap();
    let exit = scene
        .server
        .data_dir()
        .join(format!("attempts/{id}.1/exit.json"));
    assert!(wait_until(Duration::from_secs(60), || exit.exists()));
    // The supervisor and all below it are gone before anybody asks.
    assert!(wait_until(Duration::from_secs(10), || belonging_to(
        scene.server.dir()
    )
    .is_empty()));
    scene.server.start().unwrap();
    scene.assert_delivered(&id, "alone");
}

#[test]
fn a_crash_while_the_pull_request_is_being_opened_opens_it_once() {
    let mut scene = scene();
    for (n, fault) in [Fault::Hang, Fault::DropAfter].iter().enumerate() {
        let branch = format!("pr/{n}");
        let asked = scene.github.requests().len();
        scene.github.faults().next(1, fault);
        let id = scene.server.submit(&scene.job(&branch, "")).unwrap();
        let posted = || scene.github.requests().len() > asked;
        assert!(wait_until(Duration::from_secs(60), posted));
        scene.server.kill().unwrap();
        scene.server.start().unwrap();
        scene.assert_delivered(&id, &branch);
    }
}

#[test]
fn a_killed_supervisor_takes_its_agent_along_and_the_job_runs_again() {
    let scene = scene();
    let first = scene.server.dir().join("first");
    let script = format!(
        "unless {0} write lost.txt lost\nunless {0} survivor setsid\nif {0} result ok\nif {0} exit 0\nmark {0}\nhang",
        first.display()
    );
    let id = scene.server.submit(&scripted("again", &script)).unwrap();
    assert!(wait_until(Duration::from_secs(60), || first.exists()));
    let supervisor = supervisor_of(scene.server.dir());
    signal(supervisor, Signal::KILL);
    let done = scene.server.wait(&id).unwrap();
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(done["attempt"], 2);
    // The second run's result, and an estimate for the messages of the first: two tool calls.
    let each = 12.0 * 4e-6 + 7.0 * 2e-5 + 2048.0 * 2e-7;
    let cost = done["costUsd"].as_f64().unwrap();
    assert!((cost - 0.0125 - 2.0 * each).abs() < 1e-9, "{done:#}");
    let server = scene.server.pid().unwrap();
    let left = || {
        belonging_to(scene.server.dir())
            .into_iter()
            .filter(|found| found.pid != server)
            .count()
    };
    assert!(wait_until(Duration::from_secs(10), || left() == 0));
}

#[test]
fn a_run_that_had_said_its_result_is_not_paid_for_again_when_its_supervisor_dies() {
    for server_too in [false, true] {
        let mut scene = scene();
        let said = scene.server.dir().join("said");
        let script = format!("write a.txt a\nresult ok\nmark {}\nhang", said.display());
        let id = scene.server.submit(&scripted("over", &script)).unwrap();
        assert!(wait_until(Duration::from_secs(60), || said.exists()));
        let result = || {
            scene
                .server
                .log(&id)
                .unwrap()
                .contains("\"total_cost_usd\"")
        };
        assert!(wait_until(Duration::from_secs(60), result));
        let supervisor = supervisor_of(scene.server.dir());
        if server_too {
            scene.server.kill().unwrap();
        }
        signal(supervisor, Signal::KILL);
        if server_too {
            scene.server.start().unwrap();
        }
        let done = scene.server.wait(&id).unwrap();
        assert_eq!(
            (&done["status"], &done["attempt"], &done["costUsd"]),
            (&json!("completed"), &json!(1), &json!(0.0125)),
            "{done:#}"
        );
        assert_eq!(done["filesChanged"], 1);
    }
}

#[test]
fn a_job_whose_supervisor_dies_every_time_is_poison_and_says_what_was_seen() {
    let scene = scene();
    let id = scene
        .server
        .submit(&scripted("doomed", "write a.txt a\nhang"))
        .unwrap();
    for attempt in 1..=3 {
        let running = |job: &Value| job["phase"] == "agent" && job["attempt"] == attempt;
        scene.server.wait_for(&id, running).unwrap();
        let mut supervisor = None;
        assert!(wait_until(Duration::from_secs(60), || {
            let name = format!("{id}.{attempt}");
            let found = belonging_to(scene.server.dir());
            supervisor = found
                .iter()
                .find(|one| one.command.contains("supervise") && one.command.contains(&name))
                .map(|one| one.pid);
            let recorded = scene
                .server
                .data_dir()
                .join("attempts")
                .join(&name)
                .join("supervisor.json");
            supervisor.is_some() && recorded.exists()
        }));
        signal(supervisor.unwrap(), Signal::KILL);
    }
    let done = scene.server.wait(&id).unwrap();
    assert_eq!(done["reason"], "poison", "{done:#}");
    assert_eq!(done["attempt"], 3);
    let history = scene.server.client().get(&format!("/jobs/{id}/history"));
    let history = history.unwrap().expect(200).unwrap();
    for attempt in 1..=3 {
        let named = format!("attempt {attempt} at 2");
        assert!(done["error"].as_str().unwrap().contains(&named), "{done:#}");
        let told = history["history"].as_array().unwrap().iter();
        let details = told.filter_map(|entry| entry["detail"].as_str());
        assert_eq!(
            details.filter(|it| it.contains(&named)).count(),
            1,
            "{history:#}"
        );
    }
}

fn supervisor_of(dir: &Path) -> i32 {
    let found = belonging_to(dir);
    let supervisor = found.iter().find(|one| one.command.contains(" supervise "));
    supervisor
        .unwrap_or_else(|| panic!("no supervisor among {found:?}"))
        .pid
}
