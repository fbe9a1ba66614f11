//! The stand-in against the list of what was observed of the real CLI, a test or more per point.

mod harness;

mod outcomes;
mod processes;
mod project;
mod sessions;
mod startup;
mod transcript;
