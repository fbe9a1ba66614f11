//! What is answered to requests that let a job begin again, or go on.

use agent_client::wire;
use agent_queue::Accepted;

/// A job just taken in again.
pub(crate) fn job_retried(accepted: &Accepted, original: String) -> wire::JobRetried {
    wire::JobRetried {
        id: accepted.id.to_string(),
        original_job_id: original,
        status: "queued".to_owned(),
        position: accepted.position.unwrap_or_default(),
        branch_name: accepted.branch.to_string(),
    }
}

/// A job that goes on in the session of another.
pub(crate) fn job_continued(accepted: &Accepted, continued: String) -> wire::JobContinued {
    wire::JobContinued {
        id: accepted.id.to_string(),
        continued_job_id: continued,
        status: "queued".to_owned(),
        position: accepted.position.unwrap_or_default(),
        branch_name: accepted.branch.to_string(),
    }
}

/// A job that waits no longer.
pub(crate) fn released(id: agent_domain::JobId) -> wire::Released {
    wire::Released {
        id: id.to_string(),
        status: "queued".to_owned(),
    }
}
