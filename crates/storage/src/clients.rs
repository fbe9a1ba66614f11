//! Clients: adding, finding, changing and deleting them.

use agent_domain::{Caps, Client, ClientChange, ClientId, RepoSlug, Timestamp, Usd};
use rusqlite::{Connection, Row, params};

use crate::rows::{self, Columns, client_columns, micros};
use crate::{ClientCounts, NewOnce, Store, StoreError, claim, lanes, ledger, once, options, sql};

pub(crate) const INSERT: &str = "
    INSERT INTO clients (id, os_client_id, name, github_org, github_repo, default_branch,
        model, permission_mode, timeout_us, idle_timeout_us, options, trusted, priority,
        max_concurrent, created_at, updated_at, cap_daily_nanos, cap_monthly_nanos)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
        ?17, ?18)";

pub(crate) const BY_ID: &str = concat!(
    "SELECT ",
    client_columns!(),
    " FROM clients c WHERE c.id = ?1 AND c.deleted_at IS NULL"
);

pub(crate) const IS_THERE: &str = "SELECT 1 FROM clients WHERE id = ?1 AND deleted_at IS NULL";

pub(crate) const BY_REPO: &str = concat!(
    "SELECT ",
    client_columns!(),
    " FROM clients c
      WHERE c.github_org = ?1 COLLATE NOCASE AND c.github_repo = ?2 COLLATE NOCASE
        AND c.deleted_at IS NULL"
);

pub(crate) const BY_OS_CLIENT_ID: &str =
    "SELECT 1 FROM clients WHERE os_client_id = ?1 AND deleted_at IS NULL";

pub(crate) const ALL: &str = concat!(
    "SELECT ",
    client_columns!(),
    " FROM clients c WHERE c.deleted_at IS NULL ORDER BY c.seq"
);

pub(crate) const UPDATE: &str = "
    UPDATE clients
    SET name = ?2, default_branch = ?3, model = ?4, permission_mode = ?5, timeout_us = ?6,
        idle_timeout_us = ?7, options = ?8, trusted = ?9, priority = ?10, max_concurrent = ?11,
        updated_at = ?12, cap_daily_nanos = ?13, cap_monthly_nanos = ?14
    WHERE id = ?1 AND deleted_at IS NULL";

pub(crate) const DELETE: &str =
    "UPDATE clients SET deleted_at = ?2, updated_at = ?2 WHERE id = ?1 AND deleted_at IS NULL";

pub(crate) const COUNTS: &str = "SELECT bucket, jobs FROM job_counts WHERE client_id = ?1";

impl Store {
    /// Adds a client. Its foreign id and its repository (regardless of case) must be free.
    pub async fn insert_client(&self, client: Client) -> Result<(), StoreError> {
        self.write(move |conn| insert(conn, &client)).await
    }

    /// As [`Store::insert_client`], and remembers in the same transaction the request for it.
    pub async fn insert_client_once(
        &self,
        client: Client,
        once: NewOnce,
    ) -> Result<(), StoreError> {
        self.write(move |conn| {
            insert(conn, &client)?;
            once::remember(conn, &once)
        })
        .await
    }

    /// Finds a client that is not deleted.
    pub async fn client(&self, id: ClientId) -> Result<Option<Client>, StoreError> {
        self.glance(move |conn| find(conn, id)).await
    }

    /// Finds the client of a repository, regardless of case, that is not deleted.
    pub async fn client_by_repo(&self, repo: &RepoSlug) -> Result<Option<Client>, StoreError> {
        let repo = repo.clone();
        self.glance(move |conn| by_repo(conn, &repo)).await
    }

    /// Returns every client that is not deleted, in the order in which they were added.
    pub async fn clients(&self) -> Result<Vec<Client>, StoreError> {
        self.read(|conn| sql::all(conn, ALL, [], decode)).await
    }

    /// Counts a client's jobs; zero for a client that does not exist.
    pub async fn client_counts(&self, id: ClientId) -> Result<ClientCounts, StoreError> {
        self.read(move |conn| counts(conn, id)).await
    }

