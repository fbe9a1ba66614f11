//! The body of every error answer.

use serde::{Deserialize, Serialize};

/// An error answer: `error` for people, `code` for programs, the rest as RFC 9457 has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong, as a sentence.
    pub error: String,
    /// Stable code.
    pub code: String,
    /// `about:blank`: the status and `code` say all there is.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The status in words.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// Same as `error`.
    #[serde(default)]
    pub detail: String,
    /// The field or parameter that is wrong, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

fn about_blank() -> String {
    "about:blank".into()
}
