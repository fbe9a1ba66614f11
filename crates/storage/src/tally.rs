//! The counters of jobs, and the lines that depend on them: what a request changes of them is
//! written once, at its end and in its transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use rusqlite::{Connection, params};

use crate::{StoreError, lanes, sql};

/// In place of a client: all of them together.
const EVERYONE: &str = "";

pub(crate) const ADD: &str =
    "UPDATE job_counts SET jobs = jobs + ?3 WHERE client_id = ?1 AND bucket = ?2";

/// The first job in its bucket.
pub(crate) const BEGIN: &str =
    "INSERT INTO job_counts (client_id, bucket, jobs) VALUES (?1, ?2, ?3)";

/// What a request has changed.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How many jobs more, or fewer, are in each bucket of each client.
    jobs: BTreeMap<(String, String), i64>,
    /// Clients in whose lines something may have changed.
    lines: BTreeSet<String>,
}

impl Tally {
    /// A job of `client` is in `bucket` now.
    pub(crate) fn came(&mut self, client: &impl Display, bucket: &str) {
        self.add(client, bucket, 1);
    }

    /// A job of `client` is in `bucket` no more.
    pub(crate) fn left(&mut self, client: &impl Display, bucket: &str) {
        self.add(client, bucket, -1);
    }

    /// Something else about the line of `client` has changed.
    pub(crate) fn moved(&mut self, client: &impl Display) {
        self.lines.insert(client.to_string());
    }

    fn add(&mut self, client: &impl Display, bucket: &str, jobs: i64) {
        if matches!(bucket, "ready" | "running") {
            self.moved(client);
        }
        for client in [client.to_string(), EVERYONE.to_owned()] {
            *self.jobs.entry((client, bucket.to_owned())).or_default() += jobs;
        }
    }

    /// Writes down what has changed so far.
    pub(crate) fn write(&mut self, conn: &Connection) -> Result<(), StoreError> {
        let jobs = std::mem::take(&mut self.jobs);
        for ((client, bucket), jobs) in jobs.iter().filter(|(_, jobs)| **jobs != 0) {
            let params = params![client, bucket, jobs];
            if sql::run(conn, ADD, params)? == 0 {
                sql::run(conn, BEGIN, params)?;
            }
        }
        for client in std::mem::take(&mut self.lines) {
            lanes::sync(conn, &client)?;
        }
        Ok(())
    }
}

/// Runs `work`, which says what it changes, and then brings the counters up to date.
pub(crate) fn counted<T>(
    conn: &Connection,
    work: impl FnOnce(&mut Tally) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut tally = Tally::default();
    let done = work(&mut tally)?;
    tally.write(conn)?;
    Ok(done)
}
