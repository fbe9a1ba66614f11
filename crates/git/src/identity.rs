//! Whose name commits carry.

use crate::{Git, GitError, Identity};

impl Git {
    /// The given identity, else what git is configured with outside of any repository, else ours:
    /// a commit never fails for want of one. What an agent sets inside a repository counts for
    /// nothing here.
    pub(crate) async fn identity(&self) -> Result<&Identity, GitError> {
        self.inner
            .identity
            .get_or_try_init(|| async {
                if let Some(given) = &self.inner.given_identity {
                    return Ok(clean(given));
                }
                let output = self
                    .inner
                    .program
                    .command("var")
                    .config("user.useConfigOnly=true")
                    .args(["GIT_AUTHOR_IDENT"])
                    // A place without a repository.
                    .git_dir("/dev/null")
                    .for_operator()
                    .run()
                    .await?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let found = output.success().then(|| parse(&text)).flatten();
                Ok(found.unwrap_or_else(|| Identity {
                    name: "agent-server".into(),
                    email: "agent-server@localhost".into(),
                }))
            })
            .await
    }
}

/// Reads `Name <address> time zone`.
fn parse(text: &str) -> Option<Identity> {
    let (name, rest) = text.split_once(" <")?;
    let (email, _) = rest.split_once('>')?;
    let found = clean(&Identity {
        name: name.into(),
        email: email.into(),
    });
    (!found.name.is_empty() && !found.email.is_empty()).then_some(found)
}

/// Leaves out what git would leave out of a commit, and what would break a configuration file.
fn clean(identity: &Identity) -> Identity {
    let tidy = |text: &str| {
        text.chars()
            .filter(|c| !c.is_control() && !matches!(c, '<' | '>'))
            .collect::<String>()
            .trim()
            .to_owned()
    };
    Identity {
        name: tidy(&identity.name),
        email: tidy(&identity.email),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_from_what_git_prints() {
        let found = parse("Ann B. <ann@example.org> 1736251200 +0100\n").unwrap();
        assert_eq!((&*found.name, &*found.email), ("Ann B.", "ann@example.org"));
        assert_eq!(parse("nonsense"), None);
    }
}
