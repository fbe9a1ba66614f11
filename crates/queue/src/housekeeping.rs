//! Looks after what jobs leave behind: workspaces and leftovers, then the mirrors.
//!
//! Nothing here is urgent and all of it can be broken off anywhere and done again: the disk and the
//! jobs' states are the only memory.

use std::sync::Arc;
use std::time::Duration;

use agent_domain::{Maintained, Upkeep};

use crate::engine::Engine;
use crate::reconcile;

/// How often everything is looked at.
const PERIOD: Duration = Duration::from_hours(1);

impl Engine {
    /// Begins to look after a disk: at once, every hour, and when it is nearly full or has room
    /// again. For each disk once.
    pub fn keep_house(&self, upkeep: Arc<dyn Upkeep>) {
        crate::loops::spawn_housekeeping(self, upkeep);
    }
}

/// Runs until the engine stops.
pub(crate) async fn keep(engine: Engine, upkeep: Arc<dyn Upkeep>) {
    let stopped = engine.inner.stop.clone();
    let keeping = async {
        loop {
            reconcile::reconcile(&engine, upkeep.as_ref()).await;
            maintain(upkeep.as_ref()).await;
            tokio::select! {
                () = engine.inner.house.notified() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    };
    tokio::select! {
        () = stopped.cancelled() => {}
        () = keeping => {}
    }
}

/// Brings the mirrors into good order, one after the other.
async fn maintain(upkeep: &dyn Upkeep) {
    let repositories = match upkeep.repositories().await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "the mirrors cannot be listed");
            return;
        }
    };
    for repo in repositories {
        let begun = tokio::time::Instant::now();
        match upkeep.maintain(&repo).await {
            Ok(Maintained::NotNeeded | Maintained::InUse) => {}
            Ok(Maintained::Interrupted) => {
                tracing::debug!(%repo, "packing of the mirror broken off for a job");
            }
            Ok(Maintained::Done) => {
                let seconds = begun.elapsed().as_secs();
                tracing::info!(%repo, seconds, "mirror packed");
            }
            Err(error) => tracing::warn!(%repo, %error, "mirror not packed"),
        }
    }
}
