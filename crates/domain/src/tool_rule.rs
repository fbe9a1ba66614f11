//! Rules that allow or forbid a tool of the agent, in the CLI's own form.

use std::fmt;
use std::str::FromStr;

use crate::limits;

/// A tool by name, or some of its calls: `Edit`, `Bash(git log:*)`, `mcp__tracker`.
///
/// It is one word of a command line and stays one rule there: the CLI takes every comma or blank
/// outside of parentheses for the end of a rule, and a dash at the start for a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRule(String);

/// Why a text is no such rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolRuleError {
    /// Longer than [`limits::TOOL_RULE_CHARS`].
    #[error("must be at most {} characters", limits::TOOL_RULE_CHARS)]
    TooLong,
    /// Not of the form the CLI knows.
    #[error("must be a tool's name, or a name and a pattern in parentheses, such as Bash(git *)")]
    Form,
}

impl ToolRule {
    /// The rule as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ToolRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ToolRule {
    type Err = ToolRuleError;

    fn from_str(text: &str) -> Result<Self, ToolRuleError> {
        if text.chars().count() > limits::TOOL_RULE_CHARS {
            return Err(ToolRuleError::TooLong);
        }
        let (name, pattern) = text.split_once('(').unwrap_or((text, ")"));
        let is_name = name
            .chars()
            .all(|c| c.is_alphanumeric() || "_-*.:".contains(c));
        let starts_well = name.starts_with(|c: char| c.is_alphanumeric() || "_*".contains(c));
        let is_pattern = pattern.strip_suffix(')').is_some_and(is_balanced);
        if is_name && starts_well && is_pattern && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ToolRuleError::Form)
        }
    }
}

/// Whether no parenthesis closes that was not opened, and none stays open.
fn is_balanced(pattern: &str) -> bool {
    let mut open = 0_usize;
    for c in pattern.chars() {
        open = match (c, open) {
            ('(', open) => open + 1,
            (')', 0) => return false,
            (')', open) => open - 1,
            (_, open) => open,
        };
    }
    open == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_the_clis_forms_are_accepted() {
        for good in [
            "Edit",
            "Bash(git log:*)",
            "Bash(npm run test, lint)",
            "Bash(echo (a) (b))",
            "mcp__tracker",
            "mcp__my-tracker__list.all",
            "mcp__tracker__*",
            "WebFetch(domain:example.org)",
            "Edit(/src/**)",
            "*",
        ] {
            assert!(good.parse::<ToolRule>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn what_would_be_another_rule_or_a_flag_is_refused() {
        for bad in [
            "",
            " ",
            "--settings",
            "-p",
            "Edit,Bash",
            "Edit Bash",
            "Bash(git",
            "Bash(git))",
            "Bash)",
            "Bash(a) Edit",
            "Bash(a)) Edit (b)",
            "(a)",
            "Bash(a\nb)",
            "Bash(a\0)",
        ] {
            assert_eq!(bad.parse::<ToolRule>(), Err(ToolRuleError::Form), "{bad:?}");
        }
        let long = "x".repeat(limits::TOOL_RULE_CHARS + 1);
        assert_eq!(long.parse::<ToolRule>(), Err(ToolRuleError::TooLong));
    }
}
