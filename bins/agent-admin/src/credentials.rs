//! `agent-admin credentials`.

use agent_client::Client;
use agent_client::wire::Credential;

use crate::args::CredentialsCommand;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::Screen;

pub(crate) fn run(
    client: &Client,
    screen: &mut Screen,
    command: CredentialsCommand,
) -> Result<Exit, Failure> {
    match command {
        CredentialsCommand::List => {
            let list = client.credentials()?;
            if !screen.json(&list)? {
                let rows = list.credentials.iter().map(row).collect();
                let head = ["CREDENTIAL", "KIND", "STATUS", "RUNNING", "USED"];
                screen.table(&head, rows)?;
            }
        }
        CredentialsCommand::Resume { name } => {
            let resumed = client.resume_credential(&name)?;
            if !screen.json(&resumed)? {
                screen.line(&format!("{}: {}", resumed.name, resumed.status))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn row(one: &Credential) -> Vec<String> {
    let status = match (&one.error, &one.limited_until) {
        (Some(error), _) => format!("stopped: {error}"),
        (None, Some(until)) => format!("limited until {until}"),
        (None, None) if one.limits.is_empty() => one.status.clone(),
        (None, None) => {
            let limits = one.limits.iter().map(|limit| {
                let models = limit.models.as_deref().unwrap_or("all models");
                format!("{models} limited until {}", limit.until)
            });
            limits.collect::<Vec<_>>().join(", ")
        }
    };
    let running = match one.max_sessions {
        Some(most) => format!("{} of {most}", one.running),
        None => one.running.to_string(),
    };
    let used = one.windows.iter();
    let used = used.map(|window| format!("{} {:.0} %", window.kind, window.used * 100.0));
    vec![
        one.name.clone(),
        one.kind.clone(),
        status,
        running,
        used.collect::<Vec<_>>().join(", "),
    ]
}
