//! From rows to the domain's types and back: the only place that knows how each is stored.

use std::ffi::OsString;
use std::fmt::Display;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use agent_domain::{
    Client, Facts, Fence, Job, JobId, JobSpec, JsonText, PaidBy, Phase, Place, Priority,
    PullRequest, Reason, RepoSlug, RunOptions, SecretKinds, State, Status, Timestamp, Usd,
    WorkerId,
};
use rusqlite::Row;
use rusqlite::types::{FromSql, Value};

pub(crate) use crate::cells::{Cell, int, micros, option, owned, text, whole, whole_option};
use crate::cells::{duration, path};
use crate::continued::continued;
use crate::json_lists::{denied, denied_cell, lost_runs, lost_runs_cell};
use crate::options::Stored;
use crate::resume::{resume, resume_cell};
use crate::{JobSummary, JobWithClient, StoreError};

/// Columns of [`client`].
macro_rules! client_columns {
    () => {
        "c.id, c.os_client_id, c.name, c.github_org, c.github_repo, c.default_branch, \
         c.model, c.permission_mode, c.timeout_us, c.idle_timeout_us, c.options, \
         c.trusted, c.priority, c.max_concurrent, c.cap_daily_nanos, \
         c.cap_monthly_nanos, c.created_at, c.updated_at"
    };
}
/// Columns of [`summary`].
macro_rules! summary_columns {
    () => {
        "j.id, j.client_id, c.name, j.status, j.phase, j.reason, j.not_before, j.branch, \
         j.title, j.os_feature_id, j.priority, j.started_at, j.created_at, j.ended_at"
    };
}
/// Columns of [`job`], those of `job_options` among them; in place of the prompt something shorter
/// may stand.
macro_rules! job_columns {
    () => {
        $crate::rows::job_columns!("p.prompt")
    };
    ($prompt:literal) => {
        concat!(
            "j.id, j.client_id, ",
            $prompt,
            ", j.branch, j.title, j.os_feature_id, j.callback_url, \
             j.wanted_model, j.permission_mode, j.timeout_us, j.idle_timeout_us, o.options, \
             j.own_agent_key, j.own_git_token, \
             (SELECT group_concat(d.on_id) FROM job_dependencies d WHERE d.job_seq = j.seq), \
             j.retry_of, j.priority, \
             j.version, j.attempt, j.fence, j.worker, j.lost_runs, j.resume, \
             j.credential, j.credential_epoch, \
             (SELECT s.continued FROM job_continued s WHERE s.job_seq = j.seq), \
             j.status, j.not_before, j.reason, j.phase, j.lease_until, j.cancel_requested_at, \
             j.ended_at, j.error, \
             j.base_commit, j.head_commit, j.saved_ref, j.worktree_path, j.exit_code, \
             j.pr_number, j.pr_url, j.files_changed, j.session_id, j.model, j.cli_version, \
             j.num_turns, j.spent_nanos, j.allotted_nanos, j.denied, j.output, j.phase_detail, j.created_at, j.started_at, j.updated_at"
        )
    };
}
pub(crate) use {client_columns, job_columns, summary_columns};

/// Reads the columns of a row one after the other.
pub(crate) struct Columns<'r, 's> {
    row: &'r Row<'s>,
    next: usize,
}

impl<'r, 's> Columns<'r, 's> {
    pub(crate) const fn of(row: &'r Row<'s>) -> Self {
        Self { row, next: 0 }
    }

