//! Holding a lease while an attempt is under way: renewing it, and hearing what is to be done.

use std::time::Duration;

use agent_domain::{Coordinator, CoordinatorError, Directive, Lease};
use tokio::sync::watch;

/// Pause after a coordinator that could not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Renews `lease` until it turns out to be stale; then returns.
pub(crate) async fn renew(coordinator: &dyn Coordinator, lease: &Lease, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match coordinator.heartbeat(lease).await {
            Ok(_) => {}
            Err(CoordinatorError::Stale(_)) => return,
            Err(error) => tracing::warn!(job.id = %lease.job, %error, "lease not renewed"),
        }
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
