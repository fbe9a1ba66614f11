//! The account after a cycle: every job that was promised, and everything that may be left.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent_tests::process;
use anyhow::{Context as _, Result};
use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use serde_json::Value;

use super::account::{Breach, Violation};
use super::agents::{self, Run};
use super::book::{Entry, Harm};
use super::checks::{self, Case};
use super::figures::Figures;
use super::kinds::FILE;
use super::log;
use super::world::{Owed, World};
use super::{clients, story};

/// How long jobs may take to end once nothing disturbs them any more.
const QUIET: Duration = Duration::from_secs(90);
/// How long what ends by itself may take to be gone.
const SOON: Duration = Duration::from_secs(15);
/// The same for what a broken disk may have made impossible.
const SOON_IF_AT_ALL: Duration = Duration::from_secs(3);
/// How long a job may wait to run again whose run was lost: the promise, and a little for a busy
/// machine.
const AGAIN_WITHIN: Duration = Duration::from_secs(32);

impl World {
    /// Lets everything run to quiet, and checks it.
    pub(super) fn account(&mut self, figures: &mut Figures) -> Result<Vec<Violation>> {
        let mut found: Vec<Violation> = Vec::new();
        let bad = self.shared.book.bad_answers();
        found.extend(
            bad.into_iter()
                .map(|what| Violation::new(Breach::BadAnswer, what)),
        );
        let began = Instant::now();
        let unfinished = self.wait_for_quiet();
        self.interrupt.check()?;
        figures.time("end of the faults to quiet", began.elapsed());
        for job in unfinished {
            let id = job["id"].as_str().unwrap_or_default();
            found.push(Violation::new(Breach::Stuck, job.to_string()).of(id));
        }
        if !found.is_empty() {
            return Ok(found);
        }
        self.shared.book.say("quiet");
        found.extend(self.find_unanswered()?);
        let runs = agents::read(&self.shared.ledger);
        let new_runs = runs.get(self.runs_before..).unwrap_or_default();
        found.extend(self.check_jobs(new_runs, figures)?);
        found.extend(self.check_left(figures)?);
        found.extend(self.collect_debts(Duration::ZERO));
        figures.checked("runs of agents", new_runs.len());
        found.extend(self.time_recoveries(new_runs, figures));
        for took in self.shared.book.take_settled() {
            figures.time("server started to every job settled", took);
        }
        self.runs_before = runs.len();
        if let Some(dir) = self.shared.ledger.parent() {
            forget_copies(dir, new_runs);
        }
        Ok(found)
    }

    /// Waits until every job has ended, and returns those that have not.
    fn wait_for_quiet(&self) -> Vec<Value> {
        let mut unfinished = vec![Value::Null];
        process::wait_until(QUIET, || {
            let listed = clients::client(&self.shared.url)
                .get("/jobs?status=queued,running&limit=100")
                .and_then(|reply| reply.expect(200));
            if let Ok(listed) = listed {
                unfinished = listed["jobs"].as_array().cloned().unwrap_or_default();
            }
            if unfinished.iter().any(|job| job["reason"] == "usage_limit") {
                clients::resume(&self.shared.url);
            }
            if !unfinished.is_empty() {
                std::thread::sleep(Duration::from_millis(20));
            }
            // Whoever ends us may have ended the server, too.
            unfinished.is_empty() || self.interrupt.came()
        });
        unfinished
    }

    /// Gives jobs whose answer was lost their ids, and counts: no job is there that was not asked
    /// for, none twice.
    fn find_unanswered(&self) -> Result<Vec<Violation>> {
        let mut found = Vec::new();
        let listed = self.get("/jobs?limit=500")?;
        let jobs = listed["jobs"].as_array().context("no jobs in a list")?;
        let entries = self.shared.book.entries();
        let first = entries
            .first()
            .map(|entry| entry.name.clone())
            .unwrap_or_default();
        let cycle = first.split('-').next().unwrap_or_default().to_owned();
        let mut by_root: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for job in jobs {
            let branch = job["branchName"].as_str().unwrap_or_default();
            let root = branch.split("-retry-").next().unwrap_or_default();
            if root.split('/').next() == Some(&cycle) {
                by_root.entry(root.to_owned()).or_default().push(job);
            }
        }
        for (root, jobs) in by_root {
            let of_root = |entry: &&Entry| entry.branch.split("-retry-").next() == Some(&root);
            let known: Vec<_> = entries.iter().filter(of_root).collect();
            let repeats: usize = known.iter().map(|entry| entry.retries as usize).sum();
            if jobs.len() > 1 + repeats {
                let what = format!(
                    "{} jobs of branch {root}, {repeats} repeats: {jobs:?}",
                    jobs.len()
                );
                found.push(Violation::new(Breach::Doubled, what));
            }
            for job in jobs {
                let id = job["id"].as_str().unwrap_or_default();
                if !known.iter().any(|entry| entry.id.as_deref() == Some(id)) {
                    self.adopt(&root, id, job);
                }
            }
        }
        Ok(found)
    }

