//! Each client's line of ready jobs, and whose turn it is.
//!
//! A row of `lanes` says of one client what a claim has to know without looking at its jobs. What it
//! says follows from the jobs, the counters and the client, and is brought up to date at the end of
//! every transaction that changes one of them; only the tag is a state of its own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use agent_domain::{Job, JobId, Place, Priority, Tag};
use rusqlite::{Connection, params};

use crate::rows::Columns;
use crate::{StoreError, sql};

/// In place of a client: the greatest tag that was served.
const SERVED: &str = "";

pub(crate) const HEAD: &str = "
    SELECT ready_seq, seq, priority FROM jobs INDEXED BY jobs_line
    WHERE client_id = ?1 AND ready_seq > 0 ORDER BY ready_seq, seq LIMIT 1";

pub(crate) const LANE: &str = "
    SELECT l.tag, l.head, l.head_seq, l.turn, l.open,
        c.max_concurrent > coalesce(
            (SELECT jobs FROM job_counts WHERE client_id = ?1 AND bucket = 'running'), 0)
    FROM clients c LEFT JOIN lanes l ON l.client_id = c.id
    WHERE c.id = ?1";

pub(crate) const TAG: &str = "SELECT tag FROM lanes WHERE client_id = ?1";

pub(crate) const SET: &str = "
    INSERT INTO lanes (client_id, tag, head, head_seq, turn, open) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (client_id) DO UPDATE
    SET tag = excluded.tag, head = excluded.head, head_seq = excluded.head_seq,
        turn = excluded.turn, open = excluded.open";

pub(crate) const SET_TAG: &str = "
    INSERT INTO lanes (client_id, tag, open) VALUES (?1, ?2, 0)
    ON CONFLICT (client_id) DO UPDATE SET tag = excluded.tag";

pub(crate) const NEXT_OPEN: &str = "
    SELECT client_id, tag, turn, head, head_seq FROM lanes INDEXED BY lanes_open
    WHERE open = 1 AND (turn, head, head_seq) > (?1, ?2, ?3)
    ORDER BY turn, head, head_seq LIMIT 1";

pub(crate) const WAITING: &str = "
    SELECT client_id, tag, turn, head, head_seq FROM lanes INDEXED BY lanes_waiting
    WHERE head IS NOT NULL AND turn > ?1 ORDER BY turn, head, head_seq LIMIT ?2";

pub(crate) const BEFORE: &str = "
    SELECT l.tag, l.turn, coalesce(n.jobs, 0)
    FROM lanes l INDEXED BY lanes_waiting
    LEFT JOIN job_counts n ON n.client_id = l.client_id AND n.bucket = 'ready'
    WHERE l.head IS NOT NULL AND l.turn <= ?1 AND l.client_id <> ?2";

pub(crate) const ANY_RUNNING: &str =
    "SELECT 1 FROM job_counts WHERE client_id = '' AND bucket = 'running' AND jobs > 0";

pub(crate) const NEXT_IN_LINE: &str = "
    SELECT ready_seq, seq, id, priority FROM jobs INDEXED BY jobs_line
    WHERE client_id = ?1 AND ready_seq >= ?2 AND (ready_seq, seq) > (?2, ?3) ORDER BY ready_seq, seq LIMIT 1";

/// All that the position of a job follows from but the other clients: in one statement, since each new
/// job asks for it.
pub(crate) const IN_LINE: &str = "
    SELECT l.tag, l.turn,
        coalesce((SELECT tag FROM lanes WHERE client_id = ''), 0),
        coalesce((SELECT jobs FROM job_counts WHERE client_id = ?1 AND bucket = 'ready'), 0),
        (SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY jobs_line
            WHERE client_id = ?1 AND ready_seq >= ?2 AND (ready_seq, seq) > (?2, ?3) LIMIT ?4))
    FROM lanes l WHERE l.client_id = ?1";

pub(crate) const COUNT_AHEAD: &str = "
    SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY jobs_line
        WHERE client_id = ?1 AND ready_seq <= ?2 AND (ready_seq, seq) < (?2, ?3) LIMIT ?4)";

