//! `bench api`: requests a second and latencies, with few and with many jobs in the database.
//!
//! Two servers run side by side, one with 100 jobs and one with many, and are measured in turns,
//! so that whatever the machine does meanwhile meets both. In each the only slot is held by an
//! agent that never ends, so every other unfinished job stays queued.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use agent_tests::repo::BareRepo;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::baseline::{Baseline, Crowd, Rows};
use super::fill::{self, Filled};
use super::http::{Connection, Request};
use super::load::{Load, Outcome};
use super::series::Series;
use super::server::{self, Server, TOKEN};
use super::table::Table;
use super::{long_answer, print_aim, programs};

/// Jobs in the small database.
const FEW: u32 = 100;
/// Queued jobs among them, in both: what `GET /queue` shows, beside the one that runs.
const QUEUED: u32 = 19;
const CONNECTIONS: [usize; 3] = [1, 8, 64];
/// Turns of each server at each measurement.
const ROUNDS: usize = 3;
/// Bounds of one turn.
const READ_TIME: Duration = Duration::from_millis(400);
const POST_TIME: Duration = Duration::from_secs(1);
const COMMIT_TIME: Duration = Duration::from_millis(500);
const MOST: u64 = 50_000;
/// A job that does not start by then never will.
const PATIENCE: Duration = Duration::from_secs(30);
/// POST at 64 connections, against one commit for each request.
const POST_AIM: f64 = 5.0;
/// Any read with many jobs, against the same read with few.
const READ_AIM: f64 = 1.5;

/// Stands in for the CLI: says its version, and otherwise does nothing for half an hour.
const IDLE_CLAUDE: &str = "#!/bin/sh
case $1 in
    --version) echo '2.1.0 (Claude Code)' ;;
    auth) echo '{\"loggedIn\": true}' ;;
    *) exec sleep 1800 ;;
esac
";

/// What `bench api` is told.
#[derive(Debug, Args)]
pub(crate) struct ApiBench {
    /// How many jobs the large database holds.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    jobs: u32,
    /// Measures durable POSTs only.
    #[arg(long)]
    posts_only: bool,
}

impl ApiBench {
    /// Measures and prints.
    pub(crate) fn run(&self) -> Result<()> {
        let [program] = programs::build(["agent-server"])?;
        let dir = programs::scratch(&program)?;
        let claude = dir.path().join("claude");
        fs::write(&claude, IDLE_CLAUDE)?;
        fs::set_permissions(&claude, fs::Permissions::from_mode(0o755))?;
        let start = |name, jobs, prepare: Prepare| {
            Side::start(&program, &claude, &dir.path().join(name), jobs, prepare)
        };
        let sides = [
            start("few", FEW, |_, _| Ok(()))?,
            start("many", self.jobs, long_answer::write_log)?,
        ];
        let (ratio, name) = if self.posts_only {
            (f64::NAN, String::new())
        } else {
            self.reads(&sides)?
        };
        let factor = self.posts(&sides, dir.path())?;
        print_aim(
            "POST at 64 connections / 64 writers that commit a job's rows a request, at least 5",
            factor,
            factor >= POST_AIM,
        );
        if !self.posts_only {
            long_answer::run(&sides[1].server, &sides[1].filled.unsealed)?;
            let aim = format!(
                "slowest read ({name}), {} / {FEW} jobs, medians, at most 1.5",
                self.jobs
            );
            print_aim(&aim, ratio, ratio <= READ_AIM);
        }
        for side in sides {
            side.server.stop()?;
        }
        Ok(())
    }

    /// Measures every read; returns the worst ratio and its name.
    fn reads(&self, sides: &[Side; 2]) -> Result<(f64, String)> {
        let mut table = self.table("many/few");
        let mut slowest = (0.0, String::new());
        for (name, request) in READS {
            for connections in CONNECTIONS {
                let load = Load {
                    connections,
                    time: READ_TIME,
                    most: MOST,
                };
                let outcomes = in_turns(sides, |side| side.load(load, request))?;
                let ratio = outcomes[1].micros.median() / outcomes[0].micros.median();
                if ratio > slowest.0 {
                    slowest = (ratio, format!("{name} at {connections}"));
                }
                add_row(&mut table, name, connections, &outcomes, ratio);
            }
        }
        table.print("Reads; processor time of the server for each, and latencies, in microseconds");
        Ok(slowest)
    }

