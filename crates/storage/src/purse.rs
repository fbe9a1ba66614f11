//! What an attempt that is about to begin may spend, by what the ledger and the running jobs say.

use std::time::Duration;

use agent_domain::{
    Account, Allotted, Caps, ClientId, Spending, Timestamp, Usd, Whose, allot, utc_day, utc_month,
};
use rusqlite::{Connection, params};

use crate::ledger::EVERYONE;
use crate::rows::{Columns, micros};
use crate::{JobWithClient, StoreError, sql};

pub(crate) const SPENT: &str = "
    SELECT coalesce(sum(CASE WHEN day = ?3 THEN cost_nanos END), 0), coalesce(sum(cost_nanos), 0)
    FROM spent_days WHERE client_id = ?1 AND day BETWEEN ?2 AND ?3";

/// By those that run, and by those that have ended lately without a seal: what they have spent may not
/// be booked yet.
pub(crate) const RESERVED: &str = "
    SELECT coalesce(sum(nanos), 0), count(nanos) FROM (
        SELECT allotted_nanos AS nanos FROM jobs INDEXED BY jobs_status WHERE status = 'running'
        UNION ALL
        SELECT allotted_nanos FROM jobs INDEXED BY jobs_unsealed
        WHERE seals < attempt - (status = 'running') AND seq > 0 AND status <> 'running'
            AND updated_at > ?1)";

pub(crate) const RESERVED_BY_CLIENT: &str = "
    SELECT coalesce(sum(nanos), 0), count(nanos) FROM (
        SELECT allotted_nanos AS nanos FROM jobs INDEXED BY jobs_client_status
        WHERE client_id = ?2 AND status = 'running'
        UNION ALL
        SELECT allotted_nanos FROM jobs INDEXED BY jobs_unsealed
        WHERE seals < attempt - (status = 'running') AND seq > 0 AND status <> 'running'
            AND updated_at > ?1 AND client_id = ?2)";

/// How long the money of an attempt stays reserved whose log cannot be read.
const UNSEALED_MAX: Duration = Duration::from_hours(1);

/// Decides what a ready job may spend under the server's settings, where `free` more attempts could
/// begin now.
pub(crate) fn allotted(
    conn: &Connection,
    ready: &JobWithClient,
    settings: Spending,
    free: usize,
    now: Timestamp,
) -> Result<Allotted, StoreError> {
    let JobWithClient { job, client } = ready;
    let mut accounts = Vec::new();
    if !client.caps.is_none() {
        accounts.push(account(conn, Some(client.id), client.caps, now)?);
    }
    if !settings.caps.is_none() {
        accounts.push(account(conn, None, settings.caps, now)?);
    }
    let of_job = job.spec.options.budget.or(client.options.budget);
    let budget = of_job.or(settings.job_budget);
    let free = u32::try_from(free).unwrap_or(u32::MAX);
    let cost = job.facts.cost.unwrap_or_default();
    Ok(allot(budget, cost, &accounts, free, now))
}

fn account(
    conn: &Connection,
    client: Option<ClientId>,
    caps: Caps,
    now: Timestamp,
) -> Result<Account, StoreError> {
    let name = client.map_or_else(|| EVERYONE.to_owned(), |id| id.to_string());
    let (first, _) = utc_month(now);
    let spent = sql::one(conn, SPENT, params![name, first, utc_day(now)], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.whole()?, columns.whole()?))
    })?;
    let (today, this_month) = spent.unwrap_or_default();
    let sum = |row: &rusqlite::Row<'_>| {
        let mut columns = Columns::of(row);
        Ok((columns.whole()?, columns.whole()?))
    };
    let since = micros(now.checked_sub(UNSEALED_MAX).unwrap_or(Timestamp::MIN));
    let under_way = match client {
        Some(_) => sql::one(conn, RESERVED_BY_CLIENT, params![since, name], sum)?,
        None => sql::one(conn, RESERVED, [since], sum)?,
    };
    let (reserved, running) = under_way.unwrap_or_default();
    Ok(Account {
        whose: client.map_or(Whose::Everyone, |_| Whose::Client),
        caps,
        today: Usd::from_nanos(today),
        this_month: Usd::from_nanos(this_month),
        reserved: Usd::from_nanos(reserved),
        running,
    })
}
