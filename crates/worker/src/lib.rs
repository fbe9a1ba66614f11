//! Executes attempts: prepares a workspace, runs the agent in it, delivers its work, reports.
//!
//! A [`Worker`] talks to the system only through a [`Coordinator`](agent_domain::Coordinator), so
//! it does not matter whether that is the engine in the same process or a server elsewhere. It
//! keeps nothing in memory that a restart would need: what an interrupted attempt has done is
//! read from the job's facts, the supervisor's directory and git.

mod attempt;
mod clean_up;
mod continued;
mod deliver;
mod health;
mod holds;
mod house;
mod journal;
mod lease;
mod orphans;
mod output;
mod patience;
mod prepare;
mod resume;
mod room;
mod settle;
mod signs;
mod slots;
mod worker;

pub use house::House;
pub use settle::Settlement;
pub use worker::{Worker, WorkerConfig, WorkerParts};
