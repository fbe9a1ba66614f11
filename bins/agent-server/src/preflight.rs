//! Says at start what is missing on this machine, and how to get it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_forge::Forge;
use agent_runner::{LONGEST_STALL, Level, Limits, Means, Runner, process_control, unused_token};
use anyhow::bail;

use crate::credentials::Credentials;
use crate::environment;
use crate::sandbox::Choice;
use crate::secrets::Secrets;
use crate::settings::Config;

/// Fails when something is missing without which no job can run.
pub(crate) fn require_git() -> anyhow::Result<()> {
    if find(Path::new("git")).is_none() {
        bail!(
            "git is not installed, or not on PATH. Install it:\n  macOS: xcode-select --install\n  Debian: apt install git"
        );
    }
    Ok(())
}

/// Warns of secrets that cannot be kept out of logs.
pub(crate) fn warn_of_secrets(secrets: &Secrets) {
    for name in secrets.too_short() {
        tracing::warn!("{name} is too short to be masked where it turns up in a log");
    }
}

/// Warns of settings that leave something undone.
pub(crate) fn warn_of_settings(config: &Config) {
    let secret = config.api_secret.expose().chars().count();
    if secret < agent_domain::limits::SECRET_CHARS_PUBLIC {
        tracing::warn!(
            "AGENT_API_SECRET has {secret} characters; good enough for this machine alone, too short for anything else"
        );
    }
    if config.signing_key.is_none() {
        tracing::warn!("WEBHOOK_SECRET is not set: callbacks are sent unsigned");
    }
    if let Some(impatience) = impatience(config.run_defaults.idle_timeout) {
        tracing::warn!("{impatience}; the default is 900");
    }
}

/// What is wrong with a limit on silence that is not longer than the CLI's own silences.
pub(crate) fn impatience(limit: Option<Duration>) -> Option<String> {
    let limit = limit.filter(|limit| *limit <= LONGEST_STALL)?.as_secs();
    let stall = LONGEST_STALL.as_secs();
    Some(format!(
        "JOB_IDLE_TIMEOUT_SECONDS={limit} ends jobs that would have gone on: the CLI is silent for up to {stall} s when the API stalls"
    ))
}

/// Warns of logins in the server's environment that no run uses.
pub(crate) fn warn_of_logins(config: &Config) {
    if !config.credentials.are_named() {
        let environment = environment::for_agents(config);
        if unused_token(&environment) {
            tracing::warn!(
                "CLAUDE_CODE_OAUTH_TOKEN is not used: there is a key as well, which goes before it"
            );
        }
    }
}

/// Warns of limits on runs that this machine does not keep.
pub(crate) fn warn_of_limits(limits: &Limits) {
    let machine = process_control(&std::process::id().to_string());
    for group in &machine.groups {
        tracing::debug!("control groups of runs are made in {}", group.display());
    }
    let asked = [
        ("AGENT_MEMORY_MAX", limits.memory.is_some(), machine.memory),
        (
            "AGENT_PROCESSES_MAX",
            limits.processes.is_some(),
            machine.processes,
        ),
        ("AGENT_CPU_MAX", limits.cpu_millis.is_some(), machine.cpu),
    ];
    for (name, is_set, means) in asked {
        if is_set && means == Means::Nothing {
            tracing::warn!("{name} cannot be kept on this machine");
        }
    }
    for advice in &machine.advice {
        tracing::info!("{advice}");
    }
}

/// Says what stands around agents, loudly where it is less than was asked for or nothing.
pub(crate) fn warn_of_sandbox(choice: &Choice) {
    for (level, error) in &choice.failed {
        let advice = Choice::advice(error);
        tracing::warn!("the sandbox level {level} cannot be had: {error}; to get it, {advice}");
    }
    match (choice.level, choice.asked) {
        (level, _) if choice.refuses() => tracing::warn!(
            "jobs will be refused: SANDBOX={level} cannot be had; SANDBOX_FALLBACK names what will do instead"
        ),
        (Level::Off, None) => tracing::warn!(
            "NO SANDBOX: agents can read and change whatever this user can, other jobs' work and this server's data included; SANDBOX=off says that this is meant"
        ),
        (level, _) => tracing::info!("sandbox: {level}"),
    }
}

/// Warns when jobs would fail for want of the CLI, its login, or a way to open pull requests.
pub(crate) async fn warn_of_programs(
    claude: PathBuf,
    credentials: &Credentials,
    runner: &Runner,
    forge: &Forge,
) {
    let seen = runner.probe().await;
    for one in credentials.iter().filter(|_| credentials.are_named()) {
        let name = &one.credential.name;
        if seen.logins.contains(&(name.clone(), Some(false))) {
            let advice = one.source.advice();
            tracing::warn!("the CLI finds no login for the credential {name}: {advice}");
        }
    }
    match &seen.version {
        None if find(&claude).is_none() => tracing::warn!(
            "{} is not installed, or not on PATH: jobs will fail. Install it: npm install -g @anthropic-ai/claude-code, or set CLAUDE_BIN",
            claude.display()
        ),
        None => tracing::warn!(
            "{} --version does not answer: jobs may fail",
            claude.display()
        ),
        Some(version) if seen.authenticated => tracing::info!("claude {version}, logged in"),
        Some(version) => tracing::warn!(
            "claude {version} is not logged in: jobs will fail. Run: claude login, or set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN"
        ),
    }
    match forge.ready().await {
        Ok(true) => tracing::info!("pull requests are opened on GitHub"),
        Ok(false) => tracing::info!("the remote is not GitHub: jobs end with a pushed branch"),
        Err(error) => tracing::warn!("jobs will fail: {error}"),
    }
}

/// Finds a program as the system would.
pub(crate) fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_path_buf());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|found| found.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_on_silence_is_to_be_longer_than_the_clis_own_silences() {
        for (seconds, is_too_short) in [
            (1, true),
            (300, true),
            (361, true),
            (362, false),
            (900, false),
        ] {
            let warning = impatience(Some(Duration::from_secs(seconds)));
            assert_eq!(warning.is_some(), is_too_short, "{seconds}");
        }
        assert_eq!(impatience(None), None);
    }

    #[test]
    fn programs_are_found_on_the_path_and_by_their_own_path() {
        let git = find(Path::new("git")).unwrap();
        assert_eq!(find(&git), Some(git));
        assert_eq!(find(Path::new("no-such-program-here")), None);
        assert_eq!(find(Path::new("/no/such/program")), None);
    }
}
