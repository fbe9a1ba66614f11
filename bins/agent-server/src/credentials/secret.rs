//! Secrets of credentials: where they come from, and what they may be.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use agent_domain::{AgentKey, CredentialKind, Secret, limits};
use agent_runner::Login;
use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

/// Permissions of others to read or write.
const OTHERS: u32 = 0o006;
/// How the CLI's own keys and tokens begin, whichever way they are given to us.
const API_KEYS: &str = "sk-ant-api";
const TOKENS: &str = "sk-ant-oat";

/// Where the secret of a credential comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Whatever the server's environment and this machine have.
    Environment,
    /// This machine's own login.
    Machine,
    /// A file.
    File(PathBuf),
    /// A variable of the server's environment.
    Variable(String),
}

impl Source {
    /// What to do where the CLI does not find a login.
    pub(crate) const fn advice(&self) -> &'static str {
        match self {
            Self::Environment => {
                "run claude login, or set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN"
            }
            Self::Machine => {
                "run claude login as this user, or give it a secret_file or secret_env"
            }
            Self::File(_) | Self::Variable(_) => {
                "see that it holds what claude setup-token has printed, or an API key"
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("the server's environment or this machine's login"),
            Self::Machine => f.write_str("this machine's login"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
        }
    }
}

/// Where a secret comes from, and what it is; none is this machine's own login.
pub(super) fn secret(
    file: Option<String>,
    variable: Option<String>,
    folder: &Path,
    variables: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<(Source, Option<Secret>)> {
    match (file, variable) {
        (None, None) => Ok((Source::Machine, None)),
        (Some(_), Some(_)) => bail!("has both secret_file and secret_env; keep one of them"),
        (Some(file), None) => {
            ensure!(
                !file.starts_with("sk-ant-"),
                "secret_file is the path of a file that holds the secret, not the secret"
            );
            let path = std::path::absolute(folder.join(&file)).context("secret_file")?;
            let secret = secret_in(&path);
            let secret = secret.with_context(|| format!("secret_file {}", path.display()))?;
            Ok((Source::File(path), Some(secret)))
        }
        (None, Some(variable)) => {
            ensure!(
                !variable.starts_with("sk-ant-"),
                "secret_env is the name of a variable that holds the secret, not the secret"
            );
            let of_variable = || format!("secret_env {variable}");
            let value = variables(&variable).unwrap_or_default();
            let value = value.into_string().unwrap_or_default();
            ensure!(
                !value.trim().is_empty(),
                "{} is not set, or empty, in the server's environment",
                of_variable()
            );
            let secret = usable(&value).with_context(of_variable)?;
            Ok((Source::Variable(variable), Some(secret)))
        }
    }
}

fn secret_in(path: &Path) -> anyhow::Result<Secret> {
    let (mut file, mode) = read(path, limits::SECRET_BYTES as u64)?;
    ensure!(
        mode & OTHERS == 0,
        "others may read or write it: chmod 600 {}",
        path.display()
    );
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let text = String::from_utf8(text).ok();
    usable(text.as_deref().unwrap_or("\0"))
}

/// What can be put into an environment and a header.
fn usable(text: &str) -> anyhow::Result<Secret> {
    let text = text.trim();
    let secret = Secret::checked(text.to_owned())?;
    ensure!(
        text.bytes().all(|byte| byte.is_ascii_graphic()),
        "must hold the secret and nothing else: one word of printable ASCII characters"
    );
    Ok(secret)
}

/// The login of such a kind with that secret, unless it is plainly of the other.
pub(super) fn login(kind: CredentialKind, secret: Secret) -> anyhow::Result<Login> {
    let begins = |with| secret.expose().starts_with(with);
    if kind == CredentialKind::ApiKey {
        ensure!(
            !begins(TOKENS),
            "its secret is the token of a subscription: kind = \"subscription\""
        );
        return Ok(Login::Key(AgentKey::ApiKey(secret)));
    }
    ensure!(
        !begins(API_KEYS),
        "its secret is an API key: kind = \"api_key\""
    );
    Ok(Login::Key(AgentKey::OauthToken(secret)))
}

/// Reads a file whole, if it is one and no longer than `most`.
pub(super) fn text(path: &Path, most: u64) -> anyhow::Result<String> {
    let mut text = String::new();
    read(path, most)?.0.read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= most, "is longer than {most} bytes");
    Ok(text)
}

/// A file that is none of the special ones, which may never end, and who may do what with it.
fn read(path: &Path, most: u64) -> io::Result<(io::Take<File>, u32)> {
    // Asked first, since to open a pipe may take for ever.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    Ok((File::open(path)?.take(most + 1), metadata.mode()))
}

/// The same for the same secret; half of it is enough to tell a few apart, and tells nothing else.
pub(super) fn fingerprint(secret: &Secret) -> String {
    let digest = Sha256::new()
        .chain_update(b"credential of agent-server\0")
        .chain_update(secret.expose())
        .finalize();
    let byte = |byte: &u8| format!("{byte:02x}");
    digest.iter().take(8).map(byte).collect()
}
