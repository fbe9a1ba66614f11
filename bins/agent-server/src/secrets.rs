//! What must never be written: the secrets among the settings and in the server's environment.

use std::collections::BTreeMap;
use std::io::{self, Write};

use agent_domain::Secret;
use agent_runner::{Masker, SECRET_MIN};
use tracing_subscriber::fmt::MakeWriter;

/// A variable whose name has one of these words, between underscores, holds a secret.
const WORDS: &[&str] = &[
    "APIKEY",
    "CREDENTIAL",
    "CREDENTIALS",
    "KEY",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "PAT",
    "SECRET",
    "TOKEN",
];

/// The secrets of this process, with the names under which they were given.
pub(crate) struct Secrets(BTreeMap<String, Vec<Secret>>);

impl Secrets {
    /// Takes `settings` as secrets, and chooses from `environment` by name. Credentials in addresses
    /// (of proxies, of the remote) are secrets in any variable and any of `addresses`.
    pub(crate) fn collect<'a>(
        settings: impl IntoIterator<Item = (String, &'a str)>,
        addresses: impl IntoIterator<Item = (&'a str, &'a str)>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut found = Self(BTreeMap::new());
        for (name, value) in settings {
            found.add(&name, value);
        }
        for (name, value) in addresses {
            found.add_credentials(name, value);
        }
        for (name, value) in environment {
            if is_secret(&name, &value) {
                found.add(&name, &value);
            }
            found.add_credentials(&name, &value);
        }
        found
    }

    fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            let values = self.0.entry(name.to_owned()).or_default();
            values.push(Secret::new(value));
        }
    }

    fn add_credentials(&mut self, name: &str, value: &str) {
        // A list, as of proxies, has several.
        for address in value.split([',', ' ']) {
            if let Some(credentials) = credentials(address) {
                self.add(name, credentials);
            }
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Secret> {
        self.0.values().flatten().cloned().collect()
    }

    /// Names of those that are too short to be masked.
    pub(crate) fn too_short(&self) -> Vec<&str> {
        let is_short = |one: &Secret| one.expose().trim().len() < SECRET_MIN;
        let short = self.0.iter().filter(|(_, all)| all.iter().any(is_short));
        short.map(|(name, _)| name.as_str()).collect()
    }
}

/// Whether a variable holds a secret, by its name. A path leads to one, and a number or a switch is
/// none.
fn is_secret(name: &str, value: &str) -> bool {
    let is_named = name
        .split('_')
        .any(|word| WORDS.iter().any(|known| known.eq_ignore_ascii_case(word)));
    let is_plain = name.ends_with("_FILE")
        || value.starts_with(['/', '~'])
        || value.bytes().all(|byte| byte.is_ascii_digit())
        || ["true", "false"]
            .iter()
            .any(|word| word.eq_ignore_ascii_case(value));
    is_named && !is_plain
}

/// The secret in the user part of a URL: the password, else the name, which then is a token. The
/// name before `ssh://` hosts is none.
fn credentials(address: &str) -> Option<&str> {
    let (scheme, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    match user.split_once(':') {
        Some((_, password)) => Some(password).filter(|password| !password.is_empty()),
        None => scheme.starts_with("http").then_some(user),
    }
}

/// Where messages go to, with secrets masked on the way.
#[derive(Debug, Clone)]
pub(crate) struct Masked<W> {
    pub(crate) masker: Masker,
    pub(crate) inner: W,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Masked<W> {
    type Writer = Masked<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Masked {
            masker: self.masker.clone(),
            inner: self.inner.make_writer(),
        }
    }
}

impl<W: Write> Write for Masked<W> {
    /// Takes one whole message; that is how they come.
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        self.inner.write_all(&self.masker.mask(message))?;
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(environment: &[(&str, &str)]) -> Vec<String> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let all = Secrets::collect([], [], environment).all();
        all.iter().map(|one| one.expose().to_owned()).collect()
    }

    #[test]
    fn variables_are_secrets_by_the_words_of_their_names() {
        let secret = [
            ("ANTHROPIC_API_KEY", "sk-ant-1"),
            ("ANTHROPIC_AUTH_TOKEN", "token-1"),
            ("AWS_SECRET_ACCESS_KEY", "wJalrX"),
            ("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat"),
            ("GH_TOKEN", "gho_1"),
            ("my_password", "hunter22"),
        ];
        assert_eq!(values(&secret).len(), secret.len());
        let none = [
            ("CLAUDE_CODE_MAX_OUTPUT_TOKENS", "sixteen thousand"),
            ("HOME", "/root/secret"),
            ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/key.json"),
            ("USE_TOKEN", "true"),
            ("TOKEN", "1234567"),
            ("MONKEY", "banana-split"),
            ("CREDENTIALS_FILE", "credentials.toml"),
        ];
        assert_eq!(values(&none), [""; 0]);
    }

    #[test]
    fn credentials_in_addresses_are_secrets_whatever_the_name() {
        for (address, secret) in [
            ("http://user:pass1234@proxy:3128", Some("pass1234")),
            ("https://ghp_token@github.com/", Some("ghp_token")),
            ("http://a:b:c@d@proxy", Some("b:c@d")),
            ("ssh://git@github.com/", None),
            ("ssh://git:hunter22@host/", Some("hunter22")),
            ("git@github.com:", None),
            ("http://proxy:3128/x@y", None),
            ("", None),
        ] {
            assert_eq!(credentials(address), secret, "{address}");
        }
        assert_eq!(
            values(&[("HTTPS_PROXY", "http://u:pass1234@p")]),
            ["pass1234"]
        );
    }

    #[test]
    fn messages_of_the_server_itself_are_masked_in_both_formats() {
        use std::io::Read as _;
        use std::sync::Arc;

        let secret = "a \"quoted\" secret";
        let (mut read, write) = io::pipe().unwrap();
        let writer = Masked {
            masker: Masker::new(&[Secret::new(secret)]),
            inner: Arc::new(write),
        };
        let text = tracing_subscriber::fmt().with_writer(writer.clone());
        let json = tracing_subscriber::fmt().json().with_writer(writer);
        let speak = || tracing::info!(quoted = secret, shown = %secret, "begin {secret} end");
        tracing::subscriber::with_default(text.with_ansi(false).finish(), speak);
        // The last writer goes with the subscriber, and the pipe ends.
        tracing::subscriber::with_default(json.finish(), speak);
        let mut said = String::new();
        read.read_to_string(&mut said).unwrap();
        assert_eq!(said.matches("[masked]").count(), 6, "{said}");
        assert!(
            !said.contains("quoted\\\" secret") && !said.contains("secret\""),
            "{said}"
        );
    }

    #[test]
    fn a_secret_too_short_to_be_masked_is_named() {
        let found = Secrets::collect(
            [
                ("WEBHOOK_SECRET".into(), "five5"),
                ("A".into(), "long enough"),
            ],
            [],
            [],
        );
        assert_eq!(found.too_short(), ["WEBHOOK_SECRET"]);
    }
}
