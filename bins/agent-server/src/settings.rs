//! Settings: environment variables, and the same names as flags.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use agent_domain::{Cidr, LeaseTerms, PermissionMode, RunOptions, Secret, Spending, limits};
use agent_git::Identity;
use agent_runner::Limits;
use agent_webhook::{SigningKey, Trust};
use anyhow::{Context as _, bail};
use clap::Args;

use crate::credentials::Credentials;
use crate::disk::{DiskLimits, DiskSettings};
use crate::money::MoneySettings;
use crate::run_limits::RunLimitSettings;
use crate::sandbox::{SandboxConfig, SandboxSettings};
use crate::secrets::Secrets;

/// What an operator can set; an empty text counts as not set.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Root bearer token of the API; required, at least 7 characters, 32 unless on loopback.
    #[arg(
        long,
        env = "AGENT_API_SECRET",
        hide_env_values = true,
        default_value = ""
    )]
    agent_api_secret: String,
    /// Listen address.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Listen port; 0 takes a free one.
    #[arg(long, env = "PORT", default_value_t = 3456)]
    port: u16,
    /// Jobs that run at the same time.
    #[arg(long, env = "MAX_CONCURRENT_JOBS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    max_concurrent_jobs: u32,
    /// Database, logs and attempts; ~/agent-server where not set.
    #[arg(long, env = "DATA_DIR", default_value = "")]
    data_dir: String,
    /// sqlite://PATH; the file agent.db in the data directory where not set.
    #[arg(long, env = "DATABASE_URL", default_value = "")]
    database_url: String,
    /// Mirrors of the repositories; ~/repos where not set.
    #[arg(long, env = "REPOS_DIR", default_value = "")]
    repos_dir: String,
    /// Workspaces of running jobs; ~/worktrees where not set.
    #[arg(long, env = "WORKTREES_DIR", default_value = "")]
    worktrees_dir: String,
    /// Clone URLs are this followed by org/repo.git: scp-like, ssh://, https://, or a path.
    #[arg(long, env = "GIT_REMOTE_BASE", default_value = "git@github.com:")]
    git_remote_base: String,
    /// GitHub's REST API; set it for GitHub Enterprise. That of github.com where not set.
    #[arg(long, env = "GITHUB_API_URL", default_value = "")]
    github_api_url: String,
    /// Token for pull requests, and for git over https; without one the gh command is used.
    #[arg(long, env = "GITHUB_TOKEN", hide_env_values = true, default_value = "")]
    github_token: String,
    /// The Claude Code CLI.
    #[arg(long, env = "CLAUDE_BIN", default_value = "claude")]
    claude_bin: PathBuf,
    /// The GitHub CLI, used where no token is set.
    #[arg(long, env = "GH_BIN", default_value = "gh")]
    gh_bin: PathBuf,
    /// A file (TOML) that names what runs are paid with; where not set, that is what the server's
    /// environment or this machine's login has.
    #[arg(long, env = "CREDENTIALS_FILE", default_value = "")]
    credentials_file: String,
    /// Model for jobs that name none; without it the CLI picks one.
    #[arg(long, env = "CLAUDE_MODEL", default_value = "")]
    claude_model: String,
    /// The CLI's permission mode for jobs that name none.
    #[arg(long, env = "PERMISSION_MODE", default_value_t)]
    permission_mode: PermissionMode,
    /// Further variables of the server's environment that the agent may see, by name.
    #[arg(long, env = "AGENT_ENV", default_value = "")]
    agent_env: String,
    /// Author of commits; git's own setting where not set.
    #[arg(long, env = "COMMIT_NAME", default_value = "")]
    commit_name: String,
    /// Author of commits; git's own setting where not set.
    #[arg(long, env = "COMMIT_EMAIL", default_value = "")]
    commit_email: String,
    /// Longest run of an agent.
    #[arg(long, env = "JOB_TIMEOUT_SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=limits::TIMEOUT_SECONDS_MAX))]
    job_timeout_seconds: u64,
    /// Longest silence of an agent.
    #[arg(long, env = "JOB_IDLE_TIMEOUT_SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=limits::TIMEOUT_SECONDS_MAX))]
    job_idle_timeout_seconds: u64,
    /// What becomes of a job whose subscription has reached its limit: park lets it wait and go on, fail
    /// ends it.
    #[arg(long, env = "USAGE_LIMIT", default_value = "park", value_parser = ["park", "fail"])]
    usage_limit: String,
    #[command(flatten)]
    run_limits: RunLimitSettings,
    /// Signs callbacks; whsec_... as Standard Webhooks has it, or any text.
    #[arg(
        long,
        env = "WEBHOOK_SECRET",
        hide_env_values = true,
        default_value = ""
    )]
    webhook_secret: String,
    /// Addresses and CIDR ranges callbacks may reach although private, comma separated.
    #[arg(long, env = "WEBHOOK_ALLOW", default_value = "")]
    webhook_allow: String,
    /// A file of certificates (PEM) to trust instead of the built-in ones, by callbacks and GitHub.
    #[arg(long, env = "SSL_CERT_FILE", default_value = "")]
    ssl_cert_file: String,
    /// How long a stopping server waits for running agents; later ones go on without it.
    #[arg(long, env = "SHUTDOWN_GRACE_SECONDS", default_value_t = 30)]
    shutdown_grace_seconds: u64,
    #[command(flatten)]
    disk: DiskSettings,
    #[command(flatten)]
    money: MoneySettings,
    #[command(flatten)]
    sandbox: SandboxSettings,
    /// How long a lease lasts; only tests have a reason to change it.
    #[arg(long, env = "LEASE_SECONDS", default_value_t = 30, hide = true, value_parser = clap::value_parser!(u64).range(2..=600))]
    lease_seconds: u64,
    /// debug, info, warn, error.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_parser = ["debug", "info", "warn", "error"])]
    pub(crate) log_level: String,
    /// text or json.
    #[arg(long, env = "LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub(crate) log_format: String,
}

