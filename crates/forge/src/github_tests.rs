//! Tests against a small HTTP server that plays back answers and keeps what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::*;
use crate::Forge;

const TOKEN: &str = "ghs_hunter2hunter2";

struct Asked {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Asked {
    fn header(&self, wanted: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    }
}

/// Answers one connection after the other, then ends.
struct Server {
    url: String,
    asked: mpsc::Receiver<Asked>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn new(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, asked) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                sender.send(read(&stream)).unwrap();
                // The client may hang up early.
                (&stream).write_all(&answer).ok();
            }
        });
        Self {
            url,
            asked,
            thread: Some(thread),
        }
    }

    /// Everything it was asked; waits for the last answer.
    fn asked(mut self) -> Vec<Asked> {
        self.thread.take().unwrap().join().unwrap();
        self.asked.iter().collect()
    }
}

fn read(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    Asked {
        line: lines[0].clone(),
        headers,
        body,
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

fn created(number: u64) -> Vec<u8> {
    let body =
        format!(r#"{{"number":{number},"html_url":"https://github.com/o/r/pull/{number}"}}"#);
    answer("201 Created", "", &body)
}

fn forge(url: &str) -> Forge {
    Forge::GitHub(GitHub::new(url, Secret::new(TOKEN), &[]).unwrap())
}

fn request(title: &str) -> PullRequestRequest {
    PullRequestRequest {
        repo: agent_domain::RepoSlug::new("o", "r").unwrap(),
        head: "feature/ü&x".parse().unwrap(),
        base: "main".parse().unwrap(),
        title: title.into(),
        body: "two\nlines".into(),
        draft: false,
    }
}

async fn outcome(answers: Vec<Vec<u8>>) -> (Result<PullRequest, ForgeError>, Vec<Asked>) {
    let server = Server::new(answers);
    let result = forge(&server.url).pull_request(&request("t")).await;
    (result, server.asked())
}

#[tokio::test]
async fn a_pull_request_is_opened_below_the_path_of_the_api() {
    let server = Server::new(vec![created(7)]);
    let forge = forge(&format!("{}/api/v3/", server.url));
    assert_eq!(forge.ready().await, Ok(true));
    let pull = forge.pull_request(&request("t")).await.unwrap();
    assert_eq!(
        (pull.number, &*pull.url),
        (7, "https://github.com/o/r/pull/7")
    );
    let asked = server.asked().remove(0);
    assert_eq!(asked.line, "POST /api/v3/repos/o/r/pulls HTTP/1.1");
    assert_eq!(
        asked.header("authorization"),
        Some(&*format!("Bearer {TOKEN}"))
    );
    assert_eq!(asked.header("accept"), Some("application/vnd.github+json"));
    assert_eq!(asked.header("x-github-api-version"), Some(API_VERSION));
    assert!(
        asked
            .header("user-agent")
            .unwrap()
            .starts_with("agent-server/")
    );
}

#[tokio::test]
async fn odd_titles_arrive_as_they_are() {
    for title in [
        "\"; rm -rf / #",
        "-x",
        "@file",
        "{owner}",
        "é\u{1f980}\\u0000 $(id)",
    ] {
        let server = Server::new(vec![created(1)]);
        forge(&server.url)
            .pull_request(&request(title))
            .await
            .unwrap();
        let sent: serde_json::Value = serde_json::from_slice(&server.asked()[0].body).unwrap();
        assert_eq!(sent["title"], title);
        assert_eq!(sent["body"], "two\nlines");
        assert_eq!(sent["head"], "feature/ü&x");
        assert_eq!(sent["base"], "main");
    }
}

#[tokio::test]
async fn a_pull_request_that_is_there_already_is_found() {
    let duplicate = r#"{"message":"Validation Failed","errors":[{"resource":"PullRequest","code":"custom","message":"A pull request already exists for o:feature/ü&x."}]}"#;
    let list = r#"[{"number":3,"html_url":"https://h/3","base":{"ref":"dev"}},{"number":4,"html_url":"https://h/4","base":{"ref":"main"}}]"#;
    let answers = vec![
        answer("422 Unprocessable Entity", "", duplicate),
        answer("200 OK", "", list),
    ];
    let (result, asked) = outcome(answers).await;
    assert_eq!(result.unwrap().number, 4);
    assert_eq!(
        asked[1].line,
        "GET /repos/o/r/pulls?state=open&head=o%3Afeature%2F%C3%BC%26x&per_page=30 HTTP/1.1"
    );
}

#[tokio::test]
async fn limits_and_faults_of_the_forge_are_transient() {
    let secondary = r#"{"message":"You have exceeded a secondary rate limit."}"#;
    for (status, headers, body, wait) in [
        ("403 Forbidden", "Retry-After: 61\r\n", "{}", Some(61)),
        ("403 Forbidden", "", secondary, None),
        ("429 Too Many Requests", "Retry-After: 2\r\n", "", Some(2)),
        ("503 Service Unavailable", "", "<html>", None),
        ("500 Internal Server Error", "", "", None),
    ] {
        let error = outcome(vec![answer(status, headers, body)])
            .await
            .0
            .unwrap_err();
        assert!(error.is_transient(), "{status}: {error}");
        assert_eq!(
            error.retry_after(),
            wait.map(Duration::from_secs),
            "{status}"
        );
    }
}

#[tokio::test]
async fn what_is_denied_or_missing_is_final_and_shows_no_token() {
    let body = r#"{"message":"Bad credentials"}"#;
    let error =
        |status| async move { outcome(vec![answer(status, "", body)]).await.0.unwrap_err() };
    let denied = error("401 Unauthorized").await;
    assert_eq!(
        denied.to_string(),
        "GitHub denied access (401): Bad credentials"
    );
    assert!(matches!(
        error("403 Forbidden").await,
        ForgeError::Denied { .. }
    ));
    assert!(matches!(
        error("404 Not Found").await,
        ForgeError::NotFound(_)
    ));
    assert!(matches!(
        error("422 Unprocessable").await,
        ForgeError::Refused { .. }
    ));
    assert!(!format!("{:?}", forge("http://h")).contains(TOKEN));
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let huge = " ".repeat(usize::try_from(ANSWER_MAX).unwrap() + 1);
    let (result, _) = outcome(vec![answer("201 Created", "", &huge)]).await;
    assert!(
        matches!(result, Err(ForgeError::Unexpected(_))),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_redirect_to_another_server_is_refused() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let location = format!("Location: http://{}/x\r\n", elsewhere.local_addr().unwrap());
    for status in ["301 Moved Permanently", "307 Temporary Redirect"] {
        let (result, _) = outcome(vec![answer(status, &location, "")]).await;
        assert!(
            matches!(result, Err(ForgeError::Unexpected(_))),
            "{result:?}"
        );
    }
    assert!(
        elsewhere.accept().is_err(),
        "the other server was contacted"
    );
}

#[tokio::test]
async fn a_renamed_repository_is_followed_on_the_same_server() {
    let answers = vec![
        answer(
            "307 Temporary Redirect",
            "Location: /repositories/9/pulls\r\n",
            "",
        ),
        created(5),
    ];
    let (result, asked) = outcome(answers).await;
    assert_eq!(result.unwrap().number, 5);
    assert_eq!(asked[1].line, "POST /repositories/9/pulls HTTP/1.1");
    assert_eq!(asked[1].body, asked[0].body);
}

#[tokio::test]
async fn a_server_that_is_not_there_or_says_nothing_is_transient() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gone = forge(&format!("http://{free}"))
        .pull_request(&request("t"))
        .await;
    assert!(gone.unwrap_err().is_transient());
    let (cut, _) = outcome(vec![b"HTTP/1.1 201 Cre".to_vec()]).await;
    assert!(cut.as_ref().is_err_and(ForgeError::is_transient), "{cut:?}");
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    let good = "https://api.github.com";
    assert!(GitHub::new(good, Secret::new("t"), &[]).is_ok());
    for url in [
        "",
        "ftp://h",
        "https://u:p@h",
        "https://h?x",
        "mailto:x",
        "api.github.com",
    ] {
        assert!(GitHub::new(url, Secret::new("t"), &[]).is_err(), "{url:?}");
    }
    for token in ["", "a\r\nX: y", "a b"] {
        assert!(
            GitHub::new(good, Secret::new(token), &[]).is_err(),
            "{token:?}"
        );
    }
}

#[tokio::test]
async fn the_way_follows_from_the_settings() {
    let config = |is_github, url: Option<&str>, token: Option<&str>| crate::ForgeConfig {
        is_github,
        api_url: url.map(str::to_owned),
        token: token.map(Secret::new),
        gh: "/does/not/exist/gh".into(),
        env: Vec::new(),
    };
    assert_eq!(
        Forge::new(config(false, None, Some("t"))).ready().await,
        Ok(false)
    );
    assert_eq!(
        Forge::new(config(true, None, Some("t"))).ready().await,
        Ok(true)
    );
    for hopeless in [
        config(true, None, None),
        config(true, Some("nonsense"), Some("t")),
    ] {
        let error = Forge::new(hopeless).ready().await.unwrap_err();
        assert!(matches!(error, ForgeError::Unavailable(_)), "{error}");
    }
}

#[tokio::test]
async fn a_jobs_own_token_goes_to_the_same_api_whatever_the_server_has() {
    let server = Server::new(vec![created(1), created(2), created(3)]);
    let config = |token: Option<&str>| crate::ForgeConfig {
        is_github: true,
        api_url: Some(server.url.clone()),
        token: token.map(Secret::new),
        gh: "/does/not/exist/gh".into(),
        env: Vec::new(),
    };
    let own = Secret::new("ghp_of_a_job");
    for token in [Some("ghp_of_the_server"), None] {
        let forge = Forge::new(config(token)).with_token(&own);
        assert_eq!(forge.ready().await, Ok(true));
        forge.pull_request(&request("x")).await.unwrap();
    }
    let theirs = Forge::new(config(Some("ghp_of_the_server")));
    theirs.pull_request(&request("x")).await.unwrap();
    let asked = server.asked();
    let shown = asked.iter().map(|asked| asked.header("authorization"));
    assert!(shown.eq([
        Some("Bearer ghp_of_a_job"),
        Some("Bearer ghp_of_a_job"),
        Some("Bearer ghp_of_the_server"),
    ]));
    let broken = theirs.with_token(&Secret::new("two\nlines"));
    assert!(broken.ready().await.is_err());
    assert_eq!(Forge::Plain.with_token(&own).ready().await, Ok(false));
}

#[tokio::test]
async fn the_forge_says_whose_the_token_is() {
    let user = answer("200 OK", "", r#"{"login":"octo"}"#);
    let server = Server::new(vec![
        user,
        answer("403 Forbidden", "", r#"{"message":"not by integration"}"#),
        answer("401 Unauthorized", "", r#"{"message":"Bad credentials"}"#),
        answer("502 Bad Gateway", "", ""),
    ]);
    let forge = forge(&format!("{}/api/v3/", server.url));
    assert_eq!(forge.user().await, Ok(Some("octo".into())));
    assert_eq!(forge.user().await, Ok(Some("an app".into())));
    let refused = forge.user().await.unwrap_err();
    assert!(
        matches!(refused, ForgeError::Denied { status: 401, .. }),
        "{refused}"
    );
    assert!(forge.user().await.unwrap_err().is_transient());
    assert!(server.asked()[0].line.starts_with("GET /api/v3/user "));
    assert_eq!(Forge::Plain.user().await, Ok(None));
}
