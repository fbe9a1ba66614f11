//! Git for agent-server: mirrors of remote repositories, workspaces of jobs, commits, pushes.
//!
//! Reads go through gix in this process; whatever gix cannot do, or does not do as faithfully,
//! goes through the `git` command, which `command.rs` alone starts. The disk is the only state:
//! everything here can be killed at any moment and repeated afterwards.

mod command;
mod commit;
mod committed;
mod config;
mod error;
mod forget;
mod gitlinks;
mod held;
mod identity;
mod layout;
mod leftovers;
mod lock;
mod maintain;
mod mirror;
mod mirrors;
mod opened;
mod owned;
mod push;
mod refs;
mod relic;
mod remote;
mod save;
mod settings;
mod settle;
mod staged;
mod stale;
mod takeover;
mod trash;
mod upkeep;
mod verdict;
mod workspace;
mod worktree;

pub use committed::CommittedFile;
pub use config::{Git, GitConfig, Identity};
pub use error::GitError;
pub use layout::{Layout, Reach};
pub use worktree::Workspace;
