//! Sends the callbacks that are due, and writes down what came of each try.
//!
//! A callback becomes a row in the transaction that ends its job, so a crash loses none; one that
//! was sent but not written down yet is sent again with the same id.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_domain::{CALLBACK_SCHEDULE, DeliveryId, JobId, Timestamp, jittered};
use agent_storage::{DeliveryState, DeliveryTry, DueDelivery};
use agent_webhook::{Attempt, Post, Verdict};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::once::{Once, Reply};

/// Callbacks under way at the same time.
const SENDING_MAX: usize = 16;
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
            if engine.inner.store.redeliver(job, id, now, once).await? {
                engine.inner.outbox.notify_one();
                return Ok(now);
            }
            engine.job(job).await?;
            Err(EngineError::DeliveryNotFound)
        })
        .await
    }
}

/// What is being sent right now, so that a look at the outbox does not send it twice.
#[derive(Default)]
struct InFlight(Mutex<HashSet<DeliveryId>>);

impl InFlight {
    fn begin(&self, id: DeliveryId) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id)
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
    let places = Arc::new(Semaphore::new(SENDING_MAX));
    loop {
        if let Err(error) = send_due(&engine, &in_flight, &places).await {
            tracing::error!(%error, "outbox not readable");
        }
        let sleep = next_look(&engine, &in_flight).await;
        tokio::select! {
            () = engine.inner.stop.cancelled() => return,
            () = engine.inner.outbox.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

async fn send_due(
    engine: &Engine,
    in_flight: &Arc<InFlight>,
    places: &Arc<Semaphore>,
) -> Result<(), EngineError> {
    let now = engine.inner.clock.now();
    let limit = u32::try_from(SENDING_MAX * 4).unwrap_or(u32::MAX);
    for due in engine
        .inner
        .store
        .due_deliveries(now, limit, &in_flight.ids())
        .await?
    {
        if !in_flight.begin(due.id) {
            continue;
        }
        let (own, in_flight, places) = (engine.clone(), Arc::clone(in_flight), Arc::clone(places));
        engine.spawn(async move {
            let _place = places.acquire().await;
            let id = due.id;
            if let Err(error) = deliver(&own, due).await {
                tracing::error!(delivery.id = %id, %error, "callback's outcome not written down");
            }
            in_flight.end(id);
            own.inner.outbox.notify_one();
        });
    }
    Ok(())
}

async fn deliver(engine: &Engine, due: DueDelivery) -> Result<(), EngineError> {
    let at = engine.inner.clock.now();
    let begun = Instant::now();
    let sender = Arc::clone(&engine.inner.sender);
    let (id, tries, job_id) = (due.id, due.tries, due.job_id);
    let sending = tokio::task::spawn_blocking(move || {
        let id = due.id.to_string();
        sender.send(&Post {
            id: &id,
            url: &due.url,
            body: &due.body,
            at,
        })
    });
    let attempt = sending
        .await
        .map_err(|error| EngineError::Log(std::io::Error::other(error)))?;
    let state = next_state(engine, &attempt, tries);
    log_try(job_id, id, &attempt, state);
    let made = DeliveryTry {
        at,
        duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        status: attempt.status,
        error: attempt.error,
        signed: attempt.signed,
    };
    engine.inner.store.record_try(id, made, state).await?;
    Ok(())
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

async fn next_look(engine: &Engine, in_flight: &InFlight) -> Duration {
    // What is under way wakes us when it is done.
    match engine.inner.store.next_delivery_due(&in_flight.ids()).await {
        Ok(Some(at)) => {
            let left = at.duration_since(engine.inner.clock.now());
            Duration::try_from(left).unwrap_or_default().min(LOOK_AGAIN)
        }
        Ok(None) | Err(_) => LOOK_AGAIN,
    }
}
