//! One attempt from its lease to its report: prepare, run, deliver, clean up.

use std::borrow::Cow;
use std::time::Duration;

use agent_domain::{
    Assignment, Directive, Ending, Facts, Lease, Phase, Report, Resume, RunEnd, RunSummary, Stop,
    judge, unkillable,
};
use agent_forge::Forge;
use agent_git::{Git, Workspace};
use agent_runner::{LostRun, Reconnected, Run, RunnerError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::holds::Hold;
use crate::journal::Journal;
use crate::lease;
use crate::output;
use crate::prepare::git_failed;
use crate::worker::WorkerParts;

/// Pause before a supervisor that could not be reached is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Why work on an attempt stopped before its work was delivered.
pub(crate) enum Halt {
    /// It is over, in this way.
    Ended(Ending),
    /// It is no longer ours to work on.
    Stale,
}

impl From<Ending> for Halt {
    fn from(ending: Ending) -> Self {
        Self::Ended(ending)
    }
}

/// An attempt under way.
pub(crate) struct Attempt<'a> {
    pub(crate) parts: &'a WorkerParts,
    pub(crate) assignment: &'a Assignment,
    pub(crate) journal: Journal,
    pub(crate) directive: watch::Receiver<Directive>,
    /// How far it has come.
    pub(crate) phase: Phase,
    /// Everything known so far.
    pub(crate) facts: Facts,
    /// The session in which it goes on; none once it is begun anew.
    pub(crate) resume: Option<Resume>,
    hold: &'a Hold,
    ours_until: watch::Receiver<Instant>,
}

/// Sees an attempt to its end. Dropped midway, it leaves everything so that the same attempt can
/// be taken up again.
pub(crate) async fn execute(parts: &WorkerParts, assignment: Assignment, hold: &Hold) {
    let lease = assignment.lease;
    let coordinator = parts.coordinator.as_ref();
    let (told, directive) = watch::channel(Directive::Continue);
    let (renewed, ours_until) = watch::channel(lease::deadline(&lease, Instant::now()));
    let journal = Journal::new(
        &assignment,
        parts.clock.clone(),
        parts.coordinator.clone(),
        parts.runner.masker(&assignment.secrets.all()),
    );
    let facts = assignment.facts.clone();
    let phase = assignment.resume_from.unwrap_or(Phase::Fetching);
    let mut attempt = Attempt {
        parts,
        assignment: &assignment,
        journal,
        directive,
        phase,
        facts,
        resume: assignment.resume.clone(),
        hold,
        ours_until,
    };
    let report = tokio::select! {
        () = lease::renew(coordinator, &lease, &renewed) => None,
        () = lease::listen(coordinator, &lease, &told) => None,
        report = attempt.run() => report,
    };
    let is_reported = match report {
        Some(report) => tokio::select! {
            // The report ends the lease, so it is looked at first.
            biased;
            reported = finish(parts, &lease, report) => reported,
            () = lease::renew(coordinator, &lease, &renewed) => false,
        },
        None => false,
    };
    if !is_reported {
        tracing::warn!(job.id = %lease.job, lease.attempt, "lease lost; the attempt is given up");
        give_up(parts, &lease).await;
    }
    if let Err(error) = parts.runner.forget(lease.job, lease.attempt).await {
        tracing::warn!(job.id = %lease.job, %error, "attempt directory not removed");
    }
}

/// Returns whether the report was taken.
async fn finish(parts: &WorkerParts, lease: &Lease, report: Report) -> bool {
    let ended = lease::insist(|| parts.coordinator.finish(lease, report.clone())).await;
    if let Err(error) = &ended {
        tracing::warn!(job.id = %lease.job, %error, "report refused");
    }
    ended.is_ok()
}

