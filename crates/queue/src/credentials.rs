//! What jobs run on: which credential each begins with, what runs tell of theirs, and what operators do
//! about one.

use agent_domain::{
    Allotted, Choice, Credential, CredentialName, CredentialNews, CredentialState, Ending, Event,
    Facts, JobId, Lack, PaidBy, Reached, Reason, RepoSlug, State, Stopped, Timestamp, Usd,
    WorkerId, choose, iso_millis,
};
use agent_storage::{JobWithClient, KnownCredential, Standing};

use crate::change::Changed;
use crate::engine::Engine;
use crate::error::EngineError;

/// A credential, and how it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct CredentialView {
    /// As the operator has set it up.
    pub credential: Credential,
    /// How it stands.
    pub state: CredentialState,
}

/// Who takes jobs, and until when.
#[derive(Debug, Clone)]
pub(crate) struct Taker {
    pub(crate) worker: WorkerId,
    pub(crate) lease_until: Timestamp,
    pub(crate) now: Timestamp,
}

impl Engine {
    /// The credentials as they stand, in the order of the settings.
    pub async fn credentials(&self) -> Result<Vec<CredentialView>, EngineError> {
        let states = self.inner.store.credentials().await?;
        let known = self.inner.config.credentials.iter();
        Ok(known.map(|credential| view(credential, &states)).collect())
    }

    /// Somebody has seen to a credential: whatever stopped or limited it is over, and jobs that wait for
    /// it go on. Returns it as it stands then.
    pub async fn resume_credential(
        &self,
        name: &CredentialName,
    ) -> Result<CredentialView, EngineError> {
        let mut known = self.inner.config.credentials.iter();
        let known = known.find(|credential| credential.name == *name);
        let credential = known.ok_or(EngineError::CredentialNotFound)?;
        let now = self.inner.clock.now();
        self.inner
            .store
            .resume_credential(name.clone(), now)
            .await?;
        tracing::info!(credential = %name, "credential goes on");
        self.inner.ready.notify_waiters();
        Ok(view(credential, &self.inner.store.credentials().await?))
    }

    /// Makes the credentials known that the settings name.
    pub(crate) async fn know_credentials(&self) -> Result<(), EngineError> {
        let known = self.inner.config.credentials.iter();
        let known = known.map(|one| KnownCredential {
            name: one.name.clone(),
            fingerprint: one.fingerprint.clone(),
            setup: setup(one),
        });
        let (known, now) = (known.collect(), self.inner.clock.now());
        Ok(self.inner.store.know_credentials(known, now).await?)
    }

    /// What happens to a job whose turn it is, and what it may spend then; `None`: nothing yet, nor to
    /// any other of its client.
    pub(crate) fn turn_of(
        &self,
        ready: &JobWithClient,
        standing: Standing<'_>,
        taker: &Taker,
    ) -> Option<(Event, Option<Usd>)> {
        let most = match standing.allotted {
            Allotted::All => None,
            Allotted::Most(most) => Some(most),
            Allotted::Reached(cap) => return Some((self.unaffordable(Some(cap)), None)),
            Allotted::UsedUp => return Some((self.unaffordable(None), None)),
            Allotted::Later => return None,
        };
        let paid_by = match self.choice_for(ready, standing.credentials, taker.now) {
            Ok(paid_by) => paid_by,
            Err(Some(lack)) => return Some((Event::NoCredential(lack), None)),
            Err(None) => return None,
        };
        let claimed = Event::Claimed {
            worker: taker.worker.clone(),
            lease_until: taker.lease_until,
            paid_by,
        };
        Some((claimed, most))
    }

    fn unaffordable(&self, cap: Option<Reached>) -> Event {
        let at_cap = self.inner.config.spending.at_cap;
        Event::Unaffordable { cap, at_cap }
    }

