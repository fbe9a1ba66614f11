//! After any sequence of operations the counters say what is really there.

use std::collections::HashSet;

use agent_domain::{Ending, Event, Facts, Job, JobId, Reason, Status};
use agent_storage::{Change, ClientCounts, JobFilter, NewJob, QueueCounts, Store, StoreError};

use crate::kit::{at, change, claimed, client, happens, job, store};

/// A small generator: the same numbers in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What must be in the store, found out without it.
#[derive(Default)]
struct Model {
    jobs: Vec<Job>,
    /// Ready jobs in order.
    line: Vec<JobId>,
    now: i64,
}

impl Model {
    fn place(&mut self, changed: Job) {
        let before = self.jobs.iter_mut().find(|job| job.id == changed.id);
        if let Some(job) = before {
            *job = changed;
        }
    }

    /// Puts parked jobs whose time has come into the line, by their time.
    fn promote(&mut self) {
        let now = at(self.now);
        let mut due: Vec<_> = self
            .jobs
            .iter()
            .filter(|job| !self.line.contains(&job.id))
            .filter_map(|job| match job.state {
                agent_domain::State::Queued { not_before, reason } => {
                    Some((not_before?, job.id, reason == Some(Reason::Lost)))
                }
                _ => None,
            })
            .filter(|(not_before, _, _)| *not_before <= now)
            .collect();
        due.sort();
        for (_, id, was_lost) in due {
            self.line
                .insert(if was_lost { 0 } else { self.line.len() }, id);
        }
    }

    fn count(&self, fits: impl Fn(&Job) -> bool) -> u64 {
        self.jobs.iter().filter(|job| fits(job)).count() as u64
    }
}

fn is(job: &Job, status: Status) -> bool {
    job.state.status() == status
}

#[tokio::test]
async fn counters_lists_and_the_line_agree_with_a_model_after_random_operations() {
    for start in [1, 0x9e37_79b9_7f4a_7c15] {
        let (store, _dir) = store();
        for number in 1..=3 {
            store.insert_client(client(number)).await.unwrap();
        }
        let mut numbers = Numbers(start);
        let mut model = Model {
            now: 100,
            ..Model::default()
        };
        for step in 0..400 {
            model.now += i64::try_from(numbers.below(3)).unwrap();
            operate(&store, &mut model, &mut numbers).await;
            if step % 40 == 39 {
                check(&store, &model).await;
            }
        }
        let seen: HashSet<_> = model.jobs.iter().map(|j| j.state.status()).collect();
        assert_eq!(seen.len(), 5, "the sequence reached every status");
    }
}

async fn operate(store: &Store, model: &mut Model, numbers: &mut Numbers) {
    match numbers.below(10) {
        0..4 => create(store, model, numbers).await,
        4..6 => claim(store, model, numbers).await,
        6 => cancel(store, model, numbers).await,
        7 => stale(store, model, numbers).await,
        _ => end_one(store, model, numbers).await,
    }
}

async fn create(store: &Store, model: &mut Model, numbers: &mut Numbers) {
    let number = model.jobs.len() as u64 + 1;
    let mut new = job(number, &client(numbers.below(3) + 1));
    // Few branches, so that many are held.
    new.spec.branch = format!("b{}", numbers.below(12)).parse().unwrap();
    (new.created_at, new.updated_at) = (at(model.now), at(model.now));
    let holder = model.jobs.iter().find(|job| {
        !job.state.status().is_terminal()
            && job.client_id == new.client_id
            && job.spec.branch == new.spec.branch
    });
    let holder = holder.map(|job| job.id);
    let created = store
        .create_job(NewJob {
            job: new.clone(),
            create_client: None,
        })
        .await;
    if let Some(holder) = holder {
        assert_eq!(created, Err(StoreError::BranchHeld(holder)));
        return;
    }
    model.promote();
    model.line.push(new.id);
    model.jobs.push(new);
    assert_eq!(created.unwrap().position, model.line.len() as u64);
}

async fn claim(store: &Store, model: &mut Model, numbers: &mut Numbers) {
    let now = at(model.now);
    let limit = u32::try_from(numbers.below(4)).unwrap();
    let asked = store.claim(limit, now, move |job| Some(claimed(job, now)));
    let claims = asked.await.unwrap();
    model.promote();
    let expected: Vec<_> = model
        .line
        .drain(..model.line.len().min(usize::try_from(limit).unwrap()))
        .collect();
    let got: Vec<_> = claims.iter().map(|claimed| claimed.job.id).collect();
    assert_eq!(got, expected);
    for claimed in claims {
        model.place(claimed.job);
    }
}

