//! Running jobs, many at once.

use agent_domain::{Event, Fence, Job, Phase, Status, WorkerId, apply};
use agent_storage::{Change, HeldJob, Store};

use crate::kit::{at, change, claimed_until, client, create, happens, job, store};

async fn running(store: &Store, jobs: u64) -> Vec<Job> {
    store.insert_client(client(1)).await.unwrap();
    let mut running = Vec::new();
    for number in 1..=jobs {
        let new = job(number, &client(1));
        create(store, &new).await;
        running.push(happens(store, &new, claimed_until(at(60)), at(20)).await);
    }
    running
}

fn decided(job: &Job, event: Event) -> Option<Change> {
    let next = apply(job, event, at(30)).ok()?;
    Some(Change {
        job: next.job,
        event: next.event,
        detail: next.detail,
        delivery: None,
        seal: None,
        booking: None,
        news: None,
    })
}

#[tokio::test]
async fn running_jobs_say_who_holds_them_and_how_far_they_are() {
    let (store, _dir) = store();
    let running = running(&store, 3).await;
    change(&running[1], Event::CancelRequested, at(21));
    let ended = happens(
        &store,
        &running[0],
        Event::Released { fence: Fence(1) },
        at(22),
    )
    .await;
    assert_eq!(ended.state.status(), Status::Queued);
    let brief = |job: &Job| HeldJob {
        id: job.id,
        worker: Some(WorkerId("w".into())),
        attempt: 1,
        fence: Fence(1),
        phase: Phase::Fetching,
        lease_until: at(60),
    };
    let expected = vec![brief(&running[1]), brief(&running[2])];
    assert_eq!(store.held().await, Ok(expected));
}

#[tokio::test]
async fn many_jobs_are_changed_together_and_each_only_as_decided() {
    let (store, _dir) = store();
    let running = running(&store, 4).await;
    let mut ids: Vec<_> = running.iter().map(|job| job.id).collect();
    ids.push(job(9, &client(1)).id);
    let (kept, confused) = (ids[1], ids[2]);
    let other = running[3].clone();
    let decide = move |job: &Job| {
        assert_eq!(&*job.spec.prompt, "", "prompts are not read");
        let fence = job.fence;
        match job.id {
            id if id == kept => None,
            id if id == confused => decided(&other, Event::Released { fence }),
            _ => decided(job, Event::Released { fence }),
        }
    };
    let changed = store.change_each(ids.clone(), decide).await.unwrap();
    let changed: Vec<_> = changed.iter().map(|job| job.id).collect();
    assert_eq!(changed, [ids[0], ids[3]]);
    let stored = store.job(ids[0]).await.unwrap().unwrap().job;
    assert_eq!(stored.state.status(), Status::Queued);
    assert_eq!(&*stored.spec.prompt, "do 1", "the prompt is as it was");
    let history = store.history(ids[0]).await.unwrap();
    let last = history.last().unwrap();
    assert_eq!(last.event, "released");
    assert_eq!(
        last.detail.as_deref(),
        Some("no agent had been started yet")
    );
    assert_eq!(store.held().await.unwrap().len(), 2);
}
