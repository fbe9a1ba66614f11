//! `agent-server doctor`: what works on this machine, and how to get the rest.
//!
//! It asks the same parts that the server asks at its start, and leaves nothing behind.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_domain::limits;
use agent_runner::{Level, Means, Probe, process_control, try_sandbox};
use serde_json::json;

use crate::credentials::Configured;
use crate::sandbox::{self, Choice};
use crate::settings::{Config, Settings};
use crate::{environment, money, preflight, serve};

/// Open files below which many readers of logs are refused.
const FILES_WANTED: u64 = 4096;
/// Stands in for a secret that is not set, so that all else can be looked at.
const PLACEHOLDER: &str = "a-placeholder-of-more-than-32-characters";

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It works.
    Ok,
    /// The server works without it, with less.
    Warning,
    /// The server does not start, or jobs fail.
    Failure,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    /// How to make it better.
    advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn less(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            state: State::Warning,
            advice: Some(advice.into()),
            ..Self::ok(name, found)
        }
    }

    fn missing(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            state: State::Failure,
            ..Self::less(name, found, advice)
        }
    }
}

/// Looks at everything and prints it: 0 when nothing fails, else 1.
pub(crate) fn run(settings: Settings, as_json: bool) -> ExitCode {
    let checks = match look(settings) {
        Ok(checks) => checks,
        Err(error) => vec![Check::missing(
            "settings",
            format!("{error:#}"),
            "mend the setting",
        )],
    };
    let fails = checks.iter().any(|check| check.state == State::Failure);
    let text = if as_json {
        report(&checks, !fails)
    } else {
        table(&checks)
    };
    println!("{text}");
    if fails {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn report(checks: &[Check], ok: bool) -> String {
    let checks: Vec<_> = checks
        .iter()
        .map(|check| {
            json!({
                "name": check.name,
                "state": check.state.word(),
                "found": check.found,
                "advice": check.advice,
            })
        })
        .collect();
    json!({ "ok": ok, "checks": checks }).to_string()
}

fn table(checks: &[Check]) -> String {
    let mut text = String::new();
    for Check {
        name,
        state,
        found,
        advice,
    } in checks
    {
        // Writing to a text does not fail.
        writeln!(text, "{:<8} {name:<12} {found}", state.word()).ok();
        if let Some(advice) = advice {
            writeln!(text, "{:<21} -> {advice}", "").ok();
        }
    }
    text.truncate(text.trim_end().len());
    text
}

fn look(settings: Settings) -> anyhow::Result<Vec<Check>> {
    let (settings, has_secret) = settings.with_secret_or(PLACEHOLDER);
    let credentials = settings.credentials()?;
    let config = settings.check(credentials)?;
    let mut checks = vec![api_secret(&config, has_secret)];
    if config.signing_key.is_none() {
        checks.push(Check::less(
            "callbacks",
            "WEBHOOK_SECRET is not set: callbacks are sent unsigned",
            "set it to a long random text and give it to the receivers",
        ));
    }
    if let Some(impatience) = preflight::impatience(config.run_defaults.idle_timeout) {
        checks.push(Check::less("silence", impatience, "leave it at 900"));
    }
    checks.push(match preflight::find(Path::new("git")) {
        Some(path) => Check::ok("git", path.display().to_string()),
        None => Check::missing(
            "git",
            "not installed, or not on PATH",
            "Debian: apt install git; macOS: xcode-select --install",
        ),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(programs(&config, &mut checks))?;
    checks.extend(machine(&config));
    checks.extend(folders(&config));
    checks.extend(volumes(&config));
    checks.push(port(&config));
    checks.extend(open_files());
    checks.push(Check::ok("money", money::described(&config.spending)));
    Ok(checks)
}

fn api_secret(config: &Config, is_set: bool) -> Check {
    let length = config.api_secret.expose().chars().count();
    if !is_set {
        Check::missing(
            "secret",
            "AGENT_API_SECRET is not set",
            "export AGENT_API_SECRET=$(openssl rand -hex 32)",
        )
    } else if length < limits::SECRET_CHARS_PUBLIC {
        Check::less(
            "secret",
            format!("AGENT_API_SECRET has {length} characters: good enough for this machine alone"),
            "openssl rand -hex 32 makes a longer one",
        )
    } else {
        Check::ok("secret", "AGENT_API_SECRET is set")
    }
}

async fn forge(config: &Config) -> Check {
    match serve::forge(config).user().await {
        Ok(Some(user)) => Check::ok("forge", format!("pull requests are opened as {user}")),
        Ok(None) => Check::ok(
            "forge",
            "the remote is not GitHub: jobs end with a pushed branch",
        ),
        Err(error) if error.is_transient() => Check::less(
            "forge",
            error.to_string(),
            "jobs wait a while for it, and fail then",
        ),
        Err(error) => Check::missing(
            "forge",
            error.to_string(),
            "set GITHUB_TOKEN, or run gh auth login",
        ),
    }
}

fn claude(config: &Config, seen: &Probe) -> Check {
    match &seen.version {
        None => Check::missing(
            "claude",
            format!(
                "{} is not installed, or does not answer",
                config.claude.display()
            ),
            "npm install -g @anthropic-ai/claude-code, or set CLAUDE_BIN",
        ),
        Some(version) if seen.authenticated => Check::ok("claude", format!("{version}, logged in")),
        Some(version) => Check::missing(
            "claude",
            format!("{version}, not logged in"),
            "run claude login, or set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN",
        ),
    }
}

/// Each credential: what it is, where its secret comes from, and whether the CLI finds it.
fn credentials(config: &Config, seen: &Probe) -> Vec<Check> {
    let check = |one: &Configured| {
        let Configured {
            credential, source, ..
        } = one;
        let found = format!(
            "{}: {}, from {source}",
            credential.name,
            credential.kind.as_str()
        );
        let asked = seen
            .logins
            .iter()
            .find(|(name, _)| *name == credential.name);
        match asked.and_then(|(_, found)| *found) {
            Some(true) => Check::ok("credential", found),
            Some(false) => Check::less(
                "credential",
                format!("{found}, not there: its jobs wait"),
                source.advice(),
            ),
            None => Check::less(
                "credential",
                format!("{found}, the CLI does not say whether it is there"),
                "see claude above, and run this again when the machine has less to do",
            ),
        }
    };
    config.credentials.iter().map(check).collect()
}

async fn programs(config: &Config, checks: &mut Vec<Check>) -> anyhow::Result<()> {
    let environment = environment::for_agents(config);
    let runner = serve::runner(config, Level::Off)?;
    let seen = runner.probe().await;
    checks.push(claude(config, &seen));
    checks.extend(credentials(config, &seen));
    checks.push(forge(config).await);
    for level in [Level::Workspace, Level::Isolated] {
        let wall = sandbox::at(config, level)?;
        let tried = try_sandbox(&wall, &environment, &sandbox::try_folder(config)).await;
        checks.push(match tried {
            Ok(()) => Check::ok("sandbox", format!("{level} can be had")),
            Err(error) => Check::less(
                "sandbox",
                format!("{level} cannot be had: {error}"),
                Choice::advice(&error),
            ),
        });
    }
    let choice = sandbox::choose(config, &environment).await?;
    checks.push(match choice.level {
        level if choice.refuses() => Check::missing(
            "sandbox",
            format!("SANDBOX={level} cannot be had: jobs are refused"),
            "see above, or name in SANDBOX_FALLBACK what will do instead",
        ),
        Level::Off => Check::less(
            "sandbox",
            "off: agents can read and change whatever this user can",
            "SANDBOX=workspace, or leave it unset",
        ),
        level => Check::ok("sandbox", format!("{level} is used")),
    });
    Ok(())
}

/// What ends and limits runs, and who they run as.
fn machine(config: &Config) -> Vec<Check> {
    let seen = process_control(&format!("doctor-{}", std::process::id()));
    let means = |means: Means| match means {
        Means::ControlGroup => "by control group",
        Means::Watching => "by watching",
        Means::ResourceLimit => "by resource limit",
        Means::Nothing => "not",
    };
    let found = format!(
        "runs are ended {}; limits are kept: memory {}, processes {}, processors {}",
        if seen.ends_at_once {
            "at once"
        } else {
            "one process at a time"
        },
        means(seen.memory),
        means(seen.processes),
        means(seen.cpu)
    );
    let mut checks = vec![if seen.advice.is_empty() {
        Check::ok("processes", found)
    } else {
        Check::less("processes", found, seen.advice.join("; "))
    }];
    if config.run_limits.cpu_millis.is_some() && seen.cpu == Means::Nothing {
        checks.push(Check::less(
            "processes",
            "AGENT_CPU_MAX is set and cannot be kept",
            "see above",
        ));
    }
    checks
}

fn folders(config: &Config) -> Vec<Check> {
    let folders = [
        ("DATA_DIR", &config.data_dir),
        ("REPOS_DIR", &config.repos_dir),
        ("WORKTREES_DIR", &config.worktrees_dir),
    ];
    let check = |(name, path): (&str, &PathBuf)| {
        // What is not there yet is made where it is to be.
        let there = path
            .ancestors()
            .find(|path| path.is_dir())
            .unwrap_or(Path::new("/"));
        let file = there.join(format!(".agent-server-doctor-{}", std::process::id()));
        let written = std::fs::write(&file, "").and_then(|()| std::fs::remove_file(&file));
        let path = path.display();
        match written {
            Ok(()) => Check::ok("directory", format!("{name} {path}")),
            Err(error) => Check::missing(
                "directory",
                format!("{name} {path}: {error}"),
                "let this user write there, or set it to another place",
            ),
        }
    };
    folders.into_iter().map(check).collect()
}

fn volumes(config: &Config) -> Vec<Check> {
    let look = |volume: agent_queue::DiskVolume| {
        let path = volume.path.display();
        if let Some(trouble) = volume.trouble {
            let found = format!("volume of {path}: {trouble}");
            return Check::missing("disk", found, "make room, or set DISK_MIN_FREE lower");
        }
        let free = volume.room.map_or(0, |room| room.bytes) >> 20;
        Check::ok("disk", format!("volume of {path}: {free} MiB free"))
    };
    serve::disk(config).look().into_iter().map(look).collect()
}

fn port(config: &Config) -> Check {
    match std::net::TcpListener::bind(config.listen) {
        Ok(_) => Check::ok("address", format!("{} is free", config.listen)),
        Err(error) => Check::less(
            "address",
            format!("{}: {error}", config.listen),
            "in order if the server runs already; else set HOST and PORT",
        ),
    }
}

/// How many files this process may have open; nothing where the system has no such list.
fn open_files() -> Option<Check> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    let most: u64 = line.split_whitespace().nth(3)?.parse().ok()?;
    Some(if most < FILES_WANTED {
        Check::less(
            "open files",
            format!("at most {most}"),
            format!("ulimit -n {FILES_WANTED}, or LimitNOFILE={FILES_WANTED} in the service file"),
        )
    } else {
        Check::ok("open files", format!("at most {most}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_a_line_and_how_to_get_more_another() {
        let checks = [
            Check::ok("git", "/usr/bin/git"),
            Check::missing("claude", "not installed", "install it"),
        ];
        assert_eq!(
            table(&checks),
            "ok       git          /usr/bin/git\nfailure  claude       not installed\n                      -> install it"
        );
        assert_eq!(
            report(&checks, false),
            r#"{"checks":[{"advice":null,"found":"/usr/bin/git","name":"git","state":"ok"},{"advice":"install it","found":"not installed","name":"claude","state":"failure"}],"ok":false}"#
        );
    }
}