    pub(crate) fn take<T: FromSql>(&mut self) -> Result<T, StoreError> {
        let value = self.row.get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// Says that the column just taken holds something impossible.
    pub(crate) fn corrupt(&self, error: &dyn Display) -> StoreError {
        let index = self.next.saturating_sub(1);
        let name = self.row.as_ref().column_name(index).unwrap_or("?");
        StoreError::Corrupt(format!("column {name}: {error}"))
    }

    /// Two columns: organisation and name.
    pub(crate) fn repo(&mut self) -> Result<RepoSlug, StoreError> {
        let (org, repo): (String, String) = (self.take()?, self.take()?);
        RepoSlug::new(&org, &repo).map_err(|error| self.corrupt(&error))
    }

    pub(crate) fn parsed<T: FromStr<Err: Display>>(&mut self) -> Result<T, StoreError> {
        let text: String = self.take()?;
        text.parse().map_err(|error| self.corrupt(&error))
    }

    pub(crate) fn parsed_option<T: FromStr<Err: Display>>(
        &mut self,
    ) -> Result<Option<T>, StoreError> {
        let Some(text) = self.take::<Option<String>>()? else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|error| self.corrupt(&error))
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, StoreError> {
        let at = self.take()?;
        time(at).map_err(|error| self.corrupt(&error))
    }

    pub(crate) fn time_option(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let at: Option<i64> = self.take()?;
        at.map(time)
            .transpose()
            .map_err(|error| self.corrupt(&error))
    }

    pub(crate) fn whole<T: TryFrom<i64, Error: Display>>(&mut self) -> Result<T, StoreError> {
        let number: i64 = self.take()?;
        T::try_from(number).map_err(|error| self.corrupt(&error))
    }

    pub(crate) fn whole_option<T: TryFrom<i64, Error: Display>>(
        &mut self,
    ) -> Result<Option<T>, StoreError> {
        let number: Option<i64> = self.take()?;
        number
            .map(T::try_from)
            .transpose()
            .map_err(|error| self.corrupt(&error))
    }

    pub(crate) fn priority(&mut self) -> Result<Priority, StoreError> {
        self.whole()
    }

    fn duration_option(&mut self) -> Result<Option<Duration>, StoreError> {
        Ok(self.whole_option()?.map(Duration::from_micros))
    }

    fn path_option(&mut self) -> Result<Option<PathBuf>, StoreError> {
        match self.take()? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text.into())),
            Value::Blob(bytes) => Ok(Some(OsString::from_vec(bytes).into())),
            Value::Integer(_) | Value::Real(_) => Err(self.corrupt(&"not a path")),
        }
    }

    /// What a state of the given kind cannot be without.
    fn required<T>(value: Option<T>, what: &str) -> Result<T, StoreError> {
        value.ok_or_else(|| StoreError::Corrupt(format!("a job without {what}")))
    }
}

pub(crate) fn time(micros: i64) -> Result<Timestamp, String> {
    Timestamp::from_microsecond(micros).map_err(|error| error.to_string())
}

/// Reads `client_columns!`.
pub(crate) fn client(columns: &mut Columns<'_, '_>) -> Result<Client, StoreError> {
    Ok(Client {
        id: columns.parsed()?,
        os_client_id: columns.take()?,
        name: columns.take()?,
        repo: columns.repo()?,
        default_branch: columns.parsed()?,
        options: options(columns)?.options,
        trusted: columns.take()?,
        priority: columns.priority()?,
        max_concurrent: columns.whole_option()?,
        caps: crate::clients::caps(columns)?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
    })
}

/// Reads `summary_columns!`.
pub(crate) fn summary(row: &Row<'_>) -> Result<JobSummary, StoreError> {
    let mut columns = Columns::of(row);
    Ok(JobSummary {
        id: columns.parsed()?,
        client_id: columns.parsed()?,
        client_name: columns.take()?,
        status: columns.parsed()?,
        phase: columns.parsed_option()?,
        reason: columns.parsed_option()?,
        not_before: columns.time_option()?,
        branch: columns.take()?,
        title: columns.take()?,
        os_feature_id: columns.take()?,
        priority: columns.priority()?,
        started_at: columns.time_option()?,
        created_at: columns.time()?,
        completed_at: columns.time_option()?,
    })
}

/// Reads `job_columns!`, then `client_columns!`.
pub(crate) fn job_with_client(row: &Row<'_>) -> Result<JobWithClient, StoreError> {
    let mut columns = Columns::of(row);
    Ok(JobWithClient {
        job: job(&mut columns)?,
        client: client(&mut columns)?,
    })
}

/// Reads `job_columns!`.
pub(crate) fn job(columns: &mut Columns<'_, '_>) -> Result<Job, StoreError> {
    Ok(Job {
        id: columns.parsed()?,
        client_id: columns.parsed()?,
        spec: spec(columns)?,
        retry_of: columns.parsed_option()?,
        priority: columns.priority()?,
        version: columns.whole()?,
        attempt: columns.whole()?,
        fence: Fence(columns.whole()?),
        worker: columns.take::<Option<Arc<str>>>()?.map(WorkerId),
        lost_runs: lost_runs(columns)?,
        resume: resume(columns)?,
        paid_by: paid_by(columns)?,
        continues: continued(columns)?,
        state: state(columns)?,
        facts: facts(columns)?,
        created_at: columns.time()?,
        started_at: columns.time_option()?,
        updated_at: columns.time()?,
    })
}

fn paid_by(columns: &mut Columns<'_, '_>) -> Result<Option<PaidBy>, StoreError> {
    let (name, epoch) = (columns.parsed_option()?, columns.whole_option()?);
    Ok(name.zip(epoch).map(|(name, epoch)| PaidBy { name, epoch }))
}

