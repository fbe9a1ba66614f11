//! The line of ready jobs: who becomes ready when, and who is taken first.
//!
//! A parked job whose time has come is promoted: it gets its place in its client's line, and from then
//! on it is found, counted and claimed as any ready job. Its content stays as it is, so a change
//! somebody has in hand for it still fits.

use std::collections::HashMap;

use agent_domain::{Allotted, ClientId, CredentialState, Job, Spending, State, Timestamp};
use rusqlite::{Connection, params};

use crate::lanes::{InLine, Next};
use crate::rows::{self, Columns, micros};
use crate::tally::{Tally, counted};
use crate::{
    Change, Decision, JobWithClient, Standing, Store, StoreError, credentials, jobs, lanes, purse,
    sql,
};

/// How many jobs one claim passes over at most, for a bound on how long it holds up other writes.
const PASSED_OVER_MAX: usize = 1_000;

pub(crate) const DUE: &str = "
    SELECT seq, client_id, created_at, priority, reason FROM jobs INDEXED BY jobs_parked
    WHERE status = 'queued' AND ready_seq IS NULL AND not_before <= ?1
        AND reason IS NOT 'waiting_for_jobs' ORDER BY not_before";

pub(crate) const MISDATED: &str = "
    SELECT seq, client_id, created_at, priority, reason FROM jobs INDEXED BY jobs_parked
    WHERE status = 'queued' AND ready_seq IS NULL AND not_before > ?1 AND reason = 'lost'";

pub(crate) const PROMOTE: &str = "UPDATE jobs SET ready_seq = ?2 WHERE seq = ?1";

pub(crate) const NEXT_NOT_BEFORE: &str = "
    SELECT not_before FROM jobs INDEXED BY jobs_parked
    WHERE status = 'queued' AND ready_seq IS NULL AND not_before > ?1
        AND reason IS NOT 'waiting_for_jobs'
    ORDER BY not_before LIMIT 1";

/// Whether it may begin is asked again, since what may be spent has changed.
pub(crate) const RELEASE_UNPAID: &str = "
    UPDATE jobs INDEXED BY jobs_parked SET not_before = min(not_before, ?1)
    WHERE status = 'queued' AND ready_seq IS NULL AND reason = 'budget'";

pub(crate) const RELEASE_UNPAID_OF: &str = "
    UPDATE jobs INDEXED BY jobs_client_status SET not_before = min(not_before, ?1)
    WHERE client_id = ?2 AND status = 'queued' AND ready_seq IS NULL AND reason = 'budget'";

/// Whether they may begin is asked again. A change that somebody has in hand for one of them must not
/// undo that, so the version counts it.
pub(crate) const RELEASE_UNPOWERED: &str = "
    UPDATE jobs INDEXED BY jobs_parked SET not_before = ?1, version = version + 1
    WHERE status = 'queued' AND ready_seq IS NULL AND coalesce(not_before > ?1, 1)
        AND reason IN ('usage_limit', 'auth', 'billing') AND own_agent_key = 0";

impl Store {
    /// Takes up to `limit` ready jobs in order, as of `now`: of each client no more than may run at
    /// once, and no client's turn before another's. See [`agent_domain::Tag`].
    ///
    /// `decide` is asked for the change of each; a job it returns none for is passed over and
    /// stays where it is. It runs in the writer thread, so it must be quick and must not wait.
    pub async fn claim(
        &self,
        limit: u32,
        now: Timestamp,
        mut decide: impl FnMut(&Job) -> Option<Change> + Send + 'static,
    ) -> Result<Vec<JobWithClient>, StoreError> {
        let decide = move |ready: &JobWithClient, _: Standing<'_>| {
            let change = decide(&ready.job).map(Box::new);
            change.map_or(Decision::Pass, Decision::Change)
        };
        self.claim_within(limit, now, Spending::default(), decide)
            .await
    }

    /// As [`Store::claim`], and tells `decide` what the job can count on, by its client's settings and
    /// the server's. What it changes without making it run is returned as well, and not
    /// counted.
    pub async fn claim_within(
        &self,
        limit: u32,
        now: Timestamp,
        settings: Spending,
        decide: impl FnMut(&JobWithClient, Standing<'_>) -> Decision + Send + 'static,
    ) -> Result<Vec<JobWithClient>, StoreError> {
        let claim = move |conn: &Connection| {
            counted(conn, |tally| {
                claim(conn, limit, now, settings, decide, tally)
            })
        };
        self.write(claim).await
    }

    /// Lets every job that waits for money be looked at again: the caps may be others.
    pub async fn release_unpaid(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |conn| sql::run(conn, RELEASE_UNPAID, [micros(now)]).map(drop))
            .await
    }

    /// Makes parked jobs ready whose time has come, and says how many. [`Store::claim`] and
    /// [`Store::create_job`] do so too; without any of them such a job is still counted as parked.
    pub async fn promote(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write(move |conn| counted(conn, |tally| promote(conn, now, tally)))
            .await
    }

    /// Makes jobs ready that wait after a lost run, and until later than `latest`, which is when
    /// they could wait until at most had the clock not been set back.
    pub async fn promote_misdated(&self, latest: Timestamp) -> Result<u64, StoreError> {
        let promote = move |conn: &Connection| {
            counted(conn, |tally| promote_each(conn, MISDATED, latest, tally))
        };
        self.write(promote).await
    }

    /// The time at which the first parked job becomes ready.
    pub async fn next_not_before(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|conn| {
            sql::one(conn, NEXT_NOT_BEFORE, [i64::MIN], |row| {
                Columns::of(row).time()
            })
        })
        .await
    }
}

/// The jobs that were passed over, and where to go on behind them.
#[derive(Default)]
struct Passed {
    jobs: usize,
    /// By client: behind which place to look.
    lines: HashMap<String, InLine>,
}

