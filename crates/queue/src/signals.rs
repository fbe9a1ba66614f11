//! In-memory wake-ups per job: what is to be done about it, and that its log has grown.
//!
//! Nothing here is the truth: it only says "look again". A job without an entry is looked up.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use agent_domain::{Directive, JobId};
use tokio::sync::watch;

/// What a watcher of a job sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signal {
    /// What the worker is to do.
    pub(crate) directive: Directive,
    /// Counts every reason to look again.
    pub(crate) generation: u64,
}

/// All jobs that someone watches.
#[derive(Debug, Default)]
pub(crate) struct Signals(Mutex<HashMap<JobId, watch::Sender<Signal>>>);

impl Signals {
    /// Watches a job from now on; later signals are not missed.
    pub(crate) fn watch(&self, job: JobId) -> watch::Receiver<Signal> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            watch::Sender::new(Signal {
                directive: Directive::Continue,
                generation: 0,
            })
        };
        jobs.entry(job).or_insert_with(start).subscribe()
    }

    /// Waits for the next signal. A job that was forgotten meanwhile, because it ended or went back
    /// to the queue, is watched anew.
    pub(crate) async fn next(&self, job: JobId, watch: &mut watch::Receiver<Signal>) {
        if watch.changed().await.is_err() {
            *watch = self.watch(job);
        }
    }

    /// Raises what is to be done about a job; it is never lowered.
    pub(crate) fn direct(&self, job: JobId, directive: Directive) {
        self.change(job, |signal| {
            signal.directive = signal.directive.max(directive);
        });
    }

    /// Tells watchers to look again.
    pub(crate) fn touch(&self, job: JobId) {
        self.change(job, |_| ());
    }

    /// Forgets a job that ended; its watchers are told to look again.
    pub(crate) fn end(&self, job: JobId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&job);
    }

    fn change(&self, job: JobId, change: impl FnOnce(&mut Signal)) {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = jobs.get(&job) {
            sender.send_modify(|signal| {
                change(signal);
                signal.generation += 1;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watcher_of_a_forgotten_job_is_told_once_and_watches_on() {
        let (signals, job) = (Signals::default(), JobId::from_bytes([1; 16]));
        let mut watch = signals.watch(job);
        signals.end(job);
        signals.next(job, &mut watch).await;
        let idle = tokio::time::timeout(std::time::Duration::from_millis(20), async {
            signals.next(job, &mut watch).await;
        });
        assert!(idle.await.is_err(), "nothing has happened since");
        signals.direct(job, Directive::Cancel);
        signals.next(job, &mut watch).await;
        assert_eq!(watch.borrow().directive, Directive::Cancel);
    }
}