    fn adopt(&self, root: &str, id: &str, job: &Value) {
        let entries = self.shared.book.entries();
        let Some(at) = entries.iter().position(|entry| entry.branch == root) else {
            return;
        };
        let name = &entries[at].name;
        self.shared
            .book
            .say(format!("{name}: found as {id}, though its answer was lost"));
        if entries[at].id.is_none() {
            self.shared
                .book
                .with(at, |entry| entry.id = Some(id.to_owned()));
            return;
        }
        self.shared.book.add(Entry {
            id: Some(id.to_owned()),
            branch: job["branchName"].as_str().unwrap_or_default().to_owned(),
            acknowledged: false,
            cancelled: false,
            retries: 0,
            ..entries[at].clone()
        });
    }

    fn check_jobs(&mut self, runs: &[Run], figures: &mut Figures) -> Result<Vec<Violation>> {
        let mut found = Vec::new();
        let damage = self.shared.book.damaged();
        for entry in self.shared.book.entries() {
            let Some(id) = entry.id.clone() else {
                figures.end("never taken in".to_owned());
                continue;
            };
            let reply = clients::client(&self.shared.url).get(&format!("/jobs/{id}"))?;
            if reply.status != 200 {
                found.push(Violation::new(Breach::Lost, reply.text()).of(&id));
                continue;
            }
            let job = reply.json();
            let of_job = |run: &&Run| run.mark.split('.').next() == Some(&id);
            let case = Case {
                entry: &entry,
                id: &id,
                job: &job,
                runs: runs.iter().filter(of_job).collect(),
                damage: &damage,
            };
            let status = job["status"].as_str().unwrap_or_default();
            let reason = job["reason"].as_str().unwrap_or_default();
            figures.end(format!("{status} {reason}").trim_end().to_owned());
            if entry.callback {
                self.owed.push(Owed {
                    job: id.clone(),
                    status: status.to_owned(),
                });
            }
            found.extend(self.check_job(&case, figures)?);
        }
        Ok(found)
    }

    fn check_job(&mut self, case: &Case<'_>, figures: &mut Figures) -> Result<Vec<Violation>> {
        let raw = clients::client(&self.shared.url).get(&format!("/jobs/{}/log", case.id))?;
        let history = self.get(&format!("/jobs/{}/history", case.id))?;
        let mut wrong: Vec<(Breach, String)> = Vec::new();
        wrong.extend(checks::runs(case));
        wrong.extend(checks::history(&history));
        wrong.extend(checks::end(case));
        wrong.extend(self.check_remote(case));
        let read = self.shared.book.read(case.id);
        figures.checked("bytes of logs", raw.body.len());
        figures.checked("bytes of logs read while they grew", read.len());
        if !raw.body.starts_with(&read) {
            let what = "what was read while it grew is not how it begins".to_owned();
            wrong.push((Breach::LogDiffers, what));
        }
        let said = log::stdout_of(case.job, &raw.body);
        // An agent that is ended before it has opened its account says a few words for the record.
        let unaccounted = case.runs.is_empty() && case.job["status"] != "completed";
        let killed = |run: &Run| {
            case.damage.supervisors.contains_key(&run.mark) || case.damage.has(Harm::Disk)
        };
        if !unaccounted {
            let compared = log::compare(&said, &case.runs, killed);
            wrong.extend(compared.err().map(|what| (Breach::LogDiffers, what)));
            wrong.extend(checks::cost(case, &said));
        }
        if story::text(&raw.body).contains("Unfinished work stays in ") {
            self.kept
                .extend(case.job["worktreePath"].as_str().map(PathBuf::from));
            figures.checked("workspaces left on purpose", 1);
        }
        let violation = |(breach, what)| Violation::new(breach, what).of(case.id);
        Ok(wrong.into_iter().map(violation).collect())
    }

