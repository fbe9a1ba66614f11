//! Creating, reading and changing one job.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use agent_domain::{
    Client, ClientId, Continued, DeniedCall, Ending, Event, Facts, Fence, Job, JsonText, LostRun,
    PaidBy, Phase, PullRequest, Reason, Resume, State, Status, Usd, WorkerId,
};
use agent_storage::{Change, NewJob, StoreError};

use crate::kit::{
    at, bytes, change, claimed, claimed_until, client, create, happens, job, options, store,
};

/// A job in which no field is empty and no two are alike.
fn continued(client: &Client) -> Continued {
    Continued {
        root: job(5, client).id,
        job: job(6, client).id,
        session_id: "11111111-1111-4111-8111-111111111111".into(),
        base: "a".repeat(40).parse().unwrap(),
        head: Some("b".repeat(40).parse().unwrap()),
        pushed: Some("c".repeat(40).parse().unwrap()),
        saved_ref: Some("refs/agent/6".into()),
        pull_request: Some(PullRequest {
            number: 12,
            url: "http://forge.example/12".into(),
        }),
        told: Some("go on".into()),
    }
}

fn full(client: &Client) -> Job {
    let mut full = job(7, client);
    full.spec.prompt = "line\n\"quoted\" \u{1F980}".into();
    full.spec.title = Some("\"; rm -rf / #".into());
    full.spec.os_feature_id = Some("feature".into());
    full.spec.callback_url = Some("http://callback.example/x".parse().unwrap());
    full.spec.options = options();
    full.spec.base = Some("develop".parse().unwrap());
    full.spec.metadata = Some(JsonText::new(r#"{"b":1,"a":[]}"#));
    full.retry_of = Some(job(6, client).id);
    full.version = 0;
    full.attempt = 3;
    full.fence = Fence(4);
    full.worker = Some(WorkerId("built-in \u{1F980}".into()));
    full.paid_by = Some(PaidBy {
        name: "team-a".parse().unwrap(),
        epoch: 3,
    });
    full.lost_runs = vec![
        LostRun::new(2, at(18), "its \"supervisor\"\ndied"),
        LostRun::new(3, at(19), ""),
    ];
    full.facts = Facts {
        base_commit: Some("a".repeat(40).parse().unwrap()),
        head_commit: Some("b".repeat(64).parse().unwrap()),
        saved_ref: Some("refs/agent/7".into()),
        worktree_path: Some("/worktrees/7".into()),
        exit_code: Some(-5),
        pull_request: Some(PullRequest {
            number: 13,
            url: "http://forge.example/13".into(),
        }),
        files_changed: Some(14),
        session_id: Some("session".into()),
        model: Some("used".into()),
        cli_version: Some("2.1".into()),
        num_turns: Some(15),
        usage: None,
        news: None,
        cost: None,
        allotted: Some(Usd::from_nanos(7)),
        output: Some(JsonText::new(r#"{"a":1}"#)),
        denied: ["\"{\"", ""]
            .map(|text| DeniedCall {
                id: "id".into(),
                tool: format!("tool{text}"),
                input: (!text.is_empty()).then(|| text.into()),
            })
            .into(),
        phase_detail: Some("waiting".into()),
    };
    full.resume = Some(Resume {
        session_id: "11111111-1111-4111-8111-111111111111".into(),
        retries: 3,
    });
    full.continues = Some(continued(client));
    full.started_at = Some(at(16));
    full.updated_at = at(17);
    full
}

fn every_state() -> Vec<State> {
    vec![
        State::Queued {
            not_before: Some(at(100)),
            reason: Some(Reason::UsageLimit),
        },
        State::Running {
            phase: Phase::Delivering,
            lease_until: at(101),
            cancel_requested_at: Some(at(102)),
        },
        State::Completed { at: at(103) },
        State::Failed {
            at: at(104),
            reason: Reason::Git,
            error: "no such remote".into(),
        },
        State::Cancelled {
            at: at(105),
            requested_at: at(106),
        },
    ]
}

#[tokio::test]
async fn a_job_reads_back_as_written_in_every_state() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let mut written = full(&client(1));
    create(&store, &written).await;
    let read = store.job(written.id).await.unwrap().unwrap();
    assert_eq!((read.job, read.client), (written.clone(), client(1)));
    for state in every_state() {
        written.state = state;
        written.version += 1;
        let stored = Change {
            seal: None,
            booking: None,
            news: None,
            job: written.clone(),
            event: "changed",
            detail: None,
            delivery: None,
        };
        assert_eq!(store.commit(stored).await, Ok(true));
        assert_eq!(store.job(written.id).await.unwrap().unwrap().job, written);
    }
}

#[tokio::test]
async fn a_commit_stores_every_fact_it_learns() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let bare = job(7, &client(1));
    create(&store, &bare).await;
    let known = full(&client(1));
    let mut next = bare;
    next.version = 1;
    next.facts = known.facts;
    next.attempt = 9;
    next.fence = Fence(10);
    next.started_at = Some(at(30));
    next.updated_at = at(31);
    let stored = Change {
        seal: None,
        booking: None,
        news: None,
        job: next.clone(),
        event: "changed",
        detail: None,
        delivery: None,
    };
    assert_eq!(store.commit(stored).await, Ok(true));
    assert_eq!(store.job(next.id).await.unwrap().unwrap().job, next);
}

#[tokio::test]
async fn a_path_that_is_not_utf_8_survives() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let mut written = job(1, &client(1));
    written.facts.worktree_path = Some(OsString::from_vec(vec![b'/', 0xff, b'x']).into());
    create(&store, &written).await;
    assert_eq!(store.job(written.id).await.unwrap().unwrap().job, written);
}

#[tokio::test]
async fn the_longest_prompt_survives() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let mut written = job(1, &client(1));
    written.spec.prompt = "é".repeat(agent_domain::limits::PROMPT_BYTES / 2).into();
    create(&store, &written).await;
    assert_eq!(store.job(written.id).await.unwrap().unwrap().job, written);
}