    /// Changes a client and returns it as it then is; `None` if there is none.
    pub async fn update_client(
        &self,
        id: ClientId,
        change: ClientChange,
        now: Timestamp,
    ) -> Result<Option<Client>, StoreError> {
        self.write(move |conn| {
            let Some(client) = find(conn, id)? else {
                return Ok(None);
            };
            let before = client.caps;
            let client = change.applied_to(client, now);
            let [model, permission_mode, timeout, idle_timeout] =
                rows::option_cells(&client.options);
            let params = params![
                id.to_string(),
                client.name,
                client.default_branch.as_str(),
                model,
                permission_mode,
                timeout,
                idle_timeout,
                options::cell(&client.options)?,
                client.trusted,
                client.priority.get(),
                client.max_concurrent,
                micros(now),
                cap(client.caps.daily)?,
                cap(client.caps.monthly)?,
            ];
            sql::run(conn, UPDATE, params)?;
            lanes::sync(conn, &id.to_string())?;
            if client.caps != before {
                claim::release_unpaid_of(conn, id, now)?;
            }
            find(conn, id)
        })
        .await
    }

    /// Deletes a client whose jobs have all ended; they stay, and keep its name. Returns whether
    /// there was one.
    pub async fn delete_client(&self, id: ClientId, now: Timestamp) -> Result<bool, StoreError> {
        self.write(move |conn| {
            if counts(conn, id)?.active > 0 {
                return Err(StoreError::ClientBusy);
            }
            let deleted = sql::run(conn, DELETE, params![id.to_string(), micros(now)])?;
            Ok(deleted == 1)
        })
        .await
    }
}

pub(crate) fn insert(conn: &Connection, client: &Client) -> Result<(), StoreError> {
    if let Some(id) = &client.os_client_id
        && sql::one(conn, BY_OS_CLIENT_ID, [id], |_| Ok(()))?.is_some()
    {
        return Err(StoreError::Taken { what: "osClientId" });
    }
    if by_repo(conn, &client.repo)?.is_some() {
        return Err(StoreError::Taken {
            what: "githubOrg/githubRepo",
        });
    }
    let [model, permission_mode, timeout, idle_timeout] = rows::option_cells(&client.options);
    let params = params![
        client.id.to_string(),
        client.os_client_id,
        client.name,
        client.repo.org(),
        client.repo.repo(),
        client.default_branch.as_str(),
        model,
        permission_mode,
        timeout,
        idle_timeout,
        options::cell(&client.options)?,
        client.trusted,
        client.priority.get(),
        client.max_concurrent,
        micros(client.created_at),
        micros(client.updated_at),
        cap(client.caps.daily)?,
        cap(client.caps.monthly)?,
    ];
    sql::run(conn, INSERT, params)?;
    Ok(())
}

/// Reads two columns.
pub(crate) fn caps(columns: &mut Columns<'_, '_>) -> Result<Caps, StoreError> {
    let (daily, monthly): (Option<u64>, _) = (columns.whole_option()?, columns.whole_option()?);
    Ok(Caps {
        daily: daily.map(Usd::from_nanos),
        monthly: monthly.map(Usd::from_nanos),
    })
}

fn cap(amount: Option<Usd>) -> Result<Option<i64>, StoreError> {
    amount.map(ledger::nanos).transpose()
}

pub(crate) fn find(conn: &Connection, id: ClientId) -> Result<Option<Client>, StoreError> {
    sql::one(conn, BY_ID, [id.to_string()], decode)
}

pub(crate) fn is_there(conn: &Connection, id: ClientId) -> Result<bool, StoreError> {
    let found = sql::one(conn, IS_THERE, [id.to_string()], |_| Ok(()))?;
    Ok(found.is_some())
}

pub(crate) fn by_repo(conn: &Connection, repo: &RepoSlug) -> Result<Option<Client>, StoreError> {
    sql::one(conn, BY_REPO, [repo.org(), repo.repo()], decode)
}

fn counts(conn: &Connection, id: ClientId) -> Result<ClientCounts, StoreError> {
    let mut counts = ClientCounts::default();
    for (bucket, jobs) in sql::all(conn, COUNTS, [id.to_string()], bucket)? {
        counts.total += jobs;
        if matches!(bucket.as_str(), "ready" | "parked" | "running") {
            counts.active += jobs;
        }
    }
    Ok(counts)
}

/// Reads a row of [`COUNTS`].
pub(crate) fn bucket(row: &Row<'_>) -> Result<(String, u64), StoreError> {
    let mut columns = Columns::of(row);
    Ok((columns.take()?, columns.whole()?))
}

fn decode(row: &Row<'_>) -> Result<Client, StoreError> {
    rows::client(&mut Columns::of(row))
}
