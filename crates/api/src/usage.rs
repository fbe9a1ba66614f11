//! `/usage`: what was spent, as JSON or as CSV.

use actix_web::http::header::ACCEPT;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use agent_client::wire::{UsageReport, UsageRow};
use agent_domain::{ClientId, utc_date, utc_date_text, utc_day};
use agent_queue::{UsageFilter, UsageKey};

use crate::path::parse_client_id;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::ApiState;

/// Longest time that can be asked for, in days: a year and a month.
const DAYS_MAX: i64 = 400;
/// Days where none are given.
const DAYS_DEFAULT: i64 = 30;
/// Most rows of an answer.
const ROWS_MAX: u32 = 10_000;

pub(crate) async fn get(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (filter, is_csv) = asked(&request, utc_day(state.engine.now()))?;
    let (from, to, by) = (filter.from, filter.to, filter.by.clone());
    let found = state.engine.usage(filter).await?;
    if found.len() > ROWS_MAX as usize {
        let detail = format!("more than {ROWS_MAX} rows: ask for fewer days, or by less");
        return Err(Problem::invalid("too_many_rows", detail));
    }
    let total = found.iter().fold(
        agent_queue::UsageRow::default(),
        agent_queue::UsageRow::plus,
    );
    let rows: Vec<UsageRow> = found.iter().map(row).collect();
    if is_csv {
        let text = csv(&by, &rows);
        return Ok(HttpResponse::Ok()
            .content_type("text/csv; charset=utf-8")
            .body(text));
    }
    Ok(HttpResponse::Ok().json(UsageReport {
        from: utc_date_text(from),
        to: utc_date_text(to),
        total: row(&total),
        rows,
    }))
}

fn asked(request: &HttpRequest, today: i64) -> Result<(UsageFilter, bool), Problem> {
    let known = ["from", "to", "by", "clientId", "format"];
    let query = Query::parse(request.query_string(), &known)?;
    let to = day(&query, "to")?.unwrap_or(today);
    let from = day(&query, "from")?.unwrap_or(to - DAYS_DEFAULT + 1);
    if !(0..DAYS_MAX).contains(&(to - from)) {
        let what = format!("must be at most {DAYS_MAX} days before to, and not after it");
        return Err(Problem::parameter("from", what));
    }
    let client = query.get("clientId").map(client).transpose()?;
    let filter = UsageFilter {
        from,
        to,
        by: keys(query.get("by").unwrap_or(UsageKey::Day.as_str()))?,
        client,
        limit: ROWS_MAX + 1,
    };
    Ok((filter, wants_csv(&query, request)?))
}

fn client(text: &str) -> Result<ClientId, Problem> {
    parse_client_id(text).map_err(|error| Problem::from(error).on("clientId"))
}

fn day(query: &Query, name: &str) -> Result<Option<i64>, Problem> {
    let read =
        |text| utc_date(text).ok_or_else(|| Problem::parameter(name, "must be a day, YYYY-MM-DD"));
    query.get(name).map(read).transpose()
}

fn keys(list: &str) -> Result<Vec<UsageKey>, Problem> {
    let mut keys = Vec::new();
    for name in list.split(',').filter(|_| !list.is_empty()) {
        let known = UsageKey::ALL.into_iter().find(|key| key.as_str() == name);
        match known {
            Some(key) if !keys.contains(&key) => keys.push(key),
            Some(_) => return Err(Problem::parameter("by", "names something twice")),
            None => {
                let all = UsageKey::ALL.map(UsageKey::as_str).join(", ");
                let what = format!("has {name:?}; known are {all}");
                return Err(Problem::parameter("by", what));
            }
        }
    }
    Ok(keys)
}

fn wants_csv(query: &Query, request: &HttpRequest) -> Result<bool, Problem> {
    match query.get("format") {
        Some("csv") => Ok(true),
        Some("json") => Ok(false),
        Some(_) => Err(Problem::parameter("format", "must be json or csv")),
        None => {
            let accept = request.headers().get(ACCEPT);
            let accept = accept
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            Ok(accept.trim_start().starts_with("text/csv"))
        }
    }
}

fn row(row: &agent_queue::UsageRow) -> UsageRow {
    let (client_id, client_name) = row.client.clone().unzip();
    UsageRow {
        day: row.day.map(utc_date_text),
        client_id: client_id.map(|id| id.to_string()),
        client_name,
        model: row.model.clone(),
        credential: row.credential.clone(),
        input_tokens: row.tokens.input,
        output_tokens: row.tokens.output,
        cache_read_tokens: row.tokens.cache_read,
        cache_creation_tokens: row.tokens.cache_creation,
        cost_usd: row.cost.dollars(),
        estimated_usd: row.estimated.dollars(),
        unpriced_tokens: row.unpriced_tokens,
    }
}

/// RFC 4180, with a head.
fn csv(by: &[UsageKey], rows: &[UsageRow]) -> String {
    let mut head: Vec<&str> = Vec::new();
    for key in by {
        match key {
            UsageKey::Client => head.extend(["clientId", "clientName"]),
            UsageKey::Day | UsageKey::Model | UsageKey::Credential => head.push(key.as_str()),
        }
    }
    head.extend([
        "inputTokens",
        "outputTokens",
        "cacheReadTokens",
        "cacheCreationTokens",
        "costUsd",
        "estimatedUsd",
        "unpricedTokens",
    ]);
    let mut text = head.join(",") + "\r\n";
    for row in rows {
        let mut fields: Vec<String> = Vec::new();
        for key in by {
            match key {
                UsageKey::Day => fields.push(field(row.day.as_deref())),
                UsageKey::Client => fields.extend([
                    field(row.client_id.as_deref()),
                    field(row.client_name.as_deref()),
                ]),
                UsageKey::Model => fields.push(field(row.model.as_deref())),
                UsageKey::Credential => fields.push(field(row.credential.as_deref())),
            }
        }
        fields.extend([
            row.input_tokens.to_string(),
            row.output_tokens.to_string(),
            row.cache_read_tokens.to_string(),
            row.cache_creation_tokens.to_string(),
            row.cost_usd.to_string(),
            row.estimated_usd.to_string(),
            row.unpriced_tokens.to_string(),
        ]);
        text.push_str(&fields.join(","));
        text.push_str("\r\n");
    }
    text
}

/// A text that anybody may have chosen. One that a spreadsheet would take for a formula is marked
/// as text.
fn field(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_or_a_parser_would_trip_over_is_quoted() {
        for (text, written) in [
            ("Shop", "Shop"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=1+1", "'=1+1"),
            ("", ""),
        ] {
            assert_eq!(field(Some(text)), written);
        }
    }
}
