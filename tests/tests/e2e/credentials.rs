//! What runs are paid with: credentials by file, each run on exactly one of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use agent_tests::job::{body, nothing_is_left, reached};
use agent_tests::process::wait_until;
use agent_tests::server::{Builder, Server, program};
use serde_json::{Value, json};

const TOKEN: &str = "sk-ant-oat01-canary-of-a-subscription";
const DEAD: &str = "sk-ant-oat01-canary-of-a-dead-one";
const KEY: &str = "sk-ant-api03-canary-of-an-api-key";

/// A server with the credentials that `text` names, whose secrets lie beside that file. Its own
/// environment has a key and a token that are nobody's business.
fn named(text: &str) -> Builder {
    let builder = Builder::new()
        .unwrap()
        .env("ANTHROPIC_API_KEY", "sk-ant-of-the-server")
        .env("CLAUDE_CODE_OAUTH_TOKEN", "oauth-of-the-server");
    let folder = builder.dir().join("credentials");
    fs::create_dir(&folder).unwrap();
    for (name, secret) in [("token", TOKEN), ("dead", DEAD), ("key", KEY)] {
        let path = folder.join(name);
        fs::write(&path, secret).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let file = folder.join("credentials.toml");
    fs::write(&file, text).unwrap();
    builder.env("CREDENTIALS_FILE", file)
}

fn entry(name: &str, kind: &str, secret: &str) -> String {
    format!("[[credential]]\nname = {name:?}\nkind = {kind:?}\nsecret_file = {secret:?}\n")
}

/// Files of the server, without the secrets themselves and what the CLI writes of its own runs.
fn written(server: &Server, folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_ours = |path: &Path| {
        let others = [
            server.dir().join("credentials"),
            server.home().join(".claude"),
        ];
        !others.contains(&path.to_owned())
    };
    let below = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() && is_ours(&entry.path()) => written(server, &entry.path()),
        Ok(kind) if kind.is_file() => {
            let content = fs::read(entry.path()).unwrap_or_default();
            vec![(entry.path().display().to_string(), content)]
        }
        _ => Vec::new(),
    };
    entries.flat_map(below).collect()
}

#[test]
fn the_secret_of_a_credential_pays_for_a_run_and_is_found_nowhere_else() {
    let builder = named(&entry("paid", "api_key", "key"));
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let record = elsewhere.path().join("record.json");
    let script = format!("record {}\nshell env\nwrite a.txt one", record.display());
    let id = server.submit(&body(&repo, "fix/it", &script)).unwrap();
    let job = server.wait(&id).unwrap();
    assert_eq!(job["status"], "completed", "{job:#}");
    let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    assert_eq!(record["env"]["ANTHROPIC_API_KEY"], KEY);
    assert_eq!(record["env"]["CLAUDE_CODE_OAUTH_TOKEN"], Value::Null);
    assert!(!record["argv"].to_string().contains(KEY));
    let log = server.log(&id).unwrap();
    assert!(log.contains("ANTHROPIC_API_KEY=[masked]"), "{log}");
    for text in [&log, &job.to_string(), &server.output()] {
        assert!(!text.contains(KEY), "{text}");
    }
    for (path, content) in written(&server, server.dir()) {
        let found = content
            .windows(KEY.len())
            .any(|part| part == KEY.as_bytes());
        assert!(!found, "{path}");
    }
    nothing_is_left(&server).unwrap();
}

/// The exit code, standard output and standard error of the server's program.
fn said(builder: &Builder, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(program("agent-server").unwrap());
    command.args(args).env_clear().current_dir(builder.dir());
    command.envs(builder.variables().iter().cloned());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_server_does_not_start_on_a_secret_that_others_may_read_and_says_what_to_do() {
    let builder = named(&entry("team", "subscription", "token"));
    let secret = builder.dir().join("credentials/token");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, errors) = said(&builder, &[]);
    assert_eq!(code, Some(1));
    let advice = format!("chmod 600 {}", secret.display());
    for part in ["CREDENTIALS_FILE", "credential 1 (\"team\")", &advice] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    assert!(!errors.contains(TOKEN), "{errors}");
}

