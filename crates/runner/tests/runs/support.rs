//! A place to run shell scripts as the agent, and to see that nothing is left of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use agent_domain::{JobId, LogLine, LogStream, RunEnd, RunOptions};
use agent_runner::{
    Ground, Ladder, Level, Limits, LogLimits, Login, Program, Project, Run, RunRequest, Runner,
    RunnerConfig, RunnerError, Sandbox,
};
use tempfile::TempDir;

/// A runner with a script for an agent, in a directory of its own.
pub(crate) struct Place {
    pub(crate) job: JobId,
    pub(crate) folder: TempDir,
    pub(crate) runner: Runner,
    pub(crate) config: RunnerConfig,
    pub(crate) options: RunOptions,
    pub(crate) prompt: Arc<str>,
}

/// An id of its own for each place: by it, what is left of a run is recognised and killed.
fn fresh_job() -> JobId {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&std::process::id().to_be_bytes());
    bytes[4..8].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    JobId::from_bytes(bytes)
}

impl Place {
    /// With the test's own short ladder.
    pub(crate) fn new(script: &str) -> Self {
        Self::with(script, |_| {})
    }

    pub(crate) fn with(script: &str, adjust: impl FnOnce(&mut RunnerConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let agent = folder.path().join("claude");
        fs::write(&agent, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("work")).unwrap();
        let mut config = RunnerConfig {
            claude: agent,
            supervisor: Program {
                path: env!("CARGO_BIN_EXE_runner-test-supervisor").into(),
                args: vec!["supervise".into()],
            },
            environment: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
            logins: Login::of_environment(),
            attempts_dir: folder.path().join("attempts"),
            defaults: RunOptions::default(),
            ladder: Ladder {
                int_to_term: Duration::from_millis(300),
                term_to_kill: Duration::from_millis(300),
                drain: Duration::from_millis(300),
                ..Ladder::default()
            },
            limits: Limits::default(),
            control_groups: true,
            sandbox: None,
            secrets: Vec::new(),
            log_limits: LogLimits::default(),
        };
        adjust(&mut config);
        Self {
            job: fresh_job(),
            folder,
            runner: Runner::new(config.clone()),
            config,
            options: RunOptions::default(),
            prompt: "do it".into(),
        }
    }

    /// With a wall around the agent.
    pub(crate) fn behind(level: Level, script: &str) -> Self {
        Self::with(script, |config| config.sandbox = Some(sandbox(level)))
    }

    /// Runs differently from now on.
    pub(crate) fn reconfigure(&mut self, adjust: impl FnOnce(&mut RunnerConfig)) {
        adjust(&mut self.config);
        self.runner = Runner::new(self.config.clone());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path("logs/job.log")
    }

    pub(crate) fn attempt(&self) -> PathBuf {
        self.config.attempts_dir.join(format!("{}.1", self.job))
    }

    pub(crate) fn request(&self) -> RunRequest {
        RunRequest {
            job: self.job,
            attempt: 1,
            prompt: self.prompt.clone(),
            cwd: self.path("work"),
            options: self.options.clone(),
            project: Project::Trusted,
            log: self.log(),
            ground: Ground::default(),
            secrets: Vec::new(),
            credential: None,
            agent_key: None,
            resume: None,
        }
    }

    pub(crate) async fn start(&self) -> Run {
        self.runner.start(self.request()).await.unwrap()
    }

    /// Runs the script to its end.
    pub(crate) async fn run(&self) -> RunEnd {
        let mut run = self.start().await;
        let end = self.wait(&mut run).await.unwrap();
        self.assert_gone();
        end
    }

    /// Waits for the end of a run, but not for ever.
    pub(crate) async fn wait(&self, run: &mut Run) -> Result<RunEnd, RunnerError> {
        tokio::time::timeout(Duration::from_mins(1), run.wait())
            .await
            .expect("the run does not end")
    }

    /// Waits until the script has made a file in its working directory.
    pub(crate) async fn made(&self, name: &str) {
        let path = self.path("work").join(name);
        until(&format!("{name} is made"), || path.exists()).await;
    }

    /// What a stream said, put together from the log; every line ends with a line feed.
    pub(crate) fn said(&self, stream: LogStream) -> Vec<u8> {
        said(&self.log(), stream)
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.said(LogStream::Stdout)).unwrap()
    }

