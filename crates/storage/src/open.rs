//! Opening the database: its lock, its connections' settings, its upgrades.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::StoreError;

/// Every upgrade in order; the schema's version is how many of them have been applied.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_jobs.sql"),
    include_str!("../../../migrations/sqlite/0002_trusted_clients.sql"),
    include_str!("../../../migrations/sqlite/0003_lost_runs.sql"),
    include_str!("../../../migrations/sqlite/0004_idempotency_keys.sql"),
    include_str!("../../../migrations/sqlite/0005_earlier_cost.sql"),
    include_str!("../../../migrations/sqlite/0006_log_seals.sql"),
    include_str!("../../../migrations/sqlite/0007_retention.sql"),
    include_str!("../../../migrations/sqlite/0008_job_secrets.sql"),
    include_str!("../../../migrations/sqlite/0009_delivery_endpoints.sql"),
    include_str!("../../../migrations/sqlite/0010_counted_by_code.sql"),
    include_str!("../../../migrations/sqlite/0011_phase_detail.sql"),
    include_str!("../../../migrations/sqlite/0012_options.sql"),
    include_str!("../../../migrations/sqlite/0013_ledger.sql"),
    include_str!("../../../migrations/sqlite/0014_denied.sql"),
    include_str!("../../../migrations/sqlite/0015_resume.sql"),
    include_str!("../../../migrations/sqlite/0016_fair_line.sql"),
    include_str!("../../../migrations/sqlite/0017_output.sql"),
    include_str!("../../../migrations/sqlite/0018_dependencies.sql"),
    include_str!("../../../migrations/sqlite/0019_caps.sql"),
    include_str!("../../../migrations/sqlite/0020_continued.sql"),
    include_str!("../../../migrations/sqlite/0021_credentials.sql"),
];

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the lock of another server is tried, for three seconds in all. What a server that was killed had just begun
/// to start shares its lock until it is the program it is to be.
const LOCK_TRIES: u32 = 150;
/// Pause between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// More than there are distinct statements, list variants included.
const STATEMENTS_CACHED: usize = 128;

/// For every connection.
const PRAGMAS: &str = "
    -- Off by default for the sake of old databases.
    PRAGMA foreign_keys = ON;
    -- Sorting never needs a file, so a full disk cannot fail a read.
    PRAGMA temp_store = MEMORY;
    -- 16 MiB instead of 2: the inner pages of every index stay in memory at 100,000 jobs and more.
    PRAGMA cache_size = -16384;
";

/// For the one connection that writes.
const WRITER_PRAGMAS: &str = "
    -- A commit reaches the disk before it is acknowledged; NORMAL would lose it with the power.
    PRAGMA synchronous = FULL;
    -- On macOS fsync does not reach the medium, only this does; ignored elsewhere.
    PRAGMA fullfsync = ON;
    PRAGMA checkpoint_fullfsync = ON;
    -- After a burst the log file shrinks again.
    PRAGMA journal_size_limit = 67108864;
    -- Checkpoints after 16 MiB of log instead of 4: under load most of its pages are written again
    -- before that, so less is copied and synced.
    PRAGMA wal_autocheckpoint = 4096;
";

/// For connections that only read: a write through them is an error.
const READER_PRAGMAS: &str = "PRAGMA query_only = ON;";

/// The database, opened for writing and held against other servers.
pub(crate) struct Opened {
    /// Where it really is.
    pub(crate) path: PathBuf,
    /// The only connection that writes.
    pub(crate) writer: Connection,
    /// Held as long as it is open.
    pub(crate) lock: File,
}

/// Locks, opens, creates and upgrades the database at `path` as need be.
pub(crate) fn open(path: &Path) -> Result<Opened, StoreError> {
    let path = real_path(path)?;
    let lock = lock(&path)?;
    create(&path)?;
    let mut writer = connect(&path)?;
    // Readers and the writer do not wait for each other. Kept in the file, so set only here.
    writer.pragma_update(None, "journal_mode", "WAL")?;
    writer.execute_batch(WRITER_PRAGMAS)?;
    upgrade(&mut writer, MIGRATIONS, &path)?;
    Ok(Opened { path, writer, lock })
}

/// Opens another connection that only reads.
pub(crate) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let conn = connect(path)?;
    conn.execute_batch(READER_PRAGMAS)?;
    Ok(conn)
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    // Not OPEN_CREATE: the file was made with its permissions before.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    // Plans do not depend on bound values. Otherwise this build of SQLite (it has STAT4) prepares
    // a cached statement anew each time a value is bound that might change its plan, which costs
    // more than most of ours take to run.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.execute_batch(PRAGMAS)?;
    Ok(conn)
}

