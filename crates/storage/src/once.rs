//! What is remembered of requests that are done at most once.

use agent_domain::{Answer, OnceRequest, Seal, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::rows::{Columns, micros};
use crate::{NewOnce, OnceEntry, OnceProgress, Store, StoreError, sql};

/// Takes the place of what is out of date, and of the same request as it was begun.
pub(crate) const REMEMBER: &str = "
    INSERT INTO idempotency_keys (scope, content, seal, created_at, subject, status, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (scope) DO UPDATE
    SET content = excluded.content, seal = excluded.seal, created_at = excluded.created_at,
        subject = excluded.subject, status = excluded.status, body = excluded.body
    WHERE idempotency_keys.created_at <= ?8 OR idempotency_keys.status IS NULL";

pub(crate) const FIND: &str = "
    SELECT content, seal, subject, status, body FROM idempotency_keys
    WHERE scope = ?1 AND created_at > ?2";

pub(crate) const FORGET: &str = "
    DELETE FROM idempotency_keys WHERE scope IN (
        SELECT scope FROM idempotency_keys INDEXED BY idempotency_keys_age
        WHERE created_at <= ?1 ORDER BY created_at LIMIT ?2)";

/// Bytes of the name of a seal's key.
const SEAL_KEY: usize = 16;

impl Store {
    /// Finds what is remembered of requests of `scope`, if that was after `since`.
    pub async fn once(
        &self,
        scope: [u8; 32],
        since: Timestamp,
    ) -> Result<Option<OnceEntry>, StoreError> {
        self.glance(move |conn| {
            sql::one(conn, FIND, params![scope, micros(since)], |row| {
                entry(scope, row)
            })
        })
        .await
    }

    /// Remembers a request that changes no row but its own.
    pub async fn remember(&self, once: NewOnce) -> Result<(), StoreError> {
        self.write(move |conn| remember(conn, &once)).await
    }

    /// Forgets up to `limit` requests of `until` and before, the oldest first, and says how many.
    pub async fn forget_once(&self, until: Timestamp, limit: u32) -> Result<usize, StoreError> {
        self.write(move |conn| sql::run(conn, FORGET, params![micros(until), limit]))
            .await
    }
}

/// Remembers a request together with what else is written with it. Fails when one of the same
/// scope has been answered.
pub(crate) fn remember(conn: &Connection, once: &NewOnce) -> Result<(), StoreError> {
    let (subject, answer) = match &once.progress {
        OnceProgress::Begun { subject } => (Some(subject), None),
        OnceProgress::Answered(answer) => (None, Some(answer)),
    };
    let seal = once.request.seal.map(|seal| {
        let mut bytes = seal.key.to_vec();
        bytes.extend(seal.hash);
        bytes
    });
    let params = params![
        once.request.scope,
        once.request.content,
        seal,
        micros(once.at),
        subject,
        answer.map(|answer| answer.status),
        answer.map(|answer| &answer.body),
        micros(once.since),
    ];
    match sql::run(conn, REMEMBER, params)? {
        1 => Ok(()),
        _ => Err(StoreError::AnsweredAlready),
    }
}

fn entry(scope: [u8; 32], row: &Row<'_>) -> Result<OnceEntry, StoreError> {
    let mut columns = Columns::of(row);
    let content = columns.take()?;
    let seal: Option<Vec<u8>> = columns.take()?;
    let request = OnceRequest {
        scope,
        content,
        seal: seal.as_deref().map(unsealed).transpose()?,
    };
    let subject: Option<String> = columns.take()?;
    let status: Option<u16> = columns.whole_option()?;
    let body: Option<String> = columns.take()?;
    let progress = match (subject, status, body) {
        (Some(subject), None, None) => OnceProgress::Begun { subject },
        (None, Some(status), Some(body)) => OnceProgress::Answered(Answer { status, body }),
        _ => {
            return Err(StoreError::Corrupt(
                "a request neither begun nor answered".to_owned(),
            ));
        }
    };
    Ok(OnceEntry { request, progress })
}

fn unsealed(bytes: &[u8]) -> Result<Seal, StoreError> {
    let parts = bytes.split_at_checked(SEAL_KEY);
    let seal = parts.and_then(|(key, hash)| {
        Some(Seal {
            key: key.try_into().ok()?,
            hash: hash.try_into().ok()?,
        })
    });
    seal.ok_or_else(|| StoreError::Corrupt("a seal of the wrong length".to_owned()))
}
