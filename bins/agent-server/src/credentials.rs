//! What runs are paid with: the file that `CREDENTIALS_FILE` names, and the secrets it leads to.

mod secret;

use std::ffi::OsString;
use std::path::Path;

use agent_domain::{Credential, CredentialKind, CredentialName, RepoPattern, Secret};
use agent_runner::{Login, Logins};
use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

pub(crate) use secret::Source;

/// The setting.
const SETTING: &str = "CREDENTIALS_FILE";
/// Longest file that is read, in bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    #[serde(default)]
    credential: Vec<EntryForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryForm {
    name: String,
    kind: String,
    secret_file: Option<String>,
    secret_env: Option<String>,
    max_sessions: Option<u32>,
    clients: Option<Vec<String>>,
}

/// One credential with all that belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct Configured {
    pub(crate) credential: Credential,
    pub(crate) source: Source,
    login: Login,
}

/// All credentials of this server.
#[derive(Debug, Clone)]
pub(crate) struct Credentials(Vec<Configured>);

impl Credentials {
    /// Reads the file that the setting names. Without one there is a single credential: what
    /// `variables` and this machine's login pay with.
    pub(crate) fn read(
        setting: &str,
        variables: impl Fn(&str) -> Option<OsString>,
    ) -> anyhow::Result<Self> {
        if setting.is_empty() {
            return Ok(Self::of_environment());
        }
        let path = Path::new(setting);
        let of_file = || format!("{SETTING} {setting}");
        let text = secret::text(path, FILE_MAX).with_context(of_file)?;
        let form: FileForm = toml::from_str(&text)
            .map_err(|error| said(&text, &error))
            .with_context(of_file)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut all = Self(Vec::new());
        for (index, entry) in form.credential.into_iter().enumerate() {
            let called = format!("credential {} ({:?})", index + 1, entry.name);
            let added = configured(entry, folder, &variables).and_then(|one| all.add(one));
            added.with_context(|| format!("{}: {called}", of_file()))?;
        }
        ensure!(
            !all.0.is_empty(),
            "{} has no [[credential]]; unset {SETTING} to use what the server's environment has",
            of_file()
        );
        Ok(all)
    }

    fn of_environment() -> Self {
        Self(vec![Configured {
            credential: Credential::environment(),
            source: Source::Environment,
            login: Login::Environment,
        }])
    }

    fn add(&mut self, one: Configured) -> anyhow::Result<()> {
        for other in &self.0 {
            let (name, credential) = (&other.credential.name, &one.credential);
            ensure!(
                *name != credential.name,
                "there is another of this name; give each its own"
            );
            match &credential.fingerprint {
                None => ensure!(
                    other.source != Source::Machine,
                    "{name:?} is this machine's login already; give this one a secret_file or secret_env",
                    name = name.as_str()
                ),
                same => ensure!(
                    other.credential.fingerprint != *same,
                    "has the same secret as {:?}; limits are counted by secret, so keep one of them",
                    name.as_str()
                ),
            }
        }
        self.0.push(one);
        Ok(())
    }

    /// What the engine is told of them.
    pub(crate) fn without_secrets(&self) -> Vec<Credential> {
        self.0.iter().map(|one| one.credential.clone()).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Configured> {
        self.0.iter()
    }

    /// How the runs of each are logged in.
    pub(crate) fn logins(&self) -> Logins {
        let login = |one: &Configured| (one.credential.name.clone(), one.login.clone());
        self.0.iter().map(login).collect()
    }

    /// Their secrets, each with a name to be called by.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (String, &Secret)> {
        self.0.iter().filter_map(|one| match &one.login {
            Login::Key(key) => Some((format!("credential {}", one.credential.name), key.secret())),
            Login::Environment | Login::Machine => None,
        })
    }

    /// Whether `CREDENTIALS_FILE` says what there is.
    pub(crate) fn are_named(&self) -> bool {
        self.0.iter().all(|one| one.source != Source::Environment)
    }

    /// Files that no agent may see.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter_map(|one| match &one.source {
            Source::File(path) => Some(path.as_path()),
            _ => None,
        })
    }

    /// Whether the variable is the secret of one of them, which others' runs must not see.
    pub(crate) fn holds_variable(&self, name: &OsString) -> bool {
        let is_it =
            |one: &Configured| matches!(&one.source, Source::Variable(own) if name == own.as_str());
        self.0.iter().any(is_it)
    }
}

/// An error of the parser, without the line it shows: a secret may be in it.
fn said(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let message = error.message();
    let message = match (message.find('"'), message.rfind('"')) {
        (Some(begin), Some(end)) => format!("{}...{}", &message[..begin], &message[end + 1..]),
        _ => message.to_owned(),
    };
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => anyhow::anyhow!("line {}: {message}", before.matches('\n').count() + 1),
        None => anyhow::anyhow!(message),
    }
}

