//! Holding a lease while an attempt is under way: renewing it, and hearing what is to be done.

use std::slice::from_ref;
use std::time::Duration;

use agent_domain::{Coordinator, CoordinatorError, Directive, Lease};
use tokio::sync::watch;
use tokio::time::Instant;

/// Pause after a coordinator that could not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Until when a lease is ours for certain, by our own clock.
pub(crate) fn deadline(lease: &Lease, asked_at: Instant) -> Instant {
    asked_at + lease.terms.worker_gives_up_after()
}

/// Renews `lease` and moves `ours_until` on, until the lease turns out to be stale or could not be
/// renewed in time; then returns, and the attempt is to be given up.
///
/// Who was stopped itself, and wakes when the time is long up, asks once more: only the coordinator
/// knows whether it has been awake meanwhile.
pub(crate) async fn renew(
    coordinator: &dyn Coordinator,
    lease: &Lease,
    ours_until: &watch::Sender<Instant>,
) {
    let terms = lease.terms;
    let mut next = Instant::now() + terms.heartbeat();
    loop {
        let until = *ours_until.borrow();
        let planned = next.min(until);
        tokio::time::sleep_until(planned).await;
        let sent = Instant::now();
        let was_stopped = sent.saturating_duration_since(planned) > terms.margin();
        let limit = if was_stopped {
            until.max(sent + terms.margin())
        } else {
            until
        };
        match tokio::time::timeout_at(limit, coordinator.heartbeat(from_ref(lease))).await {
            Ok(Ok(stale)) if stale.is_empty() => {
                ours_until.send_replace(deadline(lease, sent));
                next = sent + terms.heartbeat();
                continue;
            }
            Ok(Ok(_) | Err(CoordinatorError::Stale(_))) => return,
            Ok(Err(error)) => tracing::warn!(job.id = %lease.job, %error, "lease not renewed"),
            Err(_) => tracing::warn!(job.id = %lease.job, "lease not renewed: no answer"),
        }
        if Instant::now() >= limit {
            return;
        }
        next = Instant::now() + PAUSE.min(terms.margin());
    }
}

/// Waits until the lease is ours for certain: at once, but for one who was stopped and has not
/// heard from the coordinator since.
pub(crate) async fn ours(mut ours_until: watch::Receiver<Instant>) {
    let is_ahead = |until: &Instant| *until > Instant::now();
    if ours_until.wait_for(is_ahead).await.is_err() {
        // Nobody renews it any more, so it will not be.
        std::future::pending::<()>().await;
    }
}

/// Passes on what is to be done about the job until the lease turns out to be stale.
pub(crate) async fn listen(
    coordinator: &dyn Coordinator,
    lease: &Lease,
    told: &watch::Sender<Directive>,
) {
    let mut seen = Directive::Continue;
    loop {
        match coordinator.directive(lease, seen).await {
            Ok(directive) => {
                seen = directive;
                told.send_replace(directive);
            }
            Err(CoordinatorError::Stale(_)) => return,
            Err(CoordinatorError::Unavailable(_)) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Repeats a call until the coordinator has taken it or the lease is stale.
pub(crate) async fn insist<T, F>(mut call: impl FnMut() -> F) -> Result<T, CoordinatorError>
where
    F: Future<Output = Result<T, CoordinatorError>>,
{
    loop {
        match call().await {
            Err(CoordinatorError::Unavailable(error)) => {
                tracing::warn!(%error, "coordinator unavailable, trying again");
                tokio::time::sleep(PAUSE).await;
            }
            settled => return settled,
        }
    }
}
