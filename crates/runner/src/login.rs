//! What a run pays with, and the environment that this makes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use agent_domain::{AgentKey, CredentialName, Secret};

/// Every way in which the environment can pay: keys, and clouds that need others. The CLI prefers
/// some to others, so a run that pays in one way sees none of the rest.
pub(crate) const PAYMENT: [&str; 6] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_VERTEX",
];
/// Beside one of these the CLI does not look at a subscription's token.
const KEYS: [&str; 2] = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"];
const TOKEN: &str = "CLAUDE_CODE_OAUTH_TOKEN";

/// How the runs of a credential are logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// By whatever the server's environment has, else by the machine's own login.
    Environment,
    /// By the machine's own login (`claude login`), whatever the environment has.
    Machine,
    /// By a key or token, and nothing else.
    Key(AgentKey),
}

/// The logins of a server's credentials.
pub type Logins = BTreeMap<CredentialName, Login>;

impl Login {
    /// What a server has that was told of no credentials.
    pub fn of_environment() -> Logins {
        [(CredentialName::default_one(), Self::Environment)].into()
    }

    /// Its secret, where it has one.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Key(key) => Some(key.secret()),
            Self::Environment | Self::Machine => None,
        }
    }

    /// Whether it can come and go while the server runs.
    pub(crate) const fn can_change(&self) -> bool {
        matches!(self, Self::Environment | Self::Machine)
    }

    /// `environment`, with this login and no other.
    pub(crate) fn applied(
        &self,
        environment: Vec<(OsString, OsString)>,
    ) -> Vec<(OsString, OsString)> {
        let mut environment = environment;
        match self {
            Self::Environment => {
                if unused_token(&environment) {
                    environment.retain(|(name, _)| name != TOKEN);
                }
            }
            Self::Machine => environment.retain(|(name, _)| !is_payment(name)),
            Self::Key(key) => {
                environment.retain(|(name, _)| !is_payment(name));
                environment.push((key.variable().into(), key.secret().expose().into()));
            }
        }
        environment
    }
}

/// Whether an environment has a subscription's token that is not used, because there is a key as well.
pub fn unused_token(environment: &[(OsString, OsString)]) -> bool {
    let has = |wanted: &str| {
        let is_set = |(name, value): &(OsString, OsString)| name == wanted && !value.is_empty();
        environment.iter().any(is_set)
    };
    has(TOKEN) && KEYS.into_iter().any(has)
}

fn is_payment(name: &OsStr) -> bool {
    PAYMENT.iter().any(|known| name == *known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(names: &[&str]) -> Vec<(OsString, OsString)> {
        let variable = |name: &&str| ((*name).into(), "server".into());
        names.iter().map(variable).collect()
    }

    fn names(environment: &[(OsString, OsString)]) -> Vec<&str> {
        let name = |(name, _): &'_ (OsString, OsString)| name.to_str().map(ToOwned::to_owned);
        let found: Vec<String> = environment.iter().filter_map(name).collect();
        let known = ["ANTHROPIC_BASE_URL", "AWS_REGION"];
        let all = PAYMENT.into_iter().chain(known);
        all.filter(|known| found.iter().any(|name| name == known))
            .collect()
    }

    fn all() -> Vec<(OsString, OsString)> {
        environment(&[&PAYMENT[..], &["ANTHROPIC_BASE_URL", "AWS_REGION"]].concat())
    }

    #[test]
    fn a_key_replaces_every_way_in_which_the_server_pays() {
        let key = Login::Key(AgentKey::OauthToken(Secret::new("own")));
        let seen = key.applied(all());
        assert_eq!(
            names(&seen),
            [TOKEN, "ANTHROPIC_BASE_URL", "AWS_REGION"],
            "where the API is says nothing of who pays"
        );
        assert!(seen.contains(&(TOKEN.into(), "own".into())));
        let key = Login::Key(AgentKey::ApiKey(Secret::new("own")));
        let seen = key.applied(all());
        assert_eq!(
            names(&seen),
            ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "AWS_REGION"]
        );
        assert!(seen.contains(&("ANTHROPIC_API_KEY".into(), "own".into())));
    }

    #[test]
    fn the_machines_own_login_has_nothing_beside_it() {
        let seen = Login::Machine.applied(all());
        assert_eq!(names(&seen), ["ANTHROPIC_BASE_URL", "AWS_REGION"]);
    }

    #[test]
    fn of_a_key_and_a_token_in_the_servers_environment_the_key_stays() {
        for key in KEYS {
            let both = environment(&[key, TOKEN]);
            assert!(unused_token(&both));
            assert_eq!(names(&Login::Environment.applied(both)), [key]);
        }
        let empty = vec![("ANTHROPIC_API_KEY".into(), "".into())];
        let token = [empty, environment(&[TOKEN])].concat();
        for alone in [token, environment(&[TOKEN]), environment(&[KEYS[0]])] {
            assert!(!unused_token(&alone));
            assert_eq!(Login::Environment.applied(alone.clone()), alone);
        }
    }
}
