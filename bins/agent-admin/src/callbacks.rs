//! `agent-admin callbacks`.

use agent_client::Client;

use crate::args::CallbacksCommand;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::once;
use crate::screen::Screen;

pub(crate) fn run(
    client: &Client,
    screen: &mut Screen,
    command: CallbacksCommand,
) -> Result<Exit, Failure> {
    match command {
        CallbacksCommand::List { job } => list(client, screen, &job),
        CallbacksCommand::Redeliver { job, delivery } => {
            let again = once::call(client, None, |client| client.redeliver(&job, &delivery))?;
            if !screen.json(&again)? {
                screen.line(&format!("callback {} is due again", again.id))?;
            }
            Ok(Exit::Done)
        }
    }
}

fn list(client: &Client, screen: &mut Screen, job: &str) -> Result<Exit, Failure> {
    let list = client.deliveries(job)?;
    if screen.json(&list)? {
        return Ok(Exit::Done);
    }
    let rows = list.deliveries.into_iter().map(|one| {
        let newest = one.tries.last();
        let answer = newest.and_then(|made| {
            let status = made.status.map(|status| status.to_string());
            made.error.clone().or(status)
        });
        vec![
            one.id,
            one.state,
            one.tries.len().to_string(),
            answer.unwrap_or_default(),
            one.due_at.unwrap_or_default(),
            one.url,
        ]
    });
    let head = ["ID", "STATE", "TRIES", "LAST", "NEXT", "URL"];
    screen.table(&head, rows.collect())?;
    Ok(Exit::Done)
}
