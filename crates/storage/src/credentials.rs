//! How each credential stands, and the jobs that wait for one.

use agent_domain::{
    CredentialName, CredentialNews, CredentialState, LimitWindow, Limited, PaidBy, Reason, Stopped,
    Timestamp,
};
use rusqlite::{Connection, Row, params};

use crate::rows::{Columns, micros, time};
use crate::{KnownCredential, Store, StoreError, claim, sql};

pub(crate) const ALL: &str = "
    SELECT name, epoch, stopped_at, stopped_reason, stopped_error, limits, windows
    FROM credentials ORDER BY name";

pub(crate) const ONE: &str = "
    SELECT name, epoch, stopped_at, stopped_reason, stopped_error, limits, windows
    FROM credentials WHERE name = ?1";

/// Of each running job the credential it runs on.
pub(crate) const IN_USE: &str =
    "SELECT credential FROM jobs INDEXED BY jobs_status WHERE status = 'running'";

pub(crate) const KNOWN: &str =
    "SELECT name, fingerprint, setup FROM credentials WHERE setup IS NOT NULL ORDER BY name";

pub(crate) const FINGERPRINT: &str = "SELECT fingerprint FROM credentials WHERE name = ?1";

pub(crate) const FORGET: &str = "UPDATE credentials SET setup = NULL";

pub(crate) const INSERT: &str = "
    INSERT INTO credentials (name, epoch, logged_out, fingerprint, setup) VALUES (?1, 0, 0, ?2, ?3)
    ON CONFLICT (name) DO UPDATE SET fingerprint = excluded.fingerprint, setup = excluded.setup";

pub(crate) const TOLD: &str = "UPDATE credentials SET limits = ?2, windows = ?3 WHERE name = ?1";

pub(crate) const STOP: &str = "
    UPDATE credentials SET stopped_at = ?2, stopped_reason = ?3, stopped_error = ?4
    WHERE name = ?1 AND stopped_at IS NULL";

pub(crate) const LOGGED_OUT: &str = "UPDATE credentials SET logged_out = 1 WHERE name = ?1";

pub(crate) const RESUME: &str = "
    UPDATE credentials
    SET epoch = epoch + 1, stopped_at = NULL, stopped_reason = NULL, stopped_error = NULL,
        logged_out = 0, limits = NULL
    WHERE name = ?1";

pub(crate) const LOGGED_IN: &str = "SELECT 1 FROM credentials WHERE name = ?1 AND logged_out = 1";

/// What the CLI says of a login that is not there.
const NOBODY: &str = "nobody is logged in";

impl Store {
    /// How every credential stands that was ever known, by name.
    pub async fn credentials(&self) -> Result<Vec<CredentialState>, StoreError> {
        self.read(|conn| sql::snapshot(conn, states)).await
    }

    /// Takes note of the credentials there are. One whose secret is another than before is as good as
    /// new. Where anything has changed, every job that waits for one is looked at again.
    pub async fn know_credentials(
        &self,
        known: Vec<KnownCredential>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |conn| know(conn, known, now)).await
    }

    /// Lets every job that waits for a credential be looked at again.
    pub async fn release_unpowered(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |conn| claim::release_unpowered(conn, now))
            .await
    }

    /// Somebody has seen to a credential: neither stop nor limit holds any longer. Returns whether there
    /// is one of that name.
    pub async fn resume_credential(
        &self,
        name: CredentialName,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |conn| resume(conn, &name, now)).await
    }

    /// Takes note of whether the CLI says that somebody is logged in; returns whether the credential
    /// was stopped or goes on for it. That somebody is does not mean that the login is any good: only
    /// what the CLI has said itself, it can take back.
    pub async fn note_login(
        &self,
        name: CredentialName,
        is_there: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |conn| {
            if is_there {
                let was_gone = sql::one(conn, LOGGED_IN, [name.as_str()], |_| Ok(()))?.is_some();
                return Ok(was_gone && resume(conn, &name, now)?);
            }
            sql::run(conn, LOGGED_OUT, [name.as_str()])?;
            stop(conn, &name, Reason::Auth, NOBODY, now)
        })
        .await
    }
}

fn know(conn: &Connection, known: Vec<KnownCredential>, now: Timestamp) -> Result<(), StoreError> {
    let before = sql::all(conn, KNOWN, [], |row| {
        let mut columns = Columns::of(row);
        Ok(KnownCredential {
            name: columns.parsed()?,
            fingerprint: columns.take()?,
            setup: columns.take()?,
        })
    })?;
    let mut known = known;
    known.sort_by(|one, other| one.name.cmp(&other.name));
    if known == before {
        return Ok(());
    }
    sql::run(conn, FORGET, [])?;
    for KnownCredential {
        name,
        fingerprint,
        setup,
    } in &known
    {
        let before = sql::one(conn, FINGERPRINT, [name.as_str()], |row| {
            Columns::of(row).take::<Option<String>>()
        })?;
        sql::run(conn, INSERT, params![name.as_str(), fingerprint, setup])?;
        if before.is_some_and(|before| before != *fingerprint) {
            sql::run(conn, RESUME, [name.as_str()])?;
        }
    }
    claim::release_unpowered(conn, now)
}

