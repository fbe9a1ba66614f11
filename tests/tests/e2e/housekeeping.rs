//! What is left behind is looked through when a server starts: by the state of each job.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use agent_tests::job::{body, nothing_is_left, reached};
use agent_tests::process::wait_until;
use agent_tests::repo::{BareRepo, git};
use agent_tests::server::{Builder, Server};

const SOON: Duration = Duration::from_secs(60);

fn start() -> (Server, BareRepo) {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "app").unwrap();
    (builder.start().unwrap(), repo)
}

fn workspace(server: &Server, id: &str) -> PathBuf {
    server.home().join("worktrees/acme/app").join(id)
}

#[test]
fn a_workspace_goes_when_its_job_has_ended_and_not_before_and_its_work_is_kept() {
    let (mut server, repo) = start();
    let ended = server
        .submit(&body(&repo, "one", "result execution_error no"))
        .unwrap();
    assert_eq!(server.wait(&ended).unwrap()["status"], "failed");
    let (here, go) = (server.dir().join("here"), server.dir().join("go"));
    let script = format!(
        "write mine.txt mine\nmark {}\nwait {}",
        here.display(),
        go.display()
    );
    let running = server.submit(&body(&repo, "two", &script)).unwrap();
    reached(&here).unwrap();
    server.kill().unwrap();

    // As if the server had been killed before it removed them.
    let left = workspace(&server, &ended);
    let unknown = workspace(&server, &"7".repeat(32));
    let trash = workspace(&server, ".removed-x-0");
    for dir in [&left, &unknown, &trash] {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("half.txt"), "half").unwrap();
    }
    server.start().unwrap();
    assert!(wait_until(SOON, || !left.exists() && !trash.exists()));
    assert!(
        unknown.join("half.txt").exists(),
        "nobody knows whose it is"
    );
    assert!(
        workspace(&server, &running).join("mine.txt").exists(),
        "taken away from a running job"
    );
    let noted = server.wait_for(&ended, |job| job["savedRef"].is_string());
    let saved = noted.unwrap()["savedRef"].as_str().unwrap().to_owned();
    let kept = git(
        &server.mirror(&repo),
        &["show", &format!("{saved}:half.txt")],
    );
    assert_eq!(kept.unwrap(), "half");

    fs::write(&go, "").unwrap();
    assert_eq!(server.wait(&running).unwrap()["status"], "completed");
    fs::remove_dir_all(&unknown).unwrap();
    nothing_is_left(&server).unwrap();
}