    /// Measures durable POSTs, each turn right after the disk's commits, which vary more than
    /// anything else; returns how many times these the POSTs are at the most connections.
    fn posts(&self, sides: &[Side; 2], dir: &Path) -> Result<f64> {
        let mut table = self.table("many/few");
        let mut floor = Table::new(&["rows", "conn", "min", "median", "max", "POST / commits"]);
        let mut one_row = Baseline::open(&dir.join("one.db"), Rows::One, prompt())?;
        let mut job_rows = Baseline::open(&dir.join("job.db"), Rows::Job, prompt())?;
        let mut crowd = Crowd::open(&dir.join("crowd.db"), Rows::Job, prompt())?;
        let mut light_crowd = Crowd::open(&dir.join("light.db"), Rows::One, prompt())?;
        let mut factor = f64::NAN;
        for connections in CONNECTIONS {
            let load = Load {
                connections,
                time: POST_TIME,
                most: MOST,
            };
            let mut against: [Against; 4] = Default::default();
            let outcomes = in_turns(sides, |side| {
                let commits = [
                    crowd.commits_a_second(connections, COMMIT_TIME)?,
                    light_crowd.commits_a_second(connections, COMMIT_TIME)?,
                    job_rows.commits_a_second(COMMIT_TIME)?,
                    one_row.commits_a_second(COMMIT_TIME)?,
                ];
                let outcome = side.load(load, Side::post)?;
                for (one, rate) in against.iter_mut().zip(commits) {
                    one.push(rate, &outcome);
                }
                Ok(outcome)
            })?;
            let ratio = outcomes[1].micros.median() / outcomes[0].micros.median();
            add_row(&mut table, "POST /jobs", connections, &outcomes, ratio);
            for (name, one) in COMMITS.iter().zip(&against) {
                floor.row(name, one.cells(connections));
            }
            factor = against[0].factors.median();
        }
        table.print(
            "Durable writes; processor time of the server for each, and latencies, in microseconds",
        );
        floor.print("One commit a request, same disk, without HTTP; commits a second");
        Ok(factor)
    }

    fn table(&self, ratio: &str) -> Table {
        let many = self.jobs;
        let (few_rate, many_rate) = (format!("{FEW}: req/s"), format!("{many}: req/s"));
        Table::new(&[
            "", "conn", &few_rate, "cpu", "p50", "p99", &many_rate, "cpu", "p50", "p99", ratio,
        ])
    }
}

/// POSTs beside the commits measured right before each turn.
#[derive(Debug, Default)]
struct Against {
    commits: Series,
    factors: Series,
}

impl Against {
    fn push(&mut self, commits: f64, posts: &Outcome) {
        self.commits.push(commits);
        self.factors.push(posts.rate.median() / commits);
    }

    fn cells(&self, connections: usize) -> [String; 5] {
        let commits = &self.commits;
        let [min, median, max] =
            [commits.min(), commits.median(), commits.max()].map(|rate| format!("{rate:.0}"));
        [
            connections.to_string(),
            min,
            median,
            max,
            format!("{:.2}", self.factors.median()),
        ]
    }
}

fn add_row(table: &mut Table, name: &str, connections: usize, outcomes: &[Outcome; 2], ratio: f64) {
    let cells = outcomes.iter().flat_map(|outcome| {
        let micros = &outcome.micros;
        [
            outcome.rate.median(),
            outcome.cpu.median(),
            micros.median(),
            micros.p99(),
        ]
        .map(|value| format!("{value:.0}"))
    });
    let cells = std::iter::once(connections.to_string()).chain(cells);
    table.row(name, cells.chain([format!("{ratio:.2}")]));
}

/// Measures both sides one after the other, several times.
fn in_turns(
    sides: &[Side; 2],
    mut measure: impl FnMut(&Side) -> Result<Outcome>,
) -> Result<[Outcome; 2]> {
    let mut outcomes = [Outcome::default(), Outcome::default()];
    for _ in 0..ROUNDS {
        for (side, outcome) in sides.iter().zip(&mut outcomes) {
            outcome.append(measure(side)?);
        }
    }
    Ok(outcomes)
}

/// What commits are measured beside POSTs; the first is what a server with a commit for each
/// request would have to do.
const COMMITS: [&str; 4] = [
    "a job's rows, as many writers",
    "one row, as many writers",
    "a job's rows, one writer",
    "one row, one writer",
];

/// Adds to a data directory what belongs to the job whose log is not sealed, before the server
/// that will seal it is started.
type Prepare = fn(&Path, &str) -> Result<()>;

type MakeRequest = fn(&Side, u64) -> Request;

