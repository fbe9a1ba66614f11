//! A disk that fills up: what is refused, what waits, what goes on, and that all of it ends well.
//!
//! Each test fills a small file system of its own, mounted where the server keeps one kind of things.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use agent_tests::job::{body, nothing_is_left, reached};
use agent_tests::process::wait_until;
use agent_tests::repo::{BareRepo, git};
use agent_tests::server::{Builder, Server};
use agent_tests::small_disk::SmallDisk;
use serde_json::{Value, json};

use crate::once;

/// The server looks at its volumes once a second.
const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

const DATA: &str = "home/agent-server";
const ATTEMPTS: &str = "home/agent-server/attempts";
const LOGS: &str = "home/agent-server/logs";
const MIRRORS: &str = "home/repos";
const WORKSPACES: &str = "home/worktrees";
const REMOTES: &str = "remotes";

/// A server with a small disk for some of its directories; that is unmounted first.
struct Scene {
    disk: SmallDisk,
    server: Server,
    repo: BareRepo,
}

fn start(place: &str, mebibytes: u32, env: &[(&str, &str)]) -> Scene {
    let builder = Builder::new().unwrap();
    let disk = SmallDisk::mount(&builder.dir().join(place), mebibytes).unwrap();
    let repo = builder.repo("acme", "app").unwrap();
    let with = |builder: Builder, (name, value): &(&str, &str)| builder.env(name, *value);
    let server = env.iter().fold(builder, with).start().unwrap();
    Scene { disk, server, repo }
}

impl Scene {
    fn ready(&self) -> (u16, Value) {
        let reply = self.server.client().get("/readyz").unwrap();
        (reply.status, reply.json())
    }

    fn becomes_ready(&self, wanted: bool) {
        let turned = wait_until(SOON, || (self.ready().0 == 200) == wanted);
        assert!(turned, "{:?}", self.ready());
    }

    fn job(&self, branch: &str, script: &str) -> Value {
        body(&self.repo, branch, script)
    }

    fn submit(&self, branch: &str, script: &str) -> String {
        self.server.submit(&self.job(branch, script)).unwrap()
    }

    /// Submits a job and waits until its agent is at work; from [`Scene::go`] on it does the rest.
    fn at_work(&self, branch: &str, rest: &str) -> String {
        let (here, go) = (self.server.dir().join(branch), self.go_file());
        let (mark, wait) = (here.display(), go.display());
        let id = self.submit(branch, &format!("mark {mark}\nwait {wait}\n{rest}"));
        reached(&here).unwrap();
        id
    }

    fn go(&self) {
        fs::write(self.go_file(), "").unwrap();
    }

    fn go_file(&self) -> PathBuf {
        self.server.dir().join("go")
    }

    fn waits(&self, id: &str) -> Value {
        let waits = |job: &Value| job["phaseDetail"] == "waiting for disk space";
        self.server.wait_for(id, waits).unwrap()
    }

    fn completes(&self, id: &str) -> Value {
        let ended = self.server.wait(id).unwrap();
        assert_eq!(ended["status"], "completed", "{ended:#}");
        assert_eq!(ended["phaseDetail"], Value::Null);
        ended
    }

    fn cancel(&self, id: &str) -> agent_tests::client::Reply {
        let cancel = format!("/jobs/{id}/cancel");
        self.server.client().post(&cancel, &json!({})).unwrap()
    }

    /// The names of the reserve's files.
    fn reserve(&self) -> Vec<String> {
        let files = fs::read_dir(self.disk.path()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains(".reserve.")).collect()
    }
}

