//! Callbacks that are to be sent, and every try to send them.

use agent_domain::{DeliveryId, JobId, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::rows::{Columns, int, micros, option, owned, text, whole};
use crate::{
    DeliveryLog, DeliveryState, DeliveryTry, DueDelivery, NewDelivery, NewOnce, OutboxLook,
    OutboxSeen, Store, StoreError, once, sql,
};

pub(crate) const INSERT: &str = "
    INSERT INTO deliveries (id, job_seq, url, endpoint, body, state, due_at, tries, created_at)
    VALUES (?1, ?2, ?3, ?4, ?5, 'pending', ?6, 0, ?7)";

pub(crate) const NEXT_ENDPOINT: &str = "
    SELECT endpoint FROM deliveries INDEXED BY deliveries_pending
    WHERE state = 'pending' AND endpoint > ?1 ORDER BY endpoint LIMIT 1";

pub(crate) const FIRST_OF: &str = "
    SELECT seq, id, due_at FROM deliveries INDEXED BY deliveries_pending
    WHERE state = 'pending' AND endpoint = ?1 ORDER BY due_at LIMIT ?2";

pub(crate) const TO_SEND: &str = "
    SELECT d.id, j.id, d.url, d.endpoint, d.body, d.tries, d.round
    FROM deliveries d CROSS JOIN jobs j ON j.seq = d.job_seq WHERE d.seq = ?1";

pub(crate) const INSERT_TRY: &str = "
    INSERT INTO delivery_tries (delivery_seq, at, duration_ms, status, error, signed)
    SELECT seq, ?2, ?3, ?4, ?5, ?6 FROM deliveries WHERE id = ?1";

pub(crate) const AFTER_TRY: &str =
    "UPDATE deliveries SET state = ?3, due_at = ?4, tries = tries + 1 WHERE id = ?1 AND round = ?2";

pub(crate) const AGAIN: &str =
    "UPDATE deliveries SET state = 'pending', due_at = ?2, tries = 0, round = round + 1
     WHERE id = ?1 AND job_seq = (SELECT seq FROM jobs WHERE id = ?3) RETURNING endpoint";

pub(crate) const OF_JOB: &str = "
    SELECT d.seq, d.id, d.url, d.state, d.due_at, d.created_at
    FROM jobs j CROSS JOIN deliveries d INDEXED BY deliveries_job ON d.job_seq = j.seq
    WHERE j.id = ?1 ORDER BY d.seq";

pub(crate) const TRIES: &str = "
    SELECT at, duration_ms, status, error, signed
    FROM delivery_tries INDEXED BY delivery_tries_delivery
    WHERE delivery_seq = ?1 ORDER BY seq";

impl Store {
    /// Finds the callbacks to send now, the longest due first.
    ///
    /// What it costs depends on how many endpoints have something pending, not on how much: a
    /// receiver that is behind hides no other.
    pub async fn look_at_outbox(&self, look: OutboxLook) -> Result<OutboxSeen, StoreError> {
        self.read(move |conn| sql::snapshot(conn, |conn| seen(conn, &look)))
            .await
    }

    /// Records a try, and how the delivery stands after it unless it was begun anew meanwhile.
    /// Returns whether there is such a delivery.
    pub async fn record_try(
        &self,
        id: DeliveryId,
        round: u32,
        made: DeliveryTry,
        state: DeliveryState,
    ) -> Result<bool, StoreError> {
        self.write(move |conn| record_try(conn, id, round, &made, state))
            .await
    }

    /// Returns a job's deliveries with all their tries, oldest first.
    pub async fn deliveries_of(&self, job: JobId) -> Result<Vec<DeliveryLog>, StoreError> {
        self.read(move |conn| sql::snapshot(conn, |conn| deliveries(conn, job)))
            .await
    }

    /// Makes a job's delivery due now and begins its schedule anew, however it stands; its past
    /// tries stay in the log, and one under way does not change how it stands. Remembers `once`
    /// with it. Returns its endpoint, if there is such a delivery.
    pub async fn redeliver(
        &self,
        job: JobId,
        id: DeliveryId,
        now: Timestamp,
        once: Option<NewOnce>,
    ) -> Result<Option<String>, StoreError> {
        self.write(move |conn| {
            let params = params![id.to_string(), micros(now), job.to_string()];
            let endpoint = sql::one(conn, AGAIN, params, |row| Columns::of(row).take())?;
            if let Some(once) = once.filter(|_| endpoint.is_some()) {
                once::remember(conn, &once)?;
            }
            Ok(endpoint)
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
        delivery.url.endpoint(),
        delivery.body,
        micros(delivery.due_at),
        micros(now),
    ];
    sql::run(conn, INSERT, params)?;
    Ok(())
}

fn seen(conn: &Connection, look: &OutboxLook) -> Result<OutboxSeen, StoreError> {
    let (mut due, mut next) = (Vec::new(), None::<Timestamp>);
    // No endpoint is empty.
    let mut endpoint = String::new();
    while let Some(found) = sql::one(conn, NEXT_ENDPOINT, [&endpoint], |row| {
        Columns::of(row).take::<String>()
    })? {
        endpoint = found;
        let room = look.fewer.get(&endpoint).copied().unwrap_or(look.each);
        if room == 0 {
            continue;
        }
        // Whatever is in flight, so many rows hold the first ones that are not.
        let rows = i64::try_from(room.saturating_add(look.in_flight.len())).unwrap_or(i64::MAX);
        let mut waiting = sql::all(conn, FIRST_OF, params![endpoint, rows], waiting)?;
        waiting.retain(|one| !look.in_flight.contains(&one.id));
        waiting.truncate(room);
        let later = waiting.partition_point(|one| one.due_at <= look.now);
        let first_later = waiting.get(later).map(|one| one.due_at);
        next = next.into_iter().chain(first_later).min();
        waiting.truncate(later);
        due.extend(waiting);
    }
    due.sort_by_key(|one| (one.due_at, one.seq));
    due.truncate(look.places);
    let rows = due
        .iter()
        .map(|one| sql::one(conn, TO_SEND, [one.seq], to_send));
    let due = rows
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    Ok(OutboxSeen { due, next })
}

/// A pending delivery in brief.
struct Waiting {
    seq: i64,
    id: DeliveryId,
    due_at: Timestamp,
}

fn waiting(row: &Row<'_>) -> Result<Waiting, StoreError> {
    let mut columns = Columns::of(row);
    Ok(Waiting {
        seq: columns.take()?,
        id: columns.parsed()?,
        due_at: columns.time()?,
    })
}

fn to_send(row: &Row<'_>) -> Result<DueDelivery, StoreError> {
    let mut columns = Columns::of(row);
    Ok(DueDelivery {
        id: columns.parsed()?,
        job_id: columns.parsed()?,
        url: columns.parsed()?,
        endpoint: columns.take()?,
        body: columns.take()?,
        tries: columns.whole()?,
        round: columns.whole()?,
    })
}

fn record_try(
    conn: &Connection,
    id: DeliveryId,
    round: u32,
    made: &DeliveryTry,
    state: DeliveryState,
) -> Result<bool, StoreError> {
    let (state, due_at) = match state {
        DeliveryState::Pending { due_at } => ("pending", Some(micros(due_at))),
        DeliveryState::Delivered => ("delivered", None),
        DeliveryState::GivenUp => ("given_up", None),
    };
    // Nothing is changed where somebody asked for it again since: then it stays due.
    sql::run(
        conn,
        AFTER_TRY,
        params![id.to_string(), round, state, due_at],
    )?;
    let params = [
        owned(&id),
        int(micros(made.at)),
        whole(made.duration_ms)?,
        option(made.status, |status| int(i64::from(status))),
        option(made.error.as_deref(), text),
        int(i64::from(made.signed)),
    ];
    Ok(sql::run(conn, INSERT_TRY, params)? == 1)
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
