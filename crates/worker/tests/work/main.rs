//! A worker with real git, real processes, and a coordinator that answers as told.

mod coordinator;
mod giving_up;
mod place;
mod settling;
