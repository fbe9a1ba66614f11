//! Secrets of the server: canaries that must turn up nowhere but where they belong.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_tests::callback::{self, Receiver};
use agent_tests::git_http::GitHttp;
use agent_tests::github::GitHub;
use agent_tests::job::{body, nothing_is_left, reached, with};
use agent_tests::process;
use agent_tests::repo::BareRepo;
use agent_tests::server::{Builder, SECRET, Server};
use serde_json::{Value, json};

const GITHUB: &str = "ghp_canaryOfTheGithubToken0123456789";
const WEBHOOK: &str = "canary of the webhook secret";
const UNRELATED: &str = "canary-of-an-unrelated-variable";
const KEY: &str = "sk-ant-canary-of-the-agents-own-key";

/// What must never reach disk, arguments, addresses or the agent.
const CANARIES: [&str; 4] = [SECRET, GITHUB, WEBHOOK, UNRELATED];

fn builder() -> Builder {
    Builder::new()
        .unwrap()
        .env("GITHUB_TOKEN", GITHUB)
        .env("WEBHOOK_SECRET", WEBHOOK)
        .env("SOMEONES_PASSWORD", UNRELATED)
        .env("ANTHROPIC_API_KEY", KEY)
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    let needle = needle.as_bytes();
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// A canary as it is, and as http sends it.
fn forms(canary: &str) -> [String; 2] {
    use base64::Engine as _;
    let coded = base64::engine::general_purpose::STANDARD;
    [
        canary.to_owned(),
        coded.encode(format!("x-access-token:{canary}")),
    ]
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path()),
            Ok(kind) if kind.is_file() => vec![entry.path()],
            _ => Vec::new(),
        })
        .collect()
}

/// The files of the server's directory that have a canary in them or in their names.
fn leaks(server: &Server, canaries: &[&str]) -> Vec<PathBuf> {
    let forms: Vec<String> = canaries.iter().flat_map(|canary| forms(canary)).collect();
    let mut found = files(server.dir());
    assert!(found.iter().any(|path| path.ends_with("agent.db")));
    found.retain(|path| {
        let content = fs::read(path).unwrap_or_default();
        let name = path.to_string_lossy();
        forms
            .iter()
            .any(|form| contains(&content, form) || name.contains(form))
    });
    found
}

/// Checks every file of the server's directory.
fn nothing_on_disk(server: &Server, canaries: &[&str]) {
    let leaks = leaks(server, canaries);
    assert!(leaks.is_empty(), "{leaks:?}");
}

/// Checks the arguments of every process of the server.
fn nothing_in_arguments(server: &Server) {
    let all = process::belonging_to(server.dir());
    assert!(all.len() >= 3, "server, supervisor and agent: {all:?}");
    for one in all {
        for form in CANARIES
            .iter()
            .chain(&[KEY])
            .flat_map(|canary| forms(canary))
        {
            assert!(!one.command.contains(&form), "{one:?}");
        }
    }
}

/// Puts a git before the real one that writes its arguments down.
fn watched_git(builder: Builder) -> (Builder, PathBuf) {
    let real = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|dir| dir.join("git"))
        .find(|path| path.is_file())
        .expect("git is installed");
    let dir = builder.dir().join("bin");
    let log = builder.dir().join("git.argv");
    fs::create_dir_all(&dir).unwrap();
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$*\" >> {}\nexec {} \"$@\"\n",
        log.display(),
        real.display()
    );
    fs::write(dir.join("git"), text).unwrap();
    fs::set_permissions(dir.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut path = dir.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    (builder.env("PATH", path), log)
}

