//! Every background loop of the engine, with its period, what wakes it and why it may run at any
//! time.
//!
//! | loop | period | woken by | why it is idempotent |
//! |---|---|---|---|
//! | `dependencies::settle` | 1 min | the start, a job that ends, a new job that waits for others | a job that waits no longer refuses what it was told already |
//! | `disk::watch` | 1 s | nothing else | looks at what is free, and keeps only the answer |
//! | `outbox::relay` | 30 s | a job that ends, a try that is done, the next due time, the end of an endpoint's pause | reads what is due; a delivery under way is not begun twice; its id never changes |
//! | `leases::reap` | 5 s | the end of the next lease | only a lease that nobody has renewed since it was seen is ended |
//! | `seal::catch_up` | 10 min | the start, a log left unsealed | a seal is stored once and never changes |
//! | `housekeeping::keep` | 1 h | the start, a disk that is nearly full or has room again; for its own workspace a job that ends | looks at what is there and at each job's state right before it removes anything |
//! | `once::prune` | 1 h | the start | removes only what is out of date, a bounded number at once |
//! | `retention::watch` | 1 h | the start | forgets only what has ended and has nothing left to do, a bounded number at once |

use std::sync::Arc;

use agent_domain::Upkeep;

use crate::engine::Engine;
use crate::{dependencies, disk, housekeeping, leases, once, outbox, retention, seal};

/// Starts every loop.
pub(crate) fn spawn(engine: &Engine) {
    engine.spawn(dependencies::settle(engine.clone()));
    engine.spawn(disk::watch(engine.clone()));
    engine.spawn(outbox::relay(engine.clone()));
    engine.spawn(leases::reap(engine.clone()));
    engine.spawn(once::prune(engine.clone()));
    engine.spawn(seal::catch_up(engine.clone()));
    engine.spawn(retention::watch(engine.clone()));
}

/// Starts the loop that looks after what jobs leave behind.
pub(crate) fn spawn_housekeeping(engine: &Engine, upkeep: Arc<dyn Upkeep>) {
    engine.spawn(housekeeping::keep(engine.clone(), upkeep));
}
