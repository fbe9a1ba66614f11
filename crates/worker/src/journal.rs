//! What the worker itself has to say in a job's log, before and after the agent writes it.

use std::path::PathBuf;
use std::sync::Arc;

use agent_domain::{Assignment, Clock, Coordinator, Ending, Lease};
use agent_runner::{LogWriter, Masker};

/// Appends `system` lines to an attempt's log. The supervisor writes the same file while the
/// agent runs; the worker only does so before it is started and after it has left.
pub(crate) struct Journal {
    log: PathBuf,
    lease: Lease,
    clock: Arc<dyn Clock>,
    coordinator: Arc<dyn Coordinator>,
    masker: Masker,
}

impl Journal {
    pub(crate) fn new(
        assignment: &Assignment,
        clock: Arc<dyn Clock>,
        coordinator: Arc<dyn Coordinator>,
        masker: Masker,
    ) -> Self {
        Self {
            log: assignment.log.clone(),
            lease: assignment.lease,
            clock,
            coordinator,
            masker,
        }
    }

    /// What may be told of `ending`: its sentence may quote git, a forge or the agent.
    pub(crate) fn masked(&self, ending: Ending) -> Ending {
        let mask = |error: String| self.masker.text(&error).into_owned();
        match ending {
            Ending::Failed { reason, error } => Ending::Failed {
                reason,
                error: mask(error),
            },
            Ending::Lost { error } => Ending::Lost { error: mask(error) },
            other @ (Ending::Completed | Ending::Cancelled | Ending::Parked { .. }) => other,
        }
    }

    /// Writes one line. A log that cannot be written does not stop a job that can go on.
    pub(crate) fn say(&self, text: &str) {
        let written = LogWriter::open(&self.log).and_then(|mut log| {
            log.system(self.clock.now(), &self.masker.text(text));
            log.flush()
        });
        if let Err(error) = written {
            tracing::warn!(job.id = %self.lease.job, %error, "job log not written");
        }
        self.coordinator.log_grew(&self.lease);
    }
}
