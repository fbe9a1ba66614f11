//! Removes what stands on the disk for jobs that have ended: by the job's state, never by age
//! alone. What was not delivered is kept in the mirror first.
//!
//! A job that has ended never begins again, so what its state says right before the removal stays
//! true.

use agent_domain::{Event, FoundWorkspace, JobId, Reclaimed, Upkeep, WorkOrigin};

use crate::engine::Engine;

/// What one look has come to.
#[derive(Debug, Default)]
struct Tally {
    removed: usize,
    saved: usize,
    kept: usize,
    failed: usize,
    swept: usize,
}

/// What is to become of a workspace.
enum Fate {
    /// Its job is not done.
    Needed,
    /// Its job has ended, or nobody knows it.
    Unneeded(Option<WorkOrigin>),
}

/// Looks at everything once, and says in one line what it has done.
pub(crate) async fn reconcile(engine: &Engine, upkeep: &dyn Upkeep) {
    let mut tally = Tally::default();
    match upkeep.workspaces().await {
        Ok(found) => {
            for workspace in found {
                settle(engine, upkeep, &workspace, &mut tally).await;
            }
        }
        Err(error) => tracing::warn!(%error, "the workspaces cannot be listed"),
    }
    for repo in upkeep.repositories().await.unwrap_or_default() {
        match upkeep.sweep(&repo).await {
            Ok(swept) => tally.swept += swept,
            Err(error) => tracing::warn!(%repo, %error, "leftovers of a repository not removed"),
        }
    }
    let Tally {
        removed,
        saved,
        kept,
        failed,
        swept,
    } = tally;
    if removed + kept + failed + swept > 0 {
        tracing::info!(
            removed,
            saved,
            kept,
            failed,
            swept,
            "workspaces and leftovers of ended jobs looked through"
        );
    }
}

/// Removes the workspace of one job that has ended, if it is still there. Returns whether nothing
/// is left of it.
pub(crate) async fn look_at(engine: &Engine, upkeep: &dyn Upkeep, job: JobId) -> bool {
    let repo = match engine.inner.store.job(job).await {
        Ok(Some(known)) => known.client.repo,
        Ok(None) => return true,
        Err(error) => {
            tracing::warn!(job.id = %job, %error, "not known whether its workspace is needed");
            return false;
        }
    };
    let mut tally = Tally::default();
    settle(engine, upkeep, &FoundWorkspace { repo, job }, &mut tally).await;
    if tally.removed > 0 {
        tracing::info!(job.id = %job, "the workspace of a job that has ended is removed");
    }
    tally.kept + tally.failed == 0
}

async fn settle(engine: &Engine, upkeep: &dyn Upkeep, found: &FoundWorkspace, tally: &mut Tally) {
    let FoundWorkspace { repo, job } = found;
    // Whoever finds nothing left shall also find it noted where it is.
    let _alone = engine.inner.reclaiming.lock().await;
    let origin = match engine.fate(found).await {
        Ok(Fate::Needed) => return,
        Ok(Fate::Unneeded(origin)) => origin,
        Err(error) => {
            tracing::warn!(job.id = %job, %error, "not known whether its workspace is needed");
            tally.failed += 1;
            return;
        }
    };
    match upkeep.reclaim(found, origin.as_ref()).await {
        Ok(Reclaimed::Nothing) => {}
        Ok(Reclaimed::Removed { saved }) => {
            tally.removed += 1;
            let Some(saved_ref) = saved else { return };
            tally.saved += 1;
            tracing::warn!(job.id = %job, %repo, saved_ref, "unfinished work found and kept");
            if origin.is_some() {
                engine.note_kept(found, saved_ref).await;
            }
        }
        Ok(Reclaimed::Kept { why }) => {
            tally.kept += 1;
            tracing::warn!(job.id = %job, %repo, why, "a workspace nobody needs stays");
        }
        Err(error) => {
            tally.failed += 1;
            tracing::warn!(job.id = %job, %repo, %error, "a workspace nobody needs stays");
        }
    }
}

impl Engine {
    async fn fate(&self, found: &FoundWorkspace) -> Result<Fate, crate::EngineError> {
        let job = self
            .inner
            .store
            .job(found.job)
            .await?
            .map(|found| found.job);
        Ok(match job {
            None => Fate::Unneeded(None),
            Some(job) if job.state.ended_at().is_none() => Fate::Needed,
            Some(job) => Fate::Unneeded(Some(WorkOrigin {
                branch: job.spec.branch,
                base: job.facts.base_commit,
            })),
        })
    }

    /// Writes down where work was kept that was found after its job's end.
    async fn note_kept(&self, found: &FoundWorkspace, saved_ref: String) {
        let known = self.inner.store.job(found.job).await;
        let is_noted = known
            .ok()
            .flatten()
            .is_some_and(|known| known.job.facts.saved_ref.as_deref() == Some(saved_ref.as_str()));
        if is_noted {
            return;
        }
        if let Err(error) = self.change(found.job, Event::Kept { saved_ref }).await {
            tracing::warn!(job.id = %found.job, ?error, "where its work was kept is not noted");
        }
    }
}