#[test]
fn below_the_watermark_nothing_new_is_taken_and_all_goes_on_by_itself_when_there_is_room() {
    let scene = start(
        DATA,
        64,
        &[("DISK_MIN_FREE", "16M"), ("MAX_CONCURRENT_JOBS", "1")],
    );
    let Scene { disk, server, .. } = &scene;
    scene.becomes_ready(true);
    let running = scene.at_work("one", "write a.txt one");
    let queued = scene.submit("two", "write b.txt two");

    disk.fill(8 * MIB).unwrap();
    scene.becomes_ready(false);
    assert_eq!(scene.ready().1["checks"]["disk"]["ok"], false);
    assert_eq!(server.client().get("/livez").unwrap().status, 200);
    let refused = server
        .client()
        .post("/jobs", &scene.job("three", ""))
        .unwrap();
    let problem = refused.expect(503).unwrap();
    assert_eq!(problem["code"], "disk_low");
    let sentence = problem["error"].as_str().unwrap();
    assert!(
        sentence.contains("free, 16.0 MiB wanted") && sentence.contains("/agent-server"),
        "{sentence}"
    );
    assert!(refused.header("retry-after").is_some());

    scene.go();
    scene.completes(&running);
    // The slot is free, and still nothing is claimed.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(server.job(&queued).unwrap()["status"], "queued");

    disk.make_room().unwrap();
    scene.completes(&queued);
    scene.becomes_ready(true);
    nothing_is_left(server).unwrap();
}

/// A server whose database is on a full disk, with a job at work and one in the queue.
fn full(reserve: &str) -> (Scene, String, String) {
    let env = [
        ("DISK_MIN_FREE", "4M"),
        ("DISK_RESERVE", reserve),
        ("MAX_CONCURRENT_JOBS", "1"),
    ];
    let scene = start(DATA, 48, &env);
    let running = scene.at_work("one", "write a.txt one");
    let queued = scene.submit("two", "write b.txt two");
    let whole = || (reserve == "0") == scene.reserve().is_empty();
    assert!(wait_until(SOON, whole));
    scene.disk.fill(0).unwrap();
    scene.becomes_ready(false);
    (scene, running, queued)
}

#[test]
fn on_a_full_disk_a_change_is_stored_at_the_cost_of_the_reserve_or_refused() {
    for (reserve, status) in [("8M", 200), ("0", 503)] {
        let (scene, running, queued) = full(reserve);
        let answer = scene.cancel(&queued).expect(status).unwrap();
        let after = scene.server.job(&queued).unwrap();
        if status == 200 {
            assert_eq!(answer["status"], "cancelled");
            assert_eq!(scene.reserve().len(), 7);
        } else {
            assert_eq!(
                (&answer["code"], &after["status"]),
                (&json!("disk_full"), &json!("queued"))
            );
        }
        scene.go();
        scene.disk.make_room().unwrap();
        scene.completes(&running);
        if status == 503 {
            scene.completes(&queued);
        } else {
            assert!(wait_until(SOON, || scene.reserve().len() == 8));
        }
        scene.becomes_ready(true);
        nothing_is_left(&scene.server).unwrap();
    }
}

#[test]
fn a_server_killed_on_a_full_disk_starts_again_and_has_lost_nothing() {
    let (mut scene, running, queued) = full("8M");
    scene.server.kill().unwrap();
    scene.server.start().unwrap();
    for (job, status) in [(&running, "running"), (&queued, "queued")] {
        assert_eq!(scene.server.job(job).unwrap()["status"], status);
    }
    scene.go();
    scene.disk.make_room().unwrap();
    for job in [&running, &queued] {
        assert_eq!(scene.completes(job)["attempt"], 1);
    }
    nothing_is_left(&scene.server).unwrap();
}

