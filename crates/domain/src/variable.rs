//! Names of the variables that a job may set for its agent.

use std::fmt;
use std::str::FromStr;

use crate::limits;

/// The name of a variable that changes none of the server's own rules: which programs run and
/// with what loaded into them, where the CLI finds its settings, how it pays and reaches the API,
/// how its processes are found again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VariableName(String);

/// Why a variable may not be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariableNameError {
    /// Not a name a shell could use.
    #[error(
        "must be letters, digits and underscores, beginning with no digit, at most {}",
        limits::VARIABLE_NAME_BYTES
    )]
    Form,
    /// It is the server's to set.
    #[error("is for the server to set")]
    Reserved,
}

/// Compared without regard to case, since some programs do so.
const RESERVED: &[&str] = &[
    "AI_AGENT",
    "ALL_PROXY",
    "API_TIMEOUT_MS",
    "BASH_ENV",
    "CLOUD_ML_REGION",
    "DISABLE_AUTOUPDATER",
    "ENV",
    "GCONV_PATH",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "HOME",
    "HOSTALIASES",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "IFS",
    "IS_SANDBOX",
    "LOCPATH",
    "LOGNAME",
    "NODE_EXTRA_CA_CERTS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "NO_PROXY",
    "OLDPWD",
    "OPENSSL_CONF",
    "PATH",
    "PWD",
    "SHELL",
    "SHELLOPTS",
    "SSH_AUTH_SOCK",
    "TMPDIR",
    "USER",
];

/// Every name that begins like this is reserved.
const RESERVED_PREFIXES: &[&str] = &[
    "AGENT_API_",
    "AGENT_SERVER_",
    "ANTHROPIC",
    "AWS_",
    "BUN_",
    "CLAUDE",
    "DYLD_",
    "GIT_",
    "GLIBC_",
    "LD_",
    "MALLOC_",
    "SSL_CERT_",
    "VERTEX_REGION_",
    "XDG_",
];

impl VariableName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VariableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for VariableName {
    type Err = VariableNameError;

    fn from_str(name: &str) -> Result<Self, VariableNameError> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let starts_well = name.starts_with(|c: char| !c.is_ascii_digit());
        let fits = name.len() <= limits::VARIABLE_NAME_BYTES;
        if !(starts_well && fits && name.bytes().all(is_word)) {
            return Err(VariableNameError::Form);
        }
        let upper = name.to_ascii_uppercase();
        let begins = |prefix: &&str| upper.starts_with(prefix);
        if RESERVED.contains(&&*upper) || RESERVED_PREFIXES.iter().any(begins) {
            return Err(VariableNameError::Reserved);
        }
        Ok(Self(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_own_variables_have_ordinary_names() {
        for good in [
            "NODE_ENV",
            "CI",
            "_x",
            "DATABASE_URL",
            "GH_HOST",
            "LANG",
            "TZ",
            "MAX_THINKING_TOKENS",
            "BASH_DEFAULT_TIMEOUT_MS",
            "PATHS",
            "A1",
        ] {
            assert!(good.parse::<VariableName>().is_ok(), "{good}");
        }
        let long = "x".repeat(limits::VARIABLE_NAME_BYTES + 1);
        for bad in [
            "",
            "1A",
            "a-b",
            "a b",
            "a=b",
            "a\0",
            "BASH_FUNC_ls%%",
            "é",
            &long,
        ] {
            let parsed = bad.parse::<VariableName>();
            assert_eq!(parsed, Err(VariableNameError::Form), "{bad:?}");
        }
    }

    #[test]
    fn what_would_change_the_servers_own_rules_is_reserved() {
        for bad in [
            "PATH",
            "path",
            "HOME",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "DYLD_INSERT_LIBRARIES",
            "GIT_DIR",
            "GIT_SSH_COMMAND",
            "GIT_CONFIG_COUNT",
            "IS_SANDBOX",
            "CLAUDECODE",
            "CLAUDE_CONFIG_DIR",
            "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS",
            "CLAUDE_CODE_MAX_TURNS",
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_BASE_URL",
            "AWS_SECRET_ACCESS_KEY",
            "AGENT_SERVER_ATTEMPT",
            "AGENT_API_SECRET",
            "NODE_OPTIONS",
            "BUN_OPTIONS",
            "BASH_ENV",
            "http_proxy",
            "XDG_CONFIG_HOME",
            "TMPDIR",
            "DISABLE_AUTOUPDATER",
        ] {
            let parsed = bad.parse::<VariableName>();
            assert_eq!(parsed, Err(VariableNameError::Reserved), "{bad}");
        }
    }
}
