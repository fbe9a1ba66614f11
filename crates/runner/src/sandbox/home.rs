//! The agent's home behind the wall: a directory of its own with what the CLI, git and tool
//! chains need of the real one.
//!
//! Nothing an agent writes there is seen by the next: hooks, settings or plugins left behind would
//! run for another job. What stays is the transcript of this very workspace, and a login by file
//! that had to be renewed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::arguments::Arguments;
use super::scratch::Scratch;
use crate::login::PAYMENT;

/// Where a home is put when the environment names none that can be used.
const NO_HOME: &str = "/home/agent";
/// What an operator configures the CLI with. All else in its directory is what it writes itself.
const SETTINGS: [&str; 13] = [
    "CLAUDE.md",
    "agents",
    "commands",
    "hooks",
    "keybindings.json",
    "mcp.json",
    "output-styles",
    "plugins",
    "rules",
    "scripts",
    "settings.json",
    "skills",
    "workflows",
];
/// Parts of `.claude.json` about other work on this machine.
const OF_OTHERS: [&str; 2] = ["projects", "githubRepoPaths"];
/// Files that the environment may name, all of which it is meant that the agent reads.
const NAMED_FILES: [&str; 8] = [
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];
/// Where version managers keep tool chains; none of them keeps credentials there.
const TOOL_CHAINS: [&str; 15] = [
    ".asdf",
    ".bun/bin",
    ".deno/bin",
    ".local/pipx",
    ".local/share/claude",
    ".local/share/fnm",
    ".local/share/mise",
    ".local/share/pipx",
    ".local/share/uv/python",
    ".local/share/uv/tools",
    ".nvm",
    ".pyenv",
    ".rbenv",
    ".rustup",
    ".volta",
];
/// Sections of a git configuration that neither hold credentials nor need any.
const GIT_SECTIONS: [&str; 19] = [
    "alias",
    "apply",
    "author",
    "branch",
    "color",
    "column",
    "committer",
    "core",
    "diff",
    "fetch",
    "filter",
    "i18n",
    "init",
    "log",
    "merge",
    "pull",
    "push",
    "rebase",
    "user",
];

/// The agent's environment, as far as it says what must be there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Environment<'a>(pub(super) &'a [(OsString, OsString)]);

impl Environment<'_> {
    pub(super) fn get(&self, name: &str) -> Option<&OsString> {
        let found = self.0.iter().rev().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.get(name)?);
        path.is_absolute().then_some(path)
    }

    /// Whether the CLI finds its login here; then one by file is not needed.
    pub(super) fn has_login(&self) -> bool {
        PAYMENT
            .iter()
            .any(|name| self.get(name).is_some_and(|value| value != "0"))
    }

    /// Directories that programs are looked up in.
    pub(super) fn program_folders(&self) -> Vec<PathBuf> {
        let path = self.get("PATH").cloned().unwrap_or_default();
        std::env::split_paths(&path)
            .filter(|folder| folder.is_absolute())
            .collect()
    }

    fn real_home(&self) -> Option<PathBuf> {
        self.path("HOME")
            .filter(|home| home.components().count() > 1)
    }

    /// Where the CLI keeps all that is its own.
    fn claude_folder(&self) -> PathBuf {
        self.path("CLAUDE_CONFIG_DIR")
            .unwrap_or_else(|| self.home().join(".claude"))
    }

    /// Whether that is a real directory.
    fn has_claude_folder(&self) -> bool {
        self.real_home().is_some() || self.path("CLAUDE_CONFIG_DIR").is_some()
    }

    /// Where the home is inside.
    pub(super) fn home(&self) -> PathBuf {
        self.real_home().unwrap_or_else(|| NO_HOME.into())
    }
}

/// What of the real home, and of what the environment names, is to be read.
pub(super) fn readable(environment: Environment<'_>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = NAMED_FILES
        .iter()
        .filter_map(|name| environment.path(name))
        .collect();
    found.extend(environment.program_folders());
    if let Some(home) = environment.real_home() {
        // Of a directory that holds the home, or is it, a program is no reason to show all.
        found.retain(|path| !home.starts_with(path));
        found.extend(TOOL_CHAINS.iter().map(|name| home.join(name)));
        found.extend(["ignore", "attributes"].map(|name| home.join(".config/git").join(name)));
        found.extend(modules_beside(&environment.program_folders(), &home));
        if environment.get("CLAUDE_CODE_USE_BEDROCK").is_some() {
            found.push(home.join(".aws"));
        }
        if environment.get("CLAUDE_CODE_USE_VERTEX").is_some() {
            found.push(home.join(".config/gcloud/application_default_credentials.json"));
        }
    }
    found.retain(|path| path.exists());
    found
}

/// What Node's programs in the home are links into.
fn modules_beside(folders: &[PathBuf], home: &Path) -> Vec<PathBuf> {
    let of_home = folders.iter().filter(|folder| folder.starts_with(home));
    of_home
        .filter_map(|folder| Some(folder.parent()?.join("lib/node_modules")))
        .collect()
}

