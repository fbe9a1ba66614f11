//! What a run pays with: one login, whatever else the server has.

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent_domain::{AgentKey, CredentialName, Secret};
use agent_runner::{Level, Login, Logins, Reconnected, RunRequest, RunnerError};

use crate::support::{Place, sandbox};

const LEVELS: [Level; 3] = [Level::Off, Level::Workspace, Level::Isolated];
const API_KEY: &str = "sk-ant-api03-of-a-credential";
const TOKEN: &str = "sk-ant-oat01-of-a-credential";
/// What pays in an environment, as the agent sees it, and whether it finds the machine's login.
const LOOK: &str = "env | grep -E '^(ANTHROPIC|CLAUDE_CODE_(OAUTH|USE))_' | sort > seen; \
     if test -e ~/.claude/.credentials.json; then echo file >> seen; fi";

fn name(name: &str) -> CredentialName {
    name.parse().unwrap()
}

fn logins() -> Logins {
    let key = AgentKey::ApiKey(Secret::new(API_KEY));
    let token = AgentKey::OauthToken(Secret::new(TOKEN));
    [
        (name("key"), Login::Key(key)),
        (name("token"), Login::Key(token)),
        (name("machine"), Login::Machine),
    ]
    .into()
}

/// A server that has every kind of login itself, and one on file.
fn place(level: Level, logins: Logins) -> Place {
    let mut place = Place::new(LOOK);
    let home = place.path("home");
    fs::create_dir_all(home.join(".claude")).unwrap();
    fs::write(home.join(".claude/.credentials.json"), "{}").unwrap();
    place.reconfigure(|config| {
        config.sandbox = Some(sandbox(level));
        config.logins = logins;
        config.environment.push(("HOME".into(), home.into()));
        for name in [
            "ANTHROPIC_API_KEY",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CODE_USE_BEDROCK",
        ] {
            config
                .environment
                .push((name.into(), "of-the-server".into()));
        }
        let api = ("ANTHROPIC_BASE_URL".into(), "http://127.0.0.1:9".into());
        config.environment.push(api);
    });
    place
}

async fn seen(place: &Place, adjust: impl FnOnce(&mut RunRequest)) -> Vec<String> {
    let mut request = place.request();
    adjust(&mut request);
    let mut run = place.runner.start(request).await.unwrap();
    assert_eq!(place.wait(&mut run).await.unwrap().exit_code, Some(0));
    place.runner.forget(place.job, 1).await.unwrap();
    let seen = fs::read_to_string(place.path("work/seen")).unwrap();
    fs::remove_file(place.path("work/seen")).unwrap();
    seen.lines().map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn a_run_sees_the_login_of_its_credential_and_no_other_at_every_level_of_the_wall() {
    let api = "ANTHROPIC_BASE_URL=http://127.0.0.1:9".to_owned();
    let key = format!("ANTHROPIC_API_KEY={API_KEY}");
    let token = format!("CLAUDE_CODE_OAUTH_TOKEN={TOKEN}");
    for level in LEVELS {
        let place = place(level, logins());
        // Without a wall everything of this user is there, which the CLI passes over for the key.
        let file = (level == Level::Off).then(|| "file".to_owned());
        let with_file = |mut lines: Vec<String>| {
            lines.extend(file.clone());
            lines
        };
        let on = async |credential| {
            seen(&place, |request| {
                request.credential = Some(name(credential));
            })
            .await
        };
        let expected = with_file(vec![key.clone(), api.clone()]);
        assert_eq!(on("key").await, expected, "{level}");
        let expected = with_file(vec![api.clone(), token.clone()]);
        assert_eq!(on("token").await, expected, "{level}");
        assert_eq!(on("machine").await, [api.clone(), "file".into()], "{level}");
        let own = AgentKey::OauthToken(Secret::new("sk-ant-oat01-of-the-job"));
        let paid = seen(&place, |request| {
            request.credential = Some(name("key"));
            request.agent_key = Some(own);
        });
        let token = "CLAUDE_CODE_OAUTH_TOKEN=sk-ant-oat01-of-the-job";
        assert_eq!(
            paid.await,
            with_file(vec![api.clone(), token.into()]),
            "{level}"
        );
    }
}

#[tokio::test]
async fn of_a_key_and_a_token_in_the_servers_own_environment_a_run_sees_the_key() {
    for level in LEVELS {
        let place = place(level, Login::of_environment());
        let seen = seen(&place, |_| {}).await;
        let pays = seen.iter().filter(|line| line.ends_with("of-the-server"));
        let pays: Vec<_> = pays.filter_map(|line| line.split('=').next()).collect();
        let expected = ["ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK"];
        assert_eq!(pays, expected, "{level}");
    }
}

#[tokio::test]
async fn a_run_on_a_credential_that_is_gone_does_not_start_and_leaves_nothing() {
    let place = place(Level::Off, logins());
    let gone = |credential| RunRequest {
        credential,
        ..place.request()
    };
    // There are several, so one must be named.
    for credential in [Some(name("gone")), None] {
        let error = place.runner.start(gone(credential)).await.unwrap_err();
        assert!(matches!(error, RunnerError::NoCredential(_)), "{error}");
        let found = place.runner.reconnect(place.job, 1, &place.log()).await;
        assert!(matches!(found.unwrap(), Reconnected::NeverStarted));
        assert!(!place.attempt().exists() && !place.path("work/seen").exists());
    }
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let read = |entry: fs::DirEntry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => files(&entry.path()),
        kind if kind.is_file() => vec![fs::read(entry.path()).unwrap()],
        _ => Vec::new(),
    };
    entries.flat_map(read).collect()
}