    /// What a job runs on; `None` for one with a key of its own. Else why it cannot begin, where that is
    /// more than that all are in use.
    fn choice_for(
        &self,
        ready: &JobWithClient,
        states: &[CredentialState],
        now: Timestamp,
    ) -> Result<Option<PaidBy>, Option<Lack>> {
        if ready.job.spec.secrets.agent {
            return Ok(None);
        }
        let repo = &ready.client.repo;
        match self.choose(ready, states, now) {
            Choice::Use(paid_by) => Ok(Some(paid_by)),
            Choice::Busy => Err(None),
            Choice::Limited(until) if self.inner.config.parks => Err(Some(Lack::Until(until))),
            Choice::Limited(until) => Err(Some(Lack::ForGood {
                reason: Reason::UsageLimit,
                error: format!("the usage limit is reached until {}", iso_millis(until)),
            })),
            Choice::Stopped(reason) => Err(Some(Lack::Login(reason))),
            Choice::None => Err(Some(Lack::ForGood {
                reason: Reason::Auth,
                error: EngineError::NoCredential(repo.clone()).to_string(),
            })),
        }
    }

    fn choose(&self, job: &JobWithClient, states: &[CredentialState], now: Timestamp) -> Choice {
        let own = job.job.spec.options.model.as_deref();
        let model = own.or(job.client.options.model.as_deref());
        let known = &self.inner.config.credentials;
        choose(known, states, &job.client.repo, model, now)
    }

    /// Refuses jobs of a repository that no credential is for.
    pub(crate) fn has_credential(&self, repo: &RepoSlug) -> Result<(), EngineError> {
        let mut known = self.inner.config.credentials.iter();
        let is_there = known.any(|credential| credential.is_for(repo));
        let refused = || EngineError::NoCredential(repo.clone());
        is_there.then_some(()).ok_or_else(refused)
    }

    /// Where an attempt's job waits for its credential, for how long: not at all where there is another
    /// one for it.
    pub(crate) async fn waits_for_any(
        &self,
        id: JobId,
        ending: Ending,
        facts: &Facts,
    ) -> Result<Ending, EngineError> {
        let Ending::Parked { reason, .. } = ending else {
            return Ok(ending);
        };
        let news = facts.news.as_ref();
        let in_the_way = |news: &CredentialNews| news.limited.is_some() || news.refused.is_some();
        if !news.is_some_and(|news| in_the_way(news)) {
            return Ok(ending);
        }
        let Some((found, mut states)) = self.standing_of(id, Some(reason)).await? else {
            return Ok(ending);
        };
        let now = self.inner.clock.now();
        let own = found.job.paid_by.as_ref();
        if let Some((news, own)) = news.zip(own)
            && let Some(state) = states.iter_mut().find(|state| state.name == own.name)
        {
            add(state, news, now);
        }
        Ok(match self.choose(&found, &states, now) {
            Choice::Limited(until) => Ending::Parked {
                until: Some(until),
                reason: Reason::UsageLimit,
            },
            Choice::Stopped(reason) => Ending::Parked {
                until: None,
                reason,
            },
            Choice::Use(_) | Choice::Busy | Choice::None => Ending::Parked {
                until: Some(now),
                reason,
            },
        })
    }

    /// Does what follows when an attempt's report is stored: raises the alarm for a credential that it
    /// has stopped, and sees to it that its job does not wait for one that somebody has seen to
    /// meanwhile.
    pub(crate) async fn after_report(&self, changed: &Changed) -> Result<(), EngineError> {
        self.alarm(changed).await?;
        let State::Queued { reason, .. } = changed.after.state else {
            return Ok(());
        };
        let Some((found, states)) = self.standing_of(changed.after.id, reason).await? else {
            return Ok(());
        };
        let now = self.inner.clock.now();
        if matches!(
            self.choose(&found, &states, now),
            Choice::Use(_) | Choice::Busy
        ) {
            self.inner.store.release_unpowered(now).await?;
            self.inner.ready.notify_waiters();
        }
        Ok(())
    }

