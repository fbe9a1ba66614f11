//! A directory with a repository, a worker, and a shell script for an agent.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent_domain::{
    Assignment, Clock, Facts, Fence, Ids, JobId, JobSecrets, Lease, LeaseTerms, RepoSlug,
    RunOptions, SecretKinds, Timestamp, WorkerId,
};
use agent_forge::Forge;
use agent_git::{Git, GitConfig, Identity};
use agent_runner::{Ladder, Limits, LogLimits, Login, Program, Runner, RunnerConfig};
use agent_worker::{Worker, WorkerConfig, WorkerParts};
use tempfile::TempDir;

use crate::coordinator::Played;

static COUNT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

struct Counted(AtomicU64);

impl Ids for Counted {
    fn fresh(&self) -> [u8; 16] {
        let next = self.0.fetch_add(1, Ordering::Relaxed);
        u128::from(next).to_be_bytes()
    }
}

pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) coordinator: Arc<Played>,
    pub(crate) runner: Arc<Runner>,
    pub(crate) terms: LeaseTerms,
    git: Git,
    number: u32,
}

impl Place {
    /// Its agent runs `script`, in which `$T` is the directory of the place.
    pub(crate) fn new(script: &str, lease: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        make_repository(&path("remote"), &path("seed"));
        let agent = path("claude");
        // The worker also asks it who it is.
        let asked = "case \"$1\" in --version|auth) exit 0;; esac";
        let text = format!(
            "#!/bin/sh\n{asked}\nT={}\n{script}\n",
            folder.path().display()
        );
        fs::write(&agent, text).unwrap();
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
        let env = vec![
            ("PATH".into(), std::env::var_os("PATH").unwrap()),
            ("HOME".into(), folder.path().into()),
            ("GIT_CONFIG_NOSYSTEM".into(), "1".into()),
        ];
        let git = Git::new(GitConfig {
            repos_dir: path("repos"),
            worktrees_dir: path("worktrees"),
            remote_base: format!("{}/", path("remote").display()),
            env: env.clone(),
            token: None,
            identity: Some(Identity {
                name: "Test".into(),
                email: "test@example.com".into(),
            }),
            timeout: Duration::from_mins(1),
        });
        let runner = Runner::new(RunnerConfig {
            claude: agent,
            supervisor: Program {
                path: env!("CARGO_BIN_EXE_worker-test-supervisor").into(),
                args: vec!["supervise".into()],
            },
            environment: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
            logins: Login::of_environment(),
            attempts_dir: path("attempts"),
            defaults: RunOptions::default(),
            ladder: Ladder::default(),
            limits: Limits::default(),
            control_groups: false,
            sandbox: None,
            secrets: Vec::new(),
            log_limits: LogLimits::default(),
        });
        Self {
            folder,
            coordinator: Arc::default(),
            runner: Arc::new(runner),
            terms: LeaseTerms::new(lease),
            git: git.unwrap(),
            number: COUNT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The job with this number. Every place has ids of its own: by them, what is left of a run
    /// is recognised and killed.
    pub(crate) fn job(&self, number: u8) -> JobId {
        let mut bytes = [9; 16];
        bytes[..4].copy_from_slice(&std::process::id().to_be_bytes());
        bytes[4..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[15] = number;
        JobId::from_bytes(bytes)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn worker(&self, slots: usize) -> Worker {
        Worker::start(WorkerParts {
            config: WorkerConfig {
                id: WorkerId("test".into()),
                slots,
                parks: true,
            },
            coordinator: Arc::<Played>::clone(&self.coordinator),
            git: self.git.clone(),
            forge: Arc::new(Forge::Plain),
            runner: Arc::clone(&self.runner),
            clock: Arc::new(SystemClock),
            ids: Arc::new(Counted(1.into())),
        })
    }

    /// Attempt `attempt` of the job with this number, on a branch of its own.
    pub(crate) fn assignment(&self, number: u8, attempt: u32) -> Assignment {
        let job = self.job(number);
        Assignment {
            lease: Lease {
                job,
                attempt,
                fence: Fence(attempt.into()),
                terms: self.terms,
            },
            repo: RepoSlug::new("acme", "site").unwrap(),
            default_branch: "main".parse().unwrap(),
            base: "main".parse().unwrap(),
            branch: format!("job-{number}").parse().unwrap(),
            prompt: format!("do {number}").into(),
            title: None,
            os_feature_id: None,
            options: RunOptions::default(),
            trusted: true,
            credential: None,
            brought: SecretKinds::default(),
            secrets: JobSecrets::default(),
            facts: Facts::default(),
            continues: None,
            session: self.path(&format!("logs/{job}/session.jsonl")),
            resume: None,
            resume_from: None,
            log: self.path(&format!("logs/{job}/{attempt}.log")),
        }
    }

    pub(crate) fn workspace(&self, number: u8) -> PathBuf {
        self.path("worktrees/acme/site")
            .join(self.job(number).to_string())
    }

    pub(crate) fn attempt_dir(&self, number: u8, attempt: u32) -> PathBuf {
        let name = format!("{}.{attempt}", self.job(number));
        self.path("attempts").join(name)
    }

    /// Processes that work somewhere in the place: the supervisors and all they have started.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let place = self.folder.path();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &i32| {
            let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
            cwd.is_ok_and(|cwd| cwd.starts_with(place))
        })
        .collect()
    }

    /// What git says in the mirror.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        run_git(&self.path("repos/acme/site.git"), args)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for pid in left {
                signal(pid, rustix::process::Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub(crate) fn signal(pid: i32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        rustix::process::kill_process(pid, signal).ok();
    }
}

/// Waits until something holds; fails after a minute.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_mins(1), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn make_repository(remote: &Path, seed: &Path) {
    let bare = remote.join("acme/site.git");
    fs::create_dir_all(&bare).unwrap();
    fs::create_dir_all(seed).unwrap();
    run_git(&bare, &["init", "-q", "--bare", "-b", "main"]);
    run_git(seed, &["init", "-q", "-b", "main"]);
    fs::write(seed.join("a.txt"), "a\n").unwrap();
    run_git(seed, &["add", "."]);
    run_git(seed, &["commit", "-q", "-m", "first"]);
    run_git(seed, &["push", "-q", bare.to_str().unwrap(), "main"]);
}

fn run_git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
        .args(args)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