/// Fills the home and the CLI's directory, and says what is bound there.
///
/// Without the real files there is only less; an error means that our own cannot be written.
pub(super) fn furnish(
    environment: Environment<'_>,
    scratch: &Scratch,
    cwd: Option<&Path>,
    arguments: &mut Arguments,
) -> io::Result<()> {
    let home = environment.home();
    arguments.bind(&scratch.path("home"), &home);
    let real = environment.real_home();
    if let Some(real) = &real {
        let text = [".config/git/config", ".gitconfig"]
            .map(|name| fs::read_to_string(real.join(name)).unwrap_or_default())
            .map(|text| without_credentials(&text))
            .concat();
        fs::write(scratch.path("home/.gitconfig"), text)?;
    }
    let folder = environment.claude_folder();
    let state = match environment.path("CLAUDE_CONFIG_DIR") {
        Some(folder) => (folder.join(".claude.json"), "claude/.claude.json"),
        None => (home.join(".claude.json"), "home/.claude.json"),
    };
    if let Some(known) = fs::read(state.0)
        .ok()
        .and_then(|text| of_nobody_else(&text))
    {
        fs::write(scratch.path(state.1), known)?;
    }
    arguments.bind(&scratch.path("claude"), &folder);
    if !environment.has_claude_folder() {
        return Ok(());
    }
    for name in SETTINGS {
        let path = folder.join(name);
        if path.exists() {
            arguments.ro_bind(&path, &path);
        }
    }
    let login = folder.join(".credentials.json");
    if login.exists() && !environment.has_login() {
        arguments.bind(&login, &login);
    }
    let transcripts = cwd.and_then(|cwd| transcripts(environment.0, cwd));
    // Where the real one cannot be written to, the transcript goes with the scratch.
    if let Some(transcripts) = transcripts
        && fs::create_dir_all(&transcripts).is_ok()
    {
        arguments.bind(&transcripts, &transcripts);
    }
    Ok(())
}

/// Where the CLI keeps the transcripts of what it does in `cwd`; `None` where it does not outlive a
/// run.
pub(crate) fn transcripts(environment: &[(OsString, OsString)], cwd: &Path) -> Option<PathBuf> {
    let environment = Environment(environment);
    let folder = environment.claude_folder().join("projects");
    let is_kept = environment.has_claude_folder();
    is_kept.then(|| folder.join(project_name(cwd)))
}

/// The CLI's name for a directory among its projects.
fn project_name(cwd: &Path) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    cwd.to_string_lossy().chars().map(plain).collect()
}

/// The CLI's state without what it knows of other repositories.
fn of_nobody_else(text: &[u8]) -> Option<Vec<u8>> {
    let mut state: Value = serde_json::from_slice(text).ok()?;
    let fields = state.as_object_mut()?;
    fields.retain(|name, _| !OF_OTHERS.contains(&name.as_str()));
    serde_json::to_vec(&state).ok()
}

/// The sections of a git configuration that the agent may see.
fn without_credentials(text: &str) -> String {
    let mut kept = String::new();
    let mut keep = false;
    for line in text.lines() {
        if let Some(header) = line.trim_start().strip_prefix('[') {
            let name = header
                .split(|c: char| c.is_whitespace() || "].\"".contains(c))
                .next();
            let name = name.unwrap_or_default().to_ascii_lowercase();
            keep = GIT_SECTIONS.contains(&name.as_str());
        }
        if keep {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_gits_configuration_what_may_hold_credentials_is_left_out() {
        let text = "[user]\n\tname = A\n[credential \"https://x\"]\n\thelper = store\n\
                    [url \"https://t:oken@x/\"]\n insteadOf = x\n[Core] editor = vi\n\
                    [http]\n extraHeader = Authorization: x\n[include]\n path = y\n\
                    [branch \"a]b\"]\n rebase = true\n[url.x]\ninsteadOf=y\n[commit]\ngpgsign=true\n";
        assert_eq!(
            without_credentials(text),
            "[user]\n\tname = A\n[Core] editor = vi\n[branch \"a]b\"]\n rebase = true\n"
        );
    }

    #[test]
    fn of_the_clis_state_what_is_about_other_work_is_left_out() {
        let state = br#"{"machineID":"m","projects":{"/x":{}},"mcpServers":{"a":1}}"#;
        let seen = of_nobody_else(state).unwrap();
        assert_eq!(seen, br#"{"machineID":"m","mcpServers":{"a":1}}"#);
        assert!(of_nobody_else(b"torn {").is_none() && of_nobody_else(b"[]").is_none());
    }

    #[test]
    fn a_program_in_the_home_does_not_show_the_home() {
        let home = tempfile::tempdir().unwrap();
        for name in ["tools/bin", "tools/lib/node_modules", ".nvm", ".ssh"] {
            fs::create_dir_all(home.path().join(name)).unwrap();
        }
        let base = home.path().display();
        let path = format!("{base}/tools/bin:/:{base}:relative:/usr/bin:/missing");
        let variables = [
            ("HOME".into(), home.path().into()),
            ("PATH".into(), path.into()),
        ];
        let found = readable(Environment(&variables));
        let own = |name: &str| home.path().join(name);
        assert_eq!(
            found,
            [
                own("tools/bin"),
                "/usr/bin".into(),
                own(".nvm"),
                own("tools/lib/node_modules")
            ]
        );
    }

    #[test]
    fn a_login_in_the_environment_is_one_that_is_set() {
        let with =
            |name: &str, value: &str| Environment(&[(name.into(), value.into())]).has_login();
        assert!(with("ANTHROPIC_API_KEY", "sk") && with("CLAUDE_CODE_USE_BEDROCK", "1"));
        assert!(!with("ANTHROPIC_API_KEY", "") && !with("CLAUDE_CODE_USE_BEDROCK", "0"));
        assert!(!with("HOME", "/x"));
    }
}
