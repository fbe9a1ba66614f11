//! Runs the program in a directory and an environment of its own.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything; far more than it takes.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A home, a working directory and variables for one test.
pub struct Place {
    dir: TempDir,
    env: Vec<(String, String)>,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["home", "work"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let env = [("ANTHROPIC_API_KEY", "sk-ant-test"), ("IS_SANDBOX", "1")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            dir,
            env: env.to_vec(),
        }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(one, _)| one != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.env.retain(|(one, _)| one != name);
        self
    }

    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.work().join(name)).unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fake-claude"));
        command
            .args(args)
            .current_dir(self.work())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home())
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs with exactly these arguments and nothing on standard input.
    pub fn bare(&self, args: &[&str]) -> Done {
        Done::new(self.command(args).output().unwrap())
    }

    /// Runs a script as a job does: the prompt on standard input, a stream of events out.
    pub fn script(&self, script: &str) -> Done {
        self.script_with(&[], script)
    }

    pub fn script_with(&self, args: &[&str], script: &str) -> Done {
        self.start(args, script).done()
    }

    /// The same, still running.
    pub fn start(&self, args: &[&str], script: &str) -> Running {
        let mut all = JOB.to_vec();
        all.extend(args);
        let mut child = self.command(&all).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A run that is refused does not read its prompt.
        stdin.write_all(fenced(script).as_bytes()).ok();
        Running { child }
    }

    /// Waits for a file that a script marks, relative to the working directory.
    pub fn wait_for(&self, name: &str) {
        let path = self.work().join(name);
        assert!(eventually(|| path.exists()), "{name} never appeared");
    }

    /// The process ids in a file.
    pub fn pids(&self, name: &str) -> Vec<i32> {
        let text = fs::read_to_string(self.work().join(name)).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

/// How a job runs the CLI.
pub const JOB: [&str; 6] = [
    "-p",
    "--output-format",
    "stream-json",
    "--verbose",
    "--permission-mode",
    "bypassPermissions",
];

pub fn fenced(script: &str) -> String {
    format!("Please do it.\n```fake\n{script}\n```\n")
}

pub fn eventually(mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// A run in progress; killed when a test gives up on it.
pub struct Running {
    pub child: Child,
}

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the process and the end of its output.
    pub fn done(mut self) -> Done {
        let mut stdout = self.child.stdout.take().unwrap();
        let mut stderr = self.child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).unwrap();
        let status = self.child.wait().unwrap();
        Done::new(Output {
            status,
            stdout: bytes,
            stderr: errors.join().unwrap(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A run that is over.
#[derive(Debug)]
pub struct Done {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Done {
    fn new(output: Output) -> Self {
        Self {
            status: output.status,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Every line that is JSON.
    pub fn events(&self) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// `type`, or `system/subtype`, of every event.
    pub fn kinds(&self) -> Vec<String> {
        let kind = |event: &Value| {
            let text = |key: &str| event[key].as_str().unwrap_or("?").to_owned();
            match text("type").as_str() {
                "system" => format!("system/{}", text("subtype")),
                other => other.to_owned(),
            }
        };
        self.events().iter().map(kind).collect()
    }

    pub fn of(&self, kind: &str) -> Vec<Value> {
        let events = self.events().into_iter().zip(self.kinds());
        events
            .filter(|(_, one)| one == kind)
            .map(|(event, _)| event)
            .collect()
    }

    pub fn results(&self) -> Vec<Value> {
        self.of("result")
    }

    /// The last result.
    pub fn result(&self) -> Value {
        let last = self.results().pop();
        last.unwrap_or_else(|| panic!("no result in {self:?}"))
    }
}

/// Whether a process lives; one that only waits to be reaped does not.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.trim_start().to_owned());
    state.is_some_and(|rest| !rest.starts_with(['Z', 'X']))
}

pub fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
}

/// Whether a process has a handler for a signal.
pub fn catches(pid: i32, signal: rustix::process::Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    mask & (1 << (signal.as_raw() - 1)) != 0
}

/// The session a process belongs to, this one's for `0`: itself 0 where the session was begun
/// outside this PID namespace, which is why getsid(2) by way of `rustix` will not do.
pub fn session_of(pid: i32) -> i32 {
    let pid = if pid == 0 {
        std::process::id()
    } else {
        pid.try_into().unwrap()
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1;
    fields.split(' ').nth(3).unwrap().parse().unwrap()
}

pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
