//! A full disk ends no job: before the agent has run the job goes back to the queue, afterwards its
//! work waits for room.

use std::time::Duration;

use agent_domain::{Backoff, Ending, Reason, jittered};

use crate::attempt::{Attempt, Halt};

/// How long a job waits in the queue, by its attempt; the last one counts for all later ones. What it
/// needs may be more than the watermark keeps free, and what it tries costs something each time.
const PARKED: Backoff = Backoff(&[
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_mins(1),
    Duration::from_mins(5),
]);
/// How long finished work waits between two tries; the last one counts for all later ones.
const WAITING: Backoff = Backoff(&[
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
]);

/// What a job is doing that waits, for people.
const WAITS: &str = "waiting for disk space";

/// How often something was tried for which there was no room.
#[derive(Debug, Default)]
pub(crate) struct Waited(usize);

impl Attempt<'_> {
    /// Turns an end for want of room into a later beginning; nothing has been paid for yet.
    pub(crate) async fn later_if_full(&self, halt: Halt) -> Halt {
        match halt {
            Halt::Ended(Ending::Failed {
                reason: Reason::DiskFull,
                error,
            }) => self.later(&error).await,
            other => other,
        }
    }

    /// Sends the job back to the queue until there may be room.
    pub(crate) async fn later(&self, error: &str) -> Halt {
        self.journal
            .say(&format!("No room on the disk, begun again later: {error}"));
        self.give_back_room().await;
        let attempt = usize::try_from(self.assignment.lease.attempt).unwrap_or(usize::MAX);
        let wait = jittered(nth(PARKED, attempt), self.parts.ids.as_ref());
        let now = self.parts.clock.now();
        Halt::Ended(Ending::Parked {
            until: Some(now.checked_add(wait).unwrap_or(now)),
            reason: Reason::DiskFull,
        })
    }

    /// Waits before the next try of what found no room. Says so the first time; only a cancellation
    /// ends it.
    pub(crate) async fn wait_for_room(&mut self, waited: &mut Waited) -> Result<(), Halt> {
        self.unless_cancelled()?;
        waited.0 += 1;
        if waited.0 == 1 {
            let job = self.assignment.lease.job;
            tracing::warn!(job.id = %job, "the disk is full: finished work waits for room");
            self.journal
                .say("No room on the disk: waiting for it; nothing is lost meanwhile");
            self.tell_waiting(Some(WAITS)).await?;
        }
        self.give_back_room().await;
        tokio::select! {
            () = self.cancellation() => Err(Ending::Cancelled.into()),
            () = tokio::time::sleep(nth(WAITING, waited.0)) => Ok(()),
        }
    }

    /// Takes back what [`Attempt::wait_for_room`] has told.
    pub(crate) async fn has_room(&mut self, waited: Waited) -> Result<(), Halt> {
        if waited.0 == 0 {
            return Ok(());
        }
        self.journal.say("There is room on the disk again");
        self.tell_waiting(None).await
    }

    async fn tell_waiting(&mut self, what: Option<&str>) -> Result<(), Halt> {
        self.facts.phase_detail = what.map(str::to_owned);
        // On a disk so full that this cannot be stored, the work waits just the same.
        let cancellation = self.cancellation();
        tokio::select! {
            told = self.progress(self.phase) => told,
            () = cancellation => Err(Ending::Cancelled.into()),
        }
    }

    async fn give_back_room(&self) {
        let repo = &self.assignment.repo;
        if let Err(error) = self.parts.git.give_back_room(repo).await {
            tracing::warn!(%repo, %error, "what was left unfinished is not removed");
        }
    }
}

fn nth(waits: Backoff, n: usize) -> Duration {
    let last = waits.0.last().copied().unwrap_or_default();
    waits.wait_after(n).unwrap_or(last)
}
