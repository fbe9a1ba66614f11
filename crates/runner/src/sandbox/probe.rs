//! Whether a wall can be set up on this machine, found out by setting one up.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::gate::{Closed, Task};
use super::home::Environment;
use super::scratch::remove_all;
use super::wall::{Plan, WallSpec};
use super::{Ground, Sandbox};

/// Sets up a wall with nobody in it and takes it down again.
///
/// `environment` is the agent's; `folder` is made for this, must not exist, and is removed.
/// The error is a sentence that says what this machine lacks. [`super::Level::Off`] always works.
pub async fn try_sandbox(
    sandbox: &Sandbox,
    environment: &[(OsString, OsString)],
    folder: &Path,
) -> Result<(), String> {
    let Some(wall) = WallSpec::new(sandbox, &Ground::default()) else {
        return Ok(());
    };
    if !cfg!(target_os = "linux") {
        return Err("there are no namespaces on this system".into());
    }
    let made = DirBuilder::new().mode(0o700).recursive(true).create(folder);
    made.map_err(|error| format!("{}: {error}", folder.display()))?;
    let tried = stand(&wall, environment, folder).await;
    remove_all(folder).ok();
    tried
}

async fn stand(
    wall: &WallSpec,
    environment: &[(OsString, OsString)],
    folder: &Path,
) -> Result<(), String> {
    let plan = Plan {
        wall,
        environment: Environment(environment),
        cwd: None,
        program: None,
    };
    let task = Task {
        program: None,
        args: Vec::new(),
        drain: Duration::ZERO,
        proxied: false,
    };
    let raised = plan
        .raise(folder, task)
        .map_err(|error| error.to_string())?;
    let mut child = Command::new(&raised.program)
        .args(&raised.args)
        .env_clear()
        .envs(raised.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| raised.not_started(&error))?;
    let opened = raised.open(&mut child).await;
    child.kill().await.ok();
    match opened {
        Ok(_) => Ok(()),
        Err(Closed::Wall(error) | Closed::Agent(error) | Closed::NoRoom(error)) => Err(error),
    }
}
