//! Where repositories come from, and how we prove who we are.

use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use agent_domain::{RepoSlug, Secret};

use crate::GitError;

/// A helper of one line that git runs itself. It reads the token from its standard error, which it has
/// from git, and which is a socket of ours. Unlike a fixed header it answers for the configured base
/// only: after a redirect elsewhere git asks again, and nobody answers.
const HELPER: &str = "!f() { test \"$1\" = get && IFS= read -r token <&2 && printf 'username=x-access-token\\npassword=%s\\n' \"$token\"; }; f";
/// How often one command may ask: for what it wants, and after a refusal once more.
const ANSWERS: usize = 4;
/// Longest token, in bytes; a socket takes in a few of them before anyone reads.
const TOKEN_MAX: usize = 8 * 1024;

/// How a command gets in at the remote.
#[derive(Clone)]
pub(crate) struct Access {
    /// Settings that make it ask us.
    pub(crate) settings: Vec<(String, String)>,
    /// What we answer.
    pub(crate) token: Secret,
}

impl Access {
    /// A socket for git's standard error, in which the answers wait, and our end of it.
    ///
    /// So a token is in no argument, no variable and no file, each of which any process of the same
    /// user can read; a socket cannot be opened through another's `/proc` entry.
    pub(crate) fn channel(&self) -> io::Result<(OwnedFd, tokio::net::UnixStream)> {
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let answer = format!("{}\n", self.token.expose());
        ours.write_all(answer.repeat(ANSWERS).as_bytes())?;
        // Whoever asks once more is told at once that there is no more.
        ours.shutdown(Shutdown::Write)?;
        Ok((theirs.into(), tokio::net::UnixStream::from_std(ours)?))
    }
}

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
        let mut remote = Self { base, token: None };
        let token = token.filter(|token| remote.is_http() && !token.expose().is_empty());
        token.map(check_token).transpose()?;
        remote.token = token.cloned();
        Ok(remote)
    }

    /// The URL of one repository.
    pub(crate) fn url(&self, repo: &RepoSlug) -> String {
        format!("{}{repo}.git", self.base)
    }

    /// How a command gets in, with `token` or else with the server's own; `None` where no token is
    /// used. The list of helpers is emptied first: one of the operator's could write the token to
    /// disk.
    pub(crate) fn access(&self, token: Option<&Secret>) -> Option<Access> {
        let token = token.filter(|_| self.is_http()).or(self.token.as_ref())?;
        let settings = [
            ("credential.helper".to_owned(), ""),
            (format!("credential.{}.helper", self.base), HELPER),
            // From git 2.46 on the first request carries it; older ones are asked for it first.
            ("http.proactiveAuth".to_owned(), "basic"),
        ];
        Some(Access {
            settings: settings.map(|(key, value)| (key, value.to_owned())).into(),
            token: token.clone(),
        })
    }

    fn is_http(&self) -> bool {
        self.base.starts_with("https://") || self.base.starts_with("http://")
    }
}

/// Refuses a token that cannot be one.
pub(crate) fn check_token(token: &Secret) -> Result<(), GitError> {
    let text = token.expose();
    if text.len() > TOKEN_MAX || text.chars().any(char::is_control) {
        let why = "the token is too long or has control characters";
        return Err(GitError::Config(why.into()));
    }
    Ok(())
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
    fn a_job_s_own_token_comes_before_the_server_s_and_must_be_one() {
        let remote = Remote::parse("https://h/", Some(&Secret::new("server"))).unwrap();
        let own = Secret::new("job");
        let used = |token| remote.access(token).unwrap().token;
        assert_eq!(used(Some(&own)), own);
        assert_eq!(used(None), Secret::new("server"));
        assert!(check_token(&own).is_ok());
        for bad in ["a\nb".to_owned(), "x".repeat(TOKEN_MAX + 1)] {
            assert!(check_token(&Secret::new(bad)).is_err());
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
            assert_eq!(remote.access(None).is_some(), sent, "{base}");
            let bare = Remote::parse(base, None).unwrap();
            assert_eq!(bare.access(Some(&token)).is_some(), sent, "{base}");
        }
    }
}
