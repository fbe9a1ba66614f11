//! A disk that fills up: what is refused, what goes on, and that all of it ends well.

use std::fs;
use std::time::Duration;

use agent_tests::job::{body, nothing_is_left, reached};
use agent_tests::process::wait_until;
use agent_tests::repo::BareRepo;
use agent_tests::server::{Builder, Server};
use agent_tests::small_disk::SmallDisk;
use serde_json::Value;

/// The server looks at its volumes once a second.
const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// A server whose data directory is on a small disk; that is unmounted first.
struct Bed {
    disk: SmallDisk,
    server: Server,
    repo: BareRepo,
}

fn start(mebibytes: u32, env: &[(&str, &str)]) -> Bed {
    let builder = Builder::new().unwrap();
    let data = builder.dir().join("data");
    let disk = SmallDisk::mount(&data, mebibytes).unwrap();
    let repo = builder.repo("acme", "app").unwrap();
    let builder = env
        .iter()
        .fold(builder.env("DATA_DIR", data), |builder, (name, value)| {
            builder.env(name, *value)
        });
    let server = builder.start().unwrap();
    Bed { disk, server, repo }
}

impl Bed {
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
}

#[test]
fn below_the_watermark_nothing_new_is_taken_and_all_goes_on_by_itself_when_there_is_room() {
    let bed = start(
        64,
        &[("DISK_MIN_FREE", "16M"), ("MAX_CONCURRENT_JOBS", "1")],
    );
    let Bed { disk, server, .. } = &bed;
    let (here, go) = (server.dir().join("here"), server.dir().join("go"));
    let script = format!(
        "mark {}\nwait {}\nwrite a.txt one",
        here.display(),
        go.display()
    );
    bed.becomes_ready(true);
    let running = server.submit(&bed.job("one", &script)).unwrap();
    reached(&here).unwrap();
    let queued = server.submit(&bed.job("two", "write b.txt two")).unwrap();

    disk.fill(8 * MIB).unwrap();
    bed.becomes_ready(false);
    assert_eq!(bed.ready().1["checks"]["disk"]["ok"], false);
    assert_eq!(server.client().get("/livez").unwrap().status, 200);
    let refused = server
        .client()
        .post("/jobs", &bed.job("three", ""))
        .unwrap();
    let problem = refused.expect(503).unwrap();
    assert_eq!(problem["code"], "disk_low");
    let sentence = problem["error"].as_str().unwrap();
    assert!(
        sentence.contains("free, 16.0 MiB wanted") && sentence.contains("/data"),
        "{sentence}"
    );
    assert!(refused.header("retry-after").is_some());

    fs::write(&go, "").unwrap();
    let ended = server.wait(&running).unwrap();
    assert_eq!(ended["status"], "completed", "what runs goes on: {ended:#}");
    // The slot is free, and still nothing is claimed.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(server.job(&queued).unwrap()["status"], "queued");

    disk.make_room().unwrap();
    let ended = server.wait(&queued).unwrap();
    assert_eq!(ended["status"], "completed", "{ended:#}");
    bed.becomes_ready(true);
    nothing_is_left(server).unwrap();
}

/// A server on a full disk, with a job at work until it is told to go on, and one in the queue.
fn full(reserve: &str) -> (Bed, String, String) {
    let bed = start(
        48,
        &[
            ("DISK_MIN_FREE", "4M"),
            ("DISK_RESERVE", reserve),
            ("MAX_CONCURRENT_JOBS", "1"),
        ],
    );
    let Bed { disk, server, .. } = &bed;
    let (here, go) = (server.dir().join("here"), server.dir().join("go"));
    let script = format!(
        "mark {}\nwait {}\nwrite a.txt one",
        here.display(),
        go.display()
    );
    let running = server.submit(&bed.job("one", &script)).unwrap();
    reached(&here).unwrap();
    let queued = server.submit(&bed.job("two", "write b.txt two")).unwrap();
    let whole = || (reserve == "0") == pieces(disk).is_empty();
    assert!(wait_until(SOON, whole));
    disk.fill(0).unwrap();
    bed.becomes_ready(false);
    (bed, running, queued)
}

/// The names of the reserve's files.
fn pieces(disk: &SmallDisk) -> Vec<String> {
    let files = fs::read_dir(disk.path()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".reserve.")).collect()
}

#[test]
fn on_a_full_disk_what_becomes_of_a_job_is_stored_at_the_cost_of_the_reserve() {
    let (bed, running, queued) = full("8M");
    let Bed { disk, server, .. } = &bed;
    let cancel = format!("/jobs/{queued}/cancel");
    let reply = server
        .client()
        .post(&cancel, &serde_json::json!({}))
        .unwrap();
    assert_eq!(reply.expect(200).unwrap()["status"], "cancelled");
    assert_eq!(pieces(disk).len(), 7);

    fs::write(server.dir().join("go"), "").unwrap();
    disk.make_room().unwrap();
    let ended = server.wait(&running).unwrap();
    assert_eq!(ended["status"], "completed", "{ended:#}");
    bed.becomes_ready(true);
    assert!(wait_until(SOON, || pieces(disk).len() == 8));
    nothing_is_left(server).unwrap();
}

#[test]
fn without_a_reserve_a_full_disk_refuses_a_change_and_keeps_what_was_acknowledged() {
    let (bed, running, queued) = full("0");
    let Bed { disk, server, .. } = &bed;
    let cancel = format!("/jobs/{queued}/cancel");
    let refused = server
        .client()
        .post(&cancel, &serde_json::json!({}))
        .unwrap();
    assert_eq!(refused.expect(503).unwrap()["code"], "disk_full");
    assert_eq!(server.job(&queued).unwrap()["status"], "queued");

    fs::write(server.dir().join("go"), "").unwrap();
    disk.make_room().unwrap();
    for job in [&running, &queued] {
        let ended = server.wait(job).unwrap();
        assert_eq!(ended["status"], "completed", "{ended:#}");
    }
    nothing_is_left(server).unwrap();
}

#[test]
fn a_server_killed_on_a_full_disk_starts_again_and_has_lost_nothing() {
    let (mut bed, running, queued) = full("8M");
    bed.server.kill().unwrap();
    bed.server.start().unwrap();
    let Bed { disk, server, .. } = &bed;
    for (job, status) in [(&running, "running"), (&queued, "queued")] {
        assert_eq!(server.job(job).unwrap()["status"], status);
    }
    fs::write(server.dir().join("go"), "").unwrap();
    disk.make_room().unwrap();
    for job in [&running, &queued] {
        let ended = server.wait(job).unwrap();
        assert_eq!(ended["status"], "completed", "{ended:#}");
        assert_eq!(ended["attempt"], 1);
    }
    nothing_is_left(server).unwrap();
}
