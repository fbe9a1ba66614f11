//! Which of the server's environment variables its helper programs see.

use std::ffi::OsString;

use agent_runner::agent_environment;

use crate::settings::Config;

/// What git, ssh and gh need: where things are, how to reach the network, their own settings.
const NAMES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "KRB5CCNAME",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];
/// Families of such variables.
const PREFIXES: &[&str] = &["LC_", "SSL_CERT_", "GIT_SSL_"];

/// The environment for git.
pub(crate) fn for_git() -> Vec<(OsString, OsString)> {
    chosen(|name| NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

/// The environment for gh: what git sees, and its own settings.
pub(crate) fn for_gh() -> Vec<(OsString, OsString)> {
    let mut variables = for_git();
    variables.extend(chosen(|name| name.starts_with("GH_")));
    variables
}

/// The environment for agents, before what pays for each is put in.
pub(crate) fn for_agents(config: &Config) -> Vec<(OsString, OsString)> {
    let mut variables = agent_environment(std::env::vars_os(), &config.agent_env);
    variables.retain(|(name, _)| !config.credentials.holds_variable(name));
    variables
}

fn chosen(wanted: impl Fn(&str) -> bool) -> Vec<(OsString, OsString)> {
    std::env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(&wanted))
        .collect()
}
