//! Which agent works: the real CLI where it can, else the bundled stand-in.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use agent_tests::process::wait_until;
use agent_tests::server::Builder;

use crate::interrupt::Interrupt;

/// The CLI answers in about a second.
const ANSWER: Duration = Duration::from_secs(20);

const TASK: &str = "Make src/main.rs greet by name: the first command line argument, or `world` \
                    where there is none. Remove the TODO. Say in docs/notes.md how to use it. \
                    Change nothing else.";

/// What the stand-in does in place of a model.
const SCRIPT: &str = r#"
```fake
delay 400ms
text I will look at the program first.
tool Read {"file_path":"src/main.rs"} fn main() { println!("hello"); }
text It greets nobody in particular. I will take the name from the command line.
write src/main.rs "fn main() {\n    let name = std::env::args().nth(1);\n    println!(\"hello, {}\", name.as_deref().unwrap_or(\"world\"));\n}\n"
write docs/notes.md "Greet someone by name:\n\n    greeter Ada\n"
result ok The program greets by name now; docs/notes.md says how.
```
"#;

/// The agent of this demo.
#[derive(Debug)]
pub(super) enum Agent {
    /// The Claude Code CLI that is installed here.
    Real(PathBuf),
    /// The stand-in of the tests.
    Fake,
}

impl Agent {
    /// Looks for a CLI that is logged in.
    pub(super) fn find(interrupt: &Interrupt) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|dir| dir.join("claude"))
            .find(|program| program.is_file())
            .filter(|program| is_logged_in(program, interrupt))
            .map_or(Self::Fake, Self::Real)
    }

    /// Says which it is.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Real(path) => format!("{}, which is logged in", path.display()),
            Self::Fake => "the bundled stand-in, which needs no network and costs nothing".into(),
        }
    }

    /// What it is told.
    pub(super) fn prompt(&self) -> String {
        match self {
            Self::Real(_) => TASK.into(),
            Self::Fake => format!("{TASK}\n{SCRIPT}"),
        }
    }

    /// The real one needs the login of whoever runs this, and with it their home; everything that
    /// is written stays in the temporary directory all the same.
    pub(super) fn configure(&self, builder: Builder) -> Builder {
        let Self::Real(claude) = self else {
            return builder;
        };
        let data = builder.dir().join("data");
        let mut builder = builder.without("ANTHROPIC_API_KEY");
        for (name, value) in std::env::vars_os() {
            if let Some(name) = name.to_str().filter(|name| is_for_the_agent(name)) {
                builder = builder.env(name, value);
            }
        }
        builder
            .env("CLAUDE_BIN", claude)
            .env("DATA_DIR", &data)
            .env("REPOS_DIR", data.join("repos"))
            .env("WORKTREES_DIR", data.join("worktrees"))
    }
}

/// What the CLI may need of the environment; the server picks from it what the agent gets.
fn is_for_the_agent(name: &str) -> bool {
    const PREFIXES: &[&str] = &["ANTHROPIC_", "AWS_", "CLAUDE_", "GOOGLE_", "LC_"];
    const NAMES: &[&str] = &[
        "API_TIMEOUT_MS",
        "CLOUD_ML_REGION",
        "HOME",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LANG",
        "NO_PROXY",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "USER",
        "https_proxy",
        "http_proxy",
        "no_proxy",
    ];
    // The server's own settings are the demo's.
    const OURS: &[&str] = &["CLAUDE_BIN", "CLAUDE_MODEL"];
    let wanted = NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    wanted && !OURS.contains(&name)
}

fn is_logged_in(program: &Path, interrupt: &Interrupt) -> bool {
    let started = Command::new(program)
        .args(["auth", "status"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = started else {
        return false;
    };
    let mut status = None;
    wait_until(ANSWER, || {
        status = child.try_wait().ok().flatten();
        status.is_some() || interrupt.came()
    });
    if status.is_none() {
        child.kill().ok();
        child.wait().ok();
    }
    status.is_some_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_gets_its_login_and_not_the_settings_of_another_server() {
        for name in [
            "HOME",
            "ANTHROPIC_API_KEY",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "LC_ALL",
        ] {
            assert!(is_for_the_agent(name), "{name}");
        }
        for name in [
            "AGENT_API_SECRET",
            "GITHUB_TOKEN",
            "CLAUDE_BIN",
            "DATA_DIR",
            "PATH",
        ] {
            assert!(!is_for_the_agent(name), "{name}");
        }
    }

    #[test]
    fn the_stand_in_is_told_what_to_do_and_the_real_one_only_the_task() {
        assert!(Agent::Fake.prompt().contains("```fake\n"));
        assert_eq!(Agent::Real("claude".into()).prompt(), TASK);
    }
}
