//! What the worker itself has to say in a job's log, before and after the agent writes it.

use std::path::PathBuf;
use std::sync::Arc;

use agent_domain::{Assignment, Clock, Coordinator, Lease};
use agent_runner::LogWriter;

/// Appends `system` lines to an attempt's log. The supervisor writes the same file while the
/// agent runs; the worker only does so before it is started and after it has left.
pub(crate) struct Journal {
    log: PathBuf,
    lease: Lease,
    clock: Arc<dyn Clock>,
    coordinator: Arc<dyn Coordinator>,
}

impl Journal {
    pub(crate) fn new(
        assignment: &Assignment,
        clock: Arc<dyn Clock>,
        coordinator: Arc<dyn Coordinator>,
    ) -> Self {
        Self {
            log: assignment.log.clone(),
            lease: assignment.lease,
            clock,
            coordinator,
        }
    }

    /// Writes one line. A log that cannot be written does not stop a job that can go on.
    pub(crate) fn say(&self, text: &str) {
        let written = LogWriter::open(&self.log).and_then(|mut log| {
            log.system(self.clock.now(), text);
            log.flush()
        });
        if let Err(error) = written {
            tracing::warn!(job.id = %self.lease.job, %error, "job log not written");
        }
        self.coordinator.log_grew(&self.lease);
    }
}
