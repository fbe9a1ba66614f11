//! A job that a limit or a failure of the model's API has stopped: it waits at no cost, and goes on in
//! the same session and the same workspace.

use std::path::Path;
use std::time::Duration;

use agent_domain::{
    CredentialNews, Ending, Limited, Policy, Reason, RunEnd, RunOptions, after_limit, is_capped,
    is_session_id, iso_millis, jittered, judge, policy,
};
use agent_git::{Layout, Reach, Workspace};
use agent_runner::{Ground, RunRequest};

use crate::attempt::{Attempt, Halt};

/// What the agent is told; the session knows the rest.
const GO_ON: &str = "Your last turn was broken off because the model was not to be had for a while: a usage limit, a spending cap or an outage. \
     Nothing in the workspace has changed since. Go on with the task where you left off.";

/// How long a job waits that has spent its part of what a cap leaves, before it is given another.
const BETWEEN_PARTS: Duration = Duration::from_secs(5);

impl Attempt<'_> {
    /// Makes the workspace, or goes on in the one that waits.
    pub(crate) async fn make_ready(&mut self) -> Result<RunRequest, Halt> {
        let Some(resume) = self.resume.clone() else {
            return self.prepare().await;
        };
        self.unless_cancelled()?;
        self.has_its_keys()?;
        self.end_earlier().await?;
        match self.what_is_missing(&resume.session_id) {
            Ok(workspace) => self.go_on(&workspace, resume.session_id).await,
            Err(missing) => {
                self.journal.say(&format!(
                    "Session {} cannot go on, so the job is begun anew: {missing}",
                    resume.session_id
                ));
                self.resume = None;
                self.facts.session_id = None;
                self.prepare().await
            }
        }
    }

    /// The workspace that waits for its session; else why it cannot go on.
    fn what_is_missing(&self, session_id: &str) -> Result<Workspace, &'static str> {
        let workspace = self.workspace().filter(Workspace::is_there);
        let workspace = workspace.ok_or("its workspace is gone")?;
        if workspace.layout() != self.layout() {
            return Err("its workspace was made for another level of sandbox");
        }
        if !self.parts.runner.has_session(workspace.path(), session_id) {
            return Err("the CLI has no transcript of it any more");
        }
        Ok(workspace)
    }

    pub(crate) fn layout(&self) -> Layout {
        if self.parts.runner.is_walled() {
            Layout::Owned
        } else {
            Layout::Linked
        }
    }

    async fn go_on(
        &mut self,
        workspace: &Workspace,
        session_id: String,
    ) -> Result<RunRequest, Halt> {
        self.has_a_way_out().await?;
        let project = self.project(workspace.base()).await?;
        let reach = workspace.reach(self.layout());
        self.facts.worktree_path = Some(workspace.path().to_owned());
        self.unless_cancelled()?;
        self.progress(agent_domain::Phase::Agent).await?;
        self.ours().await;
        self.journal
            .say(&format!("Going on in session {session_id}"));
        let request = self.request(workspace.path(), project, reach);
        Ok(RunRequest {
            prompt: GO_ON.into(),
            resume: Some(session_id),
            ..request
        })
    }

    /// What is to be run in a workspace that is ready.
    pub(crate) fn request(
        &self,
        cwd: &Path,
        project: agent_runner::Project,
        reach: Reach,
    ) -> RunRequest {
        let assignment = self.assignment;
        let Reach { writable, readable } = reach;
        RunRequest {
            job: assignment.lease.job,
            attempt: assignment.lease.attempt,
            prompt: assignment.prompt.clone(),
            cwd: cwd.to_owned(),
            options: RunOptions {
                budget: assignment.facts.allotted,
                ..assignment.options.clone()
            },
            project,
            log: assignment.log.clone(),
            ground: Ground { writable, readable },
            secrets: assignment.secrets.all(),
            credential: assignment.credential.clone(),
            agent_key: assignment.secrets.agent.clone(),
            resume: None,
        }
    }

    /// Turns an end that need not be one into a wait.
    ///
    /// A run that has spent what a cap has left it goes on when there is more: whether there is, is
    /// asked when it is claimed again. One whose job's own budget is used up has failed.
    pub(crate) fn unless_it_waits(&self, end: &RunEnd, ending: Ending) -> Ending {
        let facts = &self.assignment.facts;
        let is_capped = is_capped(facts.allotted, self.assignment.options.budget, facts.cost);
        match ending {
            Ending::Failed {
                reason: Reason::Budget,
                ..
            } if is_capped => {
                let now = self.parts.clock.now();
                Ending::Parked {
                    until: Some(now.checked_add(BETWEEN_PARTS).unwrap_or(now)),
                    reason: Reason::Budget,
                }
            }
            ending => self.unless_it_goes_on(end, ending),
        }
    }

    /// What a run has told of the credential it was started on.
    pub(crate) fn news_of(&self, end: &RunEnd) -> Option<Box<CredentialNews>> {
        if self.assignment.brought.agent {
            return None;
        }
        let mut news = CredentialNews {
            windows: end.summary.windows.clone(),
            ..CredentialNews::default()
        };
        if let Err(Ending::Failed { reason, error }) = judge(end) {
            let (ids, now) = (self.parts.ids.as_ref(), self.parts.clock.now());
            match policy(
                end,
                &Ending::Failed {
                    reason,
                    error: error.clone(),
                },
            ) {
                Policy::Park => {
                    news.limited = Some(Limited {
                        family: Limited::family_of(end.summary.limit_kind.as_deref()),
                        until: after_limit(end.summary.limit_resets_at, now, ids),
                    });
                }
                Policy::StopCredential => news.refused = Some((reason, error)),
                Policy::Final | Policy::Retry(_) => {}
            }
        }
        (!news.is_empty()).then(|| Box::new(news))
    }

    /// Turns an end that passes by itself, or with the help of somebody, into a wait.
    fn unless_it_goes_on(&self, end: &RunEnd, ending: Ending) -> Ending {
        if self.is_cancelled() {
            return ending;
        }
        let (ids, now) = (self.parts.ids.as_ref(), self.parts.clock.now());
        let news = self.facts.news.as_ref();
        let limited = news.and_then(|news| news.limited.as_ref());
        let session = self.facts.session_id.as_deref();
        let (until, reason) = match policy(end, &ending) {
            Policy::Park if self.parts.config.parks => {
                let told = || after_limit(end.summary.limit_resets_at, now, ids);
                let until = limited.map_or_else(told, |limited| limited.until);
                (Some(until), Reason::UsageLimit)
            }
            Policy::StopCredential => match news.and_then(|news| news.refused.as_ref()) {
                Some((reason, _)) => (None, *reason),
                None => return ending,
            },
            Policy::Retry(backoff) if session.is_some_and(is_session_id) => {
                let made = self.resume.as_ref().map_or(0, |resume| resume.retries);
                let made = usize::try_from(made).unwrap_or(usize::MAX);
                let Some(wait) = backoff.wait_after(made.saturating_add(1)) else {
                    return ending;
                };
                let until = now.checked_add(jittered(wait, ids)).unwrap_or(now);
                (Some(until), Reason::Api)
            }
            Policy::Park | Policy::Final | Policy::Retry(_) => return ending,
        };
        let until_then = until.map_or_else(
            || "somebody has seen to the credential".to_owned(),
            iso_millis,
        );
        self.journal.say(&format!(
            "{}: the job waits until {until_then} and then goes on in its session",
            said(&ending),
        ));
        Ending::Parked { until, reason }
    }

    /// Whether the job goes on in its workspace later, so that all stays as it is.
    pub(crate) fn comes_back(&self, ending: &Ending) -> bool {
        match ending {
            // Nothing was begun, but perhaps before.
            Ending::Parked {
                reason: Reason::DiskFull,
                ..
            } => self.resume.is_some(),
            Ending::Parked { .. } => true,
            Ending::Completed | Ending::Failed { .. } | Ending::Cancelled | Ending::Lost { .. } => {
                false
            }
        }
    }
}

fn said(ending: &Ending) -> &str {
    match ending {
        Ending::Failed { error, .. } => error,
        Ending::Completed | Ending::Cancelled | Ending::Parked { .. } | Ending::Lost { .. } => "",
    }
}