/// Follows links, so that two names of one database find the same lock.
fn real_path(path: &Path) -> Result<PathBuf, StoreError> {
    let failed = |error| StoreError::io(&path.display().to_string(), &error);
    // Found out before a lock file is made beside it.
    if path.is_dir() {
        return Err(StoreError::Unavailable(format!(
            "{} is a directory",
            path.display()
        )));
    }
    if path.exists() {
        return path.canonicalize().map_err(failed);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(StoreError::Unavailable(format!(
            "{} is not the path of a file",
            path.display()
        )));
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    fs::create_dir_all(folder).map_err(failed)?;
    Ok(folder.canonicalize().map_err(failed)?.join(name))
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = PathBuf::from(name);
    let failed = |error| StoreError::io(&lock.display().to_string(), &error);
    let file = private().truncate(false).open(&lock).map_err(failed)?;
    let mut tries = 1;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if tries >= LOCK_TRIES => {
                return Err(StoreError::InUse { lock });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
        }
        tries += 1;
    }
}

/// Makes the file if there is none. SQLite gives its log the same permissions.
fn create(path: &Path) -> Result<(), StoreError> {
    let opened = private().truncate(false).open(path);
    opened
        .map(drop)
        .map_err(|error| StoreError::io(&path.display().to_string(), &error))
}

/// Prompts are nobody else's business.
pub(crate) fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

/// Applies the migrations the database does not have yet, all or none of them.
fn upgrade(conn: &mut Connection, migrations: &[&str], path: &Path) -> Result<(), StoreError> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    if found <= 0 && !is_empty(&transaction)? {
        return Err(StoreError::Foreign(path.to_owned()));
    }
    let applied = usize::try_from(found).unwrap_or(0);
    for migration in migrations.iter().skip(applied) {
        transaction.execute_batch(migration)?;
    }
    if found < known {
        transaction.pragma_update(None, "user_version", known)?;
    }
    transaction.commit()?;
    Ok(())
}