/// Settings checked and put in the form the parts take.
#[derive(Debug)]
pub(crate) struct Config {
    /// Never to be written.
    pub(crate) secrets: Vec<Secret>,
    pub(crate) api_secret: Secret,
    pub(crate) listen: SocketAddr,
    pub(crate) slots: u32,
    pub(crate) data_dir: PathBuf,
    pub(crate) database: PathBuf,
    pub(crate) repos_dir: PathBuf,
    pub(crate) worktrees_dir: PathBuf,
    pub(crate) remote_base: String,
    pub(crate) github_api_url: Option<String>,
    pub(crate) github_token: Option<Secret>,
    pub(crate) claude: PathBuf,
    pub(crate) credentials: Credentials,
    pub(crate) gh: PathBuf,
    pub(crate) run_defaults: RunOptions,
    pub(crate) parks: bool,
    pub(crate) run_limits: Limits,
    pub(crate) agent_env: Vec<String>,
    pub(crate) identity: Option<Identity>,
    pub(crate) signing_key: Option<SigningKey>,
    pub(crate) callback_allow: Vec<Cidr>,
    pub(crate) callback_trust: Option<Trust>,
    pub(crate) grace: Duration,
    pub(crate) disk: DiskLimits,
    pub(crate) spending: Spending,
    pub(crate) sandbox: SandboxConfig,
    pub(crate) lease: LeaseTerms,
}

impl Settings {
    /// What runs are paid with.
    pub(crate) fn credentials(&self) -> anyhow::Result<Credentials> {
        Credentials::read(&self.credentials_file, |name| std::env::var_os(name))
    }

    /// Settings that are secrets or lead to some, and settings that are addresses and may hold some.
    pub(crate) fn secrets(&self, credentials: &Credentials) -> Secrets {
        let secrets = [
            (
                "AGENT_API_SECRET".to_owned(),
                self.agent_api_secret.as_str(),
            ),
            ("GITHUB_TOKEN".to_owned(), &self.github_token),
            ("WEBHOOK_SECRET".to_owned(), &self.webhook_secret),
        ];
        let of_credentials = credentials.secrets();
        let of_credentials = of_credentials.map(|(name, secret)| (name, secret.expose()));
        let secrets = secrets.into_iter().chain(of_credentials);
        let addresses = [
            ("GIT_REMOTE_BASE", self.git_remote_base.as_str()),
            ("GITHUB_API_URL", &self.github_api_url),
            ("DATABASE_URL", &self.database_url),
        ];
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Secrets::collect(secrets, addresses, environment)
    }

