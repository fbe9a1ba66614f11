//! Remotes behind HTTP, with a token that goes to them and nowhere else.

use std::fs;
use std::process::Command;

use agent_domain::{RepoSlug, Secret};
use agent_git::{Git, GitError};
use base64::Engine as _;

use crate::bed::{Bed, branch, config, job};
use crate::http_backend::HttpBackend;

const TOKEN: &str = "ghp_hunter2hunter2hunter2";

fn encoded(token: &str) -> String {
    let pair = format!("x-access-token:{token}");
    base64::engine::general_purpose::STANDARD.encode(pair)
}

/// A server of the bed's remote that lets `TOKEN` in.
fn serve(bed: &Bed) -> HttpBackend {
    let expected = format!("Basic {}", encoded(TOKEN));
    HttpBackend::start(&bed.path().join("remote"), Some(expected))
}

/// A git that has `token` for `server`.
fn client(bed: &Bed, server: &HttpBackend, token: &str) -> Git {
    let mut config = config(bed.path(), &server.url());
    config.token = Some(Secret::new(token));
    Git::new(config).unwrap()
}

async fn fetch_error(git: &Git, repo: &RepoSlug) -> GitError {
    git.fetch_base(repo, &branch("main")).await.unwrap_err()
}

/// A whole job, with a commit large enough to be sent in chunks.
async fn whole_job(bed: &Bed, git: &Git) {
    let x = branch("x");
    let base = git.fetch_base(&bed.repo, &branch("main")).await.unwrap();
    let workspace = git
        .add_workspace(&bed.repo, job(1), &x, &base, bed.layout)
        .await;
    let workspace = workspace.unwrap();
    let numbers = (0..800_000_u32).map(|n| n.wrapping_mul(2_654_435_761));
    let noise: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
    fs::write(workspace.path().join("big"), noise).unwrap();
    let head = git.commit_all(&workspace, "m").await.unwrap();
    for _ in 0..2 {
        git.push(&bed.repo, &head, &x).await.unwrap();
    }
    let removed = git.remove_workspace(&bed.repo, job(1), &x).await;
    removed.unwrap();
    assert_eq!(bed.on_remote("x"), head.as_str());
}

