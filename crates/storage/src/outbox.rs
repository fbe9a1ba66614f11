//! Callbacks that are to be sent, and every try to send them.

use agent_domain::{DeliveryId, JobId, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::rows::{Columns, int, micros, option, owned, text, whole};
use crate::{
    DeliveryLog, DeliveryState, DeliveryTry, DueDelivery, NewDelivery, NewOnce, Store, StoreError,
    once, sql,
};

pub(crate) const INSERT: &str = "
    INSERT INTO deliveries (id, job_seq, url, body, state, due_at, tries, created_at)
    VALUES (?1, ?2, ?3, ?4, 'pending', ?5, 0, ?6)";

pub(crate) const DUE: &str = "
    SELECT d.id, j.id, d.url, d.body, d.tries
    FROM deliveries d INDEXED BY deliveries_due CROSS JOIN jobs j ON j.seq = d.job_seq
    WHERE d.state = 'pending' AND d.due_at <= ?1 ORDER BY d.due_at LIMIT ?2";

pub(crate) const NEXT_DUE: &str = "
    SELECT id, due_at FROM deliveries INDEXED BY deliveries_due
    WHERE state = 'pending' AND due_at > ?1 ORDER BY due_at LIMIT ?2";

pub(crate) const INSERT_TRY: &str = "
    INSERT INTO delivery_tries (delivery_seq, at, duration_ms, status, error, signed)
    SELECT seq, ?2, ?3, ?4, ?5, ?6 FROM deliveries WHERE id = ?1";

pub(crate) const AFTER_TRY: &str =
    "UPDATE deliveries SET state = ?2, due_at = ?3, tries = tries + 1 WHERE id = ?1";

pub(crate) const AGAIN: &str = "UPDATE deliveries SET state = 'pending', due_at = ?2, tries = 0
     WHERE id = ?1 AND job_seq = (SELECT seq FROM jobs WHERE id = ?3)";

pub(crate) const OF_JOB: &str = "
    SELECT d.seq, d.id, d.url, d.state, d.due_at, d.created_at
    FROM jobs j CROSS JOIN deliveries d INDEXED BY deliveries_job ON d.job_seq = j.seq
    WHERE j.id = ?1 ORDER BY d.seq";

pub(crate) const TRIES: &str = "
    SELECT at, duration_ms, status, error, signed
    FROM delivery_tries INDEXED BY delivery_tries_delivery
    WHERE delivery_seq = ?1 ORDER BY seq";

impl Store {
    /// Returns up to `limit` callbacks that are due, the longest due first, without those that
    /// the caller has `in_flight`.
    pub async fn due_deliveries(
        &self,
        now: Timestamp,
        limit: u32,
        in_flight: &[DeliveryId],
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let in_flight = in_flight.to_vec();
        self.read(move |conn| {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let params = params![micros(now), enough(limit, &in_flight)];
            let mut due = sql::all(conn, DUE, params, due)?;
            due.retain(|delivery| !in_flight.contains(&delivery.id));
            due.truncate(limit);
            Ok(due)
        })
        .await
    }

    /// The time at which the first callback is due that is not `in_flight`; it may have passed.
    pub async fn next_delivery_due(
        &self,
        in_flight: &[DeliveryId],
    ) -> Result<Option<Timestamp>, StoreError> {
        let in_flight = in_flight.to_vec();
        self.read(move |conn| {
            let params = params![i64::MIN, enough(1, &in_flight)];
            let next = sql::all(conn, NEXT_DUE, params, |row| {
                let mut columns = Columns::of(row);
                Ok((columns.parsed::<DeliveryId>()?, columns.time()?))
            })?;
            let waiting = next.iter().find(|(id, _)| !in_flight.contains(id));
            Ok(waiting.map(|(_, due_at)| *due_at))
        })
        .await
    }

    /// Records a try and how the delivery stands after it. Returns whether there is such a
    /// delivery.
    pub async fn record_try(
        &self,
        id: DeliveryId,
        made: DeliveryTry,
        state: DeliveryState,
    ) -> Result<bool, StoreError> {
        self.write(move |conn| record_try(conn, id, &made, state))
            .await
    }

    /// Returns a job's deliveries with all their tries, oldest first.
    pub async fn deliveries_of(&self, job: JobId) -> Result<Vec<DeliveryLog>, StoreError> {
        self.read(move |conn| sql::snapshot(conn, |conn| deliveries(conn, job)))
            .await
    }

    /// Makes a job's delivery due now and begins its schedule anew, however it stands; its past
    /// tries stay in the log. Remembers `once` with it. Returns whether there is such a delivery.
    pub async fn redeliver(
        &self,
        job: JobId,
        id: DeliveryId,
        now: Timestamp,
        once: Option<NewOnce>,
    ) -> Result<bool, StoreError> {
        self.write(move |conn| {
            let params = params![id.to_string(), micros(now), job.to_string()];
            let again = sql::run(conn, AGAIN, params)? == 1;
            if let Some(once) = once.filter(|_| again) {
                once::remember(conn, &once)?;
            }
            Ok(again)
        })
        .await
    }
}

pub(crate) fn insert(
    conn: &Connection,
    job_seq: i64,
    now: Timestamp,
    delivery: &NewDelivery,
) -> Result<(), StoreError> {
    let params = params![
        delivery.id.to_string(),
        job_seq,
        delivery.url.as_str(),
        delivery.body,
        micros(delivery.due_at),
        micros(now),
    ];
    sql::run(conn, INSERT, params)?;
    Ok(())
}

/// So many rows hold `limit` ones that are not in flight, if there are that many.
fn enough(limit: usize, in_flight: &[DeliveryId]) -> i64 {
    i64::try_from(limit.saturating_add(in_flight.len())).unwrap_or(i64::MAX)
}

fn due(row: &Row<'_>) -> Result<DueDelivery, StoreError> {
    let mut columns = Columns::of(row);
    Ok(DueDelivery {
        id: columns.parsed()?,
        job_id: columns.parsed()?,
        url: columns.parsed()?,
        body: columns.take()?,
        tries: columns.whole()?,
    })
}

fn record_try(
    conn: &Connection,
    id: DeliveryId,
    made: &DeliveryTry,
    state: DeliveryState,
) -> Result<bool, StoreError> {
    let (state, due_at) = match state {
        DeliveryState::Pending { due_at } => ("pending", Some(micros(due_at))),
        DeliveryState::Delivered => ("delivered", None),
        DeliveryState::GivenUp => ("given_up", None),
    };
    if sql::run(conn, AFTER_TRY, params![id.to_string(), state, due_at])? != 1 {
        return Ok(false);
    }
    let params = [
        owned(&id),
        int(micros(made.at)),
        whole(made.duration_ms)?,
        option(made.status, |status| int(i64::from(status))),
        option(made.error.as_deref(), text),
        int(i64::from(made.signed)),
    ];
    sql::run(conn, INSERT_TRY, params)?;
    Ok(true)
}

fn deliveries(conn: &Connection, job: JobId) -> Result<Vec<DeliveryLog>, StoreError> {
    let logs = sql::all(conn, OF_JOB, [job.to_string()], |row| {
        let mut columns = Columns::of(row);
        let seq: i64 = columns.take()?;
        let log = DeliveryLog {
            id: columns.parsed()?,
            url: columns.parsed()?,
            state: delivery_state(&mut columns)?,
            created_at: columns.time()?,
            tries: Vec::new(),
        };
        Ok((seq, log))
    })?;
    let with_tries = logs.into_iter().map(|(seq, mut log)| {
        log.tries = sql::all(conn, TRIES, [seq], made)?;
        Ok(log)
    });
    with_tries.collect()
}

fn delivery_state(columns: &mut Columns<'_, '_>) -> Result<DeliveryState, StoreError> {
    let state: String = columns.take()?;
    let due_at = columns.time_option()?;
    match (state.as_str(), due_at) {
        ("pending", Some(due_at)) => Ok(DeliveryState::Pending { due_at }),
        ("delivered", None) => Ok(DeliveryState::Delivered),
        ("given_up", None) => Ok(DeliveryState::GivenUp),
        _ => Err(StoreError::Corrupt(format!("a delivery that is {state}"))),
    }
}

fn made(row: &Row<'_>) -> Result<DeliveryTry, StoreError> {
    let mut columns = Columns::of(row);
    Ok(DeliveryTry {
        at: columns.time()?,
        duration_ms: columns.whole()?,
        status: columns.whole_option()?,
        error: columns.take()?,
        signed: columns.take()?,
    })
}