    /// These settings with an API secret, and whether they had one themselves.
    pub(crate) fn with_secret_or(mut self, placeholder: &str) -> (Self, bool) {
        let has_one = !self.agent_api_secret.is_empty();
        if !has_one {
            placeholder.clone_into(&mut self.agent_api_secret);
        }
        (self, has_one)
    }

    /// Checks everything; the error names the setting and says what to do.
    pub(crate) fn check(self, credentials: Credentials) -> anyhow::Result<Config> {
        let secrets = self.secrets(&credentials).all();
        let listen = SocketAddr::new(self.host, self.port);
        let api_secret = check_secret(&self.agent_api_secret, listen)?;
        let data_dir = in_home(self.data_dir, "agent-server", "DATA_DIR")?;
        let run_defaults = RunOptions {
            model: set(self.claude_model),
            permission_mode: Some(self.permission_mode),
            timeout: Some(Duration::from_secs(self.job_timeout_seconds)),
            idle_timeout: Some(Duration::from_secs(self.job_idle_timeout_seconds)),
            ..RunOptions::default()
        };
        Ok(Config {
            secrets,
            api_secret,
            listen,
            slots: self.max_concurrent_jobs,
            database: database(&self.database_url, &data_dir)?,
            data_dir,
            repos_dir: in_home(self.repos_dir, "repos", "REPOS_DIR")?,
            worktrees_dir: in_home(self.worktrees_dir, "worktrees", "WORKTREES_DIR")?,
            remote_base: self.git_remote_base,
            github_api_url: set(self.github_api_url),
            github_token: set(self.github_token).map(Secret::new),
            claude: self.claude_bin,
            credentials,
            gh: self.gh_bin,
            run_defaults,
            parks: self.usage_limit == "park",
            run_limits: self.run_limits.check()?,
            agent_env: names(&self.agent_env),
            identity: identity(self.commit_name, self.commit_email)?,
            signing_key: signing_key(&self.webhook_secret)?,
            callback_allow: callback_allow(&self.webhook_allow)?,
            callback_trust: trust(&self.ssl_cert_file)?,
            grace: Duration::from_secs(self.shutdown_grace_seconds),
            disk: self.disk.check()?,
            spending: self.money.check()?,
            sandbox: self.sandbox.check()?,
            lease: LeaseTerms::new(Duration::from_secs(self.lease_seconds)),
        })
    }
}

fn set(value: String) -> Option<String> {
    (!value.is_empty()).then_some(value)
}

fn check_secret(secret: &str, listen: SocketAddr) -> anyhow::Result<Secret> {
    const HOW: &str = "Set it to a long random text, for instance:\n  export AGENT_API_SECRET=$(openssl rand -hex 32)";
    let length = secret.chars().count();
    if length == 0 {
        bail!(
            "AGENT_API_SECRET is not set. It is the bearer token every request must carry.\n{HOW}"
        );
    }
    if length < limits::SECRET_CHARS_MIN {
        bail!(
            "AGENT_API_SECRET is too short: {length} characters, at least {} are needed.\n{HOW}",
            limits::SECRET_CHARS_MIN
        );
    }
    if length < limits::SECRET_CHARS_PUBLIC && !listen.ip().is_loopback() {
        bail!(
            "AGENT_API_SECRET has {length} characters; on {} at least {} are needed, because others can reach it.\n{HOW}",
            listen.ip(),
            limits::SECRET_CHARS_PUBLIC
        );
    }
    if !secret.chars().all(|c| c.is_ascii_graphic()) {
        bail!(
            "AGENT_API_SECRET must consist of printable ASCII characters without spaces, or no HTTP header can carry it.\n{HOW}"
        );
    }
    Ok(Secret::new(secret))
}

fn in_home(path: String, name: &str, setting: &str) -> anyhow::Result<PathBuf> {
    let path = if path.is_empty() {
        let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
        home.with_context(|| format!("HOME is not set; set it, or {setting}"))?
            .join(name)
    } else {
        PathBuf::from(path)
    };
    std::path::absolute(&path).with_context(|| format!("{setting}: {} is no path", path.display()))
}

