//! Letting a job begin that waits for a time.

use agent_domain::{Event, JobId, Refused};

use crate::change::{ChangeError, Remember};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::once::{Once, Reply};

impl Engine {
    /// Makes a parked job ready now, whatever it waits for; at most once.
    pub async fn release_once(
        &self,
        id: JobId,
        once: Option<Once<JobId>>,
    ) -> Result<Reply<JobId>, EngineError> {
        self.at_most_once(once, move |engine, begun| async move {
            let remember = begun.map(|begun| -> Remember {
                Box::new(move |changed| begun.answered(&id, changed.after.updated_at))
            });
            match engine.change_once(id, Event::Unparked, remember).await {
                Ok(_) => Ok(id),
                Err(ChangeError::Refused(Refused::Unfit(status))) => {
                    Err(EngineError::JobNotParked(status))
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }
}