fn spec(columns: &mut Columns<'_, '_>) -> Result<JobSpec, StoreError> {
    let prompt = columns.take::<Arc<str>>()?;
    let branch = columns.parsed()?;
    let title = columns.take()?;
    let os_feature_id = columns.take()?;
    let callback_url = columns.parsed_option()?;
    let Stored {
        options,
        base,
        metadata,
    } = options(columns)?;
    Ok(JobSpec {
        prompt,
        branch,
        title,
        os_feature_id,
        callback_url,
        base,
        metadata,
        options,
        secrets: SecretKinds {
            agent: columns.take()?,
            git: columns.take()?,
        },
        depends_on: depends_on(columns)?,
    })
}

fn options(columns: &mut Columns<'_, '_>) -> Result<Stored, StoreError> {
    let in_columns = RunOptions {
        model: columns.take()?,
        permission_mode: columns.parsed_option()?,
        timeout: columns.duration_option()?,
        idle_timeout: columns.duration_option()?,
        ..RunOptions::default()
    };
    let rest: Option<String> = columns.take()?;
    crate::options::with(in_columns, rest.as_deref()).map_err(|error| columns.corrupt(&error))
}

fn depends_on(columns: &mut Columns<'_, '_>) -> Result<Vec<JobId>, StoreError> {
    let ids: Option<String> = columns.take()?;
    let ids = ids.iter().flat_map(|ids| ids.split(','));
    let ids: Result<Vec<JobId>, _> = ids.map(str::parse).collect();
    let mut ids = ids.map_err(|error| columns.corrupt(&error))?;
    ids.sort_unstable();
    Ok(ids)
}

fn state(columns: &mut Columns<'_, '_>) -> Result<State, StoreError> {
    let status: Status = columns.parsed()?;
    let not_before = columns.time_option()?;
    let reason: Option<Reason> = columns.parsed_option()?;
    let phase: Option<Phase> = columns.parsed_option()?;
    let lease_until = columns.time_option()?;
    let cancel_requested_at = columns.time_option()?;
    let ended_at = columns.time_option()?;
    let error: Option<String> = columns.take()?;
    Ok(match status {
        Status::Queued => State::Queued { not_before, reason },
        Status::Running => State::Running {
            phase: Columns::required(phase, "a phase")?,
            lease_until: Columns::required(lease_until, "a lease")?,
            cancel_requested_at,
        },
        Status::Completed => State::Completed {
            at: Columns::required(ended_at, "an end")?,
        },
        Status::Failed => State::Failed {
            at: Columns::required(ended_at, "an end")?,
            reason: Columns::required(reason, "a reason")?,
            error: Columns::required(error, "an error")?,
        },
        Status::Cancelled => State::Cancelled {
            at: Columns::required(ended_at, "an end")?,
            requested_at: Columns::required(cancel_requested_at, "a request")?,
        },
    })
}

fn facts(columns: &mut Columns<'_, '_>) -> Result<Facts, StoreError> {
    Ok(Facts {
        base_commit: columns.parsed_option()?,
        head_commit: columns.parsed_option()?,
        saved_ref: columns.take()?,
        worktree_path: columns.path_option()?,
        exit_code: columns.whole_option()?,
        pull_request: {
            let number = columns.whole_option()?;
            let url: Option<String> = columns.take()?;
            number
                .zip(url)
                .map(|(number, url)| PullRequest { number, url })
        },
        files_changed: columns.whole_option()?,
        session_id: columns.take()?,
        model: columns.take()?,
        cli_version: columns.take()?,
        num_turns: columns.whole_option()?,
        usage: None,
        news: None,
        cost: columns.whole_option()?.map(Usd::from_nanos),
        allotted: columns.whole_option()?.map(Usd::from_nanos),
        denied: denied(columns)?,
        output: columns.take::<Option<Arc<str>>>()?.map(JsonText::new),
        phase_detail: columns.take()?,
    })
}

/// How many values [`changing`] gives.
pub(crate) const CHANGING: usize = 37;
/// Which of them is what the change books; it gives none.
pub(crate) const BOOKED: usize = 24;

