//! Which credentials there are, and `claude auth status`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

/// Where a login comes from; presence only, as with the real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    None,
    ApiKey,
    OauthToken,
    /// A credentials file, as `claude auth login` leaves it.
    Account,
    /// A cloud provider's own credentials.
    Cloud,
}

fn set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Whether the key or token that is used has `part` in it; `file` stands for the account's.
pub(crate) fn is_paid(part: &str) -> bool {
    let names: &[&str] = match login() {
        Login::ApiKey => &["ANTHROPIC_API_KEY"],
        Login::OauthToken => &["CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN"],
        Login::Account => return part == "file",
        Login::None | Login::Cloud => &[],
    };
    let value = |name: &&str| std::env::var(name).unwrap_or_default();
    names.iter().any(|name| value(name).contains(part))
}

/// Finds the login; an API key beats everything.
pub(crate) fn login() -> Login {
    let cloud = [
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CODE_USE_FOUNDRY",
    ];
    if set("ANTHROPIC_API_KEY") {
        Login::ApiKey
    } else if set("CLAUDE_CODE_OAUTH_TOKEN") || set("ANTHROPIC_AUTH_TOKEN") {
        Login::OauthToken
    } else if cloud.into_iter().any(set) {
        Login::Cloud
    } else if config_dir().is_some_and(|dir| dir.join(".credentials.json").is_file()) {
        Login::Account
    } else {
        Login::None
    }
}

/// `$CLAUDE_CONFIG_DIR`, else `$HOME/.claude`.
pub(crate) fn config_dir() -> Option<PathBuf> {
    let named = std::env::var_os("CLAUDE_CONFIG_DIR").filter(|dir| !dir.is_empty());
    named.map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").filter(|dir| !dir.is_empty())?;
        Some(PathBuf::from(home).join(".claude"))
    })
}

/// Prints whether there is a login; exit code 1 when there is none.
pub(crate) fn status(text: bool) -> ExitCode {
    let login = login();
    if text {
        println!("{}", sentence(login));
    } else {
        println!("{:#}", report(login));
    }
    if login == Login::None {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn report(login: Login) -> Value {
    let method = match login {
        Login::None => "none",
        Login::ApiKey => "api_key",
        Login::OauthToken => "oauth_token",
        Login::Account => "claude.ai",
        Login::Cloud => "third_party",
    };
    let config = config_dir().unwrap_or_default();
    let mut report = json!({
        "loggedIn": login != Login::None,
        "authMethod": method,
        "apiProvider": "firstParty",
        "analyticsDisabled": set("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"),
        "projectsDirectory": config.join("projects"),
        "configDirectory": config,
        "loginExpiresAt": null,
        "consoleProfileSignInOffered": true,
    });
    if login == Login::ApiKey {
        report["apiKeySource"] = json!("ANTHROPIC_API_KEY");
    }
    report
}

fn sentence(login: Login) -> &'static str {
    match login {
        Login::None => "Not logged in. Run claude auth login to authenticate.",
        Login::ApiKey => "API key: ANTHROPIC_API_KEY",
        Login::OauthToken => "OAuth token",
        Login::Account => "Login method: Claude account",
        Login::Cloud => "Third-party provider",
    }
}
