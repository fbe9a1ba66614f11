//! What the agent sees of the server's environment: an allow list, and a few things of our own.

use std::collections::BTreeMap;
use std::ffi::OsString;

use agent_domain::{PermissionMode, VariableName};

/// Passed on when the server has them.
const NAMES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TZ",
    "TERM",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CONFIG_DIR",
    "API_TIMEOUT_MS",
    "CLAUDE_CODE_MAX_RETRIES",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_SKIP_BEDROCK_AUTH",
    "CLAUDE_CODE_SKIP_VERTEX_AUTH",
    "CLAUDE_CODE_SKIP_FOUNDRY_AUTH",
    "CLOUD_ML_REGION",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "DISABLE_TELEMETRY",
    "DISABLE_AUTOUPDATER",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
];

/// Passed on when a name begins like this.
const PREFIXES: &[&str] = &[
    "LC_",
    "SSL_CERT_",
    "AWS_",
    "ANTHROPIC_BEDROCK_",
    "ANTHROPIC_VERTEX_",
    "ANTHROPIC_FOUNDRY_",
    "VERTEX_REGION_",
];

/// Never passed on, even when asked for: the server's own secrets, and what would tell the CLI
/// that it runs inside another one.
const NEVER: &[&str] = &[
    "AGENT_API_SECRET",
    "WEBHOOK_SECRET",
    "GITHUB_TOKEN",
    "CLAUDECODE",
    "CLAUDE_CODE_SESSION_ID",
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_CHILD_SESSION",
    "CLAUDE_PID",
    "AI_AGENT",
    MARK,
];
const NEVER_PREFIX: &str = "CLAUDE_CODE_MESSAGING_";

/// Set to `<job>.<attempt>` for the agent and so for all it starts, by which they are found again
/// should their supervisor be killed.
pub(crate) const MARK: &str = "AGENT_SERVER_ATTEMPT";

/// Chooses from `source` what the agent may see: the allow list, and what `extra` names.
///
/// Our own settings come last, so they replace what the source says: no background tasks, since a
/// run must end with its result, and no updates of the CLI by itself.
pub fn agent_environment(
    source: impl Iterator<Item = (OsString, OsString)>,
    extra: &[String],
) -> Vec<(OsString, OsString)> {
    let ours = [
        ("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1"),
        ("DISABLE_AUTOUPDATER", "1"),
    ];
    let is_ours = |name: &OsString| ours.iter().any(|(our, _)| name == *our);
    source
        .filter(|(name, _)| may_see(name, extra) && !is_ours(name))
        .chain(ours.map(|(name, value)| (name.into(), value.into())))
        .collect()
}

fn may_see(name: &OsString, extra: &[String]) -> bool {
    // A name that is not UTF-8 is on no list.
    let Some(name) = name.to_str() else {
        return false;
    };
    if NEVER.contains(&name) || name.starts_with(NEVER_PREFIX) {
        return false;
    }
    NAMES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || extra.iter().any(|wanted| wanted == name)
}

/// Adds a job's own variables, or puts them in the place of the server's.
pub(crate) fn with_variables(
    environment: Vec<(OsString, OsString)>,
    own: Option<&BTreeMap<VariableName, String>>,
) -> Vec<(OsString, OsString)> {
    let Some(own) = own else {
        return environment;
    };
    let is_own = |name: &OsString| own.keys().any(|own| name == own.as_str());
    let added = own
        .iter()
        .map(|(name, value)| (name.as_str().into(), value.into()));
    let others = environment.into_iter().filter(|(name, _)| !is_own(name));
    others.chain(added).collect()
}

