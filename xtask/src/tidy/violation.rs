//! What a rule finds.

use std::fmt;

/// One place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Violation {
    /// Relative to the checkout.
    pub(super) path: String,
    /// From 1.
    pub(super) line: usize,
    /// A word for the rule.
    pub(super) rule: &'static str,
    /// What to do about it.
    pub(super) sentence: String,
}

impl Violation {
    pub(super) fn new(
        path: &str,
        line: usize,
        rule: &'static str,
        sentence: impl Into<String>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            line,
            rule,
            sentence: sentence.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            rule,
            sentence,
        } = self;
        write!(f, "{path}:{line}: {rule}: {sentence}")
    }
}
