//! The real Claude Code CLI, at one exact version, in a cache outside the checkout.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{checked, require_program};

/// The version whose behaviour this project relies on.
const VERSION: &str = "2.1.329";

/// Returns the CLI's native binary, installing it from npm unless it is there already.
pub(super) fn install() -> Result<PathBuf> {
    let dir = cache()?.join(format!("claude-{VERSION}"));
    let binary = dir
        .join("node_modules/@anthropic-ai")
        .join(platform()?)
        .join("claude");
    if binary.is_file() {
        return Ok(binary);
    }
    require_program("npm", "Install Node.js with npm to test with the real CLI.")?;
    std::fs::create_dir_all(&dir)?;
    println!(
        "\ninstalling @anthropic-ai/claude-code@{VERSION} into {}",
        dir.display()
    );
    let package = format!("@anthropic-ai/claude-code@{VERSION}");
    let mut npm = Command::new("npm");
    npm.current_dir(&dir).args([
        "install",
        "--no-audit",
        "--no-fund",
        "--no-save",
        "--prefix",
        ".",
    ]);
    checked(npm.arg(package)).context("npm cannot install the CLI")?;
    ensure!(binary.is_file(), "npm installed no {}", binary.display());
    Ok(binary)
}

fn platform() -> Result<String> {
    let system = match std::env::consts::OS {
        "linux" => "linux",
        "macos" => "darwin",
        other => anyhow::bail!("there is no CLI for {other}"),
    };
    let machine = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => anyhow::bail!("there is no CLI for {other}"),
    };
    Ok(format!("claude-code-{system}-{machine}"))
}

fn cache() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    Ok(cache.context("HOME is not set")?.join("agent-server"))
}
