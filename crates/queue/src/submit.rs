//! Taking jobs in: new ones, and repeats of ended ones.

use agent_domain::{
    Base, BranchName, Caps, Client, ClientId, Continued, Facts, Fence, Job, JobId, JobSecrets,
    JobSpec, Priority, Reason, RepoSlug, RunOptions, SecretKinds, State, Timestamp,
};
use agent_storage::{CreatedJob, NewJob, StoreError};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::once::{Begun, Once, Reply};
use crate::sessions::{TRY_AGAIN, delivery_of};
use crate::views::{Accepted, Submission, Target};

/// How many names a retry tries for its branch before it gives up.
const RETRY_NAMES_MAX: u32 = 1000;

impl Engine {
    /// Takes a job in. Once this returns, no crash of anything loses it.
    pub async fn submit(&self, submission: Submission) -> Result<Accepted, EngineError> {
        self.take_in(submission, None).await
    }

    /// As [`Engine::submit`], at most once; the answer is stored in the job's own transaction.
    pub async fn submit_once(
        &self,
        submission: Submission,
        once: Option<Once<Accepted>>,
    ) -> Result<Reply<Accepted>, EngineError> {
        self.at_most_once(once, |engine, begun| async move {
            engine.take_in(submission, begun).await
        })
        .await
    }

    /// Takes the work of an ended job in again as a new job, on the same branch while that is
    /// free, else on `<branch>-retry-<n>`; at most once, like [`Engine::submit_once`].
    ///
    /// A job that brought keys of its own needs them again in `secrets`. With `resume` it goes on in
    /// the job's session, with the work that was kept.
    pub async fn retry_once(
        &self,
        id: JobId,
        secrets: JobSecrets,
        resume: bool,
        once: Option<Once<Accepted>>,
    ) -> Result<Reply<Accepted>, EngineError> {
        self.at_most_once(once, move |engine, begun| async move {
            engine.take_in_again(id, secrets, resume, begun).await
        })
        .await
    }

    async fn take_in(
        &self,
        submission: Submission,
        begun: Option<Begun<Accepted>>,
    ) -> Result<Accepted, EngineError> {
        self.admit()?;
        let (client, is_new) = match submission.target {
            Target::Client(id) => (
                self.inner
                    .store
                    .client(id)
                    .await?
                    .ok_or(EngineError::ClientNotFound)?,
                false,
            ),
            Target::Repo(repo) => match self.inner.store.client_by_repo(&repo).await? {
                Some(client) => (client, false),
                None => (self.fresh_client(&repo)?, true),
            },
        };
        self.check_callback(&submission.spec)?;
        if !submission.secrets.kinds().agent {
            self.has_credential(&client.repo)?;
        }
        let mut spec = submission.spec;
        check_base(&spec)?;
        check_wait(&spec, submission.not_before)?;
        self.check_branch(&client, &spec.branch).await?;
        // Whoever counts its lost runs does not know its client.
        let most = spec.options.max_attempts.or(client.options.max_attempts);
        spec.options.max_attempts = most;
        let new = Fresh {
            create_client: is_new.then(|| client.clone()),
            client: &client,
            spec,
            priority: submission.priority.unwrap_or(client.priority),
            secrets: submission.secrets,
            retry_of: None,
            continues: None,
            not_before: submission.not_before,
        };
        let accepted = self.store_job(new, begun).await?;
        tracing::info!(job.id = %accepted.id, client.repo = %client.repo, "job queued");
        Ok(accepted)
    }

    async fn take_in_again(
        &self,
        id: JobId,
        secrets: JobSecrets,
        resume: bool,
        begun: Option<Begun<Accepted>>,
    ) -> Result<Accepted, EngineError> {
        self.admit()?;
        let found = self
            .inner
            .store
            .job(id)
            .await?
            .ok_or(EngineError::JobNotFound)?;
        let status = found.job.state.status();
        if !status.is_terminal() {
            return Err(EngineError::JobUnfinished(status));
        }
        check_secrets(found.job.spec.secrets, &secrets)?;
        let client = self.inner.store.client(found.client.id).await?;
        let client = client.ok_or(EngineError::ClientNotFound)?;
        let continues = if resume {
            let last = self.last_of_session(id).await?;
            Continued::retry(&last, delivery_of(&last, &client), TRY_AGAIN)
        } else {
            None
        };
        let wanted = found.job.spec.branch.clone();
        let root = retry_root(&wanted, found.job.retry_of.is_some());
        for n in 0..RETRY_NAMES_MAX {
            let Ok(branch) = retry_name(&wanted, &root, n) else {
                break;
            };
            let spec = JobSpec {
                branch,
                // What it waited for has ended, one way or the other.
                depends_on: Vec::new(),
                ..found.job.spec.clone()
            };
            match self.check_branch(&client, &spec.branch).await {
                Err(EngineError::BranchExists { .. }) => continue,
                other => other?,
            }
            let new = Fresh {
                client: &client,
                create_client: None,
                spec,
                priority: found.job.priority,
                secrets: secrets.clone(),
                retry_of: Some(id),
                continues: continues.clone(),
                not_before: None,
            };
            match self.store_job(new, begun.clone()).await {
                Err(EngineError::BranchHeld { .. }) => {}
                other => return other,
            }
        }
        let problem = "has no free name for a retry".to_owned();
        Err(EngineError::Field {
            field: "branchName",
            problem,
        })
    }

