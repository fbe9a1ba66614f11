//! `agent-admin jobs submit`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use agent_client::Client;
use agent_client::wire::{CreateJob, JobSecrets};

use crate::args::{Keys, Submit};
use crate::clients;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::once;
use crate::options;
use crate::screen::Screen;
use crate::wait;

pub(crate) fn run(client: &Client, screen: &mut Screen, args: Submit) -> Result<Exit, Failure> {
    let (wait, key) = (args.wait, args.idempotency_key.clone());
    let job = request(args)?;
    let created = once::call(client, key, |client| client.create_job(&job))?;
    if wait {
        screen.line(&format!(
            "job {} queued at position {}",
            created.id,
            place(created.position)
        ))?;
        screen.flush()?;
        return wait::run(client, screen, &created.id, None);
    }
    if !screen.json(&created)? {
        screen.record(&[
            ("id", Some(created.id)),
            ("position", Some(place(created.position))),
            ("branch", Some(created.branch_name)),
        ])?;
    }
    Ok(Exit::Done)
}

/// A job that is for later has none yet.
fn place(position: Option<u64>) -> String {
    position.map_or_else(|| "-".to_owned(), |position| position.to_string())
}

fn request(args: Submit) -> Result<CreateJob, Failure> {
    let (org, repo) = match &args.repo {
        Some(repository) => {
            let (org, repo) = clients::split(repository)?;
            (Some(org), Some(repo))
        }
        None => (None, None),
    };
    let prompt = match (args.prompt, args.prompt_file) {
        (Some(text), _) if text != "-" => text,
        (None, Some(path)) if path != Path::new("-") => read_file(&path)?,
        _ => read_stdin()?,
    };
    let job = CreateJob {
        client_id: args.client,
        github_org: org,
        github_repo: repo,
        prompt,
        branch_name: args.branch,
        title: args.title,
        os_feature_id: args.os_feature_id,
        os_callback_url: args.callback_url,
        depends_on: args.depends_on,
        priority: args.priority,
        base: args.base,
        not_before: args.not_before,
        metadata: args
            .metadata
            .as_deref()
            .map(options::json_file)
            .transpose()?,
        secrets: keys(&args.keys)?,
        ..CreateJob::default()
    };
    Ok(job.with_options(options::read(args.run)?))
}

/// Reads the files with a job's own keys.
pub(crate) fn keys(keys: &Keys) -> Result<Option<JobSecrets>, Failure> {
    let read = |path: &Option<PathBuf>| path.as_deref().map(read_key).transpose();
    let secrets = JobSecrets {
        anthropic_api_key: read(&keys.anthropic_api_key)?,
        claude_code_oauth_token: read(&keys.claude_code_oauth_token)?,
        git_token: read(&keys.git_token)?,
    };
    Ok((secrets != JobSecrets::default()).then_some(secrets))
}

/// Without the line feed that most editors put at the end.
fn read_key(path: &Path) -> Result<String, Failure> {
    Ok(read_file(path)?.trim_end().to_owned())
}

pub(crate) fn read_file(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::Input {
        name: path.display().to_string(),
        error,
    })
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::Input {
            name: "standard input".into(),
            error,
        })?;
    Ok(text)
}
