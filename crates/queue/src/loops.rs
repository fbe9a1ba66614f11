//! Every background loop of the engine, with its period, what wakes it and why it may run at any
//! time.
//!
//! | loop | period | woken by | why it is idempotent |
//! |---|---|---|---|
//! | `outbox::relay` | 30 s | a job that ends, a try that is done, the next due time | reads what is due; a delivery under way is not begun twice; its id never changes |

use crate::engine::Engine;
use crate::outbox;

/// Starts every loop.
pub(crate) fn spawn(engine: &Engine) {
    engine.spawn(outbox::relay(engine.clone()));
}
