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
