//! The ledger: what each attempt spent, booked once in the transaction that ends it.

use agent_domain::{
    Job, JobId, Share, Source, Spent, Tokens, Usage, Usd, list_price, seen_price, utc_day,
};
use rusqlite::{Connection, params};

use crate::rows::{Columns, micros};
use crate::{Booking, StoreError, jobs, sql};

/// Who pays for an attempt that was begun when credentials had no names.
const DEFAULT_CREDENTIAL: &str = "default";
/// Who pays where the job brings a key of its own.
const JOBS_OWN: &str = "job";
/// In place of a client: all of them together.
pub(crate) const EVERYONE: &str = "";

pub(crate) const INSERT: &str = "
    INSERT INTO ledger (at, job_id, client_id, attempt, model, session_id, credential, source,
        estimated, input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens, cost_nanos)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

pub(crate) const IS_BOOKED: &str = "SELECT 1 FROM ledger WHERE job_id = ?1 AND attempt = ?2";

pub(crate) const OF_SESSION: &str = "
    SELECT model, input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens, cost_nanos
    FROM ledger INDEXED BY ledger_session WHERE session_id = ?1 AND source = 'result'";

/// The last runs of a model whose cost is known.
pub(crate) const RATES: &str = "
    SELECT model, input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens, cost_nanos
    FROM ledger INDEXED BY ledger_rates
    WHERE model = ?1 AND source = 'result' AND cost_nanos > 0
    ORDER BY seq DESC LIMIT 20";

pub(crate) const ADD_TO_DAY: &str = "
    INSERT INTO usage_days (day, client_id, credential, model, input_tokens, output_tokens,
        cache_read_tokens, cache_creation_tokens, cost_nanos, estimated_nanos, unpriced_tokens)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
    ON CONFLICT (day, client_id, credential, model) DO UPDATE SET
        input_tokens = input_tokens + excluded.input_tokens,
        output_tokens = output_tokens + excluded.output_tokens,
        cache_read_tokens = cache_read_tokens + excluded.cache_read_tokens,
        cache_creation_tokens = cache_creation_tokens + excluded.cache_creation_tokens,
        cost_nanos = cost_nanos + excluded.cost_nanos,
        estimated_nanos = estimated_nanos + excluded.estimated_nanos,
        unpriced_tokens = unpriced_tokens + excluded.unpriced_tokens";

pub(crate) const ADD_TO_SPENT: &str = "
    INSERT INTO spent_days (client_id, day, cost_nanos) VALUES (?1, ?2, ?3)
    ON CONFLICT (client_id, day) DO UPDATE SET cost_nanos = cost_nanos + excluded.cost_nanos";

/// Books what the present attempt of `job` has spent, and returns its cost, as far as anyone knows
/// it. An attempt that is booked already is not booked again.
pub(crate) fn book(
    conn: &Connection,
    job: &Job,
    attempt: u32,
    booking: &Booking,
) -> Result<Option<Usd>, StoreError> {
    if is_booked(conn, job.id, attempt)? {
        return Ok(None);
    }
    let known = match &booking.session_id {
        Some(session) => known_of(conn, session)?,
        None => Usage::default(),
    };
    let spent = booking.usage.spent(&known, booking.cli_version.as_deref());
    // A run that no model has answered says that it cost nothing, which is not the same as nothing.
    let usage = &booking.usage;
    let cost_nothing = spent.is_empty() && (usage.own.is_some() || usage.total.is_some());
    let mut sum = cost_nothing.then(Usd::default);
    for mut line in spent {
        if line.share.cost.is_none() {
            line.share.cost = price(conn, &line.model, line.share.tokens)?;
        }
        insert(conn, job, attempt, booking, &line)?;
        if let Some(cost) = line.share.cost {
            sum = Some(sum.unwrap_or_default().plus(cost));
        }
    }
    if let Some(cost) = sum {
        let day = utc_day(job.updated_at);
        for client in [job.client_id.to_string(), EVERYONE.to_owned()] {
            sql::run(conn, ADD_TO_SPENT, params![client, day, nanos(cost)?])?;
        }
    }
    Ok(sum)
}