#[tokio::test]
async fn an_unknown_job_is_not_found() {
    let (store, _dir) = store();
    assert_eq!(store.job(job(1, &client(1)).id).await, Ok(None));
    assert_eq!(store.history(job(1, &client(1)).id).await, Ok(vec![]));
}

#[tokio::test]
async fn the_position_of_a_new_job_counts_the_ready_ones() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    assert_eq!(create(&store, &job(1, &client(1))).await.position, 1);
    assert_eq!(create(&store, &job(2, &client(1))).await.position, 2);
    let claims = store
        .claim(1, at(20), |job| Some(claimed(job, at(20))))
        .await;
    assert_eq!(claims.unwrap().len(), 1);
    assert_eq!(create(&store, &job(3, &client(1))).await.position, 2);
}

#[tokio::test]
async fn a_job_can_bring_its_client_along() {
    let (store, _dir) = store();
    let new = NewJob {
        job: job(1, &client(1)),
        create_client: Some(client(1)),
    };
    let created = store.create_job(new).await.unwrap();
    assert_eq!(created.client_id, client(1).id);
    assert_eq!(store.client(client(1).id).await, Ok(Some(client(1))));

    let id = ClientId::from_bytes(bytes(60));
    let late = Client { id, ..client(1) };
    let new = NewJob {
        job: job(2, &late),
        create_client: Some(late),
    };
    let created = store.create_job(new).await.unwrap();
    assert_eq!(
        created.client_id,
        client(1).id,
        "the one that is there is used"
    );
    let read = store.job(job(2, &client(1)).id).await.unwrap().unwrap();
    assert_eq!(read.job.client_id, client(1).id);
    assert_eq!(store.clients().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_job_that_is_refused_leaves_no_client_behind() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    create(&store, &job(1, &client(1))).await;
    let same_id = Job {
        spec: job(2, &client(2)).spec,
        ..job(1, &client(2))
    };
    let new = NewJob {
        job: same_id,
        create_client: Some(client(2)),
    };
    assert!(store.create_job(new).await.is_err());
    assert_eq!(store.clients().await.unwrap(), [client(1)]);
}

#[tokio::test]
async fn a_job_of_an_unknown_client_is_refused() {
    let (store, _dir) = store();
    let new = NewJob {
        job: job(1, &client(1)),
        create_client: None,
    };
    assert_eq!(store.create_job(new).await, Err(StoreError::ClientGone));
    assert_eq!(store.job(job(1, &client(1)).id).await, Ok(None));
}

#[tokio::test]
async fn a_branch_is_held_by_an_unfinished_job_of_the_same_client_only() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    store.insert_client(client(2)).await.unwrap();
    let first = job(1, &client(1));
    create(&store, &first).await;
    let mut second = job(2, &client(1));
    second.spec.branch = first.spec.branch.clone();
    let new = NewJob {
        job: second,
        create_client: None,
    };
    assert_eq!(
        store.create_job(new.clone()).await,
        Err(StoreError::BranchHeld(first.id))
    );
    let mut elsewhere = job(3, &client(2));
    elsewhere.spec.branch = first.spec.branch.clone();
    create(&store, &elsewhere).await;

    let running = claimed(&first, at(20));
    assert_eq!(store.commit(running.clone()).await, Ok(true));
    assert_eq!(
        store.create_job(new.clone()).await,
        Err(StoreError::BranchHeld(first.id))
    );
    finish(&store, &running.job, Ending::Completed).await;
    assert!(store.create_job(new).await.is_ok());
}