/// As [`Store::credentials`].
pub(crate) fn states(conn: &Connection) -> Result<Vec<CredentialState>, StoreError> {
    let mut states = sql::all(conn, ALL, [], state)?;
    let in_use = sql::all(conn, IN_USE, [], |row| {
        Columns::of(row).take::<Option<String>>()
    })?;
    for name in in_use.iter().flatten() {
        if let Some(state) = states.iter_mut().find(|state| state.name.as_str() == name) {
            state.running += 1;
        }
    }
    Ok(states)
}

/// Stores what a run has told of the credential it was started on.
pub(crate) fn note(
    conn: &Connection,
    paid_by: &PaidBy,
    news: &CredentialNews,
    now: Timestamp,
) -> Result<(), StoreError> {
    let name = &paid_by.name;
    let Some(before) = sql::one(conn, ONE, [name.as_str()], state)? else {
        return Ok(());
    };
    let limits = limits_after(before.limits, news.limited.as_ref(), now);
    let windows = windows_after(before.windows, &news.windows, now);
    let told = params![
        name.as_str(),
        limits_json(&limits)?,
        windows_json(&windows)?
    ];
    sql::run(conn, TOLD, told)?;
    // What began before somebody has seen to it says nothing about how it is now.
    if let Some((reason, error)) = &news.refused
        && paid_by.epoch == before.epoch
    {
        stop(conn, name, *reason, error, now)?;
    }
    Ok(())
}

fn stop(
    conn: &Connection,
    name: &CredentialName,
    reason: Reason,
    error: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let params = params![name.as_str(), micros(now), reason.code(), error];
    Ok(sql::run(conn, STOP, params)? > 0)
}

fn resume(conn: &Connection, name: &CredentialName, now: Timestamp) -> Result<bool, StoreError> {
    let is_there = sql::run(conn, RESUME, [name.as_str()])? > 0;
    claim::release_unpowered(conn, now)?;
    Ok(is_there)
}

/// Those still to come, one for each family of models.
fn limits_after(before: Vec<Limited>, told: Option<&Limited>, now: Timestamp) -> Vec<Limited> {
    let superseded = |limit: &Limited| told.is_some_and(|told| told.family == limit.family);
    let stays = |limit: &Limited| limit.until > now && !superseded(limit);
    let kept = before.into_iter().filter(stays);
    kept.chain(told.cloned()).collect()
}

/// Those still open, the newer of each kind.
fn windows_after(
    before: Vec<LimitWindow>,
    told: &[LimitWindow],
    now: Timestamp,
) -> Vec<LimitWindow> {
    let is_told = |kind: &str| told.iter().any(|window| window.kind == kind);
    let stays = |window: &LimitWindow| window.resets_at > now && !is_told(&window.kind);
    let kept = before.into_iter().filter(stays);
    kept.chain(told.iter().cloned()).collect()
}

/// Reads [`ALL`].
fn state(row: &Row<'_>) -> Result<CredentialState, StoreError> {
    let mut columns = Columns::of(row);
    let (name, epoch) = (columns.parsed()?, columns.whole()?);
    let (at, reason) = (columns.time_option()?, columns.parsed_option()?);
    let error: Option<String> = columns.take()?;
    let stopped = at.zip(reason).zip(error);
    Ok(CredentialState {
        epoch,
        stopped: stopped.map(|((at, reason), error)| Stopped { at, reason, error }),
        limits: limits(&mut columns)?,
        windows: windows(&mut columns)?,
        ..CredentialState::new(name)
    })
}

/// How a limit is stored: family, microseconds.
type LimitForm = (Option<String>, i64);
/// How a window is stored: kind, how much is used, microseconds.
type WindowForm = (String, f64, i64);

fn limits(columns: &mut Columns<'_, '_>) -> Result<Vec<Limited>, StoreError> {
    let limit = |(family, until): LimitForm| time(until).map(|until| Limited { family, until });
    list(columns, limit)
}

fn windows(columns: &mut Columns<'_, '_>) -> Result<Vec<LimitWindow>, StoreError> {
    let window = |(kind, used, resets_at): WindowForm| {
        let resets_at = time(resets_at)?;
        Ok(LimitWindow {
            kind,
            used,
            resets_at,
        })
    };
    list(columns, window)
}

fn list<F: serde::de::DeserializeOwned, T>(
    columns: &mut Columns<'_, '_>,
    read: impl Fn(F) -> Result<T, String>,
) -> Result<Vec<T>, StoreError> {
    let Some(text) = columns.take::<Option<String>>()? else {
        return Ok(Vec::new());
    };
    let forms: Vec<F> = serde_json::from_str(&text).map_err(|error| columns.corrupt(&error))?;
    let list: Result<_, String> = forms.into_iter().map(read).collect();
    list.map_err(|error| columns.corrupt(&error))
}

fn limits_json(limits: &[Limited]) -> Result<String, StoreError> {
    let form = |limit: &Limited| -> LimitForm { (limit.family.clone(), micros(limit.until)) };
    json(&limits.iter().map(form).collect::<Vec<_>>())
}

fn windows_json(windows: &[LimitWindow]) -> Result<String, StoreError> {
    let form = |window: &LimitWindow| -> WindowForm {
        (window.kind.clone(), window.used, micros(window.resets_at))
    };
    json(&windows.iter().map(form).collect::<Vec<_>>())
}

fn json(list: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(list).map_err(|error| StoreError::Internal(error.to_string()))
}