#[test]
fn the_doctor_lists_each_credential_with_its_source_and_whether_it_is_there() {
    let text = [
        entry("team", "subscription", "token"),
        "[[credential]]\nname = \"here\"\nkind = \"subscription\"\n".into(),
    ];
    let builder = named(&text.concat());
    let (code, report, errors) = said(&builder, &["doctor", "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(code, Some(0), "one of them is there: {report:#}{errors}");
    let checks = report["checks"].as_array().unwrap().iter();
    let rows: Vec<&Value> = checks
        .filter(|check| check["name"] == "credential")
        .collect();
    let found = |n: usize| rows[n]["found"].as_str().unwrap();
    assert_eq!(rows.len(), 2, "{report:#}");
    assert_eq!(rows[0]["state"], "ok");
    assert!(
        found(0).starts_with("team: subscription, from file /"),
        "{report:#}"
    );
    assert!(found(0).ends_with("credentials/token"), "{report:#}");
    assert_eq!(rows[1]["state"], "warning");
    assert_eq!(
        found(1),
        "here: subscription, from this machine's login, not there: its jobs wait"
    );
    assert!(rows[1]["advice"].as_str().unwrap().contains("claude login"));
}

#[test]
fn a_refused_credential_fails_no_job_and_is_refused_once_and_its_jobs_wait_for_somebody() {
    let live = entry("live", "api_key", "key") + "clients = [\"acme/app\"]\n";
    let builder = named(&(entry("dead", "subscription", "dead") + &live));
    let builder = builder.env("MAX_CONCURRENT_JOBS", "1");
    let (tried, fixed) = (builder.dir().join("tried"), builder.dir().join("fixed"));
    let repos = ["app", "site"].map(|name| builder.repo("acme", name).unwrap());
    let server = builder.start().unwrap();
    let (dead, shown) = (
        format!("unless {} paid a-dead-one", fixed.display()),
        tried.display(),
    );
    let script = format!(
        "{dead} shell echo run >> {shown}\n{dead} result revoked_token\n{dead} exit 1\nwrite a.txt one"
    );
    let submit = |n: usize| {
        let job = body(&repos[n % 2], &format!("x/{n}"), &script);
        server.submit(&job).unwrap()
    };
    let ids: Vec<String> = (0..8).map(submit).collect();
    let (with_another, without): (Vec<_>, Vec<_>) =
        ids.iter().enumerate().partition(|(n, _)| n % 2 == 0);
    for (_, id) in with_another {
        assert_eq!(server.wait(id).unwrap()["status"], "completed");
    }
    for (_, id) in &without {
        let waits = |job: &Value| job["status"] == "queued" && job["reason"] == "auth";
        server.wait_for(id, waits).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&tried).unwrap(),
        "run\n",
        "only one run was refused"
    );
    let output = server.output();
    let alarms = output
        .lines()
        .filter(|line| line.contains("credential stopped"));
    assert_eq!(alarms.count(), 1, "{output}");
    assert!(!output.contains(DEAD), "{output}");
    fs::write(fixed, "").unwrap();
    let resumed = server.client().post("/credentials/dead/resume", &json!({}));
    let resumed = resumed.unwrap().expect(200).unwrap();
    assert_eq!(resumed["status"], "ok", "{resumed:#}");
    for (_, id) in &without {
        assert_eq!(server.wait(id).unwrap()["status"], "completed");
    }
    nothing_is_left(&server).unwrap();
}

#[test]
fn a_job_runs_on_the_subscription_with_most_room_left_by_what_runs_have_told() {
    let text = entry("one", "subscription", "token") + &entry("two", "subscription", "dead");
    let builder = named(&text);
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let run = |branch: &str, used: &str| {
        let script = format!("window five_hour {used} 3000\ntext hello\nresult ok");
        let id = server.submit(&body(&repo, branch, &script)).unwrap();
        let job = server.wait(&id).unwrap();
        assert_eq!(job["status"], "completed", "{job:#}");
        job["credential"].as_str().unwrap().to_owned()
    };
    assert_eq!(run("x/1", "0.93"), "one", "nothing is known of either");
    assert_eq!(run("x/2", "0.55"), "two");
    assert_eq!(run("x/3", "0.97"), "two");
    assert_eq!(run("x/4", "0.94"), "one");
    let all = server.client().get("/credentials").unwrap();
    let all = all.expect(200).unwrap();
    let windows = all["credentials"][1]["windows"].as_array().unwrap();
    let of = |kind: &str| {
        windows
            .iter()
            .find(|window| window["kind"] == kind)
            .unwrap()
    };
    assert_eq!(
        (&of("five_hour")["used"], &of("seven_day")["used"]),
        (&json!(0.97), &json!(0.42))
    );
}

#[test]
fn a_run_goes_on_whose_credential_is_gone_after_a_restart_and_the_next_job_has_another() {
    let builder = named(&entry("old", "subscription", "token"));
    let repo = builder.repo("acme", "app").unwrap();
    let (here, go) = (builder.dir().join("here"), builder.dir().join("go"));
    let mut server = builder.start().unwrap();
    let script = format!(
        "mark {}\nwait {}\nwrite a.txt one",
        here.display(),
        go.display()
    );
    let running = server.submit(&body(&repo, "x/1", &script)).unwrap();
    reached(&here).unwrap();
    server.kill().unwrap();
    let file = server.dir().join("credentials/credentials.toml");
    fs::write(file, entry("new", "api_key", "key")).unwrap();
    server.start().unwrap();
    let next = server
        .submit(&body(&repo, "x/2", "write b.txt one"))
        .unwrap();
    assert_eq!(server.wait(&next).unwrap()["credential"], "new");
    fs::write(go, "").unwrap();
    let job = server.wait(&running).unwrap();
    assert_eq!(
        (&job["status"], &job["credential"]),
        (&json!("completed"), &json!("old"))
    );
}

#[test]
fn behind_a_wall_secrets_are_hidden_where_all_around_them_may_be_read() {
    let builder = named(&entry("team", "subscription", "token")).behind("workspace");
    let folder = builder.dir().join("credentials");
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.env("SANDBOX_READ", &folder).start().unwrap();
    let shown = folder.display();
    let script =
        format!("shell wc -c < {shown}/token > secret; wc -c < {shown}/credentials.toml > file");
    let id = server.submit(&body(&repo, "x/1", &script)).unwrap();
    let job = server.wait(&id).unwrap();
    assert_eq!(job["status"], "completed", "{job:#}");
    assert_eq!(repo.show("x/1", "secret").unwrap(), b"0\n");
    assert_ne!(
        repo.show("x/1", "file").unwrap(),
        b"0\n",
        "else nothing is shown"
    );
}

#[test]
fn of_a_key_and_a_token_in_its_own_environment_the_server_says_once_that_one_is_not_used() {
    let builder = Builder::new().unwrap();
    let builder = builder.env("CLAUDE_CODE_OAUTH_TOKEN", "oauth-of-the-server");
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let record = server.dir().join("record.json");
    let script = format!("record {}", record.display());
    let id = server.submit(&body(&repo, "x/1", &script)).unwrap();
    assert_eq!(server.wait(&id).unwrap()["credential"], "default");
    let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    assert_eq!(record["env"]["ANTHROPIC_API_KEY"], "sk-ant-of-the-agent");
    assert_eq!(record["env"]["CLAUDE_CODE_OAUTH_TOKEN"], Value::Null);
    let output = server.output();
    let warnings = output
        .lines()
        .filter(|line| line.contains("CLAUDE_CODE_OAUTH_TOKEN is not used"));
    assert_eq!(warnings.count(), 1, "{output}");
}

#[test]
fn a_login_that_is_not_there_stops_its_credential_alone_until_somebody_is_logged_in() {
    let here = "[[credential]]\nname = \"here\"\nkind = \"subscription\"\n";
    let builder = named(&(here.to_owned() + &entry("team", "subscription", "token")));
    let repo = builder.repo("acme", "app").unwrap();
    let mut server = builder.start().unwrap();
    let becomes = |server: &Server, wanted: [&str; 2]| {
        let mut all = Value::Null;
        let found = wait_until(Duration::from_mins(1), || {
            let asked = server.client().get("/credentials").unwrap();
            all = asked.expect(200).unwrap();
            let status = |n: usize| all["credentials"][n]["status"].as_str();
            [status(0), status(1)] == wanted.map(Some)
        });
        assert!(found, "{all:#}\n{}", server.output());
    };
    becomes(&server, ["stopped", "ok"]);
    let id = server.submit(&body(&repo, "x/1", "result ok")).unwrap();
    assert_eq!(server.wait(&id).unwrap()["credential"], "team");
    server.terminate().unwrap();
    let config = server.home().join(".claude");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join(".credentials.json"), "{}").unwrap();
    server.start().unwrap();
    becomes(&server, ["ok", "ok"]);
}
