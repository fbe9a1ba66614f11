//! `agent-admin usage`.

use agent_client::Client;
use agent_client::wire::UsageRow;

use crate::args::UsageArgs;
use crate::clients;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::Screen;

pub(crate) fn run(client: &Client, screen: &mut Screen, asked: UsageArgs) -> Result<Exit, Failure> {
    let by = asked.by.join(",");
    let mut query = vec![("by", by)];
    query.extend(asked.from.map(|day| ("from", day)));
    query.extend(asked.to.map(|day| ("to", day)));
    if let Some(which) = asked.client {
        query.push(("clientId", clients::resolve(client, which)?));
    }
    let report = client.usage(&query)?;
    if screen.json(&report)? {
        return Ok(Exit::Done);
    }
    let mut head: Vec<String> = asked.by.iter().map(|key| key.to_uppercase()).collect();
    head.extend(
        [
            "IN",
            "OUT",
            "CACHE READ",
            "CACHE WRITE",
            "COST",
            "ESTIMATED",
        ]
        .map(String::from),
    );
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut rows: Vec<_> = report.rows.iter().map(|row| line(&asked.by, row)).collect();
    if !asked.by.is_empty() {
        let mut total = line(&asked.by, &report.total);
        "TOTAL".clone_into(&mut total[0]);
        rows.push(total);
    }
    screen.table(&head, rows)?;
    Ok(Exit::Done)
}

fn line(by: &[String], row: &UsageRow) -> Vec<String> {
    let key = |key: &String| {
        let value = match key.as_str() {
            "day" => &row.day,
            "client" => &row.client_name,
            "model" => &row.model,
            _ => &row.credential,
        };
        value.clone().unwrap_or_default()
    };
    let mut fields: Vec<String> = by.iter().map(key).collect();
    fields.extend([
        row.input_tokens.to_string(),
        row.output_tokens.to_string(),
        row.cache_read_tokens.to_string(),
        row.cache_creation_tokens.to_string(),
        format!("${:.4}", row.cost_usd),
        format!("${:.4}", row.estimated_usd),
    ]);
    fields
}