    fn fresh_client(&self, repo: &RepoSlug) -> Result<Client, EngineError> {
        let now = self.inner.clock.now();
        let default_branch = "main".parse().map_err(|_| EngineError::ClientNotFound)?;
        Ok(Client {
            id: ClientId::fresh(self.inner.ids.as_ref()),
            os_client_id: None,
            name: repo.repo().to_owned(),
            repo: repo.clone(),
            default_branch,
            options: RunOptions::default(),
            trusted: false,
            priority: Priority::default(),
            max_concurrent: None,
            caps: Caps::default(),
            created_at: now,
            updated_at: now,
        })
    }

    fn check_callback(&self, spec: &JobSpec) -> Result<(), EngineError> {
        let Some(url) = &spec.callback_url else {
            return Ok(());
        };
        agent_webhook::check_literal(url, &self.inner.config.callback_allow).map_err(|error| {
            EngineError::Field {
                field: "osCallbackUrl",
                problem: error.to_string(),
            }
        })
    }

    async fn check_branch(&self, client: &Client, branch: &BranchName) -> Result<(), EngineError> {
        if *branch == client.default_branch {
            let problem = format!("is the client's default branch, {branch}");
            return Err(EngineError::Field {
                field: "branchName",
                problem,
            });
        }
        match self
            .inner
            .mirrors
            .clashing_branch(&client.repo, branch)
            .await
        {
            Some(clash) => Err(EngineError::BranchExists {
                branch: branch.to_string(),
                clash,
            }),
            None => Ok(()),
        }
    }

    pub(crate) async fn store_job(
        &self,
        new: Fresh<'_>,
        begun: Option<Begun<Accepted>>,
    ) -> Result<Accepted, EngineError> {
        let now = self.inner.clock.now();
        let branch = new.spec.branch.clone();
        let spec = JobSpec {
            secrets: new.secrets.kinds(),
            ..new.spec
        };
        let mut job = self.fresh_job(new.client.id, spec, new.retry_of, now);
        job.priority = new.priority;
        // A time that has passed is none to wait for.
        let not_before = new.not_before.filter(|at| *at > now);
        let awaits = !job.spec.depends_on.is_empty();
        let reason = awaits.then_some(Reason::WaitingForJobs);
        job.state = State::Queued { not_before, reason };
        let is_ready = not_before.is_none() && !awaits;
        job.continues = new.continues;
        let id = job.id;
        self.hand_session_on(&job)?;
        let goes_on = job.continues.is_some();
        let engine = self.clone();
        // Not after the wait, where the caller may have hung up: a job that is stored must also be
        // announced, and nobody can claim it before its keys are there.
        let secrets = new.secrets;
        let announce = move || {
            engine.inner.vault.put(id, secrets);
            engine.inner.ready.notify_waiters();
            if awaits {
                engine.inner.dependencies.notify_one();
            }
        };
        let create_client = new.create_client;
        let new = NewJob { job, create_client };
        let accepted = {
            let branch = branch.clone();
            move |created: &CreatedJob| Accepted {
                id,
                client_id: created.client_id,
                position: is_ready.then_some(created.position),
                branch,
                created_at: now,
            }
        };
        let store = &self.inner.store;
        let created = match begun {
            None => store.create_job_then(new, announce).await,
            Some(begun) => {
                let accepted = accepted.clone();
                let once = move |created: &CreatedJob| begun.answered(&accepted(created), now);
                store.create_job_once(new, once, announce).await
            }
        };
        if created.is_err() && goes_on {
            self.take_session_back(id);
        }
        match created {
            Ok(created) => Ok(accepted(&created)),
            Err(error) => Err(not_stored(error, &branch)),
        }
    }

