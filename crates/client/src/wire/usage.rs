//! What was spent.

use serde::{Deserialize, Serialize};

/// Answer to `GET /usage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageReport {
    /// The first day, in UTC.
    pub from: String,
    /// The last day.
    pub to: String,
    /// All of it.
    pub total: UsageRow,
    /// The same, by what was asked for.
    pub rows: Vec<UsageRow>,
}

/// What was spent, on what it is added up by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageRow {
    /// The day, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// The client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_name: Option<String>,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Who pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Tokens read by the model, neither from its cache nor into it.
    pub input_tokens: u64,
    /// Tokens written by the model.
    pub output_tokens: u64,
    /// Tokens read from the cache.
    pub cache_read_tokens: u64,
    /// Tokens put into the cache.
    pub cache_creation_tokens: u64,
    /// What it cost, in US dollars.
    pub cost_usd: f64,
    /// The part of it that is an estimate.
    pub estimated_usd: f64,
    /// Tokens whose cost nobody knows.
    pub unpriced_tokens: u64,
}