fn is_empty(conn: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)";
    Ok(conn.query_row(sql, [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (Connection, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let conn = Connection::open(dir.path().join("x.db")).unwrap();
        (conn, dir)
    }

    fn version(conn: &Connection) -> i64 {
        conn.pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn every_file_of_the_migrations_folder_is_applied_in_order() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite");
        let mut files: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let texts: Vec<String> = files
            .iter()
            .map(|f| fs::read_to_string(f).unwrap())
            .collect();
        assert_eq!(texts, MIGRATIONS);
        for (index, file) in files.iter().enumerate() {
            let number = format!("{:04}_", index + 1);
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(name.starts_with(&number), "{name}");
        }
    }

    #[test]
    fn an_old_database_gets_only_the_upgrades_it_lacks() {
        let (mut conn, _dir) = fresh();
        let first = "CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (1);";
        let second = "ALTER TABLE a ADD COLUMN y INTEGER; UPDATE a SET y = x + 1;";
        upgrade(&mut conn, &[first], Path::new("x")).unwrap();
        assert_eq!(version(&conn), 1);
        upgrade(&mut conn, &[first, second], Path::new("x")).unwrap();
        upgrade(&mut conn, &[first, second], Path::new("x")).unwrap();
        assert_eq!(version(&conn), 2);
        let rows: Vec<(i64, i64)> = conn
            .prepare("SELECT x, y FROM a")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(rows, [(1, 2)]);
    }

    #[test]
    fn an_upgrade_that_fails_leaves_the_database_as_it_was() {
        let (mut conn, _dir) = fresh();
        let good = "CREATE TABLE a (x INTEGER) STRICT;";
        let bad = "CREATE TABLE b (x INTEGER) STRICT; INSERT INTO nowhere VALUES (1);";
        assert!(upgrade(&mut conn, &[good, bad], Path::new("x")).is_err());
        assert_eq!(version(&conn), 0);
        assert!(is_empty(&conn).unwrap());
    }

    /// As they were when triggers kept the counters.
    const WITH_TRIGGERS: usize = 9;

    #[tokio::test]
    async fn what_triggers_have_counted_is_counted_on() {
        let (mut conn, dir) = fresh();
        upgrade(&mut conn, &MIGRATIONS[..WITH_TRIGGERS], Path::new("x")).unwrap();
        conn.execute_batch(
            "INSERT INTO clients (id, name, github_org, github_repo, default_branch, created_at,
                updated_at)
             VALUES ('00000000000000000000000000000001', 'a', 'a', 'a', 'main', 0, 0);
             INSERT INTO jobs (seq, id, client_id, branch, version, attempt, fence, status, phase,
                lease_until, created_at, updated_at)
             SELECT value, printf('%032x', value), '00000000000000000000000000000001', value, 1, 1, 1,
                'running', 'fetching', 0, 0, 0
             FROM (SELECT column1 AS value FROM (VALUES (1), (2), (3)));
             INSERT INTO job_prompts SELECT seq, 'x' FROM jobs;
             UPDATE jobs SET status = 'queued', phase = NULL, ready_seq = 5 WHERE seq = 3;
             INSERT INTO log_seals VALUES (3, 1, 0, zeroblob(32));",
        )
        .unwrap();
        drop(conn);
        let path = dir.path().join("x.db");
        let store = crate::Store::open(crate::StoreConfig { path, readers: 1 }).unwrap();
        let counts = store.counts().await.unwrap();
        assert_eq!((counts.running, counts.ready, counts.parked), (2, 1, 0));
        assert!(store.unsealed(0, 9).await.unwrap().is_empty());

        let first = "00000000000000000000000000000001".parse().unwrap();
        let release = |job: &agent_domain::Job| {
            let mut job = job.clone();
            job.version += 1;
            job.state = agent_domain::State::Queued {
                not_before: None,
                reason: None,
            };
            Some(crate::Change {
                job,
                event: "released",
                detail: None,
                delivery: None,
                seal: None,
                booking: None,
                news: None,
            })
        };
        let changed = store.change_each(vec![first], release).await.unwrap();
        assert_eq!(changed.len(), 1);
        let counts = store.counts().await.unwrap();
        assert_eq!((counts.running, counts.ready, counts.parked), (1, 2, 0));
        assert_eq!(store.unsealed(0, 9).await.unwrap().len(), 1);
    }

    #[test]
    fn what_was_spent_before_there_was_a_ledger_is_its_opening_balance() {
        const BEFORE: usize = 12;
        let (mut conn, _dir) = fresh();
        upgrade(&mut conn, &MIGRATIONS[..BEFORE], Path::new("x")).unwrap();
        conn.execute_batch(
            "INSERT INTO clients (id, name, github_org, github_repo, default_branch, created_at,
                updated_at)
             VALUES ('c', 'a', 'a', 'a', 'main', 0, 0);
             INSERT INTO jobs (id, client_id, branch, version, attempt, fence, status, phase, ended_at,
                cost_usd, earlier_cost_usd, created_at, updated_at)
             VALUES ('done', 'c', '1', 1, 1, 1, 'completed', NULL, 86400000001, 0.1, 0.2, 0, 9),
                ('runs', 'c', '2', 1, 1, 1, 'running', 'delivering', NULL, 0.5, NULL, 0, 9),
                ('free', 'c', '3', 1, 1, 1, 'completed', NULL, 5, NULL, NULL, 0, 9);",
        )
        .unwrap();
        upgrade(&mut conn, MIGRATIONS, Path::new("x")).unwrap();
        let texts = |sql: &str| {
            let mut statement = conn.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get::<_, String>(0));
            rows.unwrap().map(Result::unwrap).collect::<Vec<_>>()
        };
        let spent = "SELECT id || coalesce(spent_nanos, '-') FROM jobs ORDER BY id";
        assert_eq!(texts(spent), ["done300000000", "free-", "runs-"]);
        let booked = "SELECT job_id || attempt || model || cost_nanos FROM ledger";
        assert_eq!(texts(booked), ["done0unknown300000000"]);
        let days = "SELECT day || client_id || cost_nanos FROM spent_days ORDER BY client_id";
        assert_eq!(texts(days), ["1300000000", "1c300000000"]);
    }

    #[test]
    fn deliveries_of_older_versions_get_the_endpoint_they_would_be_stored_with() {
        let (mut conn, _dir) = fresh();
        conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        upgrade(&mut conn, &MIGRATIONS[..8], Path::new("x")).unwrap();
        let urls = [
            "http://a",
            "HTTPS://A.Example?x=http://b/",
            "http://[::1]:9/x?y",
            "http://a#b/c",
            r"http://a:81\\b/c",
        ];
        for url in urls {
            let sql =
                "INSERT INTO deliveries (id, job_seq, url, body, state, due_at, tries, created_at)
                       VALUES (?1, 1, ?1, '', 'pending', 1, 0, 1)";
            conn.execute(sql, [url]).unwrap();
        }
        upgrade(&mut conn, MIGRATIONS, Path::new("x")).unwrap();
        let mut statement = conn
            .prepare("SELECT url, endpoint FROM deliveries")
            .unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        let rows: Vec<(String, String)> = rows.unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), urls.len());
        for (url, endpoint) in rows {
            let url: agent_domain::CallbackUrl = url.parse().unwrap();
            assert_eq!(endpoint, url.endpoint());
        }
    }

    #[test]
    fn every_table_checks_its_types() {
        let (mut conn, _dir) = fresh();
        upgrade(&mut conn, MIGRATIONS, Path::new("x")).unwrap();
        let loose: i64 = conn
            .query_row(
                "SELECT count(*) FROM pragma_table_list
                 WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%' AND strict = 0",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(loose, 0);
    }
}