/// The values of a job that change, in the order of the statements in `jobs.rs`.
pub(crate) fn changing(job: &Job) -> Result<[Cell<'_>; CHANGING], StoreError> {
    let facts = &job.facts;
    let pull_request = facts.pull_request.as_ref();
    let (lease_until, cancel_requested_at) = running_times(&job.state);
    Ok([
        whole(job.version)?,
        int(i64::from(job.attempt)),
        whole(job.fence.0)?,
        text(job.state.status().as_str()),
        option(place(job), |place| int(place.get())),
        option(not_before(&job.state), |at| int(micros(at))),
        option(job.state.reason(), |reason| text(reason.code())),
        option(phase(&job.state), |phase| text(phase.as_str())),
        option(lease_until, |at| int(micros(at))),
        option(cancel_requested_at, |at| int(micros(at))),
        option(job.state.ended_at(), |at| int(micros(at))),
        option(error(&job.state), text),
        option(facts.base_commit.as_ref(), |id| text(id.as_str())),
        option(facts.head_commit.as_ref(), |id| text(id.as_str())),
        option(facts.saved_ref.as_deref(), text),
        option(facts.worktree_path.as_deref(), path),
        option(facts.exit_code, |code| int(i64::from(code))),
        whole_option(pull_request.map(|pull| pull.number))?,
        option(pull_request, |pull| text(&pull.url)),
        whole_option(facts.files_changed)?,
        option(facts.session_id.as_deref(), text),
        option(facts.model.as_deref(), text),
        option(facts.cli_version.as_deref(), text),
        whole_option(facts.num_turns)?,
        // Only the ledger changes it.
        Cell::Owned(Value::Null),
        option(job.started_at, |at| int(micros(at))),
        int(micros(job.updated_at)),
        option(job.worker.as_ref(), |worker| text(&worker.0)),
        lost_runs_cell(&job.lost_runs)?,
        whole_option(facts.allotted.map(Usd::nanos))?,
        option(facts.phase_detail.as_deref(), text),
        denied_cell(&facts.denied)?,
        resume_cell(job.resume.as_ref())?,
        int(i64::from(job.priority.get())),
        option(facts.output.as_ref(), |output| text(output.as_str())),
        option(job.paid_by.as_ref(), |paid_by| text(paid_by.name.as_str())),
        whole_option(job.paid_by.as_ref().map(|paid_by| paid_by.epoch))?,
    ])
}

/// How many values [`fixed`] gives.
pub(crate) const FIXED: usize = 14;

/// The values of a job that never change, without the prompt, in the order of `jobs.rs`.
pub(crate) fn fixed(job: &Job) -> [Cell<'_>; FIXED] {
    let spec = &job.spec;
    let [model, permission_mode, timeout, idle_timeout] = option_cells(&spec.options);
    [
        owned(&job.id),
        owned(&job.client_id),
        text(spec.branch.as_str()),
        option(spec.title.as_deref(), text),
        option(spec.os_feature_id.as_deref(), text),
        option(spec.callback_url.as_ref(), |url| text(url.as_str())),
        model,
        permission_mode,
        timeout,
        idle_timeout,
        int(i64::from(spec.secrets.agent)),
        int(i64::from(spec.secrets.git)),
        option(job.retry_of.as_ref(), owned),
        int(micros(job.created_at)),
    ]
}

/// The options of a run that have columns, in the order in which [`options`] reads them.
pub(crate) fn option_cells(options: &RunOptions) -> [Cell<'_>; 4] {
    [
        option(options.model.as_deref(), text),
        option(options.permission_mode, |mode| text(mode.as_str())),
        option(options.timeout, |time| int(duration(time))),
        option(options.idle_timeout, |time| int(duration(time))),
    ]
}

/// What the counters distinguish: the column of this name, for a job that is stored now.
pub(crate) fn bucket(job: &Job) -> &'static str {
    match job.state.status() {
        Status::Queued if is_ready(job) => "ready",
        Status::Queued => "parked",
        other => other.as_str(),
    }
}

/// Where the job stands in its client's line, if it can be claimed as of its last change.
pub(crate) fn place(job: &Job) -> Option<Place> {
    is_ready(job).then(|| line_place(job.created_at, job.priority, job.state.reason()))
}

/// Where a job stands in its client's line once it can be claimed.
pub(crate) fn line_place(accepted: Timestamp, priority: Priority, reason: Option<Reason>) -> Place {
    Place::new(accepted, priority, reason == Some(Reason::Lost))
}

fn is_ready(job: &Job) -> bool {
    job.state.status() == Status::Queued
        && !job.state.waits_for_others()
        && not_before(&job.state).is_none_or(|at| micros(at) <= micros(job.updated_at))
}

const fn not_before(state: &State) -> Option<Timestamp> {
    match state {
        State::Queued { not_before, .. } => *not_before,
        _ => None,
    }
}

const fn phase(state: &State) -> Option<Phase> {
    match state {
        State::Running { phase, .. } => Some(*phase),
        _ => None,
    }
}

fn error(state: &State) -> Option<&str> {
    match state {
        State::Failed { error, .. } => Some(error),
        _ => None,
    }
}

/// When the lease runs out, and when the cancellation was asked for.
const fn running_times(state: &State) -> (Option<Timestamp>, Option<Timestamp>) {
    match state {
        State::Running {
            lease_until,
            cancel_requested_at,
            ..
        } => (Some(*lease_until), *cancel_requested_at),
        State::Cancelled { requested_at, .. } => (None, Some(*requested_at)),
        _ => (None, None),
    }
}
