//! Lists and the queue.

use agent_domain::{Ending, Event, Facts, JobId, Reason, Status, WorkerId};
use agent_storage::{JobFilter, JobPage, Store, StoreError};

use crate::kit::{at, claimed, client, create, happens, job, store};

/// Twenty jobs of two clients in every status: 1 to 20 by number, odd ones of client 1.
async fn twenty(store: &Store) {
    store.insert_client(client(1)).await.unwrap();
    store.insert_client(client(2)).await.unwrap();
    for number in 1..=20 {
        let mut queued = job(number, &client(2 - number % 2));
        queued.spec.title = Some(format!("title {number}"));
        create(store, &queued).await;
        let event = match status(number) {
            Status::Queued => continue,
            Status::Cancelled => Event::CancelRequested,
            _ => Event::Claimed {
                worker: WorkerId("w".into()),
                lease_until: at(60),
                paid_by: None,
            },
        };
        let next = happens(store, &queued, event, at(20)).await;
        let ending = match status(number) {
            Status::Completed => Ending::Completed,
            Status::Failed => Ending::Failed {
                reason: Reason::Git,
                error: "broken".into(),
            },
            _ => continue,
        };
        let fence = next.fence;
        let facts = Facts::default();
        happens(
            store,
            &next,
            Event::Finished {
                fence,
                ending,
                facts,
            },
            at(30),
        )
        .await;
    }
}

fn status(number: u64) -> Status {
    Status::ALL[usize::try_from(number / 2 % 5).unwrap()]
}

fn id(number: u64) -> JobId {
    job(number, &client(1)).id
}

fn ids(page: &JobPage) -> Vec<JobId> {
    page.jobs.iter().map(|job| job.id).collect()
}

/// The jobs of [`twenty`] that fit, newest first.
fn expected(statuses: &[Status], of_client: Option<u64>) -> Vec<JobId> {
    let fits = |number: &u64| {
        (statuses.is_empty() || statuses.contains(&status(*number)))
            && of_client.is_none_or(|client| client == 2 - number % 2)
    };
    (1..=20).rev().filter(fits).map(id).collect()
}

#[tokio::test]
async fn every_combination_of_filters_lists_and_counts_what_fits() {
    let (store, _dir) = store();
    twenty(&store).await;
    for mask in 0..32_u32 {
        for of_client in [None, Some(1), Some(2)] {
            let chosen = |index: &usize| mask >> index & 1 == 1;
            let statuses: Vec<_> = (0..5)
                .filter(chosen)
                .map(|index| Status::ALL[index])
                .collect();
            let all = expected(&statuses, of_client);
            let mut filter = JobFilter {
                statuses,
                client_id: of_client.map(|number| client(number).id),
                limit: 500,
                ..JobFilter::default()
            };
            let page = store.list_jobs(filter.clone()).await.unwrap();
            assert_eq!(ids(&page), all, "{filter:?}");
            assert_eq!(page.total, all.len() as u64, "{filter:?}");

            (filter.limit, filter.offset) = (3, 1);
            let page = store.list_jobs(filter.clone()).await.unwrap();
            let part: Vec<_> = all.iter().copied().skip(1).take(3).collect();
            assert_eq!(ids(&page), part, "{filter:?}");

            (filter.offset, filter.before) = (0, Some(id(11)));
            let page = store.list_jobs(filter.clone()).await.unwrap();
            let older: Vec<_> = all
                .iter()
                .copied()
                .filter(|id| *id < self::id(11))
                .take(3)
                .collect();
            assert_eq!(ids(&page), older, "{filter:?}");
            assert_eq!(page.total, all.len() as u64, "the cursor does not count");
        }
    }
}

#[tokio::test]
async fn a_status_named_twice_counts_once() {
    let (store, _dir) = store();
    twenty(&store).await;
    let filter = JobFilter {
        statuses: vec![Status::Failed, Status::Queued, Status::Failed],
        limit: 500,
        ..JobFilter::default()
    };
    let page = store.list_jobs(filter).await.unwrap();
    assert_eq!(
        ids(&page),
        expected(&[Status::Failed, Status::Queued], None)
    );
    assert_eq!(page.total, page.jobs.len() as u64);
}

#[tokio::test]
async fn a_page_beyond_the_end_is_empty_and_still_has_the_total() {
    let (store, _dir) = store();
    twenty(&store).await;
    for (limit, offset) in [(0, 0), (50, 20), (500, 100_000)] {
        let filter = JobFilter {
            limit,
            offset,
            ..JobFilter::default()
        };
        let page = store.list_jobs(filter).await.unwrap();
        assert_eq!((page.jobs.len(), page.total), (0, 20));
    }
}

#[tokio::test]
async fn an_unknown_cursor_or_client_is_no_whole_list() {
    let (store, _dir) = store();
    twenty(&store).await;
    let before = Some(id(99));
    let filter = JobFilter {
        limit: 5,
        before,
        ..JobFilter::default()
    };
    assert_eq!(
        store.list_jobs(filter).await,
        Err(StoreError::UnknownCursor(id(99)))
    );
    let client_id = Some(client(99).id);
    let filter = JobFilter {
        limit: 5,
        client_id,
        ..JobFilter::default()
    };
    assert_eq!(store.list_jobs(filter).await, Ok(JobPage::default()));
}

#[tokio::test]
async fn a_listed_job_shows_what_the_job_has() {
    let (store, _dir) = store();
    twenty(&store).await;
    let filter = JobFilter {
        limit: 500,
        ..JobFilter::default()
    };
    for listed in store.list_jobs(filter).await.unwrap().jobs {
        let full = store.job(listed.id).await.unwrap().unwrap();
        assert_eq!(listed.client_id, full.client.id);
        assert_eq!(listed.client_name, full.client.name);
        assert_eq!(listed.status, full.job.state.status());
        assert_eq!(listed.reason, full.job.state.reason());
        assert_eq!(listed.completed_at, full.job.state.ended_at());
        assert_eq!(listed.branch, full.job.spec.branch.as_str());
        assert_eq!(listed.title, full.job.spec.title);
        assert_eq!(listed.os_feature_id, full.job.spec.os_feature_id);
        assert_eq!(listed.started_at, full.job.started_at);
        assert_eq!(listed.created_at, full.job.created_at);
        assert_eq!(listed.phase.is_some(), listed.status == Status::Running);
    }
}

#[tokio::test]
async fn the_queue_shows_running_jobs_by_their_start_and_ready_ones_by_their_place() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    for number in 1..=6 {
        create(&store, &job(number, &client(1))).await;
    }
    for (number, now) in [(3, 20), (1, 21)] {
        let claim = claimed(&job(number, &client(1)), at(now));
        assert_eq!(store.commit(claim).await, Ok(true));
    }
    let queue = store.queue(3).await.unwrap();
    let numbers =
        |jobs: &[agent_storage::JobSummary]| jobs.iter().map(|j| j.id).collect::<Vec<_>>();
    assert_eq!(numbers(&queue.running), [id(3), id(1)]);
    assert_eq!(numbers(&queue.ready), [id(2), id(4), id(5)]);
    assert_eq!(queue.parked, []);
}
