//! Where the CLI keeps its sessions: a file each, of a format of its own, by the directory it worked
//! in. The same behind a wall, where the agent sees that directory's only.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use agent_domain::is_session_id;

use crate::sandbox::transcripts;
use crate::{Masker, Runner, RunnerError};

impl Runner {
    /// Whether there is a session of this id that can be resumed in `cwd`.
    pub fn has_session(&self, cwd: &Path, session_id: &str) -> bool {
        is_session_id(session_id)
            && self
                .session_folders(cwd)
                .iter()
                .any(|folder| is_file(&folder.join(file_name(session_id))))
    }

    /// Copies a session of `cwd` to a file of ours, masked, in place of what is there; with `last`, the
    /// CLI's own goes, so that there is one state of it only. False: there is none.
    pub async fn keep_session(
        &self,
        cwd: &Path,
        session_id: &str,
        to: &Path,
        masker: Masker,
        last: bool,
    ) -> Result<bool, RunnerError> {
        if !is_session_id(session_id) {
            return Ok(false);
        }
        let (folders, name) = (self.session_folders(cwd), file_name(session_id));
        let to = to.to_owned();
        let failed = RunnerError::io("cannot keep the session");
        let kept = tokio::task::spawn_blocking(move || {
            let mut files = folders.iter().map(|folder| folder.join(&name));
            let Some(file) = files.find(|file| is_file(file)) else {
                return Ok(false);
            };
            copy_masked(&file, &to, &masker)?;
            if last {
                fs::remove_file(&file)?;
                // Stays where there is something else in it.
                file.parent().map(fs::remove_dir);
            }
            Ok(true)
        });
        kept.await
            .unwrap_or_else(|error| Err(error.into()))
            .map_err(failed)
    }

    /// Puts a session that was kept where the CLI finds it in `cwd`. False: there is none.
    pub async fn put_session(
        &self,
        from: &Path,
        cwd: &Path,
        session_id: &str,
    ) -> Result<bool, RunnerError> {
        let folder = self.session_folders(cwd).into_iter().next();
        let Some(folder) = folder.filter(|_| is_session_id(session_id)) else {
            return Ok(false);
        };
        let (from, to) = (from.to_owned(), folder.join(file_name(session_id)));
        let failed = RunnerError::io("cannot put the session back");
        let put = tokio::task::spawn_blocking(move || {
            if !is_file(&from) {
                return Ok(false);
            }
            copy_masked(&from, &to, &Masker::default()).map(|()| true)
        });
        put.await
            .unwrap_or_else(|error| Err(error.into()))
            .map_err(failed)
    }

    /// The sessions that the CLI itself keeps of what it did in `cwd`, to be removed when that is gone.
    pub fn sessions_of(&self, cwd: &Path) -> OwnSessions {
        OwnSessions(self.session_folders(cwd))
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

/// The CLI's own sessions of one workspace.
#[derive(Debug)]
pub struct OwnSessions(Vec<PathBuf>);

impl OwnSessions {
    /// Removes them with all that the CLI knows of the workspace. What cannot be removed is left: the
    /// path of a workspace never comes again.
    pub async fn remove(self) {
        let removed = tokio::task::spawn_blocking(move || {
            for folder in self.0 {
                match fs::remove_dir_all(&folder) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        let folder = folder.display();
                        tracing::warn!(%folder, %error, "sessions of an ended job stay");
                    }
                    _ => {}
                }
            }
        });
        removed.await.ok();
    }
}

fn file_name(session_id: &str) -> String {
    format!("{session_id}.jsonl")
}

fn is_file(path: &Path) -> bool {
    let meta = fs::symlink_metadata(path);
    meta.is_ok_and(|meta| meta.is_file() && meta.len() > 0)
}

/// Writes a file that only its owner may read, whole or not at all. A session is a line of JSON after
/// the other, in which a mask changes nothing but the secret.
fn copy_masked(from: &Path, to: &Path, masker: &Masker) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let begun = to.with_extension("begun");
    fs::remove_file(&begun).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&begun)?;
    let mut file = BufWriter::new(file);
    let mut source = BufReader::new(fs::File::open(from)?);
    let mut line = Vec::new();
    while source.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        file.write_all(masker.text(&text).as_bytes())?;
        line.clear();
    }
    file.into_inner()?.sync_all()?;
    fs::rename(&begun, to)
}
