//! `bench job`: what the server adds to the commands that a job needs anyway.
//!
//! A job's time goes from sending `POST /jobs` to the answer of a `GET /jobs/:id` that says
//! `completed`, as a client sees it that asks every 2 ms on one connection. So up to 2 ms, and the
//! cost of answering, are charged to the job. The log's own times say where the rest goes.
//!
//! Two servers take turns with the script, one without a wall around the agent, as the script, and
//! one with: its workspaces have git directories of their own.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use agent_domain::{LogLine, LogStream, Timestamp};
use agent_tests::repo::{self, BareRepo};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::course::Course;
use super::floor::{Floor, files_changed};
use super::http::{Connection, Request};
use super::series::Series;
use super::server::{self, Server};
use super::table::Table;
use super::{print_aim, programs};

/// How often a job's state is asked for.
const POLL: Duration = Duration::from_millis(2);
/// A job that has not ended by then never will.
const PATIENCE: Duration = Duration::from_mins(1);
/// Rounds whose times do not count: caches fill, the mirror gets its first branches.
const WARM_UP: u32 = 5;
/// Between two measurements, for what either side still does after its end.
const SETTLE: Duration = Duration::from_millis(50);
/// A job takes at most this many times as long as the script.
const AIM: f64 = 1.3;

/// What `bench job` is told.
#[derive(Debug, Args)]
pub(crate) struct JobBench {
    /// How many times each side is measured.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pairs: u32,
    /// The agent changes one file, so that there is something to commit.
    #[arg(long)]
    edit: bool,
    /// So many small files more in the repository.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    files: u32,
}

/// The levels of the sandbox that are compared.
const SANDBOXES: [&str; 2] = ["off", "workspace"];

/// Times in milliseconds.
#[derive(Debug, Default)]
struct Times {
    /// At each level of the sandbox.
    jobs: [JobTimes; SANDBOXES.len()],
    script: Series,
    script_course: Course,
}

#[derive(Debug, Default)]
struct JobTimes {
    seen: Series,
    own: Series,
    ratio: Series,
    course: Course,
}

impl JobBench {
    /// Measures and prints.
    pub(crate) fn run(&self) -> Result<()> {
        let [program, claude] = programs::build(["agent-server", "fake-claude"])?;
        let dir = programs::scratch(&program)?;
        let start = |sandbox| {
            let mut side =
                JobSide::start(&program, &claude, &dir.path().join(sandbox), sandbox, self)?;
            side.run(0, &mut Course::default())?;
            anyhow::Ok(side)
        };
        let mut sides = [start(SANDBOXES[0])?, start(SANDBOXES[1])?];
        let floor_root = dir.path().join("floor");
        server::prepare_home(&floor_root)?;
        let prompt = prompt(self.edit);
        let floor = Floor::prepare(&floor_root, &sides[0].mirror(), &claude, &prompt)?;
        add_files(&floor.remote(), self.files)?;
        let times = self.measure(&mut sides, &floor)?;
        for side in sides {
            self.check_work(&side, &floor)?;
            side.server.stop()?;
        }
        self.print(&times);
        Ok(())
    }

    /// One after the other, so that whatever the machine does meanwhile meets both sides.
    fn measure(&self, sides: &mut [JobSide; 2], floor: &Floor) -> Result<Times> {
        let mut times = Times::default();
        for number in 1..=WARM_UP + self.pairs {
            if number == WARM_UP + 1 {
                times = Times::default();
            }
            let script = floor.run(number, &mut times.script_course)?;
            times.script.push(script);
            thread::sleep(SETTLE);
            for (side, times) in sides.iter_mut().zip(&mut times.jobs) {
                let (job, own) = side.run(number, &mut times.course)?;
                times.seen.push(job);
                times.own.push(own);
                times.ratio.push(job / script);
                thread::sleep(SETTLE);
            }
        }
        Ok(times)
    }

