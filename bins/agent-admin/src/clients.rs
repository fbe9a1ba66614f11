//! `agent-admin clients`.

use agent_client::Client;
use agent_client::wire::{ClientDetails, CreateClient, Dollars, UpdateClient};

use crate::args::ClientsCommand;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::options;
use crate::screen::Screen;

pub(crate) fn run(
    client: &Client,
    screen: &mut Screen,
    command: ClientsCommand,
) -> Result<Exit, Failure> {
    match command {
        ClientsCommand::Add {
            repository,
            name,
            default_branch,
            os_client_id,
            trusted,
            share,
            caps,
            run,
        } => {
            let (org, repo) = split(&repository)?;
            let name = name.unwrap_or_else(|| repo.clone());
            let new = CreateClient {
                os_client_id,
                name,
                github_org: org,
                github_repo: repo,
                default_branch,
                trusted: trusted.then_some(true),
                priority: share.priority,
                max_concurrent: share.max_concurrent,
                budget_daily_usd: caps.budget_daily,
                budget_monthly_usd: caps.budget_monthly,
                ..CreateClient::default()
            };
            add(client, screen, &new.with_options(options::read(*run)?))
        }
        ClientsCommand::List => list(client, screen),
        ClientsCommand::Show { client: which } => {
            let id = resolve(client, which)?;
            show(screen, &client.client(&id)?)
        }
        ClientsCommand::Update {
            client: which,
            name,
            default_branch,
            trusted,
            untrusted,
            share,
            budget_daily,
            budget_monthly,
            run,
            unset,
        } => {
            let change = UpdateClient {
                name: name.into(),
                default_branch: default_branch.into(),
                trusted: (trusted || untrusted).then_some(trusted).into(),
                budget_daily_usd: budget_daily.unwrap_or_default(),
                budget_monthly_usd: budget_monthly.unwrap_or_default(),
                ..options::change(*run, share, &unset)?
            };
            update(client, screen, which, &change)
        }
        ClientsCommand::Rm {
            client: which,
            remove_repo,
        } => remove(client, screen, which, remove_repo),
    }
}

fn usd(amount: &Dollars) -> String {
    format!("${amount}")
}

/// Turns what a person wrote into an id: an id as it is, `org/repo` by looking it up.
pub(crate) fn resolve(client: &Client, which: String) -> Result<String, Failure> {
    if !which.contains('/') {
        return Ok(which);
    }
    let (org, repo) = split(&which)?;
    let found = client.clients()?.clients.into_iter().find(|candidate| {
        candidate.github_org.eq_ignore_ascii_case(&org)
            && candidate.github_repo.eq_ignore_ascii_case(&repo)
    });
    found.map(|found| found.id).ok_or(Failure::NoClient(which))
}

/// Splits `org/repo`.
pub(crate) fn split(repository: &str) -> Result<(String, String), Failure> {
    match repository.split_once('/') {
        Some((org, repo)) if !org.is_empty() && !repo.is_empty() && !repo.contains('/') => {
            Ok((org.to_owned(), repo.to_owned()))
        }
        _ => Err(Failure::Usage(format!(
            "{repository:?} is not of the form org/repo"
        ))),
    }
}

fn add(client: &Client, screen: &mut Screen, new: &CreateClient) -> Result<Exit, Failure> {
    let created = client.create_client(new)?;
    if !screen.json(&created)? {
        screen.record(&[
            ("id", Some(created.id)),
            ("name", Some(created.name)),
            (
                "repository",
                Some(format!("{}/{}", created.github_org, created.github_repo)),
            ),
            ("default branch", Some(created.default_branch)),
            ("cloned", Some(yes(created.repo_cloned))),
            ("clone error", created.clone_error),
            ("bare repository", Some(created.bare_repo_path)),
        ])?;
    }
    Ok(Exit::Done)
}

fn list(client: &Client, screen: &mut Screen) -> Result<Exit, Failure> {
    let list = client.clients()?;
    if !screen.json(&list)? {
        let rows = list.clients.into_iter().map(|client| {
            let repository = format!("{}/{}", client.github_org, client.github_repo);
            let cloned = yes(client.repo_exists);
            vec![
                client.id,
                client.name,
                repository,
                client.default_branch,
                cloned,
            ]
        });
        screen.table(
            &["ID", "NAME", "REPOSITORY", "BRANCH", "CLONED"],
            rows.collect(),
        )?;
    }
    Ok(Exit::Done)
}

fn show(screen: &mut Screen, details: &ClientDetails) -> Result<Exit, Failure> {
    if !screen.json(details)? {
        let mut rows = vec![
            ("id", Some(details.id.clone())),
            ("name", Some(details.name.clone())),
            (
                "repository",
                Some(format!("{}/{}", details.github_org, details.github_repo)),
            ),
            ("default branch", Some(details.default_branch.clone())),
            ("os client id", details.os_client_id.clone()),
        ];
        rows.extend(options::rows(&details.options));
        rows.extend([
            ("priority", Some(details.priority.to_string())),
            ("at once", Some(at_once(details.max_concurrent))),
            ("trusted", Some(yes(details.trusted))),
            ("budget a day", details.budget_daily_usd.as_ref().map(usd)),
            (
                "budget a month",
                details.budget_monthly_usd.as_ref().map(usd),
            ),
            ("cloned", Some(yes(details.repo_exists))),
            ("active jobs", Some(details.active_jobs.to_string())),
            ("total jobs", Some(details.total_jobs.to_string())),
            ("created", Some(details.created_at.clone())),
        ]);
        screen.record(&rows)?;
    }
    Ok(Exit::Done)
}

fn update(
    client: &Client,
    screen: &mut Screen,
    which: String,
    change: &UpdateClient,
) -> Result<Exit, Failure> {
    let id = resolve(client, which)?;
    let changed = client.update_client(&id, change)?;
    if !screen.json(&changed)? {
        screen.line(&format!(
            "{} is now called {:?} and starts jobs from {}",
            changed.id, changed.name, changed.default_branch
        ))?;
    }
    Ok(Exit::Done)
}

fn remove(
    client: &Client,
    screen: &mut Screen,
    which: String,
    remove_repo: bool,
) -> Result<Exit, Failure> {
    let id = resolve(client, which)?;
    let removed = client.delete_client(&id, remove_repo)?;
    if !screen.json(&removed)? {
        let repo = if removed.repo_removed {
            "its repository too"
        } else {
            "its repository stays"
        };
        screen.line(&format!("removed {id}; {repo}"))?;
    }
    Ok(Exit::Done)
}

fn at_once(limit: Option<u32>) -> String {
    limit.map_or_else(
        || "as many as there are slots".into(),
        |most| format!("at most {most}"),
    )
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_one_org_and_one_repo() {
        assert_eq!(split("a/b").unwrap(), ("a".into(), "b".into()));
        for bad in ["", "a", "/b", "a/", "a/b/c"] {
            assert!(split(bad).is_err(), "{bad:?}");
        }
    }
}