    async fn alarm(&self, changed: &Changed) -> Result<(), EngineError> {
        let Some(paid_by) = &changed.before.paid_by else {
            return Ok(());
        };
        let states = self.inner.store.credentials().await?;
        let state = states.into_iter().find(|state| state.name == paid_by.name);
        if let Some(Stopped { at, reason, error }) = state.and_then(|state| state.stopped)
            // Stored to the microsecond.
            && at.as_microsecond() == changed.after.updated_at.as_microsecond()
        {
            tracing::error!(
                credential = %paid_by.name,
                %reason,
                error,
                "credential stopped: jobs that need it wait until somebody has seen to it, then \
                 `agent-admin credentials resume {}`",
                paid_by.name
            );
        }
        Ok(())
    }

    /// A job that runs, or waits for this reason, on credentials of the server, and how they stand.
    async fn standing_of(
        &self,
        id: JobId,
        reason: Option<Reason>,
    ) -> Result<Option<(JobWithClient, Vec<CredentialState>)>, EngineError> {
        if !reason.is_some_and(Reason::is_of_credential) {
            return Ok(None);
        }
        let found = self.inner.store.job(id).await?;
        let Some(found) = found.filter(|found| !found.job.spec.secrets.agent) else {
            return Ok(None);
        };
        Ok(Some((found, self.inner.store.credentials().await?)))
    }

    /// The credentials that a job waits for, where it does.
    pub(crate) async fn awaited_credentials(
        &self,
        id: JobId,
    ) -> Result<Vec<CredentialName>, EngineError> {
        let found = self.inner.store.job(id).await?;
        let reason = found.and_then(|found| match found.job.state {
            State::Queued { reason, .. } => reason,
            State::Running { .. }
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => None,
        });
        let Some((found, states)) = self.standing_of(id, reason).await? else {
            return Ok(Vec::new());
        };
        let now = self.inner.clock.now();
        let known = self.inner.config.credentials.iter();
        let its = known.filter(|credential| credential.is_for(&found.client.repo));
        let is_shut = |state: &CredentialState| {
            state.stopped.is_some() || state.limited_until(None, now).is_some()
        };
        let shut = its.filter(|credential| is_shut(&view(credential, &states).state));
        Ok(shut.map(|credential| credential.name.clone()).collect())
    }

    /// Takes note of whether the CLI says that somebody is logged in.
    pub(crate) async fn note_login(&self, name: CredentialName, is_there: bool) {
        let now = self.inner.clock.now();
        let noted = self.inner.store.note_login(name.clone(), is_there, now);
        match (noted.await, is_there) {
            (Ok(false), _) => {}
            (Ok(true), true) => {
                tracing::info!(credential = %name, "somebody is logged in again: it goes on");
                self.inner.ready.notify_waiters();
            }
            (Ok(true), false) => tracing::error!(
                credential = %name,
                "credential stopped: nobody is logged in; jobs that need it wait until somebody is"
            ),
            (Err(error), _) => tracing::warn!(credential = %name, %error, "login not noted"),
        }
    }
}

/// What a credential's state is once `news` of it are stored.
fn add(state: &mut CredentialState, news: &CredentialNews, now: Timestamp) {
    state.limits.extend(news.limited.clone());
    if let (None, Some((reason, error))) = (&state.stopped, &news.refused) {
        state.stopped = Some(Stopped {
            at: now,
            reason: *reason,
            error: error.clone(),
        });
    }
}

/// Whose jobs may run on it, and what it is.
fn setup(credential: &Credential) -> String {
    let clients = credential.clients.as_ref();
    let clients = clients.map_or_else(
        || "*".to_owned(),
        |some| {
            let some: Vec<String> = some.iter().map(ToString::to_string).collect();
            some.join(" ")
        },
    );
    format!("{} {clients}", credential.kind.as_str())
}

fn view(credential: &Credential, states: &[CredentialState]) -> CredentialView {
    let state = states.iter().find(|state| state.name == credential.name);
    let unknown = || CredentialState::new(credential.name.clone());
    CredentialView {
        credential: credential.clone(),
        state: state.cloned().unwrap_or_else(unknown),
    }
}