async fn finish(store: &agent_storage::Store, job: &Job, ending: Ending) -> Job {
    let event = Event::Finished {
        fence: job.fence,
        ending,
        facts: Facts::default(),
    };
    happens(store, job, event, at(50)).await
}

#[tokio::test]
async fn a_change_based_on_an_old_version_is_refused_and_changes_nothing() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let queued = job(1, &client(1));
    create(&store, &queued).await;
    let cancelled = change(&queued, Event::CancelRequested, at(20));
    let mut stale = claimed(&queued, at(21));
    stale.delivery = Some(crate::outbox::delivery(1, at(21)));
    assert_eq!(store.commit(cancelled.clone()).await, Ok(true));
    assert_eq!(store.commit(stale).await, Ok(false));
    assert_eq!(
        store.commit(cancelled.clone()).await,
        Ok(false),
        "not twice either"
    );
    let mut first = cancelled.clone();
    first.job.version = 0;
    assert_eq!(
        store.commit(first).await,
        Ok(false),
        "version 0 is a creation"
    );

    let read = store.job(queued.id).await.unwrap().unwrap();
    assert_eq!(read.job, cancelled.job);
    assert_eq!(store.history(queued.id).await.unwrap().len(), 2);
    assert_eq!(store.deliveries_of(queued.id).await, Ok(vec![]));
    let unknown = change(&job(2, &client(1)), Event::CancelRequested, at(20));
    assert_eq!(store.commit(unknown).await, Ok(false));
}

#[tokio::test]
async fn history_tells_every_change_but_renewals_and_what_holds_a_phase_up() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let queued = job(1, &client(1));
    create(&store, &queued).await;
    let lease_until = at(60);
    let event = claimed_until(lease_until);
    let running = happens(&store, &queued, event, at(20)).await;
    let fence = running.fence;
    let renewed = happens(
        &store,
        &running,
        Event::Renewed { fence, lease_until },
        at(21),
    )
    .await;
    let held_up = Event::Progressed {
        fence,
        phase: Phase::Fetching,
        facts: Facts {
            phase_detail: Some("waiting".into()),
            ..renewed.facts.clone()
        },
    };
    let held_up = happens(&store, &renewed, held_up, at(22)).await;
    let stored = store.job(queued.id).await.unwrap().unwrap().job;
    assert_eq!(stored.facts.phase_detail.as_deref(), Some("waiting"));
    let ended = finish(&store, &held_up, Ending::Completed).await;
    assert_eq!(ended.version, 4);
    let told: Vec<_> = store
        .history(queued.id)
        .await
        .unwrap()
        .into_iter()
        .map(|entry| (entry.at, entry.event, entry.status, entry.attempt))
        .collect();
    let expected = [
        (at(10), "created".to_owned(), Status::Queued, 0),
        (at(20), "claimed".to_owned(), Status::Running, 1),
        (at(50), "completed".to_owned(), Status::Completed, 1),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_number_too_large_for_the_database_is_an_error_and_no_panic() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let mut queued = job(1, &client(1));
    queued.fence = Fence(u64::MAX);
    let new = NewJob {
        job: queued,
        create_client: None,
    };
    let refused = store.create_job(new).await;
    assert!(
        matches!(refused, Err(StoreError::Internal(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn one_unfinished_job_at_a_time_goes_on_in_a_session() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let root = job(1, &client(1));
    let going_on = |n| {
        let mut one = job(n, &client(1));
        one.continues = Some(Continued {
            root: root.id,
            ..continued(&client(1))
        });
        one
    };
    let (first, second) = (going_on(2), going_on(3));
    create(&store, &first).await;
    let new = NewJob {
        job: second.clone(),
        create_client: None,
    };
    let refused = store.create_job(new.clone()).await;
    assert_eq!(refused.err(), Some(StoreError::SessionHeld(first.id)));
    let cancelled = agent_domain::apply(&first, Event::CancelRequested, at(9)).unwrap();
    let change = Change {
        seal: None,
        booking: None,
        news: None,
        job: cancelled.job,
        event: "cancelled",
        detail: None,
        delivery: None,
    };
    assert_eq!(store.commit(change).await, Ok(true));
    store.create_job(new).await.unwrap();
    let jobs = store.jobs_of_session(root.id).await.unwrap();
    assert_eq!(jobs, [second.id, first.id], "the last one first");
}