/// Every read, with the same number of rows in its answer whatever the size of the database.
const READS: [(&str, MakeRequest); 9] = [
    ("GET /jobs/:id", |side, number| {
        Request::get(format!("/jobs/{}", side.job(number)))
    }),
    ("GET /jobs/:id/history", |side, number| {
        Request::get(format!("/jobs/{}/history", side.job(number)))
    }),
    ("GET /jobs", |_, _| Request::get("/jobs")),
    ("GET /jobs?status=failed", |_, _| {
        Request::get("/jobs?status=failed&limit=10")
    }),
    ("GET /jobs?status=..&clientId=..", |side, number| {
        let client = side.client(number);
        Request::get(format!(
            "/jobs?status=completed,failed&clientId={client}&limit=10"
        ))
    }),
    ("GET /queue", |_, _| Request::get("/queue")),
    ("GET /health", |_, _| Request::get("/health")),
    ("GET /clients", |_, _| Request::get("/clients")),
    ("GET /clients/:id", |side, number| {
        Request::get(format!("/clients/{}", side.client(number)))
    }),
];

/// About as long as what people ask for.
fn prompt() -> String {
    "Read the open issue, find its cause, and mend it with a test. ".repeat(4)
}

/// A server with its database.
struct Side {
    server: Server,
    filled: Filled,
    /// The client whose mirror is there.
    client: String,
    /// Makes branch names unique.
    branches: AtomicU64,
}

impl Side {
    fn start(
        program: &Path,
        claude: &Path,
        root: &Path,
        jobs: u32,
        prepare: Prepare,
    ) -> Result<Self> {
        server::prepare_home(root)?;
        BareRepo::create(&root.join("remote"), "acme", "app")?;
        let settings = [
            ("CLAUDE_BIN", claude.as_os_str()),
            ("MAX_CONCURRENT_JOBS", "1".as_ref()),
            ("JOB_IDLE_TIMEOUT_SECONDS", "3600".as_ref()),
        ];
        // Once to create the database, so that its rows can be written.
        Server::start(program, root, &settings)?.stop()?;
        let filled = fill::fill(&root.join("data/agent.db"), jobs - QUEUED - 1, &prompt())?;
        prepare(&root.join("data"), &filled.unsealed)?;
        let server = Server::start(program, root, &settings)?;
        let mut side = Self {
            server,
            filled,
            client: String::new(),
            branches: AtomicU64::new(0),
        };
        side.hold_slot()?;
        Ok(side)
    }

    /// Lets the first job run for ever, and queues some behind it.
    fn hold_slot(&mut self) -> Result<()> {
        let mut connection = self.server.connect()?;
        let body = json!({
            "githubOrg": "acme", "githubRepo": "app", "prompt": prompt(), "branchName": "bench/held",
        });
        let created = connection.json(&Request::post("/jobs", &body))?;
        let text = |name: &str| {
            created[name]
                .as_str()
                .map(str::to_owned)
                .context("a job without ids")
        };
        self.client = text("clientId")?;
        wait_for_agent(&mut connection, &text("id")?)?;
        for number in 0..QUEUED {
            connection.ask(&self.post(number.into()))?;
        }
        Ok(())
    }

    fn load(&self, load: Load, request: MakeRequest) -> Result<Outcome> {
        let before = self.server.cpu()?;
        let mut outcome = load.run(self.server.address(), TOKEN, &|number| {
            request(self, number)
        })?;
        let took = self.server.cpu()?.saturating_sub(before);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a count of requests is far below 2^52"
        )]
        let requests = outcome.micros.len() as f64;
        outcome.cpu.push(took.as_secs_f64() * 1e6 / requests);
        Ok(outcome)
    }

    fn post(&self, _number: u64) -> Request {
        let number = self.branches.fetch_add(1, Ordering::Relaxed);
        let body = json!({
            "clientId": self.client, "prompt": prompt(), "branchName": format!("bench/{number}"),
        });
        Request::post("/jobs", &body)
    }

    fn job(&self, number: u64) -> &str {
        &self.filled.jobs[fill::scattered(number, self.filled.jobs.len())]
    }

    fn client(&self, number: u64) -> &str {
        &self.filled.clients[fill::scattered(number, self.filled.clients.len())]
    }
}

fn wait_for_agent(connection: &mut Connection, job: &str) -> Result<()> {
    let began = Instant::now();
    let request = Request::get(format!("/jobs/{job}"));
    loop {
        let found: Value = connection.json(&request)?;
        if found["phase"] == "agent" {
            return Ok(());
        }
        if began.elapsed() > PATIENCE || found["completedAt"].is_string() {
            bail!("the job that is to hold the slot does not run: {found}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}
