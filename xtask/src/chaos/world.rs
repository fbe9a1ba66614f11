//! A server and the world around it, and one cycle of its life.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use agent_tests::client::JsonClient;
use agent_tests::github::GitHub;
use agent_tests::repo::BareRepo;
use agent_tests::server::{Builder, Server};
use agent_tests::shim::Shim;
use agent_tests::small_disk::SmallDisk;
use anyhow::{Context as _, Result, bail};

use super::account::{Breach, Violation};
use super::book::{Book, Entry, Harm};
use super::clients::{self, Clients};
use super::figures::Figures;
use super::plan::{Plan, PlannedJob, REPOS, Turn};
use super::receiver::{Receiver, SECRET};
use super::story;
use crate::interrupt::Interrupt;

const TOKEN: &str = "ghp_of_the_chaos_run";
const ORG: &str = "acme";
/// Short, so that a server can be stopped for longer without much waiting.
pub(super) const LEASE_SECONDS: u64 = 5;
/// Room for everything the server writes in a world's life.
const DISK_MEBIBYTES: u32 = 320;
/// A start after which it takes longer until every job is settled is told about; it is no breach,
/// because the disk may be broken all that time, and the machine busy.
const SETTLED_WITHIN: Duration = Duration::from_secs(2);
/// How many clients there are at a time.
const CLIENTS: usize = 4;
/// Refuses a push, or keeps it waiting, while there is a file that says so.
const HOOK: &str = "#!/bin/sh
[ -e FLAG/refuse ] && exit 1
while [ -e FLAG/hang ]; do sleep 0.02; done
exit 0
";

/// What does not change as long as the world lasts; clients see it, too.
#[derive(Debug)]
pub(super) struct Shared {
    /// Where the server listens now.
    pub(super) url: RwLock<String>,
    pub(super) book: Book,
    pub(super) receiver: Receiver,
    pub(super) repos: Vec<BareRepo>,
    /// Where agents keep their account.
    pub(super) ledger: PathBuf,
}

/// A callback that an ended job is still to get.
#[derive(Debug, Clone)]
pub(super) struct Owed {
    pub(super) job: String,
    pub(super) status: String,
}

/// The server and everything around it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) server: Server,
    /// `None` where file systems cannot be mounted; then the disk is full for the shim only.
    pub(super) disk: Option<SmallDisk>,
    pub(super) shim: Shim,
    pub(super) github: GitHub,
    pub(super) shared: Arc<Shared>,
    /// Supervisors that are stopped now.
    pub(super) stopped: Vec<i32>,
    /// Workspaces that a job said it had to leave.
    pub(super) kept: Vec<PathBuf>,
    /// Runs of earlier cycles, which the account begins with.
    pub(super) runs_before: usize,
    pub(super) owed: Vec<Owed>,
    keep_going: bool,
    pub(super) interrupt: Interrupt,
}

impl World {
    /// Sets everything up and starts the server.
    pub(super) fn begin(keep_going: bool, interrupt: &Interrupt) -> Result<Self> {
        let builder = Builder::new()?;
        let dir = builder.dir().to_owned();
        let shim = Shim::install(&dir.join("shim"))?;
        let github = GitHub::start(TOKEN)?;
        let mut repos = Vec::new();
        for number in 0..REPOS {
            let repo = builder.repo(ORG, &format!("site-{number}"))?;
            let hook = repo.path().join("hooks/pre-receive");
            fs::create_dir_all(repo.path().join("hooks"))?;
            fs::write(&hook, HOOK.replace("FLAG", &dir.display().to_string()))?;
            fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
            github.add(&repo);
            repos.push(repo);
        }
        let disk = match SmallDisk::mount(&dir.join("home"), DISK_MEBIBYTES) {
            Ok(disk) => Some(disk),
            Err(error) => {
                println!("chaos: no disk of its own, so only the shim lets it be full: {error:#}");
                None
            }
        };
        let mut builder = builder
            .env("WEBHOOK_SECRET", SECRET)
            .env("GITHUB_TOKEN", TOKEN)
            .env("GITHUB_API_URL", github.url())
            .env("MAX_CONCURRENT_JOBS", "4")
            .env("SHUTDOWN_GRACE_SECONDS", "1")
            .env("LEASE_SECONDS", LEASE_SECONDS.to_string())
            .env("LOG_LEVEL", "info");
        for (name, value) in shim.environment() {
            builder = builder.env(name, value);
        }
        let server = builder.start()?;
        Ok(Self {
            shared: Arc::new(Shared {
                url: RwLock::new(server.url().to_owned()),
                book: Book::new(),
                receiver: Receiver::start()?,
                repos,
                ledger: dir.join("ledger"),
            }),
            server,
            disk,
            shim,
            github,
            stopped: Vec::new(),
            kept: Vec::new(),
            runs_before: 0,
            owed: Vec::new(),
            keep_going,
            interrupt: interrupt.clone(),
        })
    }

