//! Clients.

use std::time::Duration;

use agent_domain::{
    Client, ClientChange, ClientId, Edit, Event, PermissionMode, RepoSlug, RunOptions,
    RunOptionsChange, Usd,
};
use agent_storage::{ClientCounts, NewJob, StoreError};

use crate::kit::{at, bytes, change, client, create, happens, job, options, store};

fn renamed(client: Client, org: &str, repo: &str) -> Client {
    let repo = RepoSlug::new(org, repo).unwrap();
    Client { repo, ..client }
}

#[tokio::test]
async fn a_client_reads_back_as_written() {
    let (store, _dir) = store();
    let mut written = client(1);
    written.updated_at = at(2);
    written.options = options();
    written.trusted = true;
    written.caps.monthly = Some(Usd::from_nanos(19));
    store.insert_client(written.clone()).await.unwrap();
    assert_eq!(store.client(written.id).await, Ok(Some(written.clone())));
    let found = store.client_by_repo(&written.repo).await;
    assert_eq!(found, Ok(Some(written)));
    assert_eq!(store.client(client(2).id).await, Ok(None));
    assert_eq!(store.client_by_repo(&client(2).repo).await, Ok(None));
}

#[tokio::test]
async fn a_repository_is_found_and_taken_regardless_of_case() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let shouted = RepoSlug::new("ORG", "REPO-1").unwrap();
    assert_eq!(store.client_by_repo(&shouted).await, Ok(Some(client(1))));
    let clashing = renamed(client(2), "oRG", "rEPO-1");
    let taken = StoreError::Taken {
        what: "githubOrg/githubRepo",
    };
    assert_eq!(store.insert_client(clashing).await, Err(taken));
    let same_repo_elsewhere = renamed(client(3), "other", "Repo-1");
    assert_eq!(store.insert_client(same_repo_elsewhere).await, Ok(()));
}

#[tokio::test]
async fn a_foreign_id_is_unique_where_there_is_one() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let mut second = client(2);
    second.os_client_id = Some("os-1".into());
    let taken = StoreError::Taken { what: "osClientId" };
    assert_eq!(store.insert_client(second).await, Err(taken));
    for number in 3..5 {
        let os_client_id = None;
        let without = Client {
            os_client_id,
            ..client(number)
        };
        assert_eq!(store.insert_client(without).await, Ok(()));
    }
}

#[tokio::test]
async fn clients_are_listed_in_the_order_in_which_they_were_added() {
    let (store, _dir) = store();
    for number in [3, 1, 2] {
        store.insert_client(client(number)).await.unwrap();
    }
    store.delete_client(client(1).id, at(5)).await.unwrap();
    let listed = store.clients().await.unwrap();
    assert_eq!(listed, [client(3), client(2)]);
}

#[tokio::test]
async fn a_change_touches_only_what_it_names() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let rename = ClientChange {
        name: Some("New".into()),
        ..ClientChange::default()
    };
    let mut expected = client(1);
    expected.name = "New".into();
    expected.updated_at = at(7);
    let changed = store.update_client(client(1).id, rename, at(7)).await;
    assert_eq!(changed, Ok(Some(expected.clone())));

    let other_branch = ClientChange {
        default_branch: Some("trunk".parse().unwrap()),
        ..ClientChange::default()
    };
    expected.default_branch = "trunk".parse().unwrap();
    expected.updated_at = at(8);
    let changed = store.update_client(client(1).id, other_branch, at(8)).await;
    assert_eq!(changed, Ok(Some(expected.clone())));
    assert_eq!(store.client(client(1).id).await, Ok(Some(expected)));
    let unknown = ClientId::from_bytes(bytes(99));
    let changed = store
        .update_client(unknown, ClientChange::default(), at(9))
        .await;
    assert_eq!(changed, Ok(None));
}

#[tokio::test]
async fn trust_is_given_and_taken_by_itself() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    for trusted in [true, false] {
        let change = ClientChange {
            trusted: Some(trusted),
            ..ClientChange::default()
        };
        let mut expected = client(1);
        (expected.trusted, expected.updated_at) = (trusted, at(7));
        let changed = store.update_client(client(1).id, change, at(7)).await;
        assert_eq!(changed, Ok(Some(expected.clone())));
        let untouched = ClientChange::default();
        let kept = store.update_client(client(1).id, untouched, at(7)).await;
        assert_eq!(kept, Ok(Some(expected)));
    }
}

