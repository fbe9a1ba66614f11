//! What a run shows of itself while it is on, passed on to the coordinator.

use std::time::Duration;

use agent_domain::Facts;
use agent_runner::Signs;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::attempt::Attempt;

/// Shortest time between two things told of one run: each of them is written down.
const TELL_EVERY: Duration = Duration::from_secs(1);

impl Attempt<'_> {
    /// Passes on what holds the run up, each time that it changes, until the run is dropped; returns
    /// what was told last.
    ///
    /// An earlier server may have told of something that is long over, so the first word of the
    /// supervisor counts like any other. What could not be told is tried again: nothing depends on it.
    pub(crate) async fn tell_signs(
        &self,
        mut signs: watch::Receiver<Option<Signs>>,
    ) -> Option<String> {
        let mut told = self.facts.phase_detail.clone();
        loop {
            let shown = signs.borrow_and_update().clone();
            let held_up = shown.map_or_else(|| told.clone(), |signs| signs.held_up);
            if held_up == told {
                if signs.changed().await.is_err() {
                    return told;
                }
                continue;
            }
            let facts = Facts {
                phase_detail: held_up.clone(),
                ..self.facts.clone()
            };
            let lease = &self.assignment.lease;
            let telling = self.parts.coordinator.progress(lease, self.phase, facts);
            if telling.await.is_ok() {
                told = held_up;
            }
            let dropped = async { while signs.changed().await.is_ok() {} };
            if timeout(TELL_EVERY, dropped).await.is_ok() {
                return told;
            }
        }
    }
}