/// As [`book`], for an attempt whose end is stored already.
pub(crate) fn book_late(
    conn: &Connection,
    job: &Job,
    attempt: u32,
    booking: &Booking,
) -> Result<(), StoreError> {
    if let Some(cost) = book(conn, job, attempt, booking)? {
        jobs::add_cost(conn, job.id, nanos(cost)?)?;
    }
    Ok(())
}

/// An amount as it is stored.
pub(crate) fn nanos(amount: Usd) -> Result<i64, StoreError> {
    i64::try_from(amount.nanos()).map_err(|error| StoreError::Internal(error.to_string()))
}

fn is_booked(conn: &Connection, job: JobId, attempt: u32) -> Result<bool, StoreError> {
    let params = params![job.to_string(), attempt];
    Ok(sql::one(conn, IS_BOOKED, params, |_| Ok(()))?.is_some())
}

fn known_of(conn: &Connection, session: &str) -> Result<Usage, StoreError> {
    let mut known = Usage::default();
    for (model, share) in sql::all(conn, OF_SESSION, [session], share)? {
        known.add(&model, share);
    }
    Ok(known)
}

/// What nobody has told the cost of is estimated, if there is anything to go by.
fn price(conn: &Connection, model: &str, tokens: Tokens) -> Result<Option<Usd>, StoreError> {
    if let Some(price) = list_price(model, tokens) {
        return Ok(Some(price));
    }
    let mut seen = Usage::default();
    for (model, share) in sql::all(conn, RATES, [model], share)? {
        seen.add(&model, share);
    }
    let seen = seen.0.get(model).copied().unwrap_or_default();
    Ok(seen
        .cost
        .and_then(|cost| seen_price(tokens, seen.tokens, cost)))
}

fn insert(
    conn: &Connection,
    job: &Job,
    attempt: u32,
    booking: &Booking,
    line: &Spent,
) -> Result<(), StoreError> {
    let Share { tokens, cost } = line.share;
    let is_estimate = line.source == Source::Messages || booking.usage.subscription;
    let client = job.client_id.to_string();
    let credential = if job.spec.secrets.agent {
        JOBS_OWN
    } else {
        let paid_by = job.paid_by.as_ref();
        paid_by.map_or(DEFAULT_CREDENTIAL, |paid_by| paid_by.name.as_str())
    };
    let [input, output, read, creation] = counts(tokens)?;
    let cost = cost.map(nanos).transpose()?;
    let entry = params![
        micros(job.updated_at),
        job.id.to_string(),
        client,
        attempt,
        line.model,
        booking.session_id,
        credential,
        line.source.as_str(),
        is_estimate,
        input,
        output,
        read,
        creation,
        cost,
    ];
    sql::run(conn, INSERT, entry)?;
    let estimated = cost.filter(|_| is_estimate).unwrap_or_default();
    let unpriced = match cost {
        Some(_) => 0,
        None => [input, output, read, creation]
            .into_iter()
            .fold(0, i64::saturating_add),
    };
    let of_day = params![
        utc_day(job.updated_at),
        client,
        credential,
        line.model,
        input,
        output,
        read,
        creation,
        cost.unwrap_or_default(),
        estimated,
        unpriced,
    ];
    sql::run(conn, ADD_TO_DAY, of_day)?;
    Ok(())
}

fn counts(tokens: Tokens) -> Result<[i64; 4], StoreError> {
    let whole = |count: u64| i64::try_from(count);
    let counts = || {
        Ok([
            whole(tokens.input)?,
            whole(tokens.output)?,
            whole(tokens.cache_read)?,
            whole(tokens.cache_creation)?,
        ])
    };
    counts().map_err(|error: std::num::TryFromIntError| StoreError::Internal(error.to_string()))
}

fn share(row: &rusqlite::Row<'_>) -> Result<(String, Share), StoreError> {
    let mut columns = Columns::of(row);
    let model = columns.take()?;
    let tokens = tokens(&mut columns)?;
    let cost: Option<u64> = columns.whole_option()?;
    let cost = cost.map(Usd::from_nanos);
    Ok((model, Share { tokens, cost }))
}

/// Reads four columns.
pub(crate) fn tokens(columns: &mut Columns<'_, '_>) -> Result<Tokens, StoreError> {
    Ok(Tokens {
        input: columns.whole()?,
        output: columns.whole()?,
        cache_read: columns.whole()?,
        cache_creation: columns.whole()?,
    })
}
