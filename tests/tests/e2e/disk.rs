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
