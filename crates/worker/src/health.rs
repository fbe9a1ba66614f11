//! Keeps the coordinator informed about the CLI and its login on this machine.

use std::time::Duration;

use agent_domain::AgentHealth;
use tokio_util::sync::CancellationToken;

use crate::worker::WorkerParts;

/// Credentials change by hand, so a look every five minutes is often enough.
const PERIOD: Duration = Duration::from_mins(5);

/// Looks now and every five minutes until told to stop.
pub(crate) async fn watch(parts: WorkerParts, stop: CancellationToken) {
    let looking = async {
        loop {
            let seen = parts.runner.probe().await;
            let checked_at = Some(parts.clock.now());
            let health = AgentHealth {
                version: seen.version,
                authenticated: seen.authenticated,
                logins: seen.logins,
                checked_at,
            };
            parts.coordinator.agent_health(&parts.config.id, health);
            tokio::time::sleep(PERIOD).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = looking => {}
    }
}
