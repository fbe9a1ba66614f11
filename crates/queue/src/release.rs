//! Letting a job begin that waits for a time.

use agent_domain::{Event, JobId, Refused};

use crate::change::{ChangeError, Remember};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::once::{Once, Reply};

impl Engine {
    /// Makes a parked job ready now, whatever it waits for; at most once. If that is a credential, it is
    /// to be tried again.
    pub async fn release_once(
        &self,
        id: JobId,
        once: Option<Once<JobId>>,
    ) -> Result<Reply<JobId>, EngineError> {
        self.at_most_once(once, move |engine, begun| async move {
            let remember = begun.map(|begun| -> Remember {
                Box::new(move |changed| begun.answered(&id, changed.after.updated_at))
            });
            let credentials = engine.awaited_credentials(id).await?;
            match engine.change_once(id, Event::Unparked, remember).await {
                Ok(_) => {
                    // Afterwards: a job that runs already could not be released any more.
                    for name in credentials {
                        engine.resume_credential(&name).await?;
                    }
                    Ok(id)
                }
                Err(ChangeError::Refused(Refused::Unfit(status))) => {
                    Err(EngineError::JobNotParked(status))
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }
}
