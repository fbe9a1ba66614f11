//! Sends the callbacks that are due, and writes down what came of each try.
//!
//! A callback becomes a row in the transaction that ends its job, so a crash loses none; one that
//! was sent but not written down yet is sent again with the same id. An endpoint that fails holds
//! up nobody else: see [`crate::breaker`].

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_domain::{CALLBACK_SCHEDULE, DeliveryId, JobId, Timestamp, jittered};
use agent_storage::{DeliveryLog, DeliveryState, DeliveryTry, DueDelivery, OutboxLook};
use agent_webhook::{Attempt, Post, Verdict};
use tokio::time::Instant;

use crate::breaker::{AT_ONCE, Endpoints, Turn};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::once::{Once, Reply};

/// Callbacks under way at the same time.
const SENDING_MAX: usize = 16;
/// How long a callback rests whose outcome could not be written down; it is due still.
const NOT_WRITTEN: Duration = Duration::from_secs(30);
/// Longest sleep before looking again, should a wake-up be lost or the clock be set.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

impl Engine {
    /// Sends a job's callback once more, under its old id and with a schedule begun anew; returns
    /// when it became due. At most once, like [`Engine::submit_once`].
    pub async fn redeliver_once(
        &self,
        job: JobId,
        id: DeliveryId,
        once: Option<Once<Timestamp>>,
    ) -> Result<Reply<Timestamp>, EngineError> {
        self.at_most_once(once, move |engine, begun| async move {
            let now = engine.inner.clock.now();
            let once = begun.map(|begun| begun.answered(&now, now));
            let Some(endpoint) = engine.inner.store.redeliver(job, id, now, once).await? else {
                engine.job(job).await?;
                return Err(EngineError::DeliveryNotFound);
            };
            // Whoever asks for it may know that the endpoint answers again.
            engine.endpoints().try_now(&endpoint, now);
            engine.inner.outbox.notify_one();
            Ok(now)
        })
        .await
    }

    /// Returns a job's callbacks with every try. One whose endpoint is left alone for now is due
    /// when that ends.
    pub async fn deliveries(&self, id: JobId) -> Result<Vec<DeliveryLog>, EngineError> {
        self.job(id).await?;
        let mut logs = self.inner.store.deliveries_of(id).await?;
        let (endpoints, now) = (self.endpoints(), self.inner.clock.now());
        for log in &mut logs {
            if let DeliveryState::Pending { due_at } = &mut log.state {
                let until = endpoints.open_until(&log.url.endpoint(), now);
                *due_at = until.unwrap_or(*due_at).max(*due_at);
            }
        }
        Ok(logs)
    }

    /// How many endpoints have failed too often and have not answered since.
    pub(crate) fn failing_endpoints(&self) -> usize {
        self.endpoints().failing()
    }

    fn endpoints(&self) -> MutexGuard<'_, Endpoints> {
        let endpoints = self.inner.endpoints.lock();
        endpoints.unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is being sent right now, so that a look at the outbox does not send it twice.
#[derive(Default)]
struct InFlight(Mutex<HashSet<DeliveryId>>);

impl InFlight {
    fn begin(&self, id: DeliveryId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id);
    }

    fn ids(&self) -> Vec<DeliveryId> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .copied()
            .collect()
    }

    fn end(&self, id: DeliveryId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
    }
}

