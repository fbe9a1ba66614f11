//! Requests that are done at most once: a repeat is given the first answer.
//!
//! What is remembered of a request is stored in the transaction of what it does. Where its answer
//! takes longer than that transaction, it is remembered as begun; a repeat that finds nobody at
//! work on it, because the server died in between, takes it up instead of doing it again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_domain::{Answer, ONCE_KEPT, OnceRequest, Timestamp};
use agent_storage::{NewOnce, OnceEntry, OnceProgress};

use crate::engine::Engine;
use crate::error::EngineError;

/// How often what is out of date is thrown away.
const PRUNE_EVERY: Duration = Duration::from_hours(1);
/// How much of it at once: no other write waits for more.
const PRUNE_BATCH: u32 = 500;

/// A request that is to be done at most once, and how to put what it does into an answer.
pub struct Once<T> {
    request: OnceRequest,
    answer: Arc<dyn Fn(&T) -> Answer + Send + Sync>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply<T> {
    /// It was done now.
    First(T),
    /// It was done before: its first answer.
    Again(Answer),
}

/// A request that is being done.
pub(crate) struct Begun<T> {
    once: Once<T>,
    /// What an earlier try made or changed before it was broken off.
    pub(crate) unfinished: Option<String>,
}

/// The requests being done right now.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<HashSet<[u8; 32]>>);

/// Ends a request's being done when it is dropped.
struct Place<'a> {
    all: &'a InFlight,
    scope: [u8; 32],
}

impl<T> Once<T> {
    /// Does `request` at most once; `answer` must not block.
    pub fn new(
        request: OnceRequest,
        answer: impl Fn(&T) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self {
            request,
            answer: Arc::new(answer),
        }
    }
}

impl<T> Begun<T> {
    /// What to remember once `done` is all that has to be done.
    pub(crate) fn answered(&self, done: &T, at: Timestamp) -> NewOnce {
        self.entry(OnceProgress::Answered((self.once.answer)(done)), at)
    }

    /// What to remember while the answer is not known yet.
    pub(crate) fn begun(&self, subject: &impl ToString, at: Timestamp) -> NewOnce {
        let subject = subject.to_string();
        self.entry(OnceProgress::Begun { subject }, at)
    }

    fn entry(&self, progress: OnceProgress, at: Timestamp) -> NewOnce {
        NewOnce {
            request: self.once.request.clone(),
            progress,
            at,
            since: since(at),
        }
    }
}

impl<T> Clone for Begun<T> {
    fn clone(&self) -> Self {
        Self {
            once: Once {
                request: self.once.request.clone(),
                answer: Arc::clone(&self.once.answer),
            },
            unfinished: self.unfinished.clone(),
        }
    }
}

impl InFlight {
    fn begin(&self, scope: [u8; 32]) -> Option<Place<'_>> {
        let mut scopes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Not `then_some`: a place that is made and dropped would free that of another.
        scopes.insert(scope).then(|| Place { all: self, scope })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut scopes = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        scopes.remove(&self.scope);
    }
}

impl Engine {
    /// Does `work`, unless `once` says that it was done before. With `once` it goes on when the
    /// caller hangs up, so that a repeat finds its answer.
    pub(crate) async fn at_most_once<T, F>(
        &self,
        once: Option<Once<T>>,
        work: impl FnOnce(Self, Option<Begun<T>>) -> F + Send + 'static,
    ) -> Result<Reply<T>, EngineError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send,
    {
        let Some(once) = once else {
            return work(self.clone(), None).await.map(Reply::First);
        };
        let engine = self.clone();
        let doing = self.spawn(async move {
            let place = engine.inner.once.begin(once.request.scope);
            let _place = place.ok_or(EngineError::IdempotencyInFlight)?;
            let unfinished = match engine.remembered(&once.request).await? {
                Some(OnceProgress::Answered(answer)) => return Ok(Reply::Again(answer)),
                Some(OnceProgress::Begun { subject }) => Some(subject),
                None => None,
            };
            let begun = Begun { once, unfinished };
            work(engine.clone(), Some(begun)).await.map(Reply::First)
        });
        doing.await.unwrap_or(Err(EngineError::Interrupted))
    }

    /// Remembers what a request has done after all that it did.
    pub(crate) async fn remember_answer<T>(
        &self,
        begun: Option<&Begun<T>>,
        done: &T,
    ) -> Result<(), EngineError> {
        let Some(begun) = begun else {
            return Ok(());
        };
        let entry = begun.answered(done, self.inner.clock.now());
        Ok(self.inner.store.remember(entry).await?)
    }

    async fn remembered(&self, request: &OnceRequest) -> Result<Option<OnceProgress>, EngineError> {
        let since = since(self.inner.clock.now());
        match self.inner.store.once(request.scope, since).await? {
            None => Ok(None),
            Some(OnceEntry {
                request: first,
                progress,
            }) => {
                let same = first.asks_the_same_as(request);
                same.then_some(Some(progress))
                    .ok_or(EngineError::IdempotencyKeyReused)
            }
        }
    }
}

/// Throws away what is out of date, until the engine stops.
pub(crate) async fn prune(engine: Engine) {
    loop {
        if let Err(error) = prune_now(&engine).await {
            tracing::warn!(%error, "old idempotency keys not removed");
        }
        tokio::select! {
            () = engine.inner.stop.cancelled() => return,
            () = tokio::time::sleep(PRUNE_EVERY) => {}
        }
    }
}

async fn prune_now(engine: &Engine) -> Result<(), EngineError> {
    let until = since(engine.inner.clock.now());
    let batch = usize::try_from(PRUNE_BATCH).unwrap_or(usize::MAX);
    while engine.inner.store.forget_once(until, PRUNE_BATCH).await? >= batch {}
    Ok(())
}

fn since(now: Timestamp) -> Timestamp {
    now.checked_sub(ONCE_KEPT).unwrap_or(Timestamp::MIN)
}
