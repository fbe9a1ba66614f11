//! Jobs on a GitHub Enterprise server without a token of the server's own: pull requests through
//! the real `gh` and the operator's login.

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent_tests::fault::Fault;
use agent_tests::github::GitHub;
use agent_tests::repo::BareRepo;
use agent_tests::server::{Builder, Server};
use agent_tests::tls::Certificate;
use agent_tests::{job, process};
use serde_json::{Value, json};

use crate::scripted;

const TOKEN: &str = "ghp_token_of_the_login";

struct Scene {
    builder: Builder,
    github: GitHub,
    repo: BareRepo,
}

/// Nobody is logged in yet; git reaches the repository as a file.
fn scene() -> Scene {
    let certificate = Certificate::localhost().unwrap();
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "site").unwrap();
    let github = GitHub::start_enterprise(TOKEN, &certificate).unwrap();
    github.add(&repo);
    let trusted = builder.dir().join("ca.crt");
    fs::write(&trusted, certificate.pem()).unwrap();
    let builder = builder
        .env("GITHUB_API_URL", github.url())
        .env("SSL_CERT_FILE", trusted);
    Scene {
        builder,
        github,
        repo,
    }
}

/// Writes what `gh auth login` writes to `dir`.
fn log_in(dir: &Path, logins: &[(&str, &str)]) {
    fs::create_dir_all(dir).unwrap();
    let hosts = logins
        .iter()
        .map(|(host, token)| format!("{host}:\n    oauth_token: {token}\n"));
    fs::write(dir.join("hosts.yml"), hosts.collect::<String>()).unwrap();
}

impl Scene {
    /// Logs in as an operator does who says nothing of where to.
    fn logged_in(self, token: &str) -> Self {
        let home = self.builder.dir().join("home/.config/gh");
        log_in(&home, &[(&self.github.host(), token)]);
        self
    }
}

fn run(server: &Server, body: &Value) -> Value {
    server.wait(&server.submit(body).unwrap()).unwrap()
}

/// Runs a job that must fail before its agent starts, and returns what it says.
fn refused(scene: Scene) -> String {
    let ran = scene.builder.dir().join("ran");
    let server = scene.builder.start().unwrap();
    let done = run(&server, &scripted("x", &format!("mark {}", ran.display())));
    assert_eq!(done["reason"], "delivery", "{done:#}");
    assert!(!ran.exists());
    assert_eq!(scene.repo.rev("x"), None);
    assert!(!server.output().contains(TOKEN));
    done["error"].as_str().unwrap().to_owned()
}

#[test]
fn gh_opens_a_pull_request_whose_title_arrives_byte_for_byte() {
    let scene = scene().logged_in(TOKEN);
    let server = scene.builder.start().unwrap();
    let title = "@/etc/passwd {owner} --web \"; rm -rf / # $(id) `id` \\n %s \u{1f980}'";
    let mut body = scripted("feature/x", "write a.txt a");
    body["title"] = json!(title);
    let done = run(&server, &body);
    assert_eq!(done["status"], "completed", "{done:#}");
    let pulls = scene.github.pulls("acme", "site");
    assert_eq!(pulls.len(), 1);
    assert_eq!(pulls[0]["title"], title);
    assert_eq!(
        pulls[0]["body"],
        "Automated by Claude Code Agent\n\nFeature ID: N/A"
    );
    assert_eq!(pulls[0]["base"]["ref"], "main");
    assert_eq!(done["prNumber"], pulls[0]["number"]);
    assert_eq!(done["prUrl"], pulls[0]["html_url"]);
    assert_eq!(scene.repo.subject("feature/x").unwrap(), title);
    for request in scene.github.requests() {
        let agent = request.header("user-agent").unwrap();
        assert!(agent.starts_with("GitHub CLI "), "{agent}");
    }
    assert!(!server.output().contains(TOKEN));
}

#[test]
fn a_pull_request_whose_answer_was_lost_is_found_by_gh() {
    let scene = scene().logged_in(TOKEN);
    let dir = scene.builder.dir().to_owned();
    let (began, go) = (dir.join("began"), dir.join("go"));
    let server = scene.builder.start().unwrap();
    let script = format!(
        "mark {}\nwait {}\nwrite a.txt a",
        began.display(),
        go.display()
    );
    let id = server.submit(&scripted("twice", &script)).unwrap();
    job::reached(&began).unwrap();
    // The server has asked who it is when it started, and before the agent did.
    let asked = || scene.github.requests().len() == 2;
    assert!(process::wait_until(Duration::from_secs(60), asked));
    // A question that gets no answer is no missing login; a pull request without one is there.
    scene.github.faults().next(2, &Fault::DropAfter);
    fs::write(go, "").unwrap();
    let done = server.wait(&id).unwrap();
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(scene.github.faults().pending(), 0);
    let pulls = scene.github.pulls("acme", "site");
    assert_eq!(pulls.len(), 1);
    assert_eq!(done["prNumber"], pulls[0]["number"]);
    let requests = scene.github.requests();
    let posts = requests.iter().filter(|request| request.method == "POST");
    assert_eq!(posts.count(), 2);
}

#[test]
fn a_login_in_a_directory_of_its_own_serves_whatever_became_of_other_logins() {
    let mut scene = scene();
    let dir = scene.builder.dir().join("gh");
    log_in(
        &dir,
        &[
            ("127.0.0.1:9", "ghp_expired"),
            (&scene.github.host(), TOKEN),
        ],
    );
    scene.builder = scene.builder.env("GH_CONFIG_DIR", dir);
    let done = run(
        &scene.builder.start().unwrap(),
        &scripted("y", "write a.txt a"),
    );
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(scene.github.pulls("acme", "site").len(), 1);
}

#[test]
fn the_token_that_gh_takes_from_the_environment_serves_and_the_agent_does_not_see_it() {
    let mut scene = scene();
    scene.builder = scene.builder.env("GH_ENTERPRISE_TOKEN", TOKEN);
    let server = scene.builder.start().unwrap();
    let done = run(&server, &scripted("z", "shell env > env.txt"));
    assert_eq!(done["status"], "completed", "{done:#}");
    let seen = String::from_utf8(scene.repo.show("z", "env.txt").unwrap()).unwrap();
    assert!(seen.contains("PATH="), "{seen}");
    assert!(!seen.contains(TOKEN), "{seen}");
    assert_eq!(scene.github.pulls("acme", "site").len(), 1);
}

#[test]
fn without_a_login_the_job_fails_before_it_costs_anything_and_says_what_to_do() {
    let scene = scene();
    let host = scene.github.host();
    let said = refused(scene);
    assert!(
        said.contains(&format!("gh is not logged in to {host}")),
        "{said}"
    );
    assert!(said.contains("set GITHUB_TOKEN"), "{said}");
    assert!(
        said.contains(&format!("gh auth login --hostname {host}")),
        "{said}"
    );
}

#[test]
fn an_expired_login_is_none() {
    let said = refused(scene().logged_in("ghp_expired"));
    assert!(said.contains("gh auth login"), "{said}");
}
