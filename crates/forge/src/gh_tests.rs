//! Tests with a shell script in the place of `gh`.

use std::fs;

use super::*;
use crate::Forge;

/// A directory with a `gh` that notes its arguments and its input and then runs `script`.
fn fake(script: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    let text = format!(
        "#!/bin/sh\nfor arg; do printf '%s\\n' \"$arg\" >> {at}/args; done\ncat > {at}/input.$3$4\n{script}\n"
    );
    // Written by another process: a file this one has open for writing, or a child it is just
    // starting in another test, cannot be run.
    let mut install = std::process::Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(dir.path().join("gh"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut install.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
    dir
}

/// Found by name, along the PATH of its own environment.
fn gh(dir: &tempfile::TempDir, timeout: Duration) -> Forge {
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let env = vec![("PATH".into(), path.into())];
    let mut gh = Gh::new("gh".into(), None, env);
    gh.timeout = timeout;
    Forge::Gh(gh)
}

const LONG: Duration = Duration::from_secs(30);

fn request(title: &str) -> PullRequestRequest {
    PullRequestRequest {
        repo: agent_domain::RepoSlug::new("o", "r").unwrap(),
        head: "x".parse().unwrap(),
        base: "main".parse().unwrap(),
        title: title.into(),
        body: String::new(),
        draft: false,
    }
}

#[tokio::test]
async fn a_title_travels_on_standard_input() {
    let dir = fake(
        r#"printf 'HTTP/2.0 201 Created\nDate: x\r\n\r\n{"number":8,"html_url":"https://h/8"}'"#,
    );
    let title = "\"; rm -rf / # $(id)";
    let pull = gh(&dir, LONG).pull_request(&request(title)).await.unwrap();
    assert_eq!(pull.number, 8);
    let args = fs::read_to_string(dir.path().join("args")).unwrap();
    assert_eq!(
        args,
        "api\n--include\n--method\nPOST\n--input\n-\nrepos/o/r/pulls\n"
    );
    let input = fs::read(dir.path().join("input.--methodPOST")).unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&input).unwrap();
    assert_eq!(sent["title"], title);
}

#[tokio::test]
async fn a_pull_request_that_is_there_already_is_found() {
    let dir = fake(
        r#"if [ "$4" = POST ]; then
             printf 'HTTP/2.0 422 Unprocessable Entity\r\n\r\n{"message":"Validation Failed","errors":[{"message":"A pull request already exists for o:x."}]}'
             echo 'gh: Validation Failed (HTTP 422)' >&2; exit 1
           fi
           printf 'HTTP/2.0 200 OK\r\n\r\n[{"number":6,"html_url":"https://h/6"}]'"#,
    );
    let pull = gh(&dir, LONG).pull_request(&request("t")).await.unwrap();
    assert_eq!(pull.number, 6);
}

#[tokio::test]
async fn answers_and_their_absence_are_told_apart() {
    let of = |script: &'static str| async move {
        let dir = fake(script);
        gh(&dir, LONG)
            .pull_request(&request("t"))
            .await
            .unwrap_err()
    };
    let limited =
        of("printf 'HTTP/2.0 403 Forbidden\\r\\nRetry-After: 30\\r\\n\\r\\n{}'; exit 1").await;
    assert_eq!(limited.retry_after(), Some(Duration::from_secs(30)));
    let lost = of("echo 'error connecting to api.github.com' >&2; exit 1").await;
    assert!(lost.is_transient(), "{lost}");
    let stranger = of("echo 'run: gh auth login' >&2; exit 4").await;
    assert!(matches!(stranger, ForgeError::Unavailable(_)), "{stranger}");
    let endless = of("exec cat /dev/zero").await;
    assert!(matches!(endless, ForgeError::Unexpected(_)), "{endless}");
}

#[tokio::test]
async fn readiness_is_whether_gh_is_logged_in() {
    let ready = |script: &'static str| async move {
        let dir = fake(script);
        gh(&dir, LONG).ready().await
    };
    let user = ready(
        r#"[ "$GH_PROMPT_DISABLED $GH_HOST $5" = "1 github.com user" ] &&
           printf 'HTTP/2.0 200 OK\r\n\r\n{"login":"o"}'"#,
    );
    assert_eq!(user.await, Ok(true));
    for stranger in [
        "echo 'To authenticate, please run `gh auth login`.' >&2; exit 4",
        "printf 'HTTP/2.0 401 Unauthorized\r\n\r\n{}'; exit 1",
    ] {
        let error = ready(stranger).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no way to open pull requests: gh is not logged in to github.com; \
             set GITHUB_TOKEN, or run: gh auth login --hostname github.com"
        );
    }
}

#[tokio::test]
async fn what_passes_by_and_what_a_user_may_not_ask_is_no_missing_login() {
    for script in [
        "echo 'error connecting to api.github.com' >&2; exit 1",
        "printf 'HTTP/2.0 502 Bad Gateway\r\n\r\n'; exit 1",
        // The token of an app has no user.
        "printf 'HTTP/2.0 403 Forbidden\r\n\r\n{}'; exit 1",
    ] {
        let dir = fake(script);
        assert_eq!(gh(&dir, LONG).ready().await, Ok(true), "{script}");
    }
    let dir = fake("echo 'x509: certificate signed by unknown authority' >&2; exit 1");
    let error = gh(&dir, LONG).ready().await.unwrap_err();
    assert!(matches!(error, ForgeError::Command(_)), "{error}");
}

#[tokio::test]
async fn a_gh_that_hangs_is_killed_with_its_children() {
    let dir = fake("sleep 60 & echo $! > $(dirname $0)/pid; wait");
    let error = gh(&dir, Duration::from_millis(500))
        .pull_request(&request("t"))
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    let pid = fs::read_to_string(dir.path().join("pid")).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    for _ in 0..500 {
        if fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z ")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the child lives on");
}

#[test]
fn gh_speaks_to_the_server_of_the_api() {
    let host = |api: Option<&str>| {
        let gh = Gh::new("gh".into(), api, Vec::new());
        let (_, host) = gh
            .env
            .into_iter()
            .find(|(name, _)| name == "GH_HOST")
            .unwrap();
        assert_eq!(host, *gh.host);
        gh.host
    };
    assert_eq!(host(None), "github.com");
    assert_eq!(host(Some("https://api.github.com")), "github.com");
    assert_eq!(host(Some("https://git.corp:8443/api/v3")), "git.corp:8443");
}

#[test]
fn a_host_named_by_the_operator_stays() {
    let env = vec![("GH_HOST".into(), "git.corp".into())];
    let gh = Gh::new("gh".into(), Some("https://other/api/v3"), env);
    let hosts: Vec<_> = gh
        .env
        .iter()
        .filter(|(name, _)| name == "GH_HOST")
        .collect();
    assert_eq!(hosts.len(), 1);
    assert_eq!(
        (hosts[0].1.to_str(), &*gh.host),
        (Some("git.corp"), "git.corp")
    );
}

#[test]
fn an_output_without_a_status_line_is_no_answer() {
    for bad in [
        "gh: not logged in",
        "HTTP/1.1 abc\n\n",
        "HTTP/2.0 200 OK\r\nA: b\r\n",
        "",
    ] {
        assert!(parse(bad.as_bytes()).is_none(), "{bad:?}");
    }
}