    /// Both sides must have done the same, or their times say nothing.
    fn check_work(&self, side: &JobSide, floor: &Floor) -> Result<()> {
        let number = WARM_UP + self.pairs;
        let job = files_changed(&side.remote, &format!("bench/{number}"))?;
        let script = floor.files_changed(number)?;
        let expected = usize::from(self.edit);
        ensure!(
            job == expected,
            "the job changed {job} files, not {expected}"
        );
        ensure!(
            script == expected,
            "the script changed {script} files, not {expected}"
        );
        Ok(())
    }

    fn print(&self, times: &Times) {
        let what = if self.edit {
            "one file changed"
        } else {
            "nothing changed"
        };
        let mut table = Table::new(&["ms", "min", "median", "max"]);
        let cells = |series: &Series, digits| {
            [series.min(), series.median(), series.max()].map(|value| format!("{value:.digits$}"))
        };
        table.row("script", cells(&times.script, 1));
        for (sandbox, job) in SANDBOXES.iter().zip(&times.jobs) {
            let name = |what| format!("sandbox {sandbox}: {what}");
            table.row(&name("job, POST to completed"), cells(&job.seen, 1));
            table.row(&name("by its own times"), cells(&job.own, 0));
            table.row(&name("job / script, per pair"), cells(&job.ratio, 2));
        }
        table.print(&format!(
            "A job with {what}, {} files more, {} turns",
            self.files, self.pairs
        ));
        times
            .script_course
            .print("The script, medians of its steps");
        for (sandbox, job) in SANDBOXES.iter().zip(&times.jobs) {
            job.course.print(&format!(
                "The job, sandbox {sandbox}, medians of its history and its log"
            ));
            let ratio = job.seen.median() / times.script.median();
            print_aim(
                &format!("job / script, sandbox {sandbox}, ratio of medians, at most 1.3"),
                ratio,
                ratio <= AIM,
            );
        }
    }
}

/// What the fake claude is told: as little as it can do and still succeed.
fn prompt(edit: bool) -> String {
    let work = if edit {
        "append README.md One more line.\n"
    } else {
        ""
    };
    format!("A job of the bench.\n```fake\n{work}result ok Done.\n```\n")
}

/// Commits small files to `main` of a bare repository, the same ones each time.
fn add_files(remote: &Path, count: u32) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let mut importing = repo::command(remote)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut stream = BufWriter::new(importing.stdin.take().context("no way into git")?);
    write!(
        stream,
        "commit refs/heads/main\ncommitter Bench <bench@example.com> 1767323045 +0000\n\
         data 4\nMore\nfrom refs/heads/main^0\n"
    )?;
    for number in 0..count {
        let text = format!("File number {number}.\n").repeat(20);
        let (dir, length) = (number / 100, text.len());
        write!(
            stream,
            "M 100644 inline more/{dir}/{number}.txt\ndata {length}\n{text}\n"
        )?;
    }
    stream.flush()?;
    drop(stream);
    let status = importing.wait()?;
    ensure!(status.success(), "git fast-import ended with {status}");
    Ok(())
}

/// A server with one repository.
struct JobSide {
    server: Server,
    connection: Connection,
    remote: PathBuf,
    prompt: String,
}

impl JobSide {
    fn start(
        program: &Path,
        claude: &Path,
        root: &Path,
        sandbox: &str,
        bench: &JobBench,
    ) -> Result<Self> {
        server::prepare_home(root)?;
        let remote = BareRepo::create(&root.join("remote"), "acme", "app")?;
        add_files(remote.path(), bench.files)?;
        let settings: [(&str, &OsStr); 2] = [
            ("CLAUDE_BIN", claude.as_os_str()),
            ("SANDBOX", sandbox.as_ref()),
        ];
        let server = Server::start(program, root, &settings)?;
        let connection = server.connect()?;
        Ok(Self {
            server,
            connection,
            remote: remote.path().to_owned(),
            prompt: prompt(bench.edit),
        })
    }

    fn mirror(&self) -> PathBuf {
        self.server.root().join("repos/acme/app.git")
    }

