//! Attempts on this machine that nobody wants any more: ended, and their directories removed.
//!
//! A supervisor outlives its server, so after the database was restored, or its job was given to
//! somebody else, it may be at work on something that is not its to do.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::holds::Holds;
use crate::worker::WorkerParts;

/// Orphans come from rare accidents, so a look every hour is often enough.
const PERIOD: Duration = Duration::from_hours(1);

/// Looks now and every hour until told to stop. Idempotent: what is ended stays so.
pub(crate) async fn watch(parts: WorkerParts, holds: Holds, stop: CancellationToken) {
    let looking = async {
        // Kept as long as we look: what another worker holds is not known to us.
        let _own = match parts.runner.own_attempts() {
            Ok(Some(own)) => own,
            Ok(None) => {
                tracing::warn!("another worker uses the directory of attempts; orphans in it stay");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "the directory of attempts cannot be watched for orphans");
                return;
            }
        };
        loop {
            sweep(&parts, &holds).await;
            tokio::time::sleep(PERIOD).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = looking => {}
    }
}

async fn sweep(parts: &WorkerParts, holds: &Holds) {
    let found = match parts.runner.attempts().await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "the directory of attempts cannot be read");
            return;
        }
    };
    for (job, attempt) in found {
        // An attempt is held before its directory is made, and until that is removed.
        if holds.is_held(job, attempt) {
            continue;
        }
        tracing::info!(job.id = %job, attempt, "ending what is left of an attempt nobody wants");
        let ended = parts.runner.end(job, attempt).await;
        let removed = match ended {
            Ok(left) if !left.is_empty() => {
                tracing::error!(job.id = %job, attempt, pids = ?left, "cannot be ended");
                continue;
            }
            Ok(_) => parts.runner.forget(job, attempt).await,
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!(job.id = %job, attempt, %error, "left for the next look");
        }
    }
}
