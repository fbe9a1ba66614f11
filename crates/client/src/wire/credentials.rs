//! What jobs run on, and how it stands.

use serde::{Deserialize, Serialize};

/// Answer to `GET /credentials`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CredentialList {
    /// All, in the order of the settings.
    pub credentials: Vec<Credential>,
}

/// A credential; its secret is told to nobody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// Its name.
    pub name: String,
    /// `environment`, `subscription` or `api_key`.
    pub kind: String,
    /// `ok`; `limited` until `limitedUntil`; `stopped` until somebody has seen to it.
    pub status: String,
    /// When a limit that holds for all models resets.
    pub limited_until: Option<String>,
    /// Every limit that is reached, those of single families of models too.
    pub limits: Vec<CredentialLimit>,
    /// Stable code: why it is stopped, `auth` or `billing`.
    pub reason: Option<String>,
    /// What was said when it was stopped.
    pub error: Option<String>,
    /// When it was stopped.
    pub stopped_at: Option<String>,
    /// Runs that use it now.
    pub running: u32,
    /// How many may; null: as many as there are slots.
    pub max_sessions: Option<u32>,
    /// Whose jobs may use it, `org/repo` or `org/*`; null: everybody's.
    pub clients: Option<Vec<String>>,
    /// The windows of its limits, as runs last told of them.
    pub windows: Vec<CredentialWindow>,
}

/// A limit that is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialLimit {
    /// The family of models it holds for; null: all.
    pub models: Option<String>,
    /// When it resets.
    pub until: String,
}

/// A window of a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialWindow {
    /// The API's name for it: `five_hour`, `seven_day`.
    pub kind: String,
    /// How much of it is used, from 0 to 1.
    pub used: f64,
    /// When it begins anew.
    pub resets_at: String,
}