#[test]
fn a_request_that_cannot_be_stored_changes_nothing_and_the_same_one_is_taken_when_there_is_room() {
    let scene = start(DATA, 32, &[("DISK_RESERVE", "0")]);
    let first = scene.submit("one", "write a.txt one");
    scene.completes(&first);
    scene.disk.fill(0).unwrap();
    // More than what is left of files that are there already.
    let large = scene.job("two", &"# \n".repeat(200_000));
    let post = || once::post(&scene.server, "of-the-second", &large).unwrap();
    assert_eq!(post().expect(503).unwrap()["code"], "disk_full");
    let jobs = || {
        let listed = scene.server.client().get("/jobs").unwrap();
        listed.expect(200).unwrap()["total"].clone()
    };
    assert_eq!(jobs(), 1, "neither the job nor the key is stored");
    scene.disk.make_room().unwrap();
    let taken = post().expect(201).unwrap();
    assert_eq!(post().expect(201).unwrap()["id"], taken["id"]);
    scene.completes(taken["id"].as_str().unwrap());
    assert_eq!(jobs(), 2);
    nothing_is_left(&scene.server).unwrap();
}

#[test]
fn ended_jobs_are_forgotten_on_a_full_disk_too() {
    let scene = start(DATA, 32, &[]);
    let ended = scene.submit("one", "write a.txt one");
    scene.completes(&ended);
    assert!(wait_until(SOON, || scene.reserve().len() == 8));
    scene.disk.fill(0).unwrap();
    let Scene {
        disk, mut server, ..
    } = scene;
    server.kill().unwrap();
    server.set_env("LOGS_MAX_BYTES", "1");
    server.start().unwrap();
    let total = || server.client().get("/jobs").unwrap().json()["total"].clone();
    assert!(wait_until(SOON, || total() == 0));
    assert!(!server.data_dir().join("logs").join(&ended).exists());
    drop((disk, server));
}

#[test]
fn a_job_that_finds_no_room_before_its_agent_runs_waits_in_the_queue_for_it() {
    let scenes: Vec<_> = [MIRRORS, WORKSPACES, ATTEMPTS]
        .map(|place| {
            let scene = start(place, 8, &[]);
            scene.disk.fill(0).unwrap();
            let id = scene.submit("one", "write a.txt one");
            (place, scene, id)
        })
        .into();
    for (place, scene, id) in &scenes {
        let parked = |job: &Value| job["status"] == "queued" && job["reason"] == "disk_full";
        let job = scene.server.wait_for(id, parked).unwrap();
        assert!(job["notBefore"].is_string(), "{place}: {job:#}");
        assert_eq!(scene.server.workspaces(), Vec::<PathBuf>::new(), "{place}");
    }
    for (_, scene, id) in &scenes {
        scene.disk.make_room().unwrap();
        let ended = scene.completes(id);
        assert!(ended["attempt"].as_u64().unwrap() > 1, "{ended:#}");
        nothing_is_left(&scene.server).unwrap();
    }
}

#[test]
fn work_that_is_paid_for_waits_for_room_until_it_is_kept_or_its_job_is_cancelled() {
    let env = [("DISK_MIN_FREE", "1M"), ("MAX_CONCURRENT_JOBS", "3")];
    let scene = start(MIRRORS, 16, &env);
    let done = scene.at_work("done", "write a.txt one");
    let failing = scene.at_work("failing", "write b.txt two\nresult execution_error no");
    let cancelled = scene.at_work("cancelled", "write c.txt three");
    scene.disk.fill(0).unwrap();
    scene.becomes_ready(false);
    scene.go();
    for (id, phase) in [
        (&done, "delivering"),
        (&failing, "agent"),
        (&cancelled, "delivering"),
    ] {
        let job = scene.waits(id);
        assert_eq!(
            (&job["status"], &job["phase"]),
            (&json!("running"), &json!(phase))
        );
    }
    assert_eq!(
        scene.cancel(&cancelled).expect(200).unwrap()["status"],
        "cancelled"
    );
    // Several tries later it has been said once.
    std::thread::sleep(Duration::from_secs(5));
    let log = scene.server.log(&done).unwrap();
    assert_eq!(log.matches("waiting for it").count(), 1, "{log}");

    scene.disk.make_room().unwrap();
    assert_eq!(scene.completes(&done)["attempt"], 1);
    assert_eq!(scene.repo.git(&["show", "done:a.txt"]).unwrap(), "one");
    let failed = scene.server.wait(&failing).unwrap();
    assert_eq!(
        (&failed["status"], &failed["reason"]),
        (&json!("failed"), &json!("agent_failed"))
    );
    for (id, file, text) in [(&failing, "b.txt", "two"), (&cancelled, "c.txt", "three")] {
        let kept = |job: &Value| job["savedRef"].is_string();
        let saved = scene.server.wait_for(id, kept).unwrap()["savedRef"].clone();
        let spec = format!("{}:{file}", saved.as_str().unwrap());
        let mirror = scene.server.mirror(&scene.repo);
        assert_eq!(git(&mirror, &["show", &spec]).unwrap(), text);
    }
    assert!(wait_until(SOON, || scene.server.workspaces().is_empty()));
    nothing_is_left(&scene.server).unwrap();
}

