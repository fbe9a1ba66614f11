//! Jobs that go on in the session of an ended one: what they go on from, as JSON, and which of one
//! session is unfinished.

use agent_domain::{Continued, Job, JobId, PullRequest};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use crate::rows::Columns;
use crate::{Store, StoreError, sql};

pub(crate) const INSERT: &str =
    "INSERT INTO job_continued (job_seq, root, continued) VALUES (?1, ?2, ?3)";

/// The jobs that go on in a session, the last one first, beside the first job of it.
pub(crate) const OF_SESSION: &str = "
    SELECT j.id FROM job_continued c INDEXED BY job_continued_root
    CROSS JOIN jobs j ON j.seq = c.job_seq
    WHERE c.root = ?1 ORDER BY c.job_seq DESC LIMIT 100";

pub(crate) const UNFINISHED: &str = "
    SELECT j.id FROM job_continued c INDEXED BY job_continued_root
    CROSS JOIN jobs j ON j.seq = c.job_seq
    WHERE c.root = ?1 AND j.ended_at IS NULL LIMIT 1";

/// As it is stored.
#[derive(Serialize, Deserialize)]
struct Form {
    root: String,
    job: String,
    session: String,
    base: String,
    head: Option<String>,
    pushed: Option<String>,
    saved: Option<String>,
    pull: Option<(u64, String)>,
    told: Option<String>,
}

impl Store {
    /// The jobs that go on in the session that `root` began, the last one first, at most 100.
    pub async fn jobs_of_session(&self, root: JobId) -> Result<Vec<JobId>, StoreError> {
        self.read(move |conn| {
            let id = |row: &Row<'_>| Columns::of(row).parsed();
            sql::all(conn, OF_SESSION, [root.to_string()], id)
        })
        .await
    }
}

/// Notes what a new job goes on from; refused while another one of the session is unfinished.
pub(crate) fn insert(conn: &Connection, seq: i64, job: &Job) -> Result<(), StoreError> {
    let Some(continued) = &job.continues else {
        return Ok(());
    };
    let root = continued.root.to_string();
    let form = serde_json::to_string(&form(continued));
    let form = form.map_err(|error| StoreError::Internal(error.to_string()))?;
    sql::run(conn, INSERT, params![seq, root, form]).map(drop)
}

/// The unfinished job of the session that a new job is to go on in.
pub(crate) fn holder(conn: &Connection, job: &Job) -> Result<Option<JobId>, StoreError> {
    let Some(continued) = &job.continues else {
        return Ok(None);
    };
    sql::one(conn, UNFINISHED, [continued.root.to_string()], |row| {
        Columns::of(row).parsed()
    })
}

/// Reads the column.
pub(crate) fn continued(columns: &mut Columns<'_, '_>) -> Result<Option<Continued>, StoreError> {
    let Some(text) = columns.take::<Option<String>>()? else {
        return Ok(None);
    };
    let form: Form = serde_json::from_str(&text).map_err(|error| columns.corrupt(&error))?;
    parsed(form)
        .map(Some)
        .map_err(|error| columns.corrupt(&error))
}

fn form(continued: &Continued) -> Form {
    let text = |id: &agent_domain::CommitId| id.to_string();
    let pull = continued.pull_request.as_ref();
    Form {
        root: continued.root.to_string(),
        job: continued.job.to_string(),
        session: continued.session_id.clone(),
        base: continued.base.to_string(),
        head: continued.head.as_ref().map(text),
        pushed: continued.pushed.as_ref().map(text),
        saved: continued.saved_ref.clone(),
        pull: pull.map(|pull| (pull.number, pull.url.clone())),
        told: continued.told.clone(),
    }
}

fn parsed(form: Form) -> Result<Continued, String> {
    fn read<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
        text.parse().map_err(|error: T::Err| error.to_string())
    }
    let commit = |text: Option<String>| text.as_deref().map(read).transpose();
    Ok(Continued {
        root: read(&form.root)?,
        job: read(&form.job)?,
        session_id: form.session,
        base: read(&form.base)?,
        head: commit(form.head)?,
        pushed: commit(form.pushed)?,
        saved_ref: form.saved,
        pull_request: form.pull.map(|(number, url)| PullRequest { number, url }),
        told: form.told,
    })
}
