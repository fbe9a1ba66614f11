//! The programs that are measured, as release builds.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::workspace;

/// Builds the release binary of each package, and says where they are.
pub(crate) fn build<const N: usize>(packages: [&str; N]) -> Result<[PathBuf; N]> {
    let output = workspace::cargo(&[
        "build",
        "--release",
        "--message-format=json-render-diagnostics",
    ])
    .args(packages.iter().flat_map(|package| ["--package", package]))
    .stderr(Stdio::inherit())
    .output()
    .context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo build ended with {}",
        output.status
    );
    let messages = String::from_utf8(output.stdout)?;
    let find = |&package: &&str| executable(&messages, package);
    let found = packages.iter().map(find).collect::<Result<Vec<_>>>()?;
    found
        .try_into()
        .map_err(|_| anyhow::anyhow!("cargo built something else"))
}

/// Finds the executable of the package's binary among cargo's messages.
fn executable(messages: &str, package: &str) -> Result<PathBuf> {
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ours = artifacts.filter(|message| message["target"]["name"] == package);
    let path = ours.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    path.with_context(|| format!("cargo built no program of {package}"))
}

/// A directory for one run, on the disk the programs were built on; it is removed when dropped.
///
/// Not the system's directory for temporary files: that is often in memory, where a durable
/// write costs nothing.
pub(crate) fn scratch(program: &Path) -> Result<tempfile::TempDir> {
    let target = program
        .ancestors()
        .nth(2)
        .context("a program outside the target directory")?;
    Ok(tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(target)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_of_a_package_is_found_among_other_artifacts() {
        let messages = r#"
            {"reason":"compiler-artifact","target":{"name":"agent_api"},"executable":null}
            {"reason":"compiler-artifact","target":{"name":"agent-server"},"executable":"/t/release/agent-server"}
            {"reason":"build-finished","success":true}"#;
        assert_eq!(
            executable(messages, "agent-server").unwrap(),
            Path::new("/t/release/agent-server")
        );
        assert!(executable(messages, "agent_api").is_err());
    }
}