    /// The branch and the pull request are there exactly when the job says so.
    fn check_remote(&self, case: &Case<'_>) -> Option<(Breach, String)> {
        let repo = &self.shared.repos[case.entry.repo];
        let branch = case.job["branchName"].as_str().unwrap_or_default();
        let there = repo.rev(branch);
        let head = case.job["headCommit"].as_str();
        let differs = |what: String| Some((Breach::RemoteDiffers, what));
        if case.job["status"] != "completed" {
            let entries = self.shared.book.entries();
            let others = entries.iter().filter(|entry| entry.branch == branch);
            if others.count() > 1 {
                // Whatever is there is the work of its repetition.
                return None;
            }
            // A push may have come through before the job was ended for another reason.
            let foreign = there.as_deref().filter(|there| Some(*there) != head)?;
            return differs(format!("{branch} is {foreign}, the job's commit {head:?}"));
        }
        if there.as_deref() != head {
            return differs(format!("{branch} is {there:?}, the job says {head:?}"));
        }
        let files = case.job["filesChanged"].as_u64().unwrap_or_default();
        let wanted = case.entry.kind.files();
        if !case.damage.has(Harm::Disk) && files != wanted {
            return differs(format!("{files} files changed instead of {wanted}"));
        }
        let name = format!("{}\n", case.entry.name).into_bytes();
        let has_file = wanted == 1 && files == 1;
        if has_file && !case.damage.has(Harm::Disk) && repo.show(branch, FILE).ok() != Some(name) {
            return differs(format!("{FILE} is not on {branch}"));
        }
        let pulls = self.pulls(repo.org(), repo.name(), branch);
        let wanted = usize::from(files > 0);
        if pulls.len() != wanted {
            return differs(format!("{} pull requests instead of {wanted}", pulls.len()));
        }
        let number = pulls.first().map(|pull| pull["number"].clone());
        let said = Some(&case.job["prNumber"]).filter(|said| !said.is_null());
        if number.as_ref() != said {
            return differs(format!("pull request {number:?}, the job says {said:?}"));
        }
        None
    }

    fn pulls(&self, org: &str, repo: &str, branch: &str) -> Vec<Value> {
        self.github.pulls_of(org, repo, branch)
    }

    /// Nothing but the server is left of anything.
    fn check_left(&mut self, figures: &mut Figures) -> Result<Vec<Violation>> {
        let mut found = self.check_processes();
        let damaged = self.shared.book.damaged().has(Harm::Disk);
        let patience = if damaged { SOON_IF_AT_ALL } else { SOON };
        process::wait_until(patience, || self.left_on_disk().is_empty());
        if !self.left_on_disk().is_empty() && damaged {
            // What could not be removed then is removed by the next look at everything, which is
            // at the next start.
            self.shared
                .book
                .say("something is left; the server is started again");
            self.server.terminate()?;
            self.bring_up(figures)?;
            process::wait_until(SOON, || self.left_on_disk().is_empty());
        }
        for (breach, path) in self.left_on_disk() {
            found.push(Violation::new(breach, path.display().to_string()));
            // Not once more in the next cycle.
            self.kept.push(path);
        }
        Ok(found)
    }

    fn check_processes(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let server = self.server.pid();
        let mut others = Vec::new();
        let alone = process::wait_until(SOON, || {
            others = process::belonging_to(self.server.dir());
            others.retain(|one| Some(one.pid) != server);
            others.is_empty()
        });
        if !alone {
            found.push(Violation::new(Breach::ProcessLeft, format!("{others:?}")));
            for one in &others {
                process::signal(one.pid, Signal::KILL);
            }
        }
        let survivors = agents::survivors(&self.shared.ledger);
        if !survivors.is_empty() {
            let what = format!("processes of agents: {survivors:?}");
            found.push(Violation::new(Breach::ProcessLeft, what));
        }
        found
    }