/// What is asked about each job, and what has come of it.
struct Asking<D> {
    now: Timestamp,
    settings: Spending,
    decide: D,
    /// How the credentials stand.
    credentials: Vec<CredentialState>,
    /// How many more may be taken.
    free: usize,
    /// What was changed, taken or not.
    changed: Vec<JobWithClient>,
}

/// What came of asking about a job.
#[derive(PartialEq, Eq)]
enum Answer {
    /// It runs.
    Taken,
    /// It has left the line without.
    Left,
    /// It stays where it is.
    Passed,
    /// So do all others of its client: what they may spend is reserved, or their credentials are in
    /// use.
    AllPassed,
}

fn claim(
    conn: &Connection,
    limit: u32,
    now: Timestamp,
    settings: Spending,
    decide: impl FnMut(&JobWithClient, Standing<'_>) -> Decision,
    tally: &mut Tally,
) -> Result<Vec<JobWithClient>, StoreError> {
    promote(conn, now, tally)?;
    let mut asking = Asking {
        now,
        settings,
        decide,
        credentials: credentials::states(conn)?,
        free: usize::try_from(limit).unwrap_or(usize::MAX),
        changed: Vec::new(),
    };
    let mut passed = Passed::default();
    while asking.free > 0 && passed.jobs < PASSED_OVER_MAX {
        // Whose turn it is follows from what has been taken.
        tally.write(conn)?;
        if !claim_one(conn, &mut asking, &mut passed, tally)? {
            break;
        }
        asking.free -= 1;
    }
    Ok(asking.changed)
}

/// Takes the first job that may run, of the first client that has one; returns whether there was one.
fn claim_one(
    conn: &Connection,
    asking: &mut Asking<impl FnMut(&JobWithClient, Standing<'_>) -> Decision>,
    passed: &mut Passed,
    tally: &mut Tally,
) -> Result<bool, StoreError> {
    let mut lane = lanes::next_open(conn, None)?;
    while let Some(open) = lane {
        let mut after = passed.lines.get(&open.client).copied().unwrap_or((0, 0));
        while passed.jobs < PASSED_OVER_MAX
            && let Some(next) = lanes::next_in_line(conn, &open.client, after)?
        {
            let answer = ask(conn, &next, asking, tally)?;
            if answer == Answer::Taken {
                lanes::take_turn(conn, &open, next.at)?;
                return Ok(true);
            }
            passed.jobs += 1;
            if answer == Answer::AllPassed {
                break;
            }
            after = next.at;
            passed.lines.insert(open.client.clone(), after);
        }
        lane = lanes::next_open(conn, Some(&open))?;
    }
    Ok(false)
}

fn ask(
    conn: &Connection,
    next: &Next,
    asking: &mut Asking<impl FnMut(&JobWithClient, Standing<'_>) -> Decision>,
    tally: &mut Tally,
) -> Result<Answer, StoreError> {
    let Some(ready) = jobs::find(conn, next.id)? else {
        return Ok(Answer::Passed);
    };
    let allotted = purse::allotted(conn, &ready, asking.settings, asking.free, asking.now)?;
    if allotted == Allotted::Later {
        return Ok(Answer::AllPassed);
    }
    let standing = Standing {
        allotted,
        credentials: &asking.credentials,
    };
    match (asking.decide)(&ready, standing) {
        Decision::PassClient => Ok(Answer::AllPassed),
        Decision::Change(change)
            if change.job.id == ready.job.id && jobs::commit(conn, &change, tally)? =>
        {
            let runs = matches!(change.job.state, State::Running { .. });
            if let Some(paid_by) = change.job.paid_by.as_ref().filter(|_| runs) {
                let mut all = asking.credentials.iter_mut();
                let used = all.find(|state| state.name == paid_by.name);
                if let Some(state) = used {
                    state.running += 1;
                }
            }
            asking.changed.push(JobWithClient {
                job: change.job,
                client: ready.client,
            });
            Ok(if runs { Answer::Taken } else { Answer::Left })
        }
        Decision::Change(_) | Decision::Pass => Ok(Answer::Passed),
    }
}

/// As [`Store::release_unpaid`], for the jobs of one client.
pub(crate) fn release_unpaid_of(
    conn: &Connection,
    client: ClientId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let params = params![micros(now), client.to_string()];
    sql::run(conn, RELEASE_UNPAID_OF, params).map(drop)
}

/// Lets every job that waits for a credential be looked at again.
pub(crate) fn release_unpowered(conn: &Connection, now: Timestamp) -> Result<(), StoreError> {
    sql::run(conn, RELEASE_UNPOWERED, [micros(now)]).map(drop)
}

pub(crate) fn promote(
    conn: &Connection,
    now: Timestamp,
    tally: &mut Tally,
) -> Result<u64, StoreError> {
    promote_each(conn, DUE, now, tally)
}

fn promote_each(
    conn: &Connection,
    found_by: &'static str,
    at: Timestamp,
    tally: &mut Tally,
) -> Result<u64, StoreError> {
    let due = sql::all(conn, found_by, [micros(at)], |row| {
        let mut columns = Columns::of(row);
        let (seq, client): (i64, String) = (columns.take()?, columns.take()?);
        let (accepted, priority) = (columns.time()?, columns.priority()?);
        let place = rows::line_place(accepted, priority, columns.parsed_option()?);
        Ok((seq, client, place))
    })?;
    let mut promoted = 0;
    for (seq, client, place) in due {
        sql::run(conn, PROMOTE, params![seq, place.get()])?;
        tally.left(&client, "parked");
        tally.came(&client, "ready");
        promoted += 1;
    }
    Ok(promoted)
}
