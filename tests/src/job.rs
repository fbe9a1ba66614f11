//! Bodies of jobs whose agent does what a script says, and what such jobs leave behind.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::process::{self, Process};
use crate::repo::BareRepo;
use crate::server::Server;

/// How long a script may take to get somewhere, on a machine with much else to do.
const SOON: Duration = Duration::from_secs(60);

/// A prompt that makes the fake CLI do what `script` says.
pub fn prompt(script: &str) -> String {
    format!("Please do the work.\n```fake\n{script}\n```\n")
}

/// The body of `POST /jobs` for a job of a repository.
pub fn body(repo: &BareRepo, branch: &str, script: &str) -> Value {
    json!({
        "githubOrg": repo.org(),
        "githubRepo": repo.name(),
        "branchName": branch,
        "prompt": prompt(script),
    })
}

/// The same body with more fields.
pub fn with(mut body: Value, more: Value) -> Value {
    if let (Some(fields), Value::Object(more)) = (body.as_object_mut(), more) {
        fields.extend(more);
    }
    body
}

/// Waits until a script has made this file.
pub fn reached(mark: &Path) -> Result<()> {
    let there = process::wait_until(SOON, || mark.exists());
    ensure!(there, "nobody made {}", mark.display());
    Ok(())
}

/// What an agent has started and left: everything of the server's directory but the server,
/// its supervisors, and its looks at the CLI's login and at git's identity.
pub fn left_by_agents(server: &Server) -> Vec<Process> {
    let ours = |one: &Process| {
        Some(one.pid) == server.pid()
            || [" supervise ", " --version ", " auth status ", " var GIT_"]
                .iter()
                .any(|word| one.command.contains(word))
    };
    let mut left = process::belonging_to(server.dir());
    left.retain(|one| !ours(one));
    left
}

/// Checks that an ended job has left nothing: no process of its agent now, and soon only the
/// server itself; no workspace.
pub fn nothing_is_left(server: &Server) -> Result<()> {
    let left = left_by_agents(server);
    ensure!(left.is_empty(), "still running: {left:?}");
    let mut others = Vec::new();
    let alone = process::wait_until(SOON, || {
        others = process::belonging_to(server.dir());
        others.retain(|one| Some(one.pid) != server.pid());
        others.is_empty()
    });
    ensure!(alone, "still running: {others:?}");
    let workspaces = server.workspaces();
    ensure!(workspaces.is_empty(), "still there: {workspaces:?}");
    Ok(())
}