fn database(url: &str, data_dir: &std::path::Path) -> anyhow::Result<PathBuf> {
    match url.split_once("://") {
        None if url.is_empty() => Ok(data_dir.join("agent.db")),
        Some(("sqlite", path)) if !path.is_empty() => Ok(PathBuf::from(path)),
        Some(("postgres" | "postgresql", _)) => {
            bail!("DATABASE_URL: PostgreSQL is not there yet; leave it unset to use SQLite")
        }
        _ => bail!("DATABASE_URL must be sqlite:// followed by a path"),
    }
}

fn names(list: &str) -> Vec<String> {
    let parts = list.split([',', ' ']).map(str::trim);
    parts
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn identity(name: String, email: String) -> anyhow::Result<Option<Identity>> {
    match (set(name), set(email)) {
        (None, None) => Ok(None),
        (Some(name), Some(email)) => Ok(Some(Identity { name, email })),
        _ => bail!("COMMIT_NAME and COMMIT_EMAIL go together: set both or neither"),
    }
}

fn signing_key(secret: &str) -> anyhow::Result<Option<SigningKey>> {
    if secret.is_empty() {
        return Ok(None);
    }
    SigningKey::parse(secret)
        .map(Some)
        .context("WEBHOOK_SECRET")
}

fn trust(file: &str) -> anyhow::Result<Option<Trust>> {
    if file.is_empty() {
        return Ok(None);
    }
    let pem = std::fs::read(file).with_context(|| format!("SSL_CERT_FILE: {file}"))?;
    let trust = Trust::from_pem(&pem).with_context(|| format!("SSL_CERT_FILE: {file}"))?;
    Ok(Some(trust))
}

fn callback_allow(list: &str) -> anyhow::Result<Vec<Cidr>> {
    let parse = |item: String| {
        item.parse()
            .with_context(|| format!("WEBHOOK_ALLOW: {item:?}"))
    };
    names(list).into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str, address: &str) -> Result<Secret, String> {
        check_secret(text, address.parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_that_is_absent_or_too_short_is_refused() {
        assert!(secret("", "127.0.0.1:1").unwrap_err().contains("not set"));
        assert!(
            secret("sixsix", "127.0.0.1:1")
                .unwrap_err()
                .contains("too short")
        );
        assert!(secret("test123", "127.0.0.1:1").is_ok());
        assert!(secret("with space", "[::1]:1").is_err());
    }

    #[test]
    fn an_address_others_can_reach_needs_a_long_secret() {
        assert!(
            secret(&"x".repeat(31), "0.0.0.0:1")
                .unwrap_err()
                .contains("32")
        );
        assert!(secret(&"x".repeat(32), "0.0.0.0:1").is_ok());
        assert!(secret("test123", "[::1]:1").is_ok());
    }

    #[test]
    fn only_sqlite_databases_are_accepted() {
        let data = std::path::Path::new("/data");
        assert_eq!(database("", data).unwrap(), PathBuf::from("/data/agent.db"));
        assert_eq!(
            database("sqlite:///x/y.db", data).unwrap(),
            PathBuf::from("/x/y.db")
        );
        assert!(
            database("postgres://h/d", data)
                .unwrap_err()
                .to_string()
                .contains("not there yet")
        );
        assert!(database("agent.db", data).is_err());
    }

    #[test]
    fn lists_are_split_at_commas_and_spaces() {
        assert_eq!(names(" A, B  C,,"), ["A", "B", "C"]);
    }

    #[test]
    fn the_table_of_settings_in_the_readme_is_complete_and_right() {
        let readme = include_str!("../../../README.md");
        let command = Settings::augment_args(clap::Command::new("agent-server"));
        for setting in command
            .get_arguments()
            .filter(|setting| setting.get_env().is_some() && !setting.is_hide_set())
        {
            let name = setting.get_env().and_then(|name| name.to_str()).unwrap();
            let row = readme
                .lines()
                .find(|line| line.starts_with("| ") && line.contains(&format!("`{name}`")));
            let row = row.unwrap_or_else(|| panic!("README.md does not list {name}"));
            for default in setting
                .get_default_values()
                .iter()
                .filter_map(|value| value.to_str())
            {
                assert!(
                    row.contains(default),
                    "README.md: {name} has the default {default}: {row}"
                );
            }
        }
    }
}