/// How many jobs of its client are counted from either end of the line, before all are.
const COUNTED: i64 = 1_000;

/// A client with ready jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) client: String,
    pub(crate) tag: Tag,
    /// With the head, where it stands among all.
    turn: i64,
    /// Its first job.
    head: InLine,
}

/// A place in the line of a client: that of a job, by its `ready_seq` and `seq`.
pub(crate) type InLine = (i64, i64);

/// The first ready job of a client behind a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) at: InLine,
    pub(crate) id: JobId,
    priority: Priority,
}

/// What is stored of a client that may have ready jobs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stored {
    tag: Option<Tag>,
    head: Option<InLine>,
    turn: Option<i64>,
    open: Option<bool>,
}

/// Brings a client's row up to date with its jobs.
pub(crate) fn sync(conn: &Connection, client: &str) -> Result<(), StoreError> {
    let Some((before, has_room)) = sql::one(conn, LANE, [client], stored)? else {
        return Ok(());
    };
    let first = sql::one(conn, HEAD, [client], |row| {
        let mut columns = Columns::of(row);
        let at: InLine = (columns.take()?, columns.take()?);
        Ok((at, columns.priority()?))
    })?;
    let mut tag = before.tag.unwrap_or_default();
    if before.head.is_none() && first.is_some() {
        tag = back_in_line(conn, tag)?;
    }
    let now = Stored {
        tag: Some(tag),
        head: first.map(|(at, _)| at),
        turn: first.map(|(at, priority)| tag.turn(priority, Place::stored(at.0))),
        open: Some(has_room && first.is_some()),
    };
    if now != before {
        let (head, seq) = now.head.unzip();
        sql::run(
            conn,
            SET,
            params![client, tag.0, head, seq, now.turn, now.open],
        )?;
    }
    Ok(())
}

/// Reads a row of [`LANE`].
fn stored(row: &rusqlite::Row<'_>) -> Result<(Stored, bool), StoreError> {
    let mut columns = Columns::of(row);
    let stored = Stored {
        tag: columns.take::<Option<i64>>()?.map(Tag),
        head: {
            let (place, seq): (Option<i64>, Option<i64>) = (columns.take()?, columns.take()?);
            place.zip(seq)
        },
        turn: columns.take()?,
        open: columns.take()?,
    };
    // Null for a client without a limit.
    Ok((stored, columns.take::<Option<bool>>()?.unwrap_or(true)))
}

fn back_in_line(conn: &Connection, tag: Tag) -> Result<Tag, StoreError> {
    let mut served = served(conn)?;
    let idle = sql::one(conn, ANY_RUNNING, [], |_| Ok(()))?.is_none()
        && sql::one(conn, WAITING, [i64::MIN, 1], |_| Ok(()))?.is_none();
    if idle {
        served = tag.opens(served);
        sql::run(conn, SET_TAG, params![SERVED, served.0])?;
    }
    Ok(tag.back_in_line(served))
}

fn served(conn: &Connection) -> Result<Tag, StoreError> {
    let tag = sql::one(conn, TAG, [SERVED], |row| Columns::of(row).take())?;
    Ok(tag.map(Tag).unwrap_or_default())
}

/// The client whose turn it is and that may run another job, behind one that was seen already.
pub(crate) fn next_open(
    conn: &Connection,
    after: Option<&Lane>,
) -> Result<Option<Lane>, StoreError> {
    let (turn, (place, seq)) = after.map_or((i64::MIN, (0, 0)), |lane| (lane.turn, lane.head));
    sql::one(conn, NEXT_OPEN, params![turn, place, seq], lane)
}

fn lane(row: &rusqlite::Row<'_>) -> Result<Lane, StoreError> {
    let mut columns = Columns::of(row);
    Ok(Lane {
        client: columns.take()?,
        tag: Tag(columns.take()?),
        turn: columns.take()?,
        head: (columns.take()?, columns.take()?),
    })
}

/// The first ready job of a client behind `after`.
pub(crate) fn next_in_line(
    conn: &Connection,
    client: &str,
    after: InLine,
) -> Result<Option<Next>, StoreError> {
    sql::one(
        conn,
        NEXT_IN_LINE,
        params![client, after.0, after.1],
        |row| {
            let mut columns = Columns::of(row);
            Ok(Next {
                at: (columns.take()?, columns.take()?),
                id: columns.parsed()?,
                priority: columns.priority()?,
            })
        },
    )
}

