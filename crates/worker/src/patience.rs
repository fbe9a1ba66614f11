//! Tries network work again: three more times, after 1 s, 5 s and 25 s.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use agent_domain::{Backoff, Ids, jittered};

/// An error that may be worth another try.
pub(crate) trait Transient: std::error::Error {
    /// Whether the same call may succeed later.
    fn is_transient(&self) -> bool;

    /// How long the other side asked to wait.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// Longest wait another side may impose on a job; beyond it the job fails instead.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);

/// Calls `work` until it succeeds, fails for good or has been tried often enough; `tell` is told
/// of each failure that is followed by another try. Once `stop` is over there is no other try:
/// what is under way is seen to its end, so that its outcome is known.
pub(crate) async fn patiently<T, E, W>(
    ids: &dyn Ids,
    mut work: impl FnMut() -> W,
    tell: impl Fn(&E, Duration),
    stop: impl Future<Output = ()>,
) -> Result<T, E>
where
    E: Transient,
    W: Future<Output = Result<T, E>>,
{
    let mut made = 0;
    let mut stop = pin!(stop);
    loop {
        let error = match work().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        made += 1;
        let Some(wait) = Backoff::NETWORK
            .wait_after(made)
            .filter(|_| error.is_transient())
        else {
            return Err(error);
        };
        let wait = jittered(wait, ids).max(error.retry_after().unwrap_or_default());
        if wait > RETRY_AFTER_MAX {
            return Err(error);
        }
        tell(&error, wait);
        tokio::select! {
            biased;
            () = &mut stop => return Err(error),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, ready};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed")]
    struct Failure {
        transient: bool,
        retry_after: Option<Duration>,
    }

    impl Transient for Failure {
        fn is_transient(&self) -> bool {
            self.transient
        }

        fn retry_after(&self) -> Option<Duration> {
            self.retry_after
        }
    }

    struct Zero;

    impl Ids for Zero {
        fn fresh(&self) -> [u8; 16] {
            [0; 16]
        }
    }

    /// Fails once in the given way and succeeds then; returns how often it was tried.
    async fn tries(transient: bool, retry_after: Option<Duration>, cancelled: bool) -> u32 {
        let tries = Cell::new(0);
        let work = || {
            tries.set(tries.get() + 1);
            ready(if tries.get() == 1 {
                Err(Failure {
                    transient,
                    retry_after,
                })
            } else {
                Ok(())
            })
        };
        let stop = async {
            if !cancelled {
                pending::<()>().await;
            }
        };
        let done = patiently(&Zero, work, |_, _| (), stop).await;
        assert_eq!(done.is_ok(), tries.get() > 1);
        tries.get()
    }

    #[tokio::test]
    async fn only_what_may_pass_is_tried_again() {
        assert_eq!(tries(true, None, false).await, 2);
        assert_eq!(tries(false, None, false).await, 1);
    }

    #[tokio::test]
    async fn a_cancelled_job_is_not_tried_again() {
        assert_eq!(tries(true, None, true).await, 1);
    }

    #[tokio::test]
    async fn nobody_can_make_a_job_wait_for_longer_than_five_minutes() {
        let hour = Some(Duration::from_hours(1));
        assert_eq!(tries(true, hour, false).await, 1);
    }
}