    fn fresh_job(
        &self,
        client_id: ClientId,
        spec: JobSpec,
        retry_of: Option<JobId>,
        now: Timestamp,
    ) -> Job {
        Job {
            id: JobId::fresh(self.inner.ids.as_ref()),
            client_id,
            spec,
            retry_of,
            priority: Priority::default(),
            version: 0,
            attempt: 0,
            fence: Fence(0),
            worker: None,
            lost_runs: Vec::new(),
            resume: None,
            continues: None,
            paid_by: None,
            state: State::Queued {
                not_before: None,
                reason: None,
            },
            facts: Facts::default(),
            created_at: now,
            started_at: None,
            updated_at: now,
        }
    }
}

/// A job about to be stored.
pub(crate) struct Fresh<'a> {
    pub(crate) client: &'a Client,
    /// The same client, where there is none yet.
    pub(crate) create_client: Option<Client>,
    pub(crate) spec: JobSpec,
    pub(crate) priority: Priority,
    pub(crate) secrets: JobSecrets,
    pub(crate) retry_of: Option<JobId>,
    pub(crate) continues: Option<Continued>,
    pub(crate) not_before: Option<Timestamp>,
}

/// Why a job on this branch was not stored.
fn not_stored(error: StoreError, branch: &BranchName) -> EngineError {
    match error {
        StoreError::BranchHeld(job) => {
            let branch = branch.to_string();
            EngineError::BranchHeld { branch, job }
        }
        StoreError::UnknownDependency(job) => EngineError::Field {
            field: "dependsOn",
            problem: format!("names {job}, and there is no such job"),
        },
        other => other.into(),
    }
}

/// The work of a job does not go to the branch it starts from.
fn check_base(spec: &JobSpec) -> Result<(), EngineError> {
    if spec.base.as_ref().and_then(Base::branch) == Some(&spec.branch) {
        return Err(EngineError::Field {
            field: "branchName",
            problem: "is the branch it starts from".to_owned(),
        });
    }
    Ok(())
}

/// A job waits for a time or for other jobs.
fn check_wait(spec: &JobSpec, not_before: Option<Timestamp>) -> Result<(), EngineError> {
    if not_before.is_some() && !spec.depends_on.is_empty() {
        return Err(EngineError::Field {
            field: "notBefore",
            problem: "cannot be combined with dependsOn".to_owned(),
        });
    }
    Ok(())
}

/// A repeat is done with the same kinds of keys, or more.
pub(crate) fn check_secrets(brought: SecretKinds, given: &JobSecrets) -> Result<(), EngineError> {
    match brought.without(given.kinds()) {
        SecretKinds { agent: true, .. } => Err(EngineError::SecretsRequired("key for the agent")),
        SecretKinds { git: true, .. } => Err(EngineError::SecretsRequired("gitToken")),
        SecretKinds { .. } => Ok(()),
    }
}

/// The name without the suffix that an earlier retry gave it.
fn retry_root(branch: &BranchName, is_retry: bool) -> String {
    let name = branch.as_str();
    match name.rsplit_once("-retry-") {
        Some((root, n))
            if is_retry && !root.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) =>
        {
            root.to_owned()
        }
        _ => name.to_owned(),
    }
}

fn retry_name(
    wanted: &BranchName,
    root: &str,
    n: u32,
) -> Result<BranchName, agent_domain::BranchNameError> {
    if n == 0 {
        Ok(wanted.clone())
    } else {
        format!("{root}-retry-{n}").parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(name: &str) -> BranchName {
        name.parse().unwrap()
    }

    #[test]
    fn a_retry_asks_for_the_same_name_first_and_then_counts() {
        let wanted = branch("feature/x");
        let root = retry_root(&wanted, false);
        let names: Vec<_> = (0..3)
            .map(|n| retry_name(&wanted, &root, n).unwrap().to_string())
            .collect();
        assert_eq!(
            names,
            ["feature/x", "feature/x-retry-1", "feature/x-retry-2"]
        );
    }

    #[test]
    fn the_retry_of_a_retry_does_not_pile_up_suffixes() {
        assert_eq!(retry_root(&branch("x-retry-7"), true), "x");
        assert_eq!(retry_root(&branch("x-retry-7"), false), "x-retry-7");
        assert_eq!(retry_root(&branch("x-retry-soon"), true), "x-retry-soon");
    }
}