fn configured(
    entry: EntryForm,
    folder: &Path,
    variables: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<Configured> {
    let name: CredentialName = entry.name.parse().context("name")?;
    let kind = match entry.kind.as_str() {
        "subscription" => CredentialKind::Subscription,
        "api_key" => CredentialKind::ApiKey,
        _ => bail!("kind must be \"subscription\" or \"api_key\""),
    };
    let (source, secret) = secret::secret(entry.secret_file, entry.secret_env, folder, variables)?;
    ensure!(
        secret.is_some() || kind != CredentialKind::ApiKey,
        "an API key needs a secret_file or a secret_env that holds it"
    );
    ensure!(
        entry.max_sessions != Some(0),
        "max_sessions must be at least 1"
    );
    let fingerprint = secret.as_ref().map(secret::fingerprint);
    Ok(Configured {
        credential: Credential {
            name,
            kind,
            max_sessions: entry.max_sessions,
            clients: entry.clients.map(patterns).transpose()?,
            fingerprint,
        },
        source,
        login: secret.map_or(Ok(Login::Machine), |secret| secret::login(kind, secret))?,
    })
}

fn patterns(clients: Vec<String>) -> anyhow::Result<Vec<RepoPattern>> {
    ensure!(
        !clients.is_empty(),
        "clients is empty, so no job could use it; leave it out to let all"
    );
    let parse = |text: String| {
        let pattern = text.parse::<RepoPattern>();
        pattern.with_context(|| format!("clients: {text:?} is neither org/repo nor org/*"))
    };
    clients.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use agent_domain::{AgentKey, limits};

    use super::secret::fingerprint;
    use super::*;

    /// A folder with a secret in every state that one can be in.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let long = "k".repeat(limits::SECRET_BYTES + 1);
        for (name, text, mode) in [
            ("good", "sk-ant-oat01-good-0123456789\n", 0o600),
            ("same", "  sk-ant-oat01-good-0123456789", 0o640),
            ("key", "sk-ant-api03-key-0123456789", 0o400),
            ("open", "sk-ant-oat01-open", 0o644),
            ("loose", "sk-ant-oat01-loose", 0o602),
            ("empty", " \n", 0o600),
            ("long", &long, 0o600),
            ("lines", "one\ntwo", 0o600),
            ("words", "one two", 0o600),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(folder.path().join(name), mode).unwrap();
        }
        folder
    }

    fn read_in(folder: &Path, text: &str) -> anyhow::Result<Credentials> {
        let file = folder.join("credentials.toml");
        fs::write(&file, text).unwrap();
        let variables = |name: &str| match name {
            "TEAM_TOKEN" => Some("sk-ant-oat01-team-0123456789".into()),
            "EMPTY_TOKEN" => Some("".into()),
            _ => None,
        };
        Credentials::read(file.to_str().unwrap(), variables)
    }

    #[test]
    fn without_a_file_there_is_what_the_environment_pays_with() {
        let all = Credentials::read("", |_| None).unwrap();
        assert_eq!(all.logins(), Login::of_environment());
        assert_eq!(all.0[0].credential, Credential::environment());
        assert!(!all.are_named());
    }

    #[test]
    fn credentials_are_read_with_their_secrets_from_files_and_variables() {
        let folder = folder();
        let text = r#"
            [[credential]]
            name = "team-a"
            kind = "subscription"
            secret_file = "good"
            max_sessions = 3
            clients = ["acme/site", "other/*"]
            [[credential]]
            name = "team-b"
            kind = "subscription"
            secret_env = "TEAM_TOKEN"
            [[credential]]
            name = "here"
            kind = "subscription"
            [[credential]]
            name = "paid"
            kind = "api_key"
            secret_file = "./key"
        "#;
        let all = read_in(folder.path(), text).unwrap();
        let brief: Vec<_> = all
            .iter()
            .map(|one| (one.credential.name.as_str(), one.credential.kind.as_str()))
            .collect();
        let subscription = |name| (name, "subscription");
        let expected = ["team-a", "team-b", "here"].map(subscription);
        assert_eq!(brief, [&expected[..], &[("paid", "api_key")]].concat());
        let first = &all.0[0].credential;
        assert_eq!(first.max_sessions, Some(3));
        let clients = first.clients.as_ref().unwrap();
        let clients: Vec<_> = clients.iter().map(ToString::to_string).collect();
        assert_eq!(clients, ["acme/site", "other/*"]);
        let secret = |text: &str| Secret::new(text);
        let logins: Vec<_> = all.logins().into_values().collect();
        assert_eq!(
            logins,
            [
                Login::Machine,
                Login::Key(AgentKey::ApiKey(secret("sk-ant-api03-key-0123456789"))),
                Login::Key(AgentKey::OauthToken(secret("sk-ant-oat01-good-0123456789"))),
                Login::Key(AgentKey::OauthToken(secret("sk-ant-oat01-team-0123456789"))),
            ],
            "by name"
        );
        assert_eq!(all.secrets().count(), 3);
        assert!(all.holds_variable(&"TEAM_TOKEN".into()) && !all.holds_variable(&"PATH".into()));
        let files: Vec<_> = all.files().collect();
        assert_eq!(files[0], folder.path().join("good"));
        assert!(all.are_named());
    }

    #[test]
    fn a_fingerprint_tells_secrets_apart_and_says_nothing_of_them() {
        let print = |text: &str| fingerprint(&Secret::new(text));
        assert_eq!(print("a"), print("a"));
        assert_ne!(print("a"), print("b"));
        assert_eq!(print("a").len(), 16);
        assert!(print("a").bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_entry_and_what_to_do() {
        let folder = folder();
        let one =
            |rest: &str| format!("[[credential]]\nname = \"a\"\nkind = \"subscription\"\n{rest}");
        let api = |rest: &str| format!("[[credential]]\nname = \"a\"\nkind = \"api_key\"\n{rest}");
        let other = "[[credential]]\nname = \"b\"\nkind = \"subscription\"\n";
        for (text, expected) in [
            (String::new(), "has no [[credential]]"),
            ("[[credential]".into(), "line 1: "),
            ("credential = 3".into(), "line 1: invalid type"),
            (
                "[credentials]\n".into(),
                "line 1: unknown field `credentials`",
            ),
            (
                one("secret = \"sk-ant-oat01-x\""),
                "line 4: unknown field `secret`",
            ),
            (
                one("max_sessions = \"sk-ant-oat01-x\""),
                "line 4: invalid type: string ..., expected u32",
            ),
            (one("max_sessions = -1"), "line 4: invalid value"),
            (one("max_sessions = 0"), "max_sessions must be at least 1"),
            (one("clients = []"), "leave it out"),
            (
                one("clients = [\"acme\"]"),
                "\"acme\" is neither org/repo nor org/*",
            ),
            (one("secret_file = \"nowhere\""), "nowhere: No such file"),
            (one("secret_file = \".\""), "is not a file"),
            (
                one("secret_file = \"open\""),
                "others may read or write it: chmod 600",
            ),
            (
                one("secret_file = \"loose\""),
                "others may read or write it: chmod 600",
            ),
            (one("secret_file = \"empty\""), "must have 1 to 16384 bytes"),
            (one("secret_file = \"long\""), "must have 1 to 16384 bytes"),
            (one("secret_file = \"lines\""), "line breaks"),
            (one("secret_file = \"words\""), "one word"),
            (one("secret_file = \"sk-ant-oat01-x\""), "not the secret"),
            (one("secret_env = \"sk-ant-oat01-x\""), "not the secret"),
            (
                one("secret_env = \"EMPTY_TOKEN\""),
                "EMPTY_TOKEN is not set, or empty",
            ),
            (
                one("secret_env = \"ABSENT\""),
                "ABSENT is not set, or empty",
            ),
            (
                one("secret_env = \"A\"\nsecret_file = \"good\""),
                "keep one of them",
            ),
            (one("secret_file = \"key\""), "kind = \"api_key\""),
            (api("secret_file = \"good\""), "kind = \"subscription\""),
            (api(""), "needs a secret_file or a secret_env"),
            (one("").replace("subscription", "free"), "kind must be"),
            (
                one("").replace("\"a\"", "\"A b\""),
                "credential 1 (\"A b\"): name: must be",
            ),
            (
                one("").replace("\"a\"", "\"job\""),
                "credential 1 (\"job\"): name: must be",
            ),
            (
                one("") + &one("secret_file = \"good\""),
                "credential 2 (\"a\"): there is another",
            ),
            (
                one("") + other,
                "credential 2 (\"b\"): \"a\" is this machine's login",
            ),
            (
                one("secret_file = \"good\"\n") + other + "secret_file = \"same\"",
                "has the same secret as \"a\"",
            ),
        ] {
            let error = read_in(folder.path(), &text).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(expected), "{text}\n{error}");
            assert!(error.starts_with("CREDENTIALS_FILE /"), "{error}");
            assert!(error.contains("credentials.toml"), "{error}");
            assert!(!error.contains("sk-ant-"), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = Credentials::read("/nowhere/credentials.toml", |_| None).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains("CREDENTIALS_FILE /nowhere/credentials.toml: No such file"),
            "{error}"
        );
    }
}
