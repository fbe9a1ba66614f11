//! How many attempts are under way, and how many may be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A number of slots. What is found living after a restart takes one even if there is none.
#[derive(Debug, Clone)]
pub(crate) struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    taken: Mutex<usize>,
    freed: Notify,
}

/// One slot, given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Inner>);

impl Slots {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Inner {
            limit,
            taken: Mutex::new(0),
            freed: Notify::new(),
        }))
    }

    /// Takes a slot, if need be one too many.
    pub(crate) fn take(&self) -> Slot {
        *self.0.taken() += 1;
        Slot(Arc::clone(&self.0))
    }

    /// Waits until there is a free slot, and says how many there are.
    pub(crate) async fn free(&self) -> usize {
        loop {
            let freed = self.0.freed.notified();
            let free = self.0.limit.saturating_sub(*self.0.taken());
            if free > 0 {
                return free;
            }
            freed.await;
        }
    }
}

impl Inner {
    fn taken(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.taken() -= 1;
        // One waiter, which is told even if it comes to wait only now.
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_slot_is_free_until_fewer_are_taken_than_there_are() {
        let slots = Slots::new(2);
        assert_eq!(slots.free().await, 2);
        let (one, _two, three) = (slots.take(), slots.take(), slots.take());
        let waiting = slots.free();
        tokio::pin!(waiting);
        assert!(at_once(&mut waiting).await.is_none());
        drop(one);
        assert!(at_once(&mut waiting).await.is_none(), "two are taken still");
        drop(three);
        assert_eq!(at_once(&mut waiting).await, Some(1));
    }

    /// The result, if it is there without waiting.
    async fn at_once<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
        tokio::select! {
            biased;
            done = future => Some(done),
            () = std::future::ready(()) => None,
        }
    }
}
