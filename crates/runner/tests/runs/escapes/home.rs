//! The operator's home: its secrets, and what would run for the operator or for the next job.

use std::fs;

use agent_runner::Level;

use super::arena::{Arena, CANARY, EVIL, SECRETS};
use super::{Attempt, NONE, WALLS, attempt, got_through};

/// What runs, or is believed, at the next login or in the next job.
const PERSISTENT: [&str; 19] = [
    ".bashrc",
    ".profile",
    ".zshrc",
    ".ssh/authorized_keys",
    ".config/autostart/evil.desktop",
    ".config/systemd/user/evil.service",
    ".config/git/config",
    ".gitconfig",
    "tools/bin/tool",
    "tools/bin/git",
    ".claude.json",
    ".claude/settings.json",
    ".claude/settings.local.json",
    ".claude/CLAUDE.md",
    ".claude/commands/evil.md",
    ".claude/agents/evil.md",
    ".claude/hooks/evil.sh",
    ".claude/plugins/one/hooks.json",
    ".claude/shell-snapshots/evil.sh",
];

fn secrets(arena: &Arena) -> Vec<Attempt> {
    let path = |name: &str| arena.home().join(name).display().to_string();
    let mut attempts: Vec<Attempt> = SECRETS
        .iter()
        .map(|name| {
            attempt(
                format!("read {name}"),
                format!("grep -q {CANARY} '{}'", path(name)),
            )
        })
        .collect();
    attempts.extend([
        attempt(
            "read of other work in the CLI's state",
            format!("grep -q {CANARY} ~/.claude.json"),
        ),
        attempt(
            "read a credential in git's configuration",
            format!("grep -q {CANARY} ~/.gitconfig"),
        ),
        attempt("ask git for it", "git config --get-regexp '^url'"),
        attempt("find it in the home", format!("grep -rqF {CANARY} ~")),
    ]);
    attempts
}

#[tokio::test]
async fn no_secret_of_the_home_is_read() {
    assert_eq!(got_through(&WALLS, secrets).await, NONE);
}

fn persistence(arena: &Arena) -> Vec<Attempt> {
    let write = |name: &&str| {
        let path = arena.home().join(name);
        // In place, or in its place where it cannot be opened.
        let command = format!(
            "mkdir -p \"$(dirname '{0}')\"; echo {EVIL} >> '{0}' || {{ rm -f '{0}'; echo {EVIL} > '{0}'; }}",
            path.display()
        );
        attempt(format!("leave {name}"), command).shows(move |_| Arena::holds_evil(&path))
    };
    let mut attempts: Vec<Attempt> = PERSISTENT.iter().map(write).collect();
    let moved = arena.home().join(".claude");
    attempts.push(
        attempt(
            "put another directory in place of the CLI's",
            format!("cp -r ~/.claude ~/evil; echo {EVIL} > ~/evil/settings.json; mv ~/.claude ~/was && mv ~/evil ~/.claude"),
        )
        .shows(move |_| Arena::holds_evil(&moved.join("settings.json"))),
    );
    attempts
}

#[tokio::test]
async fn nothing_is_left_in_the_home_that_would_run_later() {
    assert_eq!(got_through(&WALLS, persistence).await, NONE);
}

#[tokio::test]
async fn what_the_cli_and_git_need_is_there() {
    for level in WALLS {
        let arena = Arena::new(level);
        let said = arena
            .run(
                "cat ~/.claude/CLAUDE.md; echo; tool; git config user.name; cat ~/.claude.json; echo; \
                 touch ~/.claude/new ~/.claude.json && echo writable; echo x > /dev/null && echo null; \
                 echo $HOME; pwd",
            )
            .await;
        let expected = format!(
            "our conventions\nfrom the home\nOperator\n{{\"mcpServers\":{{}}}}\nwritable\nnull\n{}\n{}\n",
            arena.home().display(),
            arena.work().display()
        );
        assert_eq!(said, expected, "{level}");
        assert!(!arena.home().join(".claude/new").exists());
    }
}

#[tokio::test]
async fn the_transcript_of_a_workspace_stays_and_no_other_is_seen() {
    let arena = Arena::new(Level::Workspace);
    let name: String = arena
        .work()
        .to_str()
        .unwrap()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let script = format!("ls -A ~/.claude/projects; echo said > ~/.claude/projects/{name}/s.jsonl");
    assert_eq!(arena.run(&script).await, format!("{name}\n"));
    let kept = arena
        .home()
        .join(".claude/projects")
        .join(name)
        .join("s.jsonl");
    assert_eq!(fs::read_to_string(kept).unwrap(), "said\n");
}

#[tokio::test]
async fn a_login_by_file_is_there_and_stays_renewed_only_where_there_is_no_other() {
    for (with_key, seen) in [(true, false), (false, true)] {
        let mut arena = Arena::new(Level::Workspace);
        if !with_key {
            arena.place.reconfigure(|config| {
                config
                    .environment
                    .retain(|(name, _)| name != "ANTHROPIC_API_KEY");
            });
        }
        arena
            .run("echo renewed > ~/.claude/.credentials.json")
            .await;
        let login = arena.home().join(".claude/.credentials.json");
        let now = fs::read_to_string(login).unwrap();
        assert_eq!(now == "renewed\n", seen, "{now}");
    }
}