    /// Lives through one cycle and checks what has become of it.
    pub(super) fn cycle(&mut self, plan: &Plan, figures: &mut Figures) -> Result<()> {
        let shared = self.shared.clone();
        let jobs = plan.jobs.iter().enumerate();
        let entries: Vec<_> = jobs.map(|(n, job)| entry(plan.cycle, n, job)).collect();
        let bodies = entries.iter().map(|entry| body(&shared, entry)).collect();
        shared.book.turn_page(entries);
        let clients = Clients {
            url: &shared.url,
            book: &shared.book,
            jobs: &plan.jobs,
            bodies,
        };
        let began = Instant::now();
        thread::scope(|scope| {
            for first in 0..CLIENTS {
                let (clients, acts) = (&clients, &plan.acts);
                scope.spawn(move || clients.work(began, acts, first, CLIENTS));
            }
            self.torment(began, plan, figures)
        })?;
        let violations = self.account(figures)?;
        self.judge(&violations, figures)
    }

    fn torment(&mut self, began: Instant, plan: &Plan, figures: &mut Figures) -> Result<()> {
        let mut all = || {
            for (at, turn) in &plan.faults {
                thread::sleep(Duration::from_millis(*at).saturating_sub(began.elapsed()));
                match *turn {
                    Turn::Begin(fault) => self.strike(fault, figures)?,
                    Turn::End(fault) => self.relieve(fault, figures)?,
                }
            }
            Ok(())
        };
        let struck: Result<()> = all();
        // Clients wait for answers, so the server must run whatever has happened.
        self.heal(figures).and(struck)
    }

    /// Starts the server where it does not run. On a broken disk it may refuse to.
    pub(super) fn bring_up(&mut self, figures: &mut Figures) -> Result<()> {
        if self.server.is_running() {
            return Ok(());
        }
        if self.server.pid().is_some() {
            let said = story::last_lines(&self.server.output(), 20);
            bail!("the server ended by itself:\n{said}");
        }
        let began = Instant::now();
        if let Err(error) = self.server.start() {
            if self.shared.book.damaged().has(Harm::Disk) {
                self.server.kill().ok();
                self.shared.book.say("the server does not start now");
                return Ok(());
            }
            return Err(error);
        }
        figures.time("server started to listening", began.elapsed());
        self.watch_settling(began);
        if let Ok(mut url) = self.shared.url.write() {
            self.server.url().clone_into(&mut url);
        }
        self.shared
            .book
            .say(format!("server started as {:?}", self.server.pid()));
        Ok(())
    }

    /// Times how long a started server takes until it knows of every job it had begun.
    fn watch_settling(&self, began: Instant) {
        let shared = self.shared.clone();
        let client = JsonClient::new(self.server.url(), None);
        let logged = self.server.dir().join("server.err");
        let stops = shared.book.stops();
        // Ends with the server, or soon.
        thread::spawn(move || {
            while let Ok(reply) = client.get("/readyz") {
                if reply.json()["checks"]["settled"]["ok"] == true {
                    let took = began.elapsed();
                    // While it was stopped nothing can be said of it.
                    if shared.book.stops() != stops {
                        return;
                    }
                    if took > SETTLED_WITHIN {
                        let said = fs::read_to_string(&logged).unwrap_or_default();
                        println!("{}", story::late(&shared.book, took, &said));
                    }
                    return shared.book.settled(took);
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
    }

    /// Ends the world; what is owed must come in now.
    pub(super) fn close(mut self, figures: &mut Figures) -> Result<()> {
        let mut violations = self.collect_debts(Duration::from_secs(90));
        violations.extend(self.forgeries());
        violations.extend(self.check_database()?);
        self.judge(&violations, figures)
    }

    /// Counts violations; the first one ends the run, unless it is to go on.
    pub(super) fn judge(&mut self, violations: &[Violation], figures: &mut Figures) -> Result<()> {
        for violation in violations {
            figures.violation(violation);
            println!("\nVIOLATION {violation}");
            println!("{}", story::tell(self, violation));
        }
        if violations.is_empty() || self.keep_going {
            return Ok(());
        }
        let dir = self.server.keep();
        if self.disk.is_some() {
            // What is mounted goes when we do.
            let (from, to) = (dir.join("home"), dir.join("home.kept"));
            let copied = std::process::Command::new("cp")
                .arg("-a")
                .args([from, to])
                .status();
            copied.context("cannot copy the server's files")?;
        }
        bail!("{}; everything is in {}", violations[0], dir.display());
    }

    /// A file beside the repositories that says how they behave.
    pub(super) fn flag(&self, name: &str) -> PathBuf {
        self.server.dir().join(name)
    }

    fn forgeries(&self) -> Vec<Violation> {
        let forged = self.shared.receiver.forged();
        let violation = |what| Violation::new(Breach::CallbackForged, what);
        forged.into_iter().map(violation).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Nothing must use the disk any more when it goes.
        self.server.sweep();
        self.disk = None;
    }
}

/// A job as its client sees it before it is submitted.
pub(super) fn entry(cycle: u32, number: usize, job: &PlannedJob) -> Entry {
    Entry {
        name: format!("c{cycle}-j{number}"),
        kind: job.kind,
        repo: job.repo,
        branch: format!("c{cycle}/j{number}"),
        callback: job.callback,
        id: None,
        acknowledged: false,
        cancelled: false,
        retries: 0,
    }
}

/// What is submitted.
pub(super) fn body(shared: &Shared, entry: &Entry) -> serde_json::Value {
    let repo = &shared.repos[entry.repo];
    let prompt = entry.kind.prompt(&shared.ledger, &entry.name);
    let callback = entry.callback.then(|| shared.receiver.url());
    clients::body(
        entry.kind,
        (repo.org(), repo.name()),
        &entry.branch,
        &prompt,
        callback,
    )
}
