//! What is left of a job that ends while nobody works on it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_domain::{
    BoxFuture, FoundWorkspace, JobId, Maintained, MirrorError, Reclaimed, RepoSlug, Status, Upkeep,
    WorkOrigin,
};

use crate::stage::Stage;

/// A disk on which nothing is found but what is asked for by name.
#[derive(Default)]
struct Disk(Mutex<Vec<JobId>>);

impl Upkeep for Disk {
    fn workspaces(&self) -> BoxFuture<'_, Result<Vec<FoundWorkspace>, MirrorError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepoSlug>, MirrorError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn reclaim<'a>(
        &'a self,
        found: &'a FoundWorkspace,
        origin: Option<&'a WorkOrigin>,
    ) -> BoxFuture<'a, Result<Reclaimed, MirrorError>> {
        assert!(origin.is_some(), "the job is known");
        self.0.lock().unwrap().push(found.job);
        Box::pin(async { Ok(Reclaimed::Nothing) })
    }

    fn sweep<'a>(&'a self, _repo: &'a RepoSlug) -> BoxFuture<'a, Result<usize, MirrorError>> {
        Box::pin(async { Ok(0) })
    }

    fn maintain<'a>(
        &'a self,
        _repo: &'a RepoSlug,
    ) -> BoxFuture<'a, Result<Maintained, MirrorError>> {
        Box::pin(async { Ok(Maintained::NotNeeded) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workspace_of_a_job_cancelled_after_a_lost_run_is_looked_for_at_once() {
    let stage = Stage::new(Duration::from_millis(600)).await;
    let disk = Arc::new(Disk::default());
    stage.engine.keep_house(disk.clone());
    let lost = stage.running("a").await.lease.job;
    stage.until(lost, Status::Queued).await;
    let never_begun = stage.submit("b").await;
    for job in [never_begun, lost] {
        let cancelled = stage.engine.cancel_once(job, true, None).await;
        assert!(cancelled.is_ok());
    }
    let begun = Instant::now();
    while disk.0.lock().unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_mins(1), "never looked for");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*disk.0.lock().unwrap(), [lost]);
}