#[test]
fn a_pushed_branch_is_noted_once_there_is_room_so_that_a_repetition_takes_another_name() {
    let scene = start(MIRRORS, 8, &[("DISK_MIN_FREE", "1M")]);
    // The disk fills up after the remote has taken the branch.
    let filler = scene.disk.path().join("filler");
    let hook = scene.repo.path().join("hooks/post-receive");
    let fill = format!(
        "#!/bin/sh\nhead -c 9000000 /dev/zero > {}\n",
        filler.display()
    );
    fs::write(&hook, fill).unwrap();
    fs::set_permissions(&hook, Permissions::from_mode(0o755)).unwrap();
    let first = scene.submit("one", "write a.txt one");
    scene.waits(&first);
    assert_eq!(scene.repo.git(&["show", "one:a.txt"]).unwrap(), "one");
    fs::remove_file(&hook).unwrap();
    scene.disk.make_room().unwrap();
    scene.completes(&first);
    scene.becomes_ready(true);

    let retry = format!("/jobs/{first}/retry");
    let retried = scene.server.client().post(&retry, &json!({})).unwrap();
    let retried = retried.expect(201).unwrap();
    assert_eq!(retried["branchName"], "one-retry-1", "{retried:#}");
    scene.completes(retried["id"].as_str().unwrap());
    nothing_is_left(&scene.server).unwrap();
}

#[test]
fn an_agent_waits_while_its_log_or_its_exit_record_finds_no_room() {
    for place in [LOGS, ATTEMPTS] {
        let scene = start(place, 8, &[]);
        let id = scene.at_work("one", "text last words\nwrite a.txt one");
        scene.disk.fill(0).unwrap();
        scene.go();
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(
            scene.server.job(&id).unwrap()["status"],
            "running",
            "{place}"
        );
        scene.disk.make_room().unwrap();
        assert_eq!(scene.completes(&id)["attempt"], 1);
        let log = scene.server.log(&id).unwrap();
        assert_eq!(log.matches("last words").count(), 1, "{log}");
        nothing_is_left(&scene.server).unwrap();
    }
}

#[test]
fn an_agent_that_finds_no_room_itself_fails_as_it_says_and_a_full_remote_refuses() {
    let own = start(WORKSPACES, 8, &[]);
    let id = own.at_work(
        "one",
        "shell head -c 1000000 /dev/zero > a.bin\nresult execution_error full",
    );
    own.disk.fill(0).unwrap();
    own.go();
    let ended = own.server.wait(&id).unwrap();
    assert_eq!(
        (&ended["status"], &ended["reason"]),
        (&json!("failed"), &json!("agent_failed"))
    );

    let far = start(REMOTES, 8, &[]);
    let id = far.at_work("one", "write a.txt one");
    far.disk.fill(0).unwrap();
    far.go();
    let ended = far.server.wait(&id).unwrap();
    assert_eq!(
        (&ended["status"], &ended["reason"]),
        (&json!("failed"), &json!("git"))
    );
    assert!(ended["savedRef"].is_string(), "{ended:#}");
    far.disk.make_room().unwrap();
    for scene in [own, far] {
        nothing_is_left(&scene.server).unwrap();
    }
}
