//! What was spent, added up by day, client, model and credential.

use agent_domain::{ClientId, Tokens, Usd};
use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};

use crate::rows::Columns;
use crate::{Store, StoreError, UsageFilter, UsageKey, UsageRow, sql};

impl UsageKey {
    /// Every key, in the order in which answers show them.
    pub const ALL: [Self; 4] = [Self::Day, Self::Client, Self::Model, Self::Credential];

    /// The public spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Client => "client",
            Self::Model => "model",
            Self::Credential => "credential",
        }
    }

    const fn column(self) -> &'static str {
        match self {
            Self::Day => "u.day",
            Self::Client => "u.client_id",
            Self::Model => "u.model",
            Self::Credential => "u.credential",
        }
    }
}

impl Store {
    /// Adds up what was spent, in the order of the keys.
    pub async fn usage(&self, filter: UsageFilter) -> Result<Vec<UsageRow>, StoreError> {
        self.read(move |conn| {
            let text = sql_of(&filter.by, filter.client.is_some());
            let mut values = vec![
                Value::Integer(filter.from),
                Value::Integer(filter.to),
                Value::Integer(i64::from(filter.limit)),
            ];
            values.extend(filter.client.map(|id| Value::Text(id.to_string())));
            sql::all(conn, &text, params_from_iter(values), |row| {
                decode(row, &filter.by)
            })
        })
        .await
    }
}

/// Goes over the days asked for and no others; what the sum is over is no more than there are
/// clients, credentials and models in each.
pub(crate) fn sql_of(by: &[UsageKey], of_client: bool) -> String {
    let keys: Vec<&str> = by.iter().map(|key| key.column()).collect();
    let mut shown = String::new();
    for key in by {
        shown.push_str(key.column());
        shown.push_str(", ");
        if *key == UsageKey::Client {
            shown.push_str("(SELECT c.name FROM clients c WHERE c.id = u.client_id), ");
        }
    }
    let (index, client) = if of_client {
        ("INDEXED BY usage_days_client", "AND u.client_id = ?4")
    } else {
        ("", "")
    };
    let grouped = if keys.is_empty() {
        String::new()
    } else {
        let keys = keys.join(", ");
        format!("GROUP BY {keys} ORDER BY {keys}")
    };
    format!(
        "SELECT {shown} sum(u.input_tokens), sum(u.output_tokens), sum(u.cache_read_tokens),
            sum(u.cache_creation_tokens), sum(u.cost_nanos), sum(u.estimated_nanos),
            sum(u.unpriced_tokens)
         FROM usage_days u {index} WHERE u.day BETWEEN ?1 AND ?2 {client} {grouped} LIMIT ?3"
    )
}

fn decode(row: &Row<'_>, by: &[UsageKey]) -> Result<UsageRow, StoreError> {
    let mut columns = Columns::of(row);
    let mut usage = UsageRow::default();
    for key in by {
        match key {
            UsageKey::Day => usage.day = columns.take()?,
            UsageKey::Client => {
                let id: ClientId = columns.parsed()?;
                let name: Option<String> = columns.take()?;
                usage.client = Some((id, name.unwrap_or_default()));
            }
            UsageKey::Model => usage.model = columns.take()?,
            UsageKey::Credential => usage.credential = columns.take()?,
        }
    }
    // Sums over nothing are null.
    let mut sum = || -> Result<u64, StoreError> { Ok(columns.whole_option()?.unwrap_or_default()) };
    usage.tokens = Tokens {
        input: sum()?,
        output: sum()?,
        cache_read: sum()?,
        cache_creation: sum()?,
    };
    usage.cost = Usd::from_nanos(sum()?);
    usage.estimated = Usd::from_nanos(sum()?);
    usage.unpriced_tokens = sum()?;
    Ok(usage)
}