    /// Runs one job; returns its time as seen from here and by its own record, in milliseconds.
    fn run(&mut self, number: u32, course: &mut Course) -> Result<(f64, f64)> {
        let body = json!({
            "githubOrg": "acme",
            "githubRepo": "app",
            "prompt": self.prompt,
            "branchName": format!("bench/{number}"),
        });
        let post = Request::post("/jobs", &body);
        let began = Instant::now();
        let created = self.connection.json(&post)?;
        let id = created["id"]
            .as_str()
            .context("a job without id")?
            .to_owned();
        let get = Request::get(format!("/jobs/{id}"));
        let job = loop {
            let job = self.connection.json(&get)?;
            match job["status"].as_str() {
                Some("completed") => break job,
                Some("queued" | "running") if began.elapsed() < PATIENCE => thread::sleep(POLL),
                _ => bail!("a job that does not complete: {job}"),
            }
        };
        let seen = began.elapsed().as_secs_f64() * 1e3;
        let start = time(&job["createdAt"])?;
        self.note_course(&id, start, course)?;
        Ok((seen, millis(time(&job["completedAt"])?, start)))
    }

    fn note_course(&mut self, id: &str, start: Timestamp, course: &mut Course) -> Result<()> {
        let history = self
            .connection
            .json(&Request::get(format!("/jobs/{id}/history")))?;
        for entry in history["history"].as_array().into_iter().flatten() {
            let event = entry["event"].as_str().unwrap_or("?");
            course.note(
                &format!("history: {event}"),
                millis(time(&entry["at"])?, start),
            );
        }
        let log = fs::read(self.server.root().join(format!("data/logs/{id}/1.log")))?;
        for (name, at) in moments(&log) {
            course.note(&name, millis(at, start));
        }
        Ok(())
    }
}

/// What a log says when: each line of the server's, and the agent's first and last line.
fn moments(log: &[u8]) -> Vec<(String, Timestamp)> {
    let lines: Vec<_> = log
        .split(|byte| *byte == b'\n')
        .filter_map(LogLine::parse)
        .collect();
    let ours = |line: &&LogLine<'_>| line.stream == LogStream::System;
    let named = |line: &LogLine<'_>| {
        let text = String::from_utf8_lossy(line.text);
        let word = text.split(' ').next().unwrap_or_default().to_owned();
        (format!("log: {word}"), line.at)
    };
    let mut moments: Vec<_> = lines.iter().filter(ours).map(named).collect();
    let mut theirs = lines.iter().filter(|line| !ours(line));
    let first = theirs
        .next()
        .map(|line| ("log: agent's first line".to_owned(), line.at));
    let last = theirs
        .next_back()
        .map(|line| ("log: agent's last line".to_owned(), line.at));
    moments.extend(first.into_iter().chain(last));
    moments
}

fn time(value: &Value) -> Result<Timestamp> {
    Ok(value.as_str().context("a time that is none")?.parse()?)
}

fn millis(at: Timestamp, start: Timestamp) -> f64 {
    at.duration_since(start).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tells_when_the_server_spoke_and_when_the_agent_began_and_ended() {
        let log = b"2026-01-01T00:00:00Z system F Fetching acme/app\n\
            2026-01-01T00:00:01Z stdout F {}\n2026-01-01T00:00:02Z stderr F x\n\
            2026-01-01T00:00:03Z stdout F {}\n2026-01-01T00:00:04Z system F Pushed x\ntorn";
        let start = "2026-01-01T00:00:00Z".parse().unwrap();
        let found: Vec<_> = moments(log)
            .into_iter()
            .map(|(name, at)| (name, millis(at, start)))
            .collect();
        let expected = [
            ("log: Fetching", 0.0),
            ("log: Pushed", 4000.0),
            ("log: agent's first line", 1000.0),
            ("log: agent's last line", 3000.0),
        ];
        assert_eq!(found, expected.map(|(name, at)| (name.to_owned(), at)));
    }
}