    /// Workspaces, directories of attempts and control groups that nobody needs any more.
    fn left_on_disk(&self) -> Vec<(Breach, PathBuf)> {
        let workspaces = self.server.workspaces().into_iter();
        let workspaces = workspaces.map(|path| (Breach::WorktreeLeft, path));
        let attempts = self.server.data_dir().join("attempts").read_dir();
        let attempts = attempts.into_iter().flatten().flatten();
        let attempts = attempts.map(|entry| (Breach::AttemptLeft, entry.path()));
        let jobs = self.shared.book.entries();
        let jobs: Vec<_> = jobs.into_iter().filter_map(|entry| entry.id).collect();
        let groups = groups_of(&jobs).into_iter();
        let groups = groups.map(|path| (Breach::GroupLeft, path));
        let mut left: Vec<_> = workspaces.chain(attempts).chain(groups).collect();
        left.retain(|(_, path)| !self.kept.contains(path));
        left
    }

    /// Callbacks that have come, and those that are still to come within `patience`.
    pub(super) fn collect_debts(&mut self, patience: Duration) -> Vec<Violation> {
        let mut found = Vec::new();
        let receiver = &self.shared.receiver;
        let open = |owed: &Owed| !receiver.of(&owed.job).iter().any(|call| call.taken);
        process::wait_until(patience, || !self.owed.iter().any(open));
        let mut still_owed = Vec::new();
        for owed in &self.owed {
            let calls = receiver.of(&owed.job);
            if let Some(other) = calls.iter().find(|call| call.id != calls[0].id) {
                let what = format!("{} and {}", calls[0].id, other.id);
                found.push(Violation::new(Breach::CallbackDoubled, what).of(&owed.job));
            }
            if let Some(other) = calls.iter().find(|call| call.status != owed.status) {
                let what = format!("{:?}, the job is {}", other, owed.status);
                found.push(Violation::new(Breach::CallbackMissing, what).of(&owed.job));
            }
            if open(owed) {
                still_owed.push(owed.clone());
            }
        }
        if !patience.is_zero() {
            for owed in &still_owed {
                let what = format!(
                    "none taken within {patience:?}: {:?}",
                    receiver.of(&owed.job)
                );
                found.push(Violation::new(Breach::CallbackMissing, what).of(&owed.job));
            }
        }
        self.owed = still_owed;
        found
    }

    /// The database is whole after all that.
    pub(super) fn check_database(&mut self) -> Result<Vec<Violation>> {
        self.server.terminate()?;
        let path = self.server.data_dir().join("agent.db");
        let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let said: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        Ok(if said == "ok" {
            Vec::new()
        } else {
            vec![Violation::new(
                Breach::Lost,
                format!("the database is broken: {said}"),
            )]
        })
    }

    /// From the death of a supervisor to the next run of its job.
    fn time_recoveries(&self, runs: &[Run], figures: &mut Figures) -> Vec<Violation> {
        let mut found = Vec::new();
        for (mark, killed) in self.shared.book.damaged().supervisors {
            let job = mark.split('.').next();
            let later = |run: &&Run| run.mark.split('.').next() == job && run.began > killed;
            if let Some(run) = runs.iter().find(later) {
                let took = u64::try_from(run.began - killed).unwrap_or(u64::MAX);
                let took = Duration::from_nanos(took);
                figures.time("supervisor killed to its job running again", took);
                if took > AGAIN_WITHIN {
                    let what = format!("{mark} was lost, {} began {took:?} later", run.mark);
                    found.push(Violation::new(Breach::RunLate, what).of(job.unwrap_or_default()));
                }
            }
        }
        found
    }

    pub(super) fn get(&self, path: &str) -> Result<Value> {
        clients::client(&self.shared.url).get(path)?.expect(200)
    }
}

/// Control groups that were made for runs of these jobs.
fn groups_of(jobs: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = dirs.pop() {
        for entry in dir.read_dir().into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if jobs.iter().any(|job| name.contains(job)) {
                found.push(entry.path());
            } else {
                dirs.push(entry.path());
            }
        }
    }
    found
}

fn forget_copies(dir: &std::path::Path, runs: &[Run]) {
    for run in runs.iter().filter(|run| run.said.starts_with(dir)) {
        std::fs::remove_file(&run.said).ok();
    }
}