/// Makes sure that nothing of the attempt runs any more. Nothing else is touched: workspace and
/// branch may be another attempt's by now.
async fn give_up(parts: &WorkerParts, lease: &Lease) {
    let Lease { job, attempt, .. } = *lease;
    loop {
        match parts.runner.end(job, attempt).await {
            Ok(left) if left.is_empty() => return,
            Ok(left) => {
                tracing::error!(job.id = %job, attempt, pids = ?left, "cannot be ended");
                return;
            }
            Err(error) => {
                tracing::warn!(job.id = %job, attempt, %error, "not ended yet, trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// What is known of a run by what it said.
pub(crate) fn learned(summary: &RunSummary, exit_code: Option<i32>) -> Facts {
    let result = summary.result.as_ref();
    Facts {
        exit_code,
        session_id: summary.session_id.clone(),
        model: summary.model.clone(),
        cli_version: summary.cli_version.clone(),
        num_turns: result.and_then(|result| result.num_turns),
        usage: Some(summary.usage.clone()),
        denied: summary.denied.clone(),
        ..Facts::default()
    }
}

impl Attempt<'_> {
    /// Works until there is something to report; `None` when the lease is stale.
    async fn run(&mut self) -> Option<Report> {
        self.hold.alone().await;
        let ending = match self.work().await {
            Ok(()) => Ending::Completed,
            Err(Halt::Ended(ending)) => ending,
            Err(Halt::Stale) => return None,
        };
        self.clean_up(&ending).await;
        Some(Report {
            ending: self.journal.masked(ending),
            facts: self.facts.clone(),
        })
    }

    async fn work(&mut self) -> Result<(), Halt> {
        if self.assignment.resume_from == Some(Phase::Delivering) {
            self.learn_again().await;
        } else {
            let end = self.run_agent().await?;
            if let Some(error) = &end.disk_full {
                return Err(self.later(error).await);
            }
            self.learn(&end.summary, end.exit_code);
            self.facts.news = self.news_of(&end);
            if let Err(ending) = judge(&end) {
                return Err(self.unless_it_waits(&end, ending).into());
            }
            if let Some(schema) = &self.assignment.options.output_schema {
                self.facts.output = Some(output::take(schema, &end.summary)?);
            }
            self.unless_cancelled()?;
        }
        self.deliver().await
    }

    /// Runs the agent, or takes up the run that an earlier server left to its supervisor.
    async fn run_agent(&mut self) -> Result<RunEnd, Halt> {
        if self.assignment.resume_from == Some(Phase::Agent) {
            match self.reconnect().await {
                Reconnected::NeverStarted => {}
                found => return self.see_to_its_end(found).await,
            }
        }
        let request = match self.make_ready().await {
            Ok(request) => request,
            Err(halt) => return Err(self.later_if_full(halt).await),
        };
        match self.parts.runner.start(request).await {
            Ok(run) => self.see_to_its_end(Reconnected::Living(run)).await,
            // An agent that cannot be started is the end of a run; this is a supervisor that
            // cannot, or was killed. Whether it had started the agent is asked, not guessed.
            Err(error) => match self.reconnect().await {
                Reconnected::NeverStarted if error.is_disk_full() => {
                    Err(self.later(&error.to_string()).await)
                }
                Reconnected::NeverStarted => Err(Ending::Lost {
                    error: error.to_string(),
                }
                .into()),
                found => self.see_to_its_end(found).await,
            },
        }
    }

    /// Finds out what has become of the run. Asks until there is an answer: to guess that an
    /// agent is gone would be to start, and pay for, a second one beside it.
    async fn reconnect(&self) -> Reconnected {
        let Lease { job, attempt, .. } = self.assignment.lease;
        loop {
            match self
                .parts
                .runner
                .reconnect(job, attempt, &self.assignment.log)
                .await
            {
                Ok(found) => return found,
                Err(error) => {
                    tracing::warn!(job.id = %job, %error, "supervisor not reached, trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits for the agent's end, whatever becomes of the connection to its supervisor.
    async fn see_to_its_end(&mut self, found: Reconnected) -> Result<RunEnd, Halt> {
        let mut found = found;
        loop {
            match found {
                Reconnected::Ended(end) => return Ok(end),
                Reconnected::Lost(lost) => return self.lost(lost),
                Reconnected::NeverStarted => return self.lost(LostRun::default()),
                Reconnected::Living(run) => match self.watch(run).await {
                    Ok(end) => return Ok(end),
                    Err(error) => {
                        tracing::warn!(job.id = %self.assignment.lease.job, %error, "supervisor lost");
                        found = self.reconnect().await;
                    }
                },
            }
        }
    }

    /// Waits for a run's end, passing on what it shows and what is to be done about it.
    async fn watch(&mut self, run: Run) -> Result<RunEnd, RunnerError> {
        let signs = run.signs();
        let (ended, told) = tokio::join!(self.attend(run), self.tell_signs(signs));
        self.facts.phase_detail = told;
        ended
    }

    async fn attend(&self, mut run: Run) -> Result<RunEnd, RunnerError> {
        let mut growth = run.log_growth();
        let mut directive = self.directive.clone();
        directive.mark_changed();
        loop {
            tokio::select! {
                ended = run.wait() => return ended,
                Ok(()) = directive.changed() => {
                    let told = *directive.borrow_and_update();
                    match told {
                        Directive::Continue => {}
                        Directive::Cancel => run.cancel().await,
                        Directive::Kill => run.kill().await,
                    }
                }
                Ok(()) = growth.changed() => {
                    growth.borrow_and_update();
                    self.parts.coordinator.log_grew(&self.assignment.lease);
                }
            }
        }
    }

    /// What a run that was over counts for, although its supervisor could not say so any more.
    fn lost(&mut self, lost: LostRun) -> Result<RunEnd, Halt> {
        self.learn(&lost.summary, None);
        if !lost.unkillable.is_empty() {
            return Err(unkillable(&lost.unkillable).into());
        }
        if self.is_cancelled() {
            return Err(Ending::Cancelled.into());
        }
        if lost.summary.is_over() {
            self.journal
                .say("The agent's supervisor died, but the agent had said its result");
            return Ok(RunEnd {
                stop: Some(Stop::Stayed),
                summary: lost.summary,
                ..RunEnd::default()
            });
        }
        let error = "the agent's supervisor died, and the agent with it".into();
        Err(Ending::Lost { error }.into())
    }

    /// What a run has used is not on record before its attempt ends, so a server that delivers what
    /// an earlier one's run has made reads it again. Where nothing tells it, the log does.
    async fn learn_again(&mut self) {
        let Lease { job, attempt, .. } = self.assignment.lease;
        let log = &self.assignment.log;
        let found = self.parts.runner.reconnect(job, attempt, log).await;
        if let Ok(Reconnected::Ended(end)) = found {
            self.facts.usage = Some(end.summary.usage);
        }
    }

    fn learn(&mut self, summary: &RunSummary, exit_code: Option<i32>) {
        let facts = std::mem::take(&mut self.facts);
        self.facts = facts.updated(learned(summary, exit_code));
    }

    /// The workspace; `None` before it is known what it starts from.
    pub(crate) fn workspace(&self) -> Option<Workspace> {
        let Assignment {
            repo,
            branch,
            lease,
            ..
        } = self.assignment;
        let base = self.facts.base_commit.as_ref()?;
        Some(self.parts.git.workspace(repo, lease.job, branch, base))
    }

    /// Speaks to the remote with the job's own token, where it brought one.
    pub(crate) fn git(&self) -> Result<Git, Halt> {
        let git = &self.parts.git;
        match &self.assignment.secrets.git_token {
            Some(token) => git.with_token(token).map_err(|error| git_failed(&error)),
            None => Ok(git.clone()),
        }
    }

    /// Opens pull requests with the job's own token, where it brought one.
    pub(crate) fn forge(&self) -> Cow<'_, Forge> {
        let forge = self.parts.forge.as_ref();
        match &self.assignment.secrets.git_token {
            Some(token) => Cow::Owned(forge.with_token(token)),
            None => Cow::Borrowed(forge),
        }
    }

    /// Tells the coordinator how far the attempt has come; durable when it returns.
    pub(crate) async fn progress(&mut self, phase: Phase) -> Result<(), Halt> {
        self.phase = phase;
        let lease = &self.assignment.lease;
        let told = || {
            self.parts
                .coordinator
                .progress(lease, phase, self.facts.clone())
        };
        lease::insist(told).await.map_err(|_| Halt::Stale)
    }

    /// Waits until the lease is ours for certain; before anything that others can see.
    pub(crate) async fn ours(&self) {
        lease::ours(self.ours_until.clone()).await;
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        *self.directive.borrow() != Directive::Continue
    }

    /// Waits until the job is to be stopped.
    pub(crate) fn cancellation(&self) -> impl Future<Output = ()> + Send + use<> {
        self.told(Directive::Cancel)
    }

    /// Waits until the job is to be stopped at once.
    pub(crate) fn killing(&self) -> impl Future<Output = ()> + Send + use<> {
        self.told(Directive::Kill)
    }

    fn told(&self, least: Directive) -> impl Future<Output = ()> + Send + use<> {
        let mut directive = self.directive.clone();
        async move {
            // The sender lives as long as the attempt, so an error means that nobody will ask.
            if directive.wait_for(|told| *told >= least).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(crate) fn unless_cancelled(&self) -> Result<(), Halt> {
        if self.is_cancelled() {
            Err(Ending::Cancelled.into())
        } else {
            Ok(())
        }
    }
}
