//! Where git's own files of a workspace are, and what of the disk work in it needs.

use std::path::PathBuf;

use crate::{Workspace, owned, takeover};

/// Where git's own files of a workspace are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// In the mirror: a linked worktree. The agent writes to the mirror, so it must be one that
    /// could do so anyway.
    #[default]
    Linked,
    /// In the workspace: a git directory of its own, which borrows the mirror's objects and writes
    /// nothing there. For an agent behind a wall.
    Owned,
}

/// What git needs of the disk for work in a workspace, by absolute paths, which must be the same
/// behind a wall. Nothing else of the mirror, nor of any other, need be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Read and written, with all below.
    pub writable: Vec<PathBuf>,
    /// Read only, with all below.
    pub readable: Vec<PathBuf>,
}

impl Workspace {
    /// Whether it is there, as an agent left it: what was begun to be taken over is not.
    pub fn is_there(&self) -> bool {
        let taken = takeover::aside(self).symlink_metadata().is_ok();
        self.admin().is_dir() && self.path().join(".git").exists() && !taken
    }

    /// Where git's own files of it are now.
    pub fn layout(&self) -> Layout {
        if owned::is_marked(self) {
            Layout::Owned
        } else {
            Layout::Linked
        }
    }

    /// What git needs of the disk in this workspace, were it made with `layout`.
    pub fn reach(&self, layout: Layout) -> Reach {
        let tree = self.path().to_owned();
        match layout {
            Layout::Linked => Reach {
                writable: vec![tree, self.mirror().to_owned()],
                readable: Vec::new(),
            },
            Layout::Owned => Reach {
                writable: vec![tree],
                readable: vec![self.mirror().join("objects")],
            },
        }
    }
}
