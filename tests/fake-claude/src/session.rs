//! Sessions on disk: which ids are taken, and what a session has cost so far.
//!
//! The format of the file is private to the real CLI and to this one; the path is not.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::args::Args;
use crate::auth;
use crate::ids::Ids;

/// A session that has begun.
#[derive(Debug, Clone, Default)]
pub(crate) struct Session {
    pub(crate) id: String,
    /// `None`: nothing is kept, by request or because it cannot be.
    file: Option<PathBuf>,
    /// What earlier runs of it cost, in US dollars.
    pub(crate) earlier_cost: f64,
    /// How many answers of the model they were charged for.
    pub(crate) earlier_answers: u64,
    /// Whether it was begun by an earlier run.
    pub(crate) resumed: bool,
}

/// Why a session cannot be begun; both are messages for standard error.
pub(crate) enum Refused {
    InUse(String),
    Missing(String),
}

impl Refused {
    pub(crate) fn message(&self) -> String {
        match self {
            Self::InUse(id) => format!("Error: Session ID {id} is already in use."),
            Self::Missing(id) => format!("No conversation found with session ID: {id}"),
        }
    }
}

impl Session {
    /// Begins or resumes the session that the command line asks for.
    pub(crate) fn open(args: &Args, ids: &mut Ids) -> Result<Self, Refused> {
        let base = auth::config_dir().map(|dir| dir.join("projects"));
        let cwd = std::env::current_dir().unwrap_or_default();
        let project = base.as_ref().map(|base| base.join(slug(&cwd)));
        let earlier = match &args.resume {
            Some(id) => {
                let file = find(base.as_deref(), id);
                Some(file.ok_or_else(|| Refused::Missing(id.clone()))?)
            }
            None if args.continue_last => project.as_deref().and_then(latest),
            None => None,
        };
        let new_id = args.session_id.clone().unwrap_or_else(|| ids.uuid());
        let is_new = earlier.is_none() || args.fork;
        if is_new && find(base.as_deref(), &new_id).is_some() {
            return Err(Refused::InUse(new_id));
        }
        let (earlier_cost, earlier_answers) = earlier.as_deref().map(cost).unwrap_or_default();
        let (id, file) = match &earlier {
            Some(file) if !args.fork => (stem(file), Some(file.clone())),
            _ => {
                let file = project.map(|dir| dir.join(format!("{new_id}.jsonl")));
                (new_id, file)
            }
        };
        let session = Self {
            id,
            file: file.filter(|_| args.persist),
            earlier_cost,
            earlier_answers,
            resumed: earlier.is_some(),
        };
        if let (Some(from), Some(to), true) = (&earlier, &session.file, args.fork) {
            to.parent().map(fs::create_dir_all);
            fs::copy(from, to).ok();
        }
        Ok(session)
    }

    /// Appends a line; that it cannot is no error.
    pub(crate) fn note(&self, line: &Value) {
        let Some(file) = &self.file else { return };
        file.parent().map(fs::create_dir_all);
        let open = fs::OpenOptions::new().create(true).append(true).open(file);
        if let Ok(mut file) = open {
            file.write_all(format!("{line}\n").as_bytes()).ok();
        }
    }

    /// The last prompt of an earlier run that brought a script: what the session is about.
    pub(crate) fn scripted_prompt(&self) -> Option<String> {
        let text = fs::read_to_string(self.file.as_ref()?).ok()?;
        let prompts = text.lines().rev().filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let is_prompt = line["type"] == "user";
            Some(line["content"].as_str().filter(|_| is_prompt)?.to_owned())
        });
        let mut scripted = prompts.filter(|prompt| crate::script::is_in(prompt));
        scripted.next()
    }

    /// Remembers what the session has cost in all.
    pub(crate) fn note_cost(&self, total: f64, answers: u64) {
        self.note(&json!({"type": "fake-cost", "totalCostUsd": total, "answers": answers}));
    }
}

/// A directory's name under `projects`: whatever is no letter or digit becomes a dash.
pub(crate) fn slug(cwd: &Path) -> String {
    let text = cwd.to_string_lossy();
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

/// A session may be resumed from any directory.
fn find(projects: Option<&Path>, id: &str) -> Option<PathBuf> {
    let name = format!("{id}.jsonl");
    let mut dirs = fs::read_dir(projects?).ok()?.flatten();
    dirs.find_map(|dir| Some(dir.path().join(&name)).filter(|file| file.is_file()))
}

fn latest(project: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(project)
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    let sessions = files.filter(|file| file.extension().is_some_and(|ext| ext == "jsonl"));
    sessions.max_by_key(|file| {
        let metadata = fs::metadata(file);
        metadata
            .and_then(|data| data.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    })
}

fn stem(file: &Path) -> String {
    file.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn cost(file: &Path) -> (f64, u64) {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines().rev();
    let last = lines.find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        Some((line["totalCostUsd"].as_f64()?, line["answers"].as_u64()?))
    });
    last.unwrap_or_default()
}
