//! Where repositories come from, and how we prove who we are.

use std::ffi::OsString;

use agent_domain::{RepoSlug, Secret};

use crate::GitError;

/// The variable in which git's own credential helper finds the token.
const TOKEN_VARIABLE: &str = "AGENT_GIT_TOKEN";

/// A helper of one line that git runs itself. Unlike a fixed header it answers for the
/// configured base only: after a redirect elsewhere git asks again, and nobody answers.
const HELPER: &str = "!f() { test \"$1\" = get && printf 'username=x-access-token\\npassword=%s\\n' \"$AGENT_GIT_TOKEN\"; }; f";

/// The remote all repositories come from.
pub(crate) struct Remote {
    /// Ends in `/` or `:`.
    base: String,
    /// For http(s) bases only.
    token: Option<Secret>,
}

impl Remote {
    /// Checks `base`, and keeps `token` if it is one that a token can be sent to.
    pub(crate) fn parse(base: &str, token: Option<&Secret>) -> Result<Self, GitError> {
        let refuse = |why: &str| Err(GitError::Config(format!("the remote base {why}")));
        if base.is_empty() || base.starts_with('-') || base.chars().any(char::is_control) {
            return refuse("must be a URL, user@host: or an absolute path");
        }
        if let Some((scheme, rest)) = base.split_once("://") {
            match scheme {
                "https" | "http" | "ssh" | "git+ssh" | "ssh+git" | "git" | "file" => {}
                _ => return refuse("has a scheme other than https, http, ssh, git and file"),
            }
            let authority = rest.split('/').next().unwrap_or_default();
            if authority
                .rsplit_once('@')
                .is_some_and(|(user, _)| user.contains(':'))
            {
                return refuse("holds a password: give the token in its own setting");
            }
        } else if !base.starts_with('/') && !is_scp_like(base) {
            return refuse("must be a URL, user@host: or an absolute path");
        }
        let mut base = base.to_owned();
        let joined = base.ends_with('/') || (base.ends_with(':') && is_scp_like(&base));
        if !joined {
            base.push('/');
        }
        let http = base.starts_with("https://") || base.starts_with("http://");
        let token = token.filter(|token| http && !token.expose().is_empty());
        if token.is_some_and(|token| token.expose().chars().any(char::is_control)) {
            return Err(GitError::Config("the token has control characters".into()));
        }
        Ok(Self {
            base,
            token: token.cloned(),
        })
    }

    /// The URL of one repository.
    pub(crate) fn url(&self, repo: &RepoSlug) -> String {
        format!("{}{repo}.git", self.base)
    }

    /// Texts that must be masked wherever git shows them.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.token
            .iter()
            .map(|token| token.expose().to_owned())
            .collect()
    }

    /// The environment that lets one command speak to the remote. The list of helpers is emptied
    /// first: one of the operator's could write the token to disk.
    pub(crate) fn credentials(&self) -> Vec<(String, OsString)> {
        let Some(token) = &self.token else {
            return Vec::new();
        };
        let settings = [
            ("credential.helper".to_owned(), ""),
            (format!("credential.{}.helper", self.base), HELPER),
            // From git 2.46 on the first request carries it; older ones are asked for it first.
            ("http.proactiveAuth".to_owned(), "basic"),
        ];
        let mut env = vec![
            (TOKEN_VARIABLE.to_owned(), token.expose().into()),
            (
                "GIT_CONFIG_COUNT".to_owned(),
                settings.len().to_string().into(),
            ),
        ];
        for (at, (key, value)) in settings.into_iter().enumerate() {
            env.push((format!("GIT_CONFIG_KEY_{at}"), key.into()));
            env.push((format!("GIT_CONFIG_VALUE_{at}"), value.into()));
        }
        env
    }
}

/// `[user@]host:[path]`, as git tells it from a path; `transport::address` is another thing.
fn is_scp_like(base: &str) -> bool {
    base.split_once(':').is_some_and(|(host, path)| {
        !host.is_empty() && !host.contains('/') && !path.starts_with(':')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(base: &str) -> Option<String> {
        let repo = RepoSlug::new("org", "repo").unwrap();
        Remote::parse(base, None)
            .ok()
            .map(|remote| remote.url(&repo))
    }

    #[test]
    fn every_form_of_base_is_joined_as_git_reads_it() {
        for (base, joined) in [
            ("git@github.com:", "git@github.com:org/repo.git"),
            ("git@host:team", "git@host:team/org/repo.git"),
            ("ssh://git@host:2222", "ssh://git@host:2222/org/repo.git"),
            ("https://host/", "https://host/org/repo.git"),
            (
                "http://127.0.0.1:80/x",
                "http://127.0.0.1:80/x/org/repo.git",
            ),
            ("file:///srv/git", "file:///srv/git/org/repo.git"),
            ("/srv/git:", "/srv/git:/org/repo.git"),
        ] {
            assert_eq!(url(base).as_deref(), Some(joined));
        }
    }

    #[test]
    fn bases_that_run_programs_or_hold_passwords_are_refused() {
        for bad in [
            "",
            "-oProxyCommand=x:",
            "ext::sh -c x",
            "fd::3",
            "srv/git",
            "ftp://host/",
            "https://user:pass@host/",
            "https://host/\n",
        ] {
            assert_eq!(url(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_token_goes_to_http_remotes_only() {
        let token = Secret::new("hunter2");
        for (base, sent) in [
            ("https://h/", true),
            ("ssh://git@h/", false),
            ("/srv", false),
        ] {
            let remote = Remote::parse(base, Some(&token)).unwrap();
            assert_eq!(!remote.credentials().is_empty(), sent, "{base}");
        }
    }
}
