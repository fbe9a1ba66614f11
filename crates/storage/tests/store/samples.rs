//! Clients and jobs to test with, and what becomes of them.

use agent_domain::{
    Caps, Client, ClientId, Event, Facts, Fence, Job, JobId, JobSpec, Priority, RepoSlug,
    RunOptions, SecretKinds, State, Timestamp, WorkerId, apply,
};
use agent_storage::Change;

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(crate) fn bytes(number: u64) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}

pub(crate) fn client(number: u64) -> Client {
    Client {
        id: ClientId::from_bytes(bytes(number)),
        os_client_id: Some(format!("os-{number}")),
        name: format!("Client {number}"),
        repo: RepoSlug::new("Org", &format!("Repo-{number}")).unwrap(),
        default_branch: "main".parse().unwrap(),
        options: RunOptions::default(),
        trusted: false,
        priority: Priority::default(),
        max_concurrent: None,
        caps: Caps::default(),
        created_at: at(1),
        updated_at: at(1),
    }
}

/// A queued job with a branch of its own.
pub(crate) fn job(number: u64, client: &Client) -> Job {
    Job {
        id: JobId::from_bytes(bytes(number)),
        client_id: client.id,
        spec: JobSpec {
            prompt: format!("do {number}").into(),
            branch: format!("job-{number}").parse().unwrap(),
            title: None,
            os_feature_id: None,
            callback_url: None,
            base: None,
            metadata: None,
            options: RunOptions::default(),
            secrets: SecretKinds::default(),
            depends_on: Vec::new(),
        },
        retry_of: None,
        priority: Priority::default(),
        version: 0,
        attempt: 0,
        fence: Fence(0),
        worker: None,
        lost_runs: Vec::new(),
        resume: None,
        continues: None,
        paid_by: None,
        state: State::Queued {
            not_before: None,
            reason: None,
        },
        facts: Facts::default(),
        created_at: at(10),
        started_at: None,
        updated_at: at(10),
    }
}

/// What `event` makes of `job`, ready to be committed.
pub(crate) fn change(job: &Job, event: Event, now: Timestamp) -> Change {
    let next = apply(job, event, now).unwrap();
    Change {
        job: next.job,
        event: next.event,
        detail: next.detail,
        delivery: None,
        seal: None,
        booking: None,
        news: None,
    }
}

pub(crate) fn claimed_until(lease_until: Timestamp) -> Event {
    Event::Claimed {
        worker: WorkerId("w".into()),
        lease_until,
        paid_by: None,
    }
}

pub(crate) fn claimed(job: &Job, now: Timestamp) -> Change {
    change(job, claimed_until(now), now)
}
