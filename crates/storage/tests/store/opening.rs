//! Opening, closing and copying a database.

use std::os::unix::fs::PermissionsExt;

use agent_domain::Class;
use agent_storage::{Store, StoreConfig, StoreError};
use rusqlite::Connection;

use crate::kit::{at, client, create, job, open, store};

fn at_path(dir: &tempfile::TempDir, name: &str) -> Result<Store, StoreError> {
    let path = dir.path().join(name);
    Store::open(StoreConfig { path, readers: 1 })
}

#[tokio::test]
async fn what_was_stored_is_there_after_reopening() {
    let (store, dir) = store();
    store.insert_client(client(1)).await.unwrap();
    create(&store, &job(1, &client(1))).await;
    drop(store);
    let store = open(&dir);
    let read = store.job(job(1, &client(1)).id).await.unwrap().unwrap();
    assert_eq!(read.job, job(1, &client(1)));
    assert_eq!(store.counts().await.unwrap().ready, 1);
}

#[test]
fn a_lock_that_is_let_go_of_in_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let lock = std::fs::File::create(dir.path().join("agent.db.lock")).unwrap();
    lock.lock().unwrap();
    let soon = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(lock);
    });
    at_path(&dir, "agent.db").unwrap();
    soon.join().unwrap();
}

#[tokio::test]
async fn a_database_in_use_is_refused_also_by_another_name() {
    let (store, dir) = store();
    std::os::unix::fs::symlink("agent.db", dir.path().join("link.db")).unwrap();
    for name in ["agent.db", "link.db"] {
        let refused = at_path(&dir, name).unwrap_err();
        assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
        assert!(refused.to_string().contains("agent.db.lock"), "{refused}");
        assert_eq!(refused.class(), Class::Unavailable);
    }
    drop(store);
    assert!(at_path(&dir, "link.db").is_ok());
}

#[tokio::test]
async fn a_closed_store_refuses_writes_still_reads_and_gives_the_database_free() {
    let (store, dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let clone = store.clone();
    store.close().await;
    store.close().await;
    assert_eq!(
        clone.insert_client(client(2)).await,
        Err(StoreError::Closed)
    );
    assert_eq!(clone.clients().await, Ok(vec![client(1)]));
    let next = open(&dir);
    next.insert_client(client(2)).await.unwrap();
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let (store, dir) = store();
    drop(store);
    let path = dir.path().join("agent.db");
    let conn = Connection::open(&path).unwrap();
    conn.pragma_update(None, "user_version", 1000).unwrap();
    drop(conn);
    let refused = at_path(&dir, "agent.db").unwrap_err();
    assert!(
        matches!(refused, StoreError::NewerSchema { found: 1000, .. }),
        "{refused}"
    );
    let conn = Connection::open(&path).unwrap();
    let version: i64 = conn
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, 1000);
}

#[test]
fn a_file_that_is_not_our_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("text.db"),
        "not a database, but long enough to be looked at".repeat(50),
    )
    .unwrap();
    let refused = at_path(&dir, "text.db").unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt(_)), "{refused}");

    let conn = Connection::open(dir.path().join("other.db")).unwrap();
    conn.execute_batch("CREATE TABLE jobs (x)").unwrap();
    drop(conn);
    let refused = at_path(&dir, "other.db").unwrap_err();
    assert!(matches!(refused, StoreError::Foreign(_)), "{refused}");
}

#[test]
fn a_path_that_cannot_be_a_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(at_path(&dir, "..").is_err());
    assert!(at_path(&dir, ".").is_err());
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert!(at_path(&dir, "file/agent.db").is_err());
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    assert!(at_path(&dir, "folder").is_err());
    assert!(!dir.path().join("folder.lock").exists(), "nothing is left");
}

#[test]
fn folders_are_made_and_only_the_owner_reads_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let store = at_path(&dir, "a/b/agent.db").unwrap();
    for name in ["agent.db", "agent.db-wal", "agent.db.lock"] {
        let file = dir.path().join("a/b").join(name);
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    drop(store);
}

#[tokio::test]
async fn a_backup_is_a_whole_database_and_overwrites_nothing() {
    let (store, dir) = store();
    store.insert_client(client(1)).await.unwrap();
    create(&store, &job(1, &client(1))).await;
    let target = dir.path().join("copy.db");
    store.backup(target.clone()).await.unwrap();
    create(&store, &job(2, &client(1))).await;
    assert!(store.backup(target).await.is_err());
    drop(store);

    let copy = at_path(&dir, "copy.db").unwrap();
    assert_eq!(copy.clients().await, Ok(vec![client(1)]));
    assert_eq!(copy.counts().await.unwrap().ready, 1);
    assert_eq!(copy.promote(at(1)).await, Ok(0));
}

#[tokio::test]
async fn readers_wait_for_each_other_without_failing() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let reads: Vec<_> = (0..200)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.clients().await })
        })
        .collect();
    for read in reads {
        assert_eq!(read.await.unwrap(), Ok(vec![client(1)]));
    }
}