#[tokio::test]
async fn secrets_of_all_credentials_are_masked_and_reach_no_file() {
    let place = Place::with(
        &format!("echo {API_KEY} {TOKEN} $ANTHROPIC_API_KEY"),
        |config| {
            config.logins = logins();
        },
    );
    let agent = fs::read(&place.config.claude).unwrap();
    let request = RunRequest {
        credential: Some(name("key")),
        ..place.request()
    };
    let mut run = place.runner.start(request).await.unwrap();
    assert_eq!(place.wait(&mut run).await.unwrap().exit_code, Some(0));
    assert_eq!(place.stdout(), "[masked] [masked] [masked]\n");
    for text in files(place.folder.path()) {
        let text = String::from_utf8_lossy(&text);
        let is_agent = text == String::from_utf8_lossy(&agent);
        assert!(is_agent || !text.contains("of-a-credential"), "{text}");
    }
}

/// An agent that knows two logins and counts how often it is asked for them.
fn asked() -> Place {
    let script = "case $1 in --version) echo '2.1.329 (Claude Code)'; exit;; esac\n\
         if test -n \"$ANTHROPIC_API_KEY\"; then echo key >> $COUNT; echo '{\"loggedIn\":true}'\n\
         elif test -n \"$CLAUDE_CODE_OAUTH_TOKEN\"; then sleep 1000\n\
         else echo file >> $COUNT; echo '{\"loggedIn\":false}'; exit 1; fi";
    let mut place = Place::new(script);
    let count = place.path("count");
    place.reconfigure(|config| {
        config.logins = logins();
        config.environment.push(("COUNT".into(), count.into()));
    });
    place
}

#[tokio::test]
async fn each_credential_is_asked_for_and_those_with_a_secret_until_they_are_found() {
    let place = asked();
    let limit = Duration::from_secs(5);
    let first = place.runner.probe_within(limit).await;
    let found = [
        (name("key"), Some(true)),
        (name("machine"), Some(false)),
        // It did not answer, so nothing is known of it.
        (name("token"), None),
    ];
    assert_eq!(first.logins, found);
    assert!(first.authenticated, "one is enough");
    assert_eq!(place.runner.probe_within(limit).await, first);
    let count = fs::read_to_string(place.path("count")).unwrap();
    assert_eq!(count, "key\nfile\nfile\n");
    // Their processes hang in the place until they have been killed.
    crate::support::until("all are gone", || place.processes().is_empty()).await;
}

#[tokio::test]
async fn a_cli_that_cannot_be_asked_says_nothing_of_any_credential() {
    let mut place = asked();
    place.reconfigure(|config| config.claude = "/nowhere/claude".into());
    let probe = place.runner.probe().await;
    assert_eq!((probe.version, probe.authenticated), (None, false));
    assert!(probe.logins.iter().all(|(_, found)| found.is_none()));
    assert_eq!(probe.logins.len(), 3);
}
