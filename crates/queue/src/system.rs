//! The machine's own clock and randomness, for whoever composes an engine.

use agent_domain::{Clock, Ids, Timestamp};

/// The wall clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Ids from the operating system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    fn fresh(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        // The one way this fails is a system without a random source, where nothing secure runs.
        if let Err(error) = getrandom::fill(&mut bytes) {
            tracing::error!(%error, "no random numbers from the system");
            std::process::abort();
        }
        bytes
    }
}