#[test]
fn no_secret_reaches_disk_arguments_addresses_or_callbacks_on_the_way_to_a_pull_request() {
    let (builder, argv) = watched_git(builder());
    let repo = builder.repo("acme", "app").unwrap();
    let remote = GitHttp::start(&builder.remotes(), GITHUB).unwrap();
    let github = GitHub::start(GITHUB).unwrap();
    github.add(&repo);
    let server = builder
        .env("GIT_REMOTE_BASE", remote.base())
        .env("GITHUB_API_URL", github.url())
        .start()
        .unwrap();
    let receiver = Receiver::start().unwrap();
    let (here, go) = (server.dir().join("here"), server.dir().join("go"));
    let script = format!(
        "write a.txt one\nshell env | sort\nmark {}\nwait {}",
        here.display(),
        go.display()
    );
    let extra = json!({"osCallbackUrl": receiver.url()});
    let id = server
        .submit(&with(body(&repo, "fix/it", &script), extra))
        .unwrap();
    reached(&here).unwrap();
    nothing_in_arguments(&server);
    nothing_on_disk(&server, &CANARIES);
    fs::write(&go, "").unwrap();

    let job = server.wait(&id).unwrap();
    assert_eq!(job["status"], "completed", "{job:#}");
    assert!(job["prUrl"].is_string(), "{job:#}");
    nothing_on_disk(&server, &CANARIES);
    let arguments = fs::read_to_string(argv).unwrap();
    assert!(arguments.contains("push"), "the watched git was not used");
    let asked = remote.requests().join("\n");
    assert!(asked.contains("git-receive-pack"));
    let pulls = github.requests();
    let asked_github: String = pulls.iter().map(|one| one.target.as_str()).collect();
    let got = receiver.wait_for(1, Duration::from_secs(30)).unwrap();
    callback::verify(&got[0], WEBHOOK).unwrap();
    let told = format!(
        "{:?} {}",
        got[0].headers,
        String::from_utf8_lossy(&got[0].body)
    );
    let answers = format!("{job}{}", server.messages(&id).unwrap().join("\n"));
    let bodies: String = pulls
        .iter()
        .map(|one| String::from_utf8_lossy(&one.body).into_owned())
        .collect();
    for form in CANARIES.iter().flat_map(|canary| forms(canary)) {
        for text in [&asked, &asked_github, &bodies, &told, &answers] {
            assert!(!text.contains(&form), "{form} in {text}");
        }
    }
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_token_that_is_refused_is_told_nowhere() {
    let builder = builder();
    let repo = builder.repo("acme", "app").unwrap();
    let remote = GitHttp::start(&builder.remotes(), "another token").unwrap();
    let github = GitHub::start("another token").unwrap();
    let server = builder
        .env("GIT_REMOTE_BASE", remote.base())
        .env("GITHUB_API_URL", github.url())
        .start()
        .unwrap();
    let id = server.submit(&body(&repo, "fix/it", "result ok")).unwrap();
    let job = server.wait(&id).unwrap();
    assert_eq!(job["status"], "failed");
    assert!(
        matches!(job["reason"].as_str(), Some("git" | "delivery")),
        "{job:#}"
    );
    assert_eq!(job["sessionId"], Value::Null, "the agent ran for nothing");
    nothing_on_disk(&server, &CANARIES);
    let answers = format!("{job}{}", server.messages(&id).unwrap().join("\n"));
    for form in CANARIES.iter().flat_map(|canary| forms(canary)) {
        assert!(!answers.contains(&form), "{answers}");
    }
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_secret_that_a_remote_tells_git_is_told_nobody_else() {
    let builder = builder();
    let repo = builder.repo("acme", "app").unwrap();
    let hook = builder.remotes().join("acme/app.git/hooks/pre-receive");
    let coded = written_forms(GITHUB).join(" ");
    let script = format!("#!/bin/sh\necho 'you are {GITHUB} or {coded}' >&2\nexit 1\n");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let server = builder.start().unwrap();
    let script = "write a.txt a\nresult ok";
    let id = server.submit(&body(&repo, "fix/it", script)).unwrap();
    let job = server.wait(&id).unwrap();
    assert_eq!(job["reason"], "git", "{job:#}");
    let log = server.log(&id).unwrap();
    let error = job["error"].as_str().unwrap();
    assert!(error.contains("you are [masked] or [masked]"), "{error}");
    let told = format!("{job}{log}{}", server.output());
    for form in written_forms(GITHUB) {
        assert!(!told.contains(&form), "{form} in {told}");
    }
    nothing_on_disk_of_ours(&server, &written_forms(GITHUB));
    nothing_is_left(&server).unwrap();
}

/// Checks every file that the server or its agents have written.
fn nothing_on_disk_of_ours(server: &Server, forms: &[String]) {
    for folder in ["agent-server", "repos", "worktrees"] {
        for file in files(&server.home().join(folder)) {
            let content = fs::read(&file).unwrap_or_default();
            for form in forms {
                assert!(!contains(&content, form), "{form} is in {}", file.display());
            }
        }
    }
}

/// Runs a job and returns how its agent was started.
fn recorded(server: &Server, repo: &BareRepo) -> Value {
    let file = server.dir().join("record.json");
    let script = format!("record {}\nresult ok", file.display());
    let id = server.submit(&body(repo, "fix/it", &script)).unwrap();
    assert_eq!(server.wait(&id).unwrap()["status"], "completed");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn the_agent_sees_what_it_needs_and_what_the_operator_names_and_nothing_else() {
    let builder = builder();
    let repo = builder.repo("acme", "app").unwrap();
    let marks = [
        "CLAUDECODE",
        "CLAUDE_CODE_ENTRYPOINT",
        "CLAUDE_CODE_SESSION_ID",
        "CLAUDE_CODE_CHILD_SESSION",
        "CLAUDE_CODE_MESSAGING_SOCKET",
        "CLAUDE_PID",
        "AI_AGENT",
    ];
    let marked = marks
        .iter()
        .fold(builder, |builder, name| builder.env(name, "outer"));
    let named = "MY_TOOL_KEY, ABSENT WEBHOOK_SECRET,GITHUB_TOKEN,AGENT_API_SECRET,CLAUDECODE";
    let server = marked
        .env("AGENT_ENV", named)
        .env("MY_TOOL_KEY", "for the agent")
        .env("LC_TIME", "C")
        .env("CLAUDE_CODE_MAX_RETRIES", "3")
        .start()
        .unwrap();
    let record = recorded(&server, &repo);

    let environment = record["env"].as_object().unwrap();
    let mut names: BTreeSet<&str> = environment.keys().map(String::as_str).collect();
    // Only where the tests run as root.
    names.remove("IS_SANDBOX");
    let expected = [
        "AGENT_SERVER_ATTEMPT",
        "ANTHROPIC_API_KEY",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS",
        "CLAUDE_CODE_MAX_RETRIES",
        "DISABLE_AUTOUPDATER",
        "HOME",
        "LANG",
        "LC_TIME",
        "MY_TOOL_KEY",
        "PATH",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    assert_eq!(environment["MY_TOOL_KEY"], "for the agent");
    assert_eq!(environment["ANTHROPIC_API_KEY"], KEY);
    assert_eq!(environment["CLAUDE_CODE_DISABLE_BACKGROUND_TASKS"], "1");
    assert_eq!(environment["HOME"], server.home().to_str().unwrap());
    let whole = record.to_string();
    for canary in CANARIES {
        assert!(!whole.contains(canary), "{canary}");
    }
}

#[test]
fn the_prompt_goes_over_standard_input_and_not_over_arguments() {
    let builder = builder();
    let repo = builder.repo("acme", "app").unwrap();
    let record = recorded(&builder.start().unwrap(), &repo);
    let arguments = record["argv"].to_string();
    assert!(!arguments.contains("Please do the work"), "{arguments}");
    assert!(
        record["stdin"]
            .as_str()
            .unwrap()
            .contains("Please do the work")
    );
}

#[test]
fn the_supervisor_has_none_of_the_servers_secrets_for_its_agent_to_read() {
    let builder = builder();
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let (here, go) = (server.dir().join("here"), server.dir().join("go"));
    let record = server.dir().join("record.json");
    let script = format!(
        "record {}\nmark {}\nwait {}",
        record.display(),
        here.display(),
        go.display()
    );
    let id = server.submit(&body(&repo, "fix/it", &script)).unwrap();
    reached(&here).unwrap();
    let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    let parent = fs::read(format!("/proc/{}/environ", record["ppid"])).unwrap();
    for canary in CANARIES {
        assert!(!contains(&parent, canary), "{canary}");
    }
    fs::write(go, "").unwrap();
    assert_eq!(server.wait(&id).unwrap()["status"], "completed");
}

#[test]
fn the_agents_own_key_reaches_no_file_and_no_argument() {
    let builder = builder();
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let (here, go) = (server.dir().join("here"), server.dir().join("go"));
    let script = format!("mark {}\nwait {}", here.display(), go.display());
    // To see that the search finds what is there.
    let found = json!({"title": "a-title-to-be-found"});
    let id = server
        .submit(&with(body(&repo, "fix/it", &script), found))
        .unwrap();
    reached(&here).unwrap();
    nothing_in_arguments(&server);
    nothing_on_disk(&server, &[KEY]);
    assert!(!leaks(&server, &["a-title-to-be-found"]).is_empty());
    fs::write(go, "").unwrap();
    server.wait(&id).unwrap();
    nothing_on_disk(&server, &[KEY]);
}

#[test]
fn the_database_logs_and_attempts_are_for_the_servers_user_alone() {
    let builder = builder();
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let (here, go) = (server.dir().join("here"), server.dir().join("go"));
    let script = format!("mark {}\nwait {}", here.display(), go.display());
    let id = server.submit(&body(&repo, "fix/it", &script)).unwrap();
    reached(&here).unwrap();
    for path in files(&server.data_dir()) {
        let closed = path
            .ancestors()
            .take_while(|dir| dir.starts_with(server.data_dir()))
            .any(|path| {
                fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 == 0)
            });
        assert!(closed, "others can read {}", path.display());
    }
    fs::write(go, "").unwrap();
    server.wait(&id).unwrap();
}

/// A canary in the forms that tools write it in.
fn written_forms(canary: &str) -> Vec<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let once = serde_json::to_string(canary).unwrap();
    let percent: Vec<String> = canary
        .bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    let hex: Vec<String> = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
    vec![
        canary.to_owned(),
        STANDARD.encode(canary),
        URL_SAFE_NO_PAD.encode(canary),
        // Without what stands before it.
        STANDARD.encode(format!("x{canary}"))[4..].to_owned(),
        STANDARD.encode(format!("xy{canary}"))[4..].to_owned(),
        hex.concat(),
        percent.concat(),
        canary.replace(' ', "+"),
        canary.replace(' ', "\\ "),
        once[1..once.len() - 1].to_owned(),
    ]
}

/// A script, kept away from the job and from what is searched, whose agent says every form in every
/// way there is, and ends with one.
fn talkative(dir: &Path, forms: &[String]) -> PathBuf {
    let all = dir.join("all-forms");
    fs::write(&all, forms.join("\n")).unwrap();
    let mut script = String::from("init\n");
    for form in forms {
        let text = serde_json::to_string(form).unwrap();
        let nested = serde_json::to_string(&json!({"output": {"json": text}})).unwrap();
        let nested = serde_json::to_string(&nested).unwrap();
        for line in [
            format!("stderr {text}"),
            format!("text {text}"),
            format!("tool Bash {{\"command\":{text}}} {nested}"),
            format!("raw {text}"),
            "raw \"\\n\"".to_owned(),
        ] {
            script.push_str(&line);
            script.push('\n');
        }
    }
    script.push_str(&format!("shell cat {}\n", all.display()));
    script.push_str(&format!("result execution_error {}\n", forms[0]));
    script.push_str(&format!("raw the end is {}\n", forms[0]));
    let path = dir.join("talkative-script");
    fs::write(&path, script).unwrap();
    path
}

#[test]
fn whatever_form_an_agent_says_a_secret_in_it_reaches_no_file_no_answer_and_no_callback() {
    let canaries = [SECRET, GITHUB, WEBHOOK, UNRELATED, KEY];
    let forms: Vec<String> = canaries.iter().flat_map(|one| written_forms(one)).collect();
    let builder = builder();
    let repo = builder.repo("acme", "app").unwrap();
    let script = talkative(builder.dir(), &forms);
    let server = builder
        .env("FAKE_CLAUDE_SCRIPT", script)
        .env("AGENT_ENV", "FAKE_CLAUDE_SCRIPT")
        .start()
        .unwrap();
    let receiver = Receiver::start().unwrap();
    let job = json!({
        "githubOrg": repo.org(), "githubRepo": repo.name(), "branchName": "fix/it",
        "prompt": "Say what you know.", "osCallbackUrl": receiver.url(),
    });
    let id = server.submit(&job).unwrap();
    let job = server.wait(&id).unwrap();
    assert_eq!(job["status"], "failed", "{job:#}");
    assert_eq!(job["error"], "[masked]", "{job:#}");
    let got = receiver.wait_for(1, Duration::from_secs(30)).unwrap();
    let log = server.log(&id).unwrap();
    assert!(log.matches("[masked]").count() >= 4 * forms.len(), "{log}");
    assert!(log.contains("stdout F the end is [masked]"), "{log}");

    let raw = server
        .client()
        .get(&format!("/jobs/{id}?includeMessages=true&raw=true"));
    let seen = [
        ("the job".to_owned(), job.to_string().into_bytes()),
        ("the log".to_owned(), log.into_bytes()),
        (
            "the messages".to_owned(),
            server.messages(&id).unwrap().join("\n").into_bytes(),
        ),
        ("the raw messages".to_owned(), raw.unwrap().body),
        ("the callback".to_owned(), got[0].body.clone()),
        (
            "the server's output".to_owned(),
            server.output().into_bytes(),
        ),
    ];
    nothing_on_disk_of_ours(&server, &forms);
    for (name, content) in &seen {
        for form in &forms {
            assert!(!contains(content, form), "{form} is in {name}");
        }
    }
    nothing_is_left(&server).unwrap();
}