/// Runs until the engine stops.
pub(crate) async fn relay(engine: Engine) {
    let in_flight = Arc::new(InFlight::default());
    loop {
        let next = send_due(&engine, &in_flight).await.unwrap_or_else(|error| {
            tracing::error!(%error, "outbox not readable");
            None
        });
        // Whatever else waits, waits for a try to end, which wakes us.
        let left = next.map(|at| at.duration_since(engine.inner.clock.now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        tokio::select! {
            () = engine.inner.stop.cancelled() => return,
            () = engine.inner.outbox.notified() => {}
            () = tokio::time::sleep(left.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)) => {}
        }
    }
}

/// Begins as many tries as there is room for; returns when there may be more to do.
async fn send_due(
    engine: &Engine,
    in_flight: &Arc<InFlight>,
) -> Result<Option<Timestamp>, EngineError> {
    let now = engine.inner.clock.now();
    let ids = in_flight.ids();
    let fewer = {
        let mut endpoints = engine.endpoints();
        endpoints.forget(now);
        endpoints.room(now)
    };
    let look = OutboxLook {
        now,
        places: SENDING_MAX.saturating_sub(ids.len()),
        each: AT_ONCE,
        fewer,
        in_flight: ids,
    };
    let seen = engine.inner.store.look_at_outbox(look).await?;
    for due in seen.due {
        in_flight.begin(due.id);
        engine.endpoints().begin(&due.endpoint);
        let (own, in_flight) = (engine.clone(), Arc::clone(in_flight));
        engine.spawn(async move {
            let id = due.id;
            if let Err(error) = deliver(&own, due).await {
                tracing::error!(delivery.id = %id, %error, "callback's outcome not written down");
                tokio::select! {
                    () = own.inner.stop.cancelled() => {}
                    () = tokio::time::sleep(NOT_WRITTEN) => {}
                }
            }
            in_flight.end(id);
            own.inner.outbox.notify_one();
        });
    }
    let opportunity = engine.endpoints().next_opportunity(now);
    Ok(seen.next.into_iter().chain(opportunity).min())
}

async fn deliver(engine: &Engine, due: DueDelivery) -> Result<(), EngineError> {
    let at = engine.inner.clock.now();
    let begun = Instant::now();
    let sender = Arc::clone(&engine.inner.sender);
    let (id, tries, round, job_id) = (due.id, due.tries, due.round, due.job_id);
    let endpoint = due.endpoint.clone();
    let sending = tokio::task::spawn_blocking(move || {
        let id = due.id.to_string();
        sender.send(&Post {
            id: &id,
            url: &due.url,
            body: &due.body,
            at,
        })
    });
    let sent = sending.await;
    note_endpoint(engine, &endpoint, sent.as_ref().is_ok_and(shows_life));
    let attempt = sent.map_err(|error| EngineError::Log(std::io::Error::other(error)))?;
    let state = next_state(engine, &attempt, tries);
    log_try(job_id, id, &attempt, state);
    let made = DeliveryTry {
        at,
        duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        status: attempt.status,
        error: attempt.error,
        signed: attempt.signed,
    };
    let store = &engine.inner.store;
    store.record_try(id, round, made, state).await?;
    Ok(())
}

/// Whether the endpoint is up, though it may not like this callback: one host serves many paths.
fn shows_life(attempt: &Attempt) -> bool {
    attempt
        .status
        .is_some_and(|status| status < 500 && status != 429)
}

fn note_endpoint(engine: &Engine, endpoint: &str, alive: bool) {
    let now = engine.inner.clock.now();
    let ids = engine.inner.ids.as_ref();
    match engine.endpoints().end(endpoint, alive, now, ids) {
        Some(Turn::Opened { until }) => {
            tracing::warn!(endpoint, %until, "callbacks to this endpoint fail; left alone for a while");
        }
        Some(Turn::Closed) => tracing::info!(endpoint, "callbacks to this endpoint go out again"),
        None => {}
    }
}

fn next_state(engine: &Engine, attempt: &Attempt, tries_before: u32) -> DeliveryState {
    let after = match attempt.verdict {
        Verdict::Delivered => return DeliveryState::Delivered,
        Verdict::Gone => return DeliveryState::GivenUp,
        Verdict::Retry { after } => after,
    };
    let Some(scheduled) = CALLBACK_SCHEDULE.get(tries_before as usize) else {
        return DeliveryState::GivenUp;
    };
    let wait = jittered(*scheduled, engine.inner.ids.as_ref()).max(after.unwrap_or_default());
    let due_at = engine
        .inner
        .clock
        .now()
        .checked_add(wait)
        .unwrap_or(Timestamp::MAX);
    DeliveryState::Pending { due_at }
}

fn log_try(job: agent_domain::JobId, id: DeliveryId, attempt: &Attempt, state: DeliveryState) {
    let (status, error) = (attempt.status, attempt.error.as_deref());
    match state {
        DeliveryState::Delivered => {
            tracing::info!(job.id = %job, delivery.id = %id, http.status = status, "callback delivered");
        }
        DeliveryState::Pending { due_at } => {
            tracing::warn!(job.id = %job, delivery.id = %id, http.status = status, error, next = %due_at, "callback failed; will be tried again");
        }
        DeliveryState::GivenUp => {
            tracing::error!(job.id = %job, delivery.id = %id, http.status = status, error, "callback given up");
        }
    }
}
