//! Letting go of saved work.

use agent_domain::{JobId, RepoSlug};

use crate::mirror::{blocking_under, is_complete};
use crate::refs::Refs;
use crate::{Git, GitError};

impl Git {
    /// Removes what [`Git::save_work`] kept of a job; fine when there is nothing.
    pub async fn forget_work(&self, repo: &RepoSlug, job: JobId) -> Result<(), GitError> {
        let mirror = self.mirror_path(repo);
        if !is_complete(&mirror) {
            return Ok(());
        }
        let lock = self.lock(repo).await?;
        blocking_under(lock, move || {
            let refs = Refs::open(&mirror)?;
            let name = format!("refs/agent/{job}");
            let mut names = vec![name.clone()];
            let mut number = 1;
            while refs.commit(&format!("{name}-{number}"))?.is_some() {
                names.push(format!("{name}-{number}"));
                number += 1;
            }
            let there = |name: &&String| matches!(refs.commit(name), Ok(Some(_)));
            names
                .iter()
                .filter(there)
                .try_for_each(|name| refs.delete(name))
        })
        .await
    }
}