#[tokio::test]
async fn a_job_goes_through_with_a_token_that_stays_off_the_disk() {
    let bed = Bed::new();
    // A helper of the operator's that would write down whatever worked.
    fs::create_dir_all(bed.path().join("home")).unwrap();
    let text = "[credential]\n\thelper = store\n";
    fs::write(bed.path().join("home/.gitconfig"), text).unwrap();
    let server = serve(&bed);
    whole_job(&bed, &client(&bed, &server, TOKEN)).await;
    let pushed = |(line, let_in): &(String, bool)| line.contains("git-receive-pack") && *let_in;
    assert!(server.requests().iter().any(pushed));

    let encoded = encoded(TOKEN);
    let found = Command::new("grep")
        .args(["-rlF", "-e", TOKEN, "-e", &encoded])
        .arg(bed.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[tokio::test]
async fn a_wrong_token_is_final_and_not_shown() {
    let bed = Bed::new();
    let server = serve(&bed);
    let git = client(&bed, &server, "ghp_wrongwrong");
    let error = fetch_error(&git, &bed.repo).await;
    assert!(matches!(error, GitError::Denied { .. }), "{error}");
    assert!(!error.is_transient());
    assert!(!format!("{error} {error:?}").contains("wrongwrong"));
}

#[tokio::test]
async fn a_server_in_trouble_is_transient_and_a_missing_repository_is_not() {
    let bed = Bed::new();
    let server = serve(&bed);
    let git = client(&bed, &server, TOKEN);
    for fault in [
        "503 Service Unavailable",
        "429 Too Many Requests",
        "500 Internal Server Error",
    ] {
        server.fail_next(fault);
        let error = fetch_error(&git, &bed.repo).await;
        assert!(error.is_transient(), "{fault}: {error}");
    }
    let fetched = git.fetch_base(&bed.repo, &branch("main")).await;
    fetched.unwrap();

    let nowhere = RepoSlug::new("org", "nowhere").unwrap();
    let error = fetch_error(&git, &nowhere).await;
    assert!(matches!(error, GitError::NotFound { .. }), "{error}");

    drop(server);
    let error = fetch_error(&git, &bed.repo).await;
    assert!(matches!(error, GitError::Network { .. }), "{error}");
}

#[tokio::test]
async fn a_redirect_to_another_server_does_not_get_the_token() {
    let bed = Bed::new();
    let (server, thief) = (serve(&bed), serve(&bed));
    let git = client(&bed, &server, TOKEN);
    let target = format!(
        "{}org/repo.git/info/refs?service=git-upload-pack",
        thief.url()
    );
    server.fail_next(&format!("301 Moved Permanently\r\nLocation: {target}"));
    let error = fetch_error(&git, &bed.repo).await;
    assert!(!error.is_transient(), "{error}");
    let seen = thief.requests();
    assert!(!seen.is_empty(), "the redirect was not followed");
    assert!(seen.iter().all(|(_, let_in)| !let_in), "{seen:?}");
}

#[tokio::test]
async fn a_token_is_in_no_argument_and_no_variable() {
    let bed = Bed::new();
    // A git that notes how it was called, and does it.
    let bin = bed.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let calls = bed.path().join("calls");
    let real = Command::new("sh").args(["-c", "command -v git"]).output();
    let real = String::from_utf8(real.unwrap().stdout).unwrap();
    let seen = bed.path().join("seen");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\n{{ echo \"$@\"; env; }} >> {}\nexec {} \"$@\"\n",
        calls.display(),
        seen.display(),
        real.trim()
    );
    fs::write(bin.join("script"), script).unwrap();
    let install = Command::new("install")
        .args(["-m", "755"])
        .args([bin.join("script"), bin.join("git")])
        .status();
    assert!(install.unwrap().success());
    let server = serve(&bed);
    let mut config = config(bed.path(), &server.url());
    config.token = Some(Secret::new(TOKEN));
    let path = config.env[0].1.to_string_lossy().into_owned();
    config.env[0].1 = format!("{}:{path}", bin.display()).into();
    whole_job(&bed, &Git::new(config).unwrap()).await;

    let seen = fs::read_to_string(seen).unwrap();
    assert!(!seen.contains(TOKEN) && !seen.contains(&encoded(TOKEN)));
    // One process a step: var, config, fetch, read-tree, status, add, commit, and two pushes.
    let calls = fs::read_to_string(calls).unwrap();
    assert_eq!(calls.lines().count(), 9, "{calls}");
}

#[tokio::test]
async fn a_job_s_own_token_is_used_instead_of_the_server_s() {
    let bed = Bed::new();
    let server = serve(&bed);
    let git = client(&bed, &server, "ghp_of_the_server");
    let error = fetch_error(&git, &bed.repo).await;
    assert!(matches!(error, GitError::Denied { .. }), "{error}");
    let own = git.with_token(&Secret::new(TOKEN)).unwrap();
    whole_job(&bed, &own).await;
    let wrong = git.with_token(&Secret::new("ghp_of_no_one")).unwrap();
    let error = fetch_error(&wrong, &bed.repo).await;
    assert!(!format!("{error} {error:?}").contains("of_no_one"));
    assert!(git.with_token(&Secret::new("two\nlines")).is_err());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_process_of_a_push_shows_the_token_to_others() {
    let bed = Bed::new();
    let server = serve(&bed);
    let git = client(&bed, &server, TOKEN);
    // The remote takes its time, so all processes of the command are there to be looked at.
    let base = git.fetch_base(&bed.repo, &branch("main")).await.unwrap();
    server.pause(true);
    let before = server.requests().len();
    let x = branch("x");
    let push = git.push(&bed.repo, &base, &x);
    tokio::pin!(push);
    let looked = tokio::select! {
        done = &mut push => panic!("{done:?}"),
        looked = processes_of(&bed, &server, before) => looked,
    };
    server.pause(false);
    push.await.unwrap();
    assert!(
        looked.iter().any(|shown| shown.contains("git-remote-http")),
        "{looked:?}"
    );
    let encoded = encoded(TOKEN);
    assert!(
        !looked
            .iter()
            .any(|shown| shown.contains(TOKEN) || shown.contains(&encoded))
    );
}

/// What `/proc` shows to any process of the same user of all that have the bed's directory in
/// their environment, once the server has let in another request.
async fn processes_of(bed: &Bed, server: &HttpBackend, before: usize) -> Vec<String> {
    let in_again = || {
        server.requests()[before..]
            .iter()
            .any(|(_, let_in)| *let_in)
    };
    for _ in 0..4000 {
        if in_again() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(in_again(), "the push did not come as far as the server");
    let mark = bed.path().display().to_string();
    let mut shown = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name| fs::read(process.path().join(name)).unwrap_or_default();
        let (environ, line) = (read("environ"), read("cmdline"));
        let all = String::from_utf8_lossy(&[line, environ].concat()).into_owned();
        if all.contains(&mark) {
            shown.push(all);
        }
    }
    shown
}