/// As root, the CLI bypasses permissions only when it is told that it runs in a sandbox.
pub(crate) fn sandbox_claim(mode: PermissionMode, is_root: bool) -> Option<(OsString, OsString)> {
    (is_root && mode == PermissionMode::BypassPermissions)
        .then(|| ("IS_SANDBOX".into(), "1".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(names: &[&str], extra: &[&str]) -> Vec<String> {
        let source = names.iter().map(|name| ((*name).into(), "x".into()));
        let extra: Vec<String> = extra.iter().map(|name| (*name).into()).collect();
        agent_environment(source, &extra)
            .into_iter()
            .filter(|(_, value)| value == "x")
            .map(|(name, _)| name.into_string().unwrap())
            .collect()
    }

    #[test]
    fn what_is_on_the_list_is_passed_on() {
        let names = [
            "PATH",
            "HOME",
            "USER",
            "LANG",
            "LC_ALL",
            "LC_CTYPE",
            "TZ",
            "TERM",
            "TMPDIR",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "SSH_AUTH_SOCK",
            "HTTP_PROXY",
            "https_proxy",
            "no_proxy",
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "ANTHROPIC_BASE_URL",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CONFIG_DIR",
            "API_TIMEOUT_MS",
            "CLAUDE_CODE_MAX_RETRIES",
            "CLAUDE_CODE_USE_BEDROCK",
            "AWS_REGION",
            "AWS_SECRET_ACCESS_KEY",
            "CLAUDE_CODE_USE_VERTEX",
            "ANTHROPIC_VERTEX_PROJECT_ID",
            "CLOUD_ML_REGION",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "ANTHROPIC_BEDROCK_BASE_URL",
            "DISABLE_TELEMETRY",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        ];
        assert_eq!(seen(&names, &[]), names);
    }

    #[test]
    fn anything_else_is_passed_on_only_when_asked_for() {
        let names = ["GH_TOKEN", "DATABASE_URL", "MY_KEY", "LD_PRELOAD", "path"];
        assert!(seen(&names, &[]).is_empty());
        assert_eq!(seen(&names, &["MY_KEY", "ABSENT"]), ["MY_KEY"]);
    }

    #[test]
    fn the_servers_secrets_and_the_marks_of_another_cli_are_never_passed_on() {
        let names = [
            "AGENT_API_SECRET",
            "WEBHOOK_SECRET",
            "GITHUB_TOKEN",
            "CLAUDECODE",
            "CLAUDE_CODE_SESSION_ID",
            "CLAUDE_CODE_ENTRYPOINT",
            "CLAUDE_PID",
            "CLAUDE_CODE_CHILD_SESSION",
            "AI_AGENT",
            "CLAUDE_CODE_MESSAGING_SOCKET",
            "CLAUDE_CODE_MESSAGING_TOKEN",
            "AGENT_SERVER_ATTEMPT",
        ];
        assert!(seen(&names, &[]).is_empty());
        assert!(seen(&names, &names).is_empty());
    }

    #[test]
    fn a_jobs_own_variables_replace_the_servers() {
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let server = vec![pair("TZ", "server"), pair("LANG", "server")];
        let own = [("TZ", "job"), ("CI", "job")];
        let own = own.map(|(name, value)| (name.parse().unwrap(), value.into()));
        assert_eq!(
            with_variables(server.clone(), Some(&own.into())),
            [pair("LANG", "server"), pair("CI", "job"), pair("TZ", "job")]
        );
        assert_eq!(with_variables(server.clone(), None), server);
    }

    /// A job must not be able to set what the server itself passes on, ours among it.
    #[test]
    fn what_the_server_passes_on_is_reserved_save_for_the_locale() {
        let free = ["LANG", "TZ", "TERM", "DISABLE_TELEMETRY"];
        let may_set = |name: &&&str| name.parse::<VariableName>().is_ok();
        let open: Vec<_> = NAMES.iter().filter(may_set).copied().collect();
        assert_eq!(open, free);
        assert!(!crate::login::PAYMENT.iter().any(|name| may_set(&name)));
        let open = PREFIXES.iter().copied().filter(|prefix| {
            let name = format!("{prefix}X");
            name.parse::<VariableName>().is_ok()
        });
        assert_eq!(open.collect::<Vec<_>>(), ["LC_"]);
        assert!(MARK.parse::<VariableName>().is_err());
    }

    #[test]
    fn our_own_settings_replace_those_of_the_source() {
        let source = [("DISABLE_AUTOUPDATER".into(), "0".into())];
        let seen = agent_environment(source.into_iter(), &[]);
        let expected = [
            ("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1"),
            ("DISABLE_AUTOUPDATER", "1"),
        ];
        assert_eq!(
            seen,
            expected.map(|(name, value)| (OsString::from(name), OsString::from(value)))
        );
    }

    #[test]
    fn only_root_bypassing_permissions_claims_a_sandbox() {
        let bypass = PermissionMode::BypassPermissions;
        assert!(sandbox_claim(bypass, true).is_some());
        assert!(sandbox_claim(bypass, false).is_none());
        assert!(sandbox_claim(PermissionMode::Plan, true).is_none());
    }
}
