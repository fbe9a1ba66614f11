//! After any sequence of operations the counters say what is really there.

use std::collections::{HashMap, HashSet};

use agent_domain::{
    ClientId, Ending, Event, Facts, Job, JobId, Place, Priority, Reason, State, Status, Tag,
    Timestamp,
};
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
    /// Jobs that can be claimed.
    ready: HashSet<JobId>,
    /// Clients that had some at the end of the last transaction.
    waiting: HashSet<ClientId>,
    tags: HashMap<ClientId, Tag>,
    served: Tag,
    now: i64,
    with_priorities: bool,
}

impl Model {
    fn change(&mut self, changed: Job) {
        let before = self.jobs.iter_mut().find(|job| job.id == changed.id);
        if let Some(job) = before {
            *job = changed;
        }
    }

    /// Makes parked jobs ready whose time has come.
    fn promote(&mut self) {
        let now = at(self.now);
        let due = self.jobs.iter().filter(|job| match job.state {
            State::Queued { not_before, .. } => not_before.is_none_or(|at| at <= now),
            _ => false,
        });
        self.ready.extend(due.map(|job| job.id));
    }

    /// The first ready job of a client.
    fn first<'a>(&'a self, client: ClientId, gone: &HashSet<JobId>) -> Option<(&'a Job, Place)> {
        let ready = self.jobs.iter().filter(|job| {
            job.client_id == client && self.ready.contains(&job.id) && !gone.contains(&job.id)
        });
        ready
            .map(|job| {
                let comes_back = job.state.reason() == Some(Reason::Lost);
                (job, Place::new(job.created_at, job.priority, comes_back))
            })
            .min_by_key(|(_, place)| *place)
    }

    /// Ends a transaction: who has something to do again is back in line.
    fn settle(&mut self) {
        for client in (1..=3).map(|number| client(number).id) {
            let has_any = self.first(client, &HashSet::new()).is_some();
            if !has_any {
                self.waiting.remove(&client);
            } else if !self.waiting.contains(&client) {
                let tag = self.tags.entry(client).or_default();
                let running = self.jobs.iter().any(|job| is(job, Status::Running));
                if self.waiting.is_empty() && !running {
                    self.served = tag.opens(self.served);
                }
                *tag = tag.back_in_line(self.served);
                self.waiting.insert(client);
            }
        }
    }

    /// Ready jobs in the order in which they are to be taken.
    fn line(&self) -> Vec<JobId> {
        let (mut tags, mut served) = (self.tags.clone(), self.served);
        let mut gone = HashSet::new();
        let mut line = Vec::new();
        while let Some((job, place)) = self
            .waiting
            .iter()
            .filter_map(|client| self.first(*client, &gone))
            .min_by_key(|(job, place)| {
                let tag = tags.get(&job.client_id).copied().unwrap_or_default();
                // Jobs are accepted one after the other, and so are their numbers.
                (tag.turn(job.priority, *place), *place, job.id.to_string())
            })
        {
            let tag = tags.entry(job.client_id).or_default();
            (*tag, served) = tag.taken(place, served);
            gone.insert(job.id);
            line.push(job.id);
        }
        line
    }

    /// Takes a turn of the first one's client.
    fn take(&mut self, taken: Job, now: Timestamp) {
        let (_, place) = self.first(taken.client_id, &HashSet::new()).unwrap();
        let tag = self.tags.entry(taken.client_id).or_default();
        (*tag, self.served) = tag.taken(place, self.served);
        self.ready.remove(&taken.id);
        assert_eq!(taken.updated_at, now);
        self.change(taken);
        self.settle();
    }

    /// Whether a position can be told exactly: nobody is urgent, and nothing comes back.
    fn is_plain(&self) -> bool {
        self.jobs.iter().all(|job| {
            !self.ready.contains(&job.id)
                || (job.priority == Priority::default() && job.state.reason() != Some(Reason::Lost))
        })
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
    for (start, with_priorities) in [(1, false), (0x9e37_79b9_7f4a_7c15, true)] {
        let (store, _dir) = store();
        for number in 1..=3 {
            store.insert_client(client(number)).await.unwrap();
        }
        let mut numbers = Numbers(start);
        let mut model = Model {
            now: 100,
            with_priorities,
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
    match numbers.below(if model.with_priorities { 11 } else { 10 }) {
        0..4 => create(store, model, numbers).await,
        4..6 => claim(store, model, numbers).await,
        6 => cancel(store, model, numbers).await,
        7 => stale(store, model, numbers).await,
        10 => reprioritize(store, model, numbers).await,
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
    let id = new.id;
    model.jobs.push(new);
    model.promote();
    model.settle();
    let line = model.line();
    let place = line.iter().position(|ready| *ready == id).unwrap() as u64 + 1;
    let position = created.unwrap().position;
    if model.is_plain() {
        assert_eq!(position, place, "{line:?}");
    } else {
        assert!((1..=line.len() as u64).contains(&position), "{position}");
    }
}

async fn claim(store: &Store, model: &mut Model, numbers: &mut Numbers) {
    let now = at(model.now);
    let limit = u32::try_from(numbers.below(4)).unwrap();
    let asked = store.claim(limit, now, move |job| Some(claimed(job, now)));
    let claims = asked.await.unwrap();
    model.promote();
    model.settle();
    let line = model.line();
    let expected = &line[..line.len().min(usize::try_from(limit).unwrap())];
    let got: Vec<_> = claims.iter().map(|claimed| claimed.job.id).collect();
    assert_eq!(got, expected);
    for claimed in claims {
        model.take(claimed.job, now);
    }
}

async fn cancel(store: &Store, model: &mut Model, numbers: &mut Numbers) {
    let Some(job) = pick(model, numbers, |job| !job.state.status().is_terminal()) else {
        return;
    };
    let next = happens(store, &job, Event::CancelRequested, at(model.now)).await;
    model.ready.remove(&job.id);
    model.change(next);
    model.settle();
}

async fn reprioritize(store: &Store, model: &mut Model, numbers: &mut Numbers) {
    let Some(job) = pick(model, numbers, |job| is(job, Status::Queued)) else {
        return;
    };
    let priority = i64::try_from(numbers.below(201)).unwrap() - 100;
    let event = Event::Reprioritized(priority.try_into().unwrap());
    let next = happens(store, &job, event, at(model.now)).await;
    let due = matches!(next.state, State::Queued { not_before, .. }
        if not_before.is_none_or(|before| before <= at(model.now)));
    if due {
        model.ready.insert(job.id);
    }
    model.change(next);
    model.settle();
}

/// Somebody who read the job earlier comes too late.
async fn stale(store: &Store, model: &mut Model, numbers: &mut Numbers) {
    let Some(mut job) = pick(model, numbers, |job| job.version > 0) else {
        return;
    };
    job.state = State::Completed { at: at(model.now) };
    let late = Change {
        job,
        event: "completed",
        detail: None,
        delivery: None,
        seal: None,
        booking: None,
        news: None,
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
            until: Some(at(model.now + 5) + apart(job.id)),
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
        State::Queued {
            not_before: None,
            ..
        }
    ) {
        model.ready.insert(job.id);
    }
    model.change(next.job);
    model.settle();
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
    let parked = model.count(|job| is(job, Status::Queued)) - model.ready.len() as u64;
    let counts = QueueCounts {
        running: model.count(|job| is(job, Status::Running)),
        ready: model.ready.len() as u64,
        parked,
    };
    assert_eq!(store.counts().await, Ok(counts));
    let queue = store.queue(500).await.unwrap();
    let line: Vec<_> = queue.ready.iter().map(|job| job.id).collect();
    assert_eq!(line, model.line());
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