/// Counts a turn of a client that has taken the job at a place of its line.
pub(crate) fn take_turn(conn: &Connection, lane: &Lane, at: InLine) -> Result<(), StoreError> {
    let before = served(conn)?;
    let (tag, served) = lane.tag.taken(Place::stored(at.0), before);
    if tag != lane.tag {
        sql::run(conn, SET_TAG, params![lane.client, tag.0])?;
    }
    if served != before {
        sql::run(conn, SET_TAG, params![SERVED, served.0])?;
    }
    Ok(())
}

/// The first ready jobs, by their `seq`, in the order in which they would be taken if nothing else
/// came and no client had a limit.
pub(crate) fn in_order(conn: &Connection, limit: u32) -> Result<Vec<i64>, StoreError> {
    let mut served = served(conn)?;
    let mut lanes = sql::all(conn, WAITING, params![i64::MIN, limit], lane)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut heap: BinaryHeap<Reverse<(i64, InLine, usize)>> = BinaryHeap::new();
    for (index, lane) in lanes.iter().enumerate() {
        if let Some(next) = next_in_line(conn, &lane.client, (0, 0))? {
            heap.push(Reverse((lane.turn, next.at, index)));
        }
    }
    let mut order = Vec::new();
    while order.len() < limit {
        let Some(Reverse((_, at, index))) = heap.pop() else {
            break;
        };
        order.push(at.1);
        let Some(lane) = lanes.get_mut(index) else {
            break;
        };
        (lane.tag, served) = lane.tag.taken(Place::stored(at.0), served);
        if let Some(next) = next_in_line(conn, &lane.client, at)? {
            let turn = lane.tag.turn(next.priority, Place::stored(next.at.0));
            heap.push(Reverse((turn, next.at, index)));
        }
    }
    Ok(order)
}

/// The place of a ready job among all, from 1, without going over those before it.
///
/// Exact where the waiting jobs of each client have the same priority and none is younger than this
/// one; otherwise near.
pub(crate) fn position(conn: &Connection, job: &Job, at: InLine) -> Result<u64, StoreError> {
    let client = job.client_id.to_string();
    let params = params![client, at.0, at.1, COUNTED];
    let own = sql::one(conn, IN_LINE, params, |row| {
        let mut columns = Columns::of(row);
        let tag = Tag(columns.take()?);
        let turn: Option<i64> = columns.take()?;
        let served = Tag(columns.take()?);
        let (ready, behind): (u64, u64) = (columns.whole()?, columns.whole()?);
        Ok(turn.map(|first| (tag, first, served, ready, behind)))
    })?;
    let Some((tag, first, served, ready, behind)) = own.flatten() else {
        return Ok(1);
    };
    let ahead = if behind < COUNTED.unsigned_abs() {
        ready.saturating_sub(behind + 1)
    } else {
        count_ahead(conn, &client, at)?
    };
    let turn = tag.turn_after(ahead, job.priority, first, served);
    let others = sql::all(conn, BEFORE, params![turn, client], |row| {
        let mut columns = Columns::of(row);
        let (tag, first, waiting) = (columns.take()?, columns.take()?, columns.whole()?);
        Ok(Tag(tag).turns_until(turn, first, waiting, served))
    })?;
    Ok(ahead + 1 + others.iter().sum::<u64>())
}

/// How many jobs of its client are before a place in its line, behind which there are many.
fn count_ahead(conn: &Connection, client: &str, (place, seq): InLine) -> Result<u64, StoreError> {
    let count = |limit: i64| {
        let params = params![client, place, seq, limit];
        let count = sql::one(conn, COUNT_AHEAD, params, |row| Columns::of(row).whole())?;
        Ok::<u64, StoreError>(count.unwrap_or(0))
    };
    match count(COUNTED)? {
        few if few < COUNTED.unsigned_abs() => Ok(few),
        _ => count(i64::MAX),
    }
}
