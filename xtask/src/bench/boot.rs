//! `bench boot`: how long a server takes to settle what was running when the last one died.
//!
//! The database is filled with running jobs as a crash of a large server would leave them: most had
//! not begun, some have ended since, some have lost their supervisor. The time is the server's own,
//! from the start of its process to the line of its log that says that all is settled.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use agent_tests::process::wait_until;
use anyhow::{Context, Result, ensure};
use clap::Args;
use rusqlite::{Connection, params};

use super::fill::{self, CLIENTS};
use super::series::Series;
use super::server::Server;
use super::table::Table;
use super::{print_aim, programs};

/// A server that has not settled by then never will.
const PATIENCE: Duration = Duration::from_mins(2);
/// What the server may take, in milliseconds.
const AIM: f64 = 2_000.0;
/// Of a hundred jobs, so many have ended since, and so many have lost their supervisor.
const ENDED: u32 = 7;
const LOST: u32 = 3;
/// About the size of a prompt of a page or two.
const PROMPT_BYTES: usize = 4_096;

const CLIENT: &str = "
    INSERT INTO clients (id, name, github_org, github_repo, default_branch, created_at, updated_at)
    VALUES (?1, ?2, 'bench', ?2, 'main', 0, 0)";
const JOB: &str = "
    INSERT INTO jobs (seq, id, client_id, branch, version, attempt, fence, status, phase,
        lease_until, worker, base_commit, worktree_path, created_at, started_at, updated_at)
    VALUES (?1, ?2, ?3, 'bench/' || ?1, 3, 1, 1, 'running', ?4, ?5, 'built-in',
        '0123456789012345678901234567890123456789', '/srv/worktrees/bench/app/' || ?2, ?5, ?5, ?5)";
const PROMPT: &str = "INSERT INTO job_prompts (job_seq, prompt) VALUES (?1, ?2)";
const HISTORY: &str = "
    INSERT INTO job_history (job_seq, version, at, event, status, attempt)
    VALUES (?1, ?2, ?3, ?4, 'running', 1)";
/// 2026-01-01, in microseconds.
const START: i64 = 1_767_225_600_000_000;

/// What `bench boot` is told.
#[derive(Debug, Args)]
pub(crate) struct BootBench {
    /// Running jobs in the database.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    jobs: u32,
    /// How many times it is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
}

impl BootBench {
    /// Measures and prints.
    pub(crate) fn run(&self) -> Result<()> {
        let [program] = programs::build(["agent-server"])?;
        let mut settled = Series::default();
        for _ in 0..self.rounds {
            let dir = programs::scratch(&program)?;
            settled.push(self.measure(&program, dir.path())?);
        }
        let mut table = Table::new(&["running jobs", "settled in ms", "most"]);
        let cells = [settled.median(), settled.max()].map(|time| format!("{time:.0}"));
        table.row(&self.jobs.to_string(), cells);
        table.print("From the start of the server's process until every job is settled");
        let (median, aim) = (settled.median(), AIM * f64::from(self.jobs) / 10_000.0);
        print_aim("2 s for 10,000 running jobs", median / aim, median <= aim);
        Ok(())
    }

    fn measure(&self, program: &Path, root: &Path) -> Result<f64> {
        let settings: [(&str, &OsStr); 1] = [("LOG_LEVEL", OsStr::new("info"))];
        Server::start(program, root, &settings)?.stop()?;
        self.crash(root)?;
        let log = root.join("server.log");
        fs::write(&log, "")?;
        let server = Server::start(program, root, &settings)?;
        let mut line = None;
        wait_until(PATIENCE, || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            line = text
                .lines()
                .find(|line| line.contains("settled in"))
                .map(str::to_owned);
            line.is_some()
        });
        server.stop()?;
        let line = line.context("the server does not say that it has settled")?;
        let (kept, lost) = (self.jobs / 100 * ENDED, self.jobs / 100 * LOST);
        for counted in [
            format!("held={}", self.jobs),
            format!("kept={kept}"),
            format!("lost={lost}"),
        ] {
            ensure!(line.contains(&counted), "not {counted}: {line}");
        }
        let time = line
            .split("settled in ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        Ok(time.context("no time in the line")?.parse()?)
    }

    /// Leaves a database and attempts as a crash would.
    fn crash(&self, root: &Path) -> Result<()> {
        let data = root.join("data");
        let mut conn = Connection::open(data.join("agent.db"))?;
        let transaction = conn.transaction()?;
        for number in 0..CLIENTS {
            let id = fill::id(u64::from(number) | 1 << 32);
            transaction.execute(CLIENT, params![id, format!("client{number}")])?;
        }
        let prompt = "x".repeat(PROMPT_BYTES);
        let attempt = Attempt::gone()?;
        for number in 0..self.jobs {
            let id = fill::id(number.into());
            let client = fill::id(u64::from(number % CLIENTS) | 1 << 32);
            let has_ended = number % 100 < ENDED;
            let is_lost = !has_ended && number % 100 < ENDED + LOST;
            let phase = match number % 3 {
                _ if has_ended || is_lost => "agent",
                0 => "fetching",
                1 => "preparing",
                _ => "agent",
            };
            let at = START + i64::from(number);
            transaction
                .prepare_cached(JOB)?
                .execute(params![number + 1, id, client, phase, at])?;
            transaction
                .prepare_cached(PROMPT)?
                .execute(params![number + 1, prompt])?;
            for (version, event) in (0..).zip(["created", "claimed", phase]) {
                transaction.prepare_cached(HISTORY)?.execute(params![
                    number + 1,
                    version,
                    at,
                    event
                ])?;
            }
            if has_ended || is_lost {
                attempt.leave(&data.join(format!("attempts/{id}.1")), has_ended)?;
            }
        }
        fill::recount(&transaction)?;
        transaction.commit()?;
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

/// What is left of the attempts: the files a supervisor has written before it was killed.
struct Attempt {
    supervisor: String,
}

impl Attempt {
    /// A supervisor of this start of the machine that lives no more.
    fn gone() -> Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let mut child = Command::new("true").spawn()?;
        let pid = child.id();
        child.wait()?;
        let process = format!(r#"{{"pid":{pid},"started":1}}"#);
        let supervisor = format!(
            r#"{{"supervisor":{process},"boot":"{}","agent":{process},"mark":"none","strays":[]}}"#,
            boot.trim()
        );
        Ok(Self { supervisor })
    }

    fn leave(&self, dir: &Path, has_ended: bool) -> Result<()> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("lock"), "")?;
        fs::write(dir.join("supervisor.json"), &self.supervisor)?;
        if has_ended {
            let exit = r#"{"end":{"stop":null,"exit_code":1,"spawn_error":null,
                "summary":{"session_id":null,"model":null,"cli_version":null,
                "assistant_error":null,"limit_resets_at":null,"result":null},
                "stderr_tail":""},"log_length":0}"#;
            fs::write(dir.join("exit.json"), exit)?;
        }
        Ok(())
    }
}
