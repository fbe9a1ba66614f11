//! Outgoing callbacks: signing them, sending them, and keeping them away from private addresses.
//!
//! Everything blocks; call it from a thread that may. Nothing here decides when a callback is sent
//! again: one call of [`Sender::send`] is one attempt, and its [`Verdict`] says what it was worth.

mod guard;
mod key;
mod resolver;
mod retry_after;
mod sender;
mod sign;
mod trust;

pub use guard::{AddressError, check_literal};
pub use key::{SigningKey, SigningKeyError};
pub use sender::{Attempt, Post, Sender, SenderConfig, Verdict};
pub use sign::{Signatures, sign};
pub use trust::{Trust, TrustError};