    /// Fails if any process works in this place, was given its name, or holds a file or a control
    /// group of it, or if such a group is left.
    #[track_caller]
    pub(crate) fn assert_gone(&self) {
        let left = self.processes();
        assert!(left.is_empty(), "left behind: {left:#?}");
        let groups = self.groups();
        assert!(groups.is_empty(), "groups left behind: {groups:?}");
    }

    /// Processes that work in this place, were given its name, or hold a file or a control group
    /// of it.
    pub(crate) fn processes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().into_string().unwrap().parse::<u32>() else {
                continue;
            };
            if pid != std::process::id() && self.owns(&entry.path()) {
                let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let command = String::from_utf8_lossy(&command).replace('\0', " ");
                let stat = stat.get(..40).unwrap_or(&stat);
                found.push(format!("{pid} {command}: {stat}"));
            }
        }
        found
    }

    fn owns(&self, process: &Path) -> bool {
        let folder = self.folder.path();
        let says = |file: &str, what: &str| {
            let text = fs::read(process.join(file)).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(what)
        };
        // A child of this process that has not begun its own program holds our files for a moment.
        let program = fs::read_link(process.join("exe")).ok();
        if program == std::env::current_exe().ok() {
            return false;
        }
        let is_here = |link: &Path| fs::read_link(link).is_ok_and(|to| to.starts_with(folder));
        let files = || {
            fs::read_dir(process.join("fd"))
                .into_iter()
                .flatten()
                .flatten()
        };
        let name = folder.to_str().unwrap();
        // The kernel keeps showing a group of which only the dead are left.
        let grouped = || says("cgroup", &self.job.to_string()) && !says("stat", ") Z ");
        is_here(&process.join("cwd"))
            || says("cmdline", name)
            || says("environ", name)
            || grouped()
            || files().any(|file| is_here(&file.path()))
    }

    /// Control groups of this place's runs.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let mut next = vec![PathBuf::from("/sys/fs/cgroup")];
        let mut found = Vec::new();
        while let Some(folder) = next.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if entry
                    .file_name()
                    .to_string_lossy()
                    .contains(&self.job.to_string())
                {
                    found.push(entry.path());
                } else {
                    next.push(entry.path());
                }
            }
        }
        found
    }
}

/// A wall with nothing to hide and nothing to show.
pub(crate) fn sandbox(level: Level) -> Sandbox {
    Sandbox {
        level,
        bwrap: "bwrap".into(),
        inside: Program {
            path: env!("CARGO_BIN_EXE_runner-test-supervisor").into(),
            args: vec!["inside".into()],
        },
        hidden: Vec::new(),
        readable: Vec::new(),
        hosts: Vec::new(),
    }
}

impl Drop for Place {
    /// A failed test must not leave its processes to the next one.
    fn drop(&mut self) {
        let begun = Instant::now();
        while let left = self.processes()
            && !left.is_empty()
            && begun.elapsed() < Duration::from_secs(5)
        {
            for process in left {
                let pid = process.split(' ').next().and_then(|pid| pid.parse().ok());
                if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        for group in self.groups() {
            fs::remove_dir(group).ok();
        }
    }
}

pub(crate) fn said(log: &Path, stream: LogStream) -> Vec<u8> {
    let mut text = Vec::new();
    for entry in fs::read(log)
        .unwrap()
        .split_inclusive(|byte| *byte == b'\n')
    {
        let line = LogLine::parse(&entry[..entry.len() - 1]).expect("an entry");
        if line.stream == stream {
            text.extend_from_slice(line.text);
            if !line.partial {
                text.push(b'\n');
            }
        }
    }
    text
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
