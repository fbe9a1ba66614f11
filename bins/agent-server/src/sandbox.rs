//! Which wall stands around agents: what the operator asks for, and what works here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use agent_runner::{HostRule, Level, Program, Sandbox, try_sandbox};
use anyhow::{Context as _, bail};
use clap::Args;

use crate::settings::Config;

/// What an operator can set about the sandbox; an empty text counts as not set.
#[derive(Debug, Args)]
pub(crate) struct SandboxSettings {
    /// What stands around every agent: off, workspace or isolated. Where not set: workspace if
    /// this machine can, else off.
    #[arg(long, env = "SANDBOX", default_value = "")]
    sandbox: String,
    /// The lower level, workspace or off, that will do where SANDBOX cannot be had; without it,
    /// jobs are refused then.
    #[arg(long, env = "SANDBOX_FALLBACK", default_value = "")]
    sandbox_fallback: String,
    /// Hosts that isolated agents may reach beside the model's API: host, *.domain or address,
    /// each with :port where it is not the web's; comma separated.
    #[arg(long, env = "SANDBOX_ALLOW_HOSTS", default_value = "")]
    sandbox_allow_hosts: String,
    /// Files and directories that agents may read beside the system's programs and their tool
    /// chains, separated by colons.
    #[arg(long, env = "SANDBOX_READ", default_value = "")]
    sandbox_read: String,
}

/// Settings about the sandbox, checked.
#[derive(Debug, Clone)]
pub(crate) struct SandboxConfig {
    asked: Option<Level>,
    fallback: Option<Level>,
    hosts: Vec<HostRule>,
    readable: Vec<PathBuf>,
}

/// What was chosen, and what the machine had to say to it.
#[derive(Debug)]
pub(crate) struct Choice {
    /// What the operator asked for; `None` is the best there is.
    pub(crate) asked: Option<Level>,
    /// What every run gets.
    pub(crate) level: Level,
    /// Levels that were tried and cannot be had, and why.
    pub(crate) failed: Vec<(Level, String)>,
}

impl SandboxSettings {
    pub(crate) fn check(&self) -> anyhow::Result<SandboxConfig> {
        let asked = level(&self.sandbox).context("SANDBOX")?;
        let fallback = level(&self.sandbox_fallback).context("SANDBOX_FALLBACK")?;
        match (asked, fallback) {
            (None, Some(_)) => bail!("SANDBOX_FALLBACK says nothing without SANDBOX"),
            (Some(asked), Some(fallback)) if fallback >= asked => {
                bail!("SANDBOX_FALLBACK must be lower than SANDBOX, which is {asked}")
            }
            _ => {}
        }
        let hosts = self.sandbox_allow_hosts.split([',', ' ']).map(str::trim);
        let hosts = hosts.filter(|host| !host.is_empty());
        let hosts = hosts.map(|host| {
            let rule = host.parse::<HostRule>();
            rule.with_context(|| format!("SANDBOX_ALLOW_HOSTS: {host:?}"))
        });
        let readable = self.sandbox_read.split(':').filter(|path| !path.is_empty());
        let readable = readable.map(|path| {
            let path = PathBuf::from(path);
            let usable = path.is_absolute() && path != Path::new("/");
            usable.then_some(path.clone()).with_context(|| {
                format!(
                    "SANDBOX_READ: {} must be an absolute path below /",
                    path.display()
                )
            })
        });
        Ok(SandboxConfig {
            asked,
            fallback,
            hosts: hosts.collect::<anyhow::Result<_>>()?,
            readable: readable.collect::<anyhow::Result<_>>()?,
        })
    }
}

fn level(text: &str) -> anyhow::Result<Option<Level>> {
    let level = (!text.is_empty()).then(|| text.parse::<Level>());
    level.transpose().map_err(Into::into)
}