async fn cancel(store: &Store, model: &mut Model, numbers: &mut Numbers) {
    let Some(job) = pick(model, numbers, |job| !job.state.status().is_terminal()) else {
        return;
    };
    let next = happens(store, &job, Event::CancelRequested, at(model.now)).await;
    model.line.retain(|id| *id != job.id);
    model.place(next);
}

/// Somebody who read the job earlier comes too late.
async fn stale(store: &Store, model: &mut Model, numbers: &mut Numbers) {
    let Some(mut job) = pick(model, numbers, |job| job.version > 0) else {
        return;
    };
    job.state = agent_domain::State::Completed { at: at(model.now) };
    let late = Change {
        job,
        event: "completed",
        detail: None,
        delivery: None,
        seal: None,
        booking: None,
    };
    assert_eq!(store.commit(late).await, Ok(false));
}

async fn end_one(store: &Store, model: &mut Model, numbers: &mut Numbers) {
    let Some(job) = pick(model, numbers, |job| is(job, Status::Running)) else {
        return;
    };
    let ending = match numbers.below(4) {
        0 => Ending::Completed,
        1 => Ending::Failed {
            reason: Reason::Git,
            error: "broken".into(),
        },
        2 => Ending::Lost {
            error: "gone".into(),
        },
        _ => Ending::Parked {
            // Every time is used once, so the order is never a tie.
            until: at(model.now + 5) + apart(job.id),
            reason: Reason::UsageLimit,
        },
    };
    let mut event = Event::Finished {
        fence: job.fence,
        ending,
        facts: Facts::default(),
    };
    if numbers.below(4) == 0 {
        event = Event::Released { fence: job.fence };
    }
    let next = change(&job, event, at(model.now));
    assert_eq!(store.commit(next.clone()).await, Ok(true));
    if matches!(
        next.job.state,
        agent_domain::State::Queued {
            not_before: None,
            ..
        }
    ) {
        model.line.insert(0, job.id);
    }
    model.place(next.job);
}

/// Microseconds that differ from job to job.
fn apart(id: JobId) -> std::time::Duration {
    let id = id.to_string();
    std::time::Duration::from_micros(u64::from_str_radix(&id[24..], 16).unwrap())
}

fn pick(model: &Model, numbers: &mut Numbers, fits: impl Fn(&Job) -> bool) -> Option<Job> {
    let fitting: Vec<_> = model.jobs.iter().filter(|job| fits(job)).collect();
    let index = numbers.below(fitting.len().max(1) as u64);
    fitting
        .get(usize::try_from(index).unwrap())
        .map(|job| (*job).clone())
}

async fn check(store: &Store, model: &Model) {
    let parked = model.count(|job| is(job, Status::Queued)) - model.line.len() as u64;
    let counts = QueueCounts {
        running: model.count(|job| is(job, Status::Running)),
        ready: model.line.len() as u64,
        parked,
    };
    assert_eq!(store.counts().await, Ok(counts));
    let queue = store.queue(500).await.unwrap();
    let line: Vec<_> = queue.ready.iter().map(|job| job.id).collect();
    assert_eq!(line, model.line);
    assert_eq!(queue.parked.len() as u64, parked);
    assert_eq!(queue.running.len() as u64, counts.running);

    for number in 1..=3 {
        let id = client(number).id;
        let counts = ClientCounts {
            active: model.count(|j| j.client_id == id && !j.state.status().is_terminal()),
            total: model.count(|j| j.client_id == id),
        };
        assert_eq!(store.client_counts(id).await, Ok(counts));
        for status in Status::ALL {
            let filter = JobFilter {
                statuses: vec![status],
                client_id: Some(id),
                limit: 500,
                ..JobFilter::default()
            };
            let page = store.list_jobs(filter).await.unwrap();
            let there = model.count(|j| j.client_id == id && is(j, status));
            assert_eq!((page.total, page.jobs.len() as u64), (there, there));
        }
    }
    for job in &model.jobs {
        assert_eq!(store.job(job.id).await.unwrap().unwrap().job, *job);
    }
}
