//! Where the CLI keeps its sessions: a file each, of a format of its own, by the directory it worked
//! in. The same behind a wall, where the agent sees that directory's only.

use std::fs;
use std::path::{Path, PathBuf};

use agent_domain::is_session_id;

use crate::Runner;
use crate::sandbox::transcripts;

impl Runner {
    /// Whether there is a session of this id that can be resumed in `cwd`.
    pub fn has_session(&self, cwd: &Path, session_id: &str) -> bool {
        is_session_id(session_id)
            && self.session_folders(cwd).iter().any(|folder| {
                let file = fs::symlink_metadata(folder.join(file_name(session_id)));
                file.is_ok_and(|meta| meta.is_file() && meta.len() > 0)
            })
    }

    /// Where sessions of a workspace are. The CLI goes by the real path of its directory; behind a
    /// wall that is the one we name.
    fn session_folders(&self, cwd: &Path) -> Vec<PathBuf> {
        let mut names = vec![cwd.to_owned()];
        if let Some(real) = cwd.canonicalize().ok().filter(|real| real != cwd)
            && !self.is_walled()
        {
            names.insert(0, real);
        }
        let folder = |cwd: &PathBuf| transcripts(&self.config.environment, cwd);
        names.iter().filter_map(folder).collect()
    }
}

fn file_name(session_id: &str) -> String {
    format!("{session_id}.jsonl")
}