/// The wall at a level, as it would stand around agents of this server.
pub(crate) fn at(config: &Config, level: Level) -> anyhow::Result<Sandbox> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let mut hidden = vec![
        config.data_dir.clone(),
        config.repos_dir.clone(),
        config.worktrees_dir.clone(),
    ];
    hidden.extend(config.database.parent().map(Path::to_owned));
    hidden.extend(config.credentials.files().map(Path::to_owned));
    Ok(Sandbox {
        level,
        bwrap: "bwrap".into(),
        inside: Program {
            path: own,
            args: vec!["inside".into()],
        },
        hidden,
        readable: config.sandbox.readable.clone(),
        hosts: config.sandbox.hosts.clone(),
    })
}

/// Finds out by trying what stands around agents.
///
/// What was asked for by name stays, even if it cannot be had now: then every job is refused.
pub(crate) async fn choose(
    config: &Config,
    environment: &[(OsString, OsString)],
) -> anyhow::Result<Choice> {
    let SandboxConfig {
        asked, fallback, ..
    } = config.sandbox;
    let mut choice = Choice {
        asked,
        level: asked.unwrap_or(Level::Off),
        failed: Vec::new(),
    };
    let wanted = [Some(asked.unwrap_or(Level::Workspace)), fallback];
    for level in wanted.into_iter().flatten() {
        let sandbox = at(config, level)?;
        match try_sandbox(&sandbox, environment, &try_folder(config)).await {
            Ok(()) => {
                choice.level = level;
                return Ok(choice);
            }
            Err(error) => choice.failed.push((level, error)),
        }
    }
    Ok(choice)
}

/// A directory that exists only while a wall is tried.
pub(crate) fn try_folder(config: &Config) -> PathBuf {
    let name = format!("sandbox-{}", std::process::id());
    let parent = config.data_dir.ancestors().find(|path| path.is_dir());
    parent.unwrap_or(Path::new("/tmp")).join(name)
}

impl Choice {
    /// Whether every job is refused.
    pub(crate) fn refuses(&self) -> bool {
        self.failed.iter().any(|(level, _)| *level == self.level)
    }

    /// How to get a level that cannot be had, by the error with which it failed.
    pub(crate) fn advice(error: &str) -> &'static str {
        if !cfg!(target_os = "linux") {
            "run the server on Linux, in a virtual machine for instance"
        } else if error.contains("not installed") {
            "install bubblewrap 0.8 or newer (Debian: apt install bubblewrap)"
        } else if error.contains("Unknown option") {
            "install bubblewrap 0.8 or newer; this one is older"
        } else {
            "let this user make namespaces: kernel.unprivileged_userns_clone=1 (old Debian), user.max_user_namespaces above 0, an AppArmor profile for bwrap (Ubuntu 24.04); in a container, a seccomp and AppArmor profile that allows user namespaces and mounts, and an unmasked /proc"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sandbox: &str, fallback: &str) -> anyhow::Result<SandboxConfig> {
        let settings = SandboxSettings {
            sandbox: sandbox.into(),
            sandbox_fallback: fallback.into(),
            sandbox_allow_hosts: " packages.example.org, *.example.com:8443 ".into(),
            sandbox_read: "/srv/shared::/opt/tools".into(),
        };
        settings.check()
    }

    #[test]
    fn levels_hosts_and_paths_are_read() {
        let config = check("isolated", "workspace").unwrap();
        assert_eq!(
            (config.asked, config.fallback),
            (Some(Level::Isolated), Some(Level::Workspace))
        );
        let hosts: Vec<String> = config.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["packages.example.org", "*.example.com:8443"]);
        assert_eq!(
            config.readable,
            [PathBuf::from("/srv/shared"), "/opt/tools".into()]
        );
        assert_eq!(check("", "").unwrap().asked, None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (sandbox, fallback) in [
            ("on", ""),
            ("workspace", "no"),
            ("", "off"),
            ("workspace", "workspace"),
            ("off", "off"),
            ("workspace", "isolated"),
        ] {
            assert!(check(sandbox, fallback).is_err(), "{sandbox} {fallback}");
        }
        for (hosts, paths) in [("https://x", ""), ("", "relative"), ("", "/")] {
            let settings = SandboxSettings {
                sandbox: String::new(),
                sandbox_fallback: String::new(),
                sandbox_allow_hosts: hosts.into(),
                sandbox_read: paths.into(),
            };
            assert!(settings.check().is_err(), "{hosts} {paths}");
        }
    }
}
