//! The wall around the agent: what it sees of the machine, and what it can reach.
//!
//! bubblewrap makes the wall out of namespaces; [`wall`] says what stands inside. Our own first
//! process inside ([`inside()`]) starts the agent, passes signals on and collects the dead; at
//! [`Level::Isolated`] it also leads to [`proxy`], which runs outside and is the only way out.
//! A wall that cannot be set up ends the run before the agent is started.

mod arguments;
mod gate;
mod home;
mod host;
#[cfg(target_os = "linux")]
mod inside;
#[cfg(target_os = "linux")]
mod kernel;
mod private;
mod probe;
mod proxy;
mod scratch;
mod system;
mod wall;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use self::host::{HostRule, HostRuleError};
#[cfg(target_os = "linux")]
pub use self::inside::inside;
pub use self::probe::try_sandbox;

pub(crate) use self::gate::{Closed, Gate};
pub(crate) use self::home::transcripts;
pub(crate) use self::scratch::remove_all;
pub(crate) use self::wall::{WallSpec, raise};

use crate::Program;

/// How high the wall is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// `off`: there is none; the agent may do whatever the server's user may.
    #[default]
    Off,
    /// `workspace`: the agent sees the system read-only, may write to its workspace and to
    /// directories of its own, and sees nothing of the server and of other jobs. It shares the
    /// machine's network.
    Workspace,
    /// `isolated`: like `workspace`, and the network is what a list of hosts allows.
    Isolated,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 3] = [Self::Off, Self::Workspace, Self::Isolated];

    /// The word for it in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Workspace => "workspace",
            Self::Isolated => "isolated",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of off, workspace, isolated")]
pub struct LevelError;

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        let found = Self::ALL.into_iter().find(|level| level.as_str() == text);
        found.ok_or(LevelError)
    }
}

/// How a wall is set up around every agent of a runner.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// How high; at [`Level::Off`] nothing else counts.
    pub level: Level,
    /// bubblewrap, 0.8 or newer: a path, or a name looked up in the agent's PATH.
    pub bwrap: PathBuf,
    /// A program whose `main` calls [`inside()`]; its file must be readable by the agent's user.
    pub inside: Program,
    /// Directories, and files, that the agent must not see even where they lie in what it may read:
    /// data, mirrors, workspaces of others, secrets.
    pub hidden: Vec<PathBuf>,
    /// What the agent may read beside the system's programs and what it needs of its home.
    pub readable: Vec<PathBuf>,
    /// Hosts that may be reached at [`Level::Isolated`], beside the model's API.
    pub hosts: Vec<HostRule>,
}

/// What one run has beside its workspace, which it may always write to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ground {
    /// Files and directories it may write to.
    pub writable: Vec<PathBuf>,
    /// Files and directories it may read.
    pub readable: Vec<PathBuf>,
}

/// There is no wall to be inside of on this system.
#[cfg(not(target_os = "linux"))]
pub fn inside() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_read_back_as_written_and_are_in_order() {
        for level in Level::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert!("Workspace".parse::<Level>().is_err() && "".parse::<Level>().is_err());
        assert!(Level::Off < Level::Workspace && Level::Workspace < Level::Isolated);
    }
}
