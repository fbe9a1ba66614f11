//! Every background loop of the engine, with its period, what wakes it and why it may run at any
//! time.
//!
//! | loop | period | woken by | why it is idempotent |
//! |---|---|---|---|
//! | `disk::watch` | 1 s | nothing else | looks at what is free, and keeps only the answer |
//! | `outbox::relay` | 30 s | a job that ends, a try that is done, the next due time | reads what is due; a delivery under way is not begun twice; its id never changes |

use crate::engine::Engine;
use crate::{disk, outbox};

/// Starts every loop.
pub(crate) fn spawn(engine: &Engine) {
    engine.spawn(disk::watch(engine.clone()));
    engine.spawn(outbox::relay(engine.clone()));
}
