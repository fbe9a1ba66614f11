//! An agent-server of the release build, in an environment of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use agent_tests::process;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::http::Connection;

/// The bearer token of every server started here.
pub(crate) const TOKEN: &str = "bench-0123456789abcdef0123456789";
/// A server that is not ready, or not gone, after this long is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who commits; and no tidying up behind a command, which the server keeps git from, too: the
/// floor is to be as low as it can be.
const GIT_CONFIG: &str = "[user]
    name = Bench
    email = bench@example.com
[gc]
    auto = 0
[maintenance]
    auto = false
";

/// A running server. Dropping it ends it, and every process that belongs to its directory.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    root: PathBuf,
    address: SocketAddr,
}

impl Server {
    /// Starts the server with everything it writes below `root`, and waits until it listens.
    pub(crate) fn start(program: &Path, root: &Path, settings: &[(&str, &OsStr)]) -> Result<Self> {
        fs::create_dir_all(root)?;
        let log = root.join("server.log");
        let child = environment(&mut Command::new(program), root)
            .env("AGENT_API_SECRET", TOKEN)
            .env("PORT", "0")
            .env("DATA_DIR", root.join("data"))
            .env("REPOS_DIR", root.join("repos"))
            .env("WORKTREES_DIR", root.join("worktrees"))
            .env(
                "GIT_REMOTE_BASE",
                format!("{}/", root.join("remote").display()),
            )
            .env("SHUTDOWN_GRACE_SECONDS", "0")
            .env("LOG_LEVEL", "warn")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self {
            child,
            root: root.to_owned(),
            address,
        };
        let stdout = server
            .child
            .stdout
            .take()
            .context("the server has no output")?;
        server.address = listening_at(stdout).with_context(|| {
            format!(
                "the server did not start: {}",
                fs::read_to_string(&log).unwrap_or_default()
            )
        })?;
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Connects to it.
    pub(crate) fn connect(&self) -> Result<Connection> {
        Connection::open(self.address, TOKEN)
    }

    /// How long its threads have been on a processor.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut nanos = 0;
        for thread in fs::read_dir(self.proc("task"))? {
            let on = fs::read_to_string(thread?.path().join("schedstat"))?;
            let on = on.split_whitespace().next().context("an empty schedstat")?;
            nanos += on.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Makes its memory's peak begin anew from what it holds now, and returns that, in bytes.
    pub(crate) fn reset_peak(&self) -> Result<u64> {
        fs::write(self.proc("clear_refs"), "5")?;
        self.memory("VmRSS:")
    }

    /// The most memory it held since [`Server::reset_peak`], in bytes.
    pub(crate) fn peak(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(self.proc("status"))?;
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = value.and_then(|value| value.trim().strip_suffix(" kB"));
        Ok(kilobytes
            .with_context(|| format!("no {name} of the server"))?
            .parse::<u64>()?
            * 1024)
    }

    fn proc(&self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.child.id()).into()
    }

    /// Ends it and what it left behind; an error when something cannot be ended.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        process::signal(i32::try_from(self.child.id())?, Signal::TERM);
        let ended = process::wait_until(PATIENCE, || !matches!(self.child.try_wait(), Ok(None)));
        if !ended {
            self.child.kill()?;
            self.child.wait()?;
        }
        // Its supervisors outlive it on purpose, and each leaves only when its agent has.
        let deadline = Instant::now() + PATIENCE;
        while let left = process::belonging_to(&self.root)
            && !left.is_empty()
        {
            if Instant::now() >= deadline {
                bail!("still running: {left:?}");
            }
            for one in left {
                process::signal(one.pid, Signal::KILL);
            }
            thread::sleep(Duration::from_millis(10));
        }
        process::remove_groups(&self.root, 4);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("bench: {error:#}");
        }
    }
}

/// Makes `root` a home directory with git's settings.
pub(crate) fn prepare_home(root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    Ok(fs::write(root.join("gitconfig"), GIT_CONFIG)?)
}

/// Gives a command the same small environment, for the server and for what it is compared with:
/// nothing of this machine's git settings or logins.
pub(crate) fn environment<'a>(command: &'a mut Command, root: &Path) -> &'a mut Command {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", root)
        .env("LC_ALL", "C.UTF-8")
        .env("GIT_CONFIG_GLOBAL", root.join("gitconfig"))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        // The stand-in for the CLI asks for a login as the real one does; any key is one.
        .env("ANTHROPIC_API_KEY", "none")
}

fn listening_at(stdout: ChildStdout) -> Result<SocketAddr> {
    let (sender, receiver) = mpsc::channel();
    // Ends with the server; the pipe stays open until then.
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("listening on http://") {
                sender.send(address.parse()).ok();
            }
        }
    });
    Ok(receiver.recv_timeout(PATIENCE)??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn program(dir: &Path, script: &str) -> PathBuf {
        let path = dir.join("program");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_stopped_server_takes_along_what_it_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let script =
            "setsid sleep 60 >/dev/null & echo listening on http://127.0.0.1:9; exec sleep 60";
        let program = program(dir.path(), script);
        let root = dir.path().join("root");
        let server = Server::start(&program, &root, &[]).unwrap();
        assert_eq!(server.address().to_string(), "127.0.0.1:9");
        assert!(server.reset_peak().unwrap() > 0 && server.peak().unwrap() > 0);
        assert_eq!(process::belonging_to(&root).len(), 2);
        server.stop().unwrap();
        assert!(process::belonging_to(&root).is_empty());
    }

    #[test]
    fn a_server_that_does_not_start_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let program = program(dir.path(), "echo no disk >&2; exit 1");
        let error = Server::start(&program, &dir.path().join("root"), &[]).unwrap_err();
        assert!(error.to_string().contains("no disk"), "{error}");
    }
}