#[tokio::test]
async fn options_are_set_and_cleared_one_by_one() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let set = |options| ClientChange {
        options,
        ..ClientChange::default()
    };
    let all = set(RunOptionsChange {
        model: Edit::Set("model".into()),
        permission_mode: Edit::Set(PermissionMode::Plan),
        timeout: Edit::Set(Duration::from_secs(11)),
        idle_timeout: Edit::Set(Duration::from_millis(12)),
        fallback_model: Edit::Set("fallback".into()),
        max_turns: Edit::Set(13),
        ..RunOptionsChange::default()
    });
    let mut expected = client(1);
    expected.options = RunOptions {
        model: Some("model".into()),
        permission_mode: Some(PermissionMode::Plan),
        timeout: Some(Duration::from_secs(11)),
        idle_timeout: Some(Duration::from_millis(12)),
        fallback_model: Some("fallback".into()),
        max_turns: Some(13),
        ..RunOptions::default()
    };
    expected.updated_at = at(7);
    let changed = store.update_client(client(1).id, all, at(7)).await;
    assert_eq!(changed, Ok(Some(expected.clone())));

    let some = set(RunOptionsChange {
        model: Edit::Clear,
        timeout: Edit::Clear,
        max_turns: Edit::Clear,
        ..RunOptionsChange::default()
    });
    expected.options.model = None;
    expected.options.timeout = None;
    expected.options.max_turns = None;
    expected.updated_at = at(8);
    let changed = store.update_client(client(1).id, some, at(8)).await;
    assert_eq!(changed, Ok(Some(expected.clone())));
    let others = set(RunOptionsChange {
        permission_mode: Edit::Clear,
        idle_timeout: Edit::Clear,
        fallback_model: Edit::Clear,
        ..RunOptionsChange::default()
    });
    expected.options = RunOptions::default();
    expected.updated_at = at(9);
    store
        .update_client(client(1).id, others, at(9))
        .await
        .unwrap();
    assert_eq!(store.client(client(1).id).await, Ok(Some(expected)));
}

#[tokio::test]
async fn a_job_comes_with_its_own_options_and_its_clients() {
    let (store, _dir) = store();
    let mut owner = client(1);
    owner.options = options();
    store.insert_client(owner.clone()).await.unwrap();
    let mut queued = job(1, &owner);
    queued.spec.options.model = Some("job's".into());
    create(&store, &queued).await;
    let read = store.job(queued.id).await.unwrap().unwrap();
    assert_eq!(read.job.spec.options, queued.spec.options);
    assert_eq!(read.client, owner);
}

#[tokio::test]
async fn a_client_with_unfinished_jobs_is_not_deleted() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let queued = job(1, &client(1));
    create(&store, &queued).await;
    assert_eq!(
        store.delete_client(client(1).id, at(20)).await,
        Err(StoreError::ClientBusy)
    );
    assert!(store.client(client(1).id).await.unwrap().is_some());
    happens(&store, &queued, Event::CancelRequested, at(21)).await;
    assert_eq!(store.delete_client(client(1).id, at(22)).await, Ok(true));
}

#[tokio::test]
async fn a_deleted_client_is_gone_but_its_jobs_keep_its_name() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let queued = job(1, &client(1));
    create(&store, &queued).await;
    happens(&store, &queued, Event::CancelRequested, at(21)).await;
    assert_eq!(store.delete_client(client(1).id, at(22)).await, Ok(true));
    assert_eq!(store.delete_client(client(1).id, at(23)).await, Ok(false));

    assert_eq!(store.client(client(1).id).await, Ok(None));
    assert_eq!(store.client_by_repo(&client(1).repo).await, Ok(None));
    let changed = store.update_client(client(1).id, ClientChange::default(), at(24));
    assert_eq!(changed.await, Ok(None));
    let read = store.job(queued.id).await.unwrap().unwrap();
    assert_eq!(read.client.name, "Client 1");

    let new = NewJob {
        job: job(2, &client(1)),
        create_client: None,
    };
    assert_eq!(store.create_job(new).await, Err(StoreError::ClientGone));
}

#[tokio::test]
async fn what_a_deleted_client_had_is_free_again() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    store.delete_client(client(1).id, at(5)).await.unwrap();
    let id = ClientId::from_bytes(bytes(50));
    let again = Client { id, ..client(1) };
    assert_eq!(store.insert_client(again.clone()).await, Ok(()));
    assert_eq!(store.client_by_repo(&again.repo).await, Ok(Some(again)));
}

#[tokio::test]
async fn a_clients_jobs_are_counted() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    store.insert_client(client(2)).await.unwrap();
    for number in 1..=3 {
        create(&store, &job(number, &client(1))).await;
    }
    create(&store, &job(4, &client(2))).await;
    let cancel = change(&job(2, &client(1)), Event::CancelRequested, at(20));
    assert!(store.commit(cancel).await.unwrap());
    assert_eq!(
        store.client_counts(client(1).id).await,
        Ok(ClientCounts {
            active: 2,
            total: 3
        })
    );
    assert_eq!(
        store.client_counts(client(3).id).await,
        Ok(ClientCounts::default())
    );
}
