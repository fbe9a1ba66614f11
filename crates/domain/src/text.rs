//! Rules for texts that callers give us.

use crate::limits;

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing but white space.
    #[error("must not be empty")]
    Empty,
    /// Longer than allowed.
    #[error("must be at most {0}")]
    TooLong(String),
    /// Holds a NUL or another control character.
    #[error("must not contain control characters")]
    Control,
}

/// Accepts a prompt: not blank, at most [`limits::PROMPT_BYTES`], no NUL; anything else is the
/// caller's own text and stays as it is.
pub fn prompt(text: &str) -> Result<(), TextError> {
    if text.len() > limits::PROMPT_BYTES {
        return Err(TextError::TooLong(format!(
            "{} bytes",
            limits::PROMPT_BYTES
        )));
    }
    if text.trim().is_empty() {
        return Err(TextError::Empty);
    }
    if text.contains('\0') {
        return Err(TextError::Control);
    }
    Ok(())
}

/// Accepts a text of one line (a title, a name, a foreign id) of at most `max_chars` characters.
pub fn one_line(text: &str, max_chars: usize) -> Result<(), TextError> {
    if text.trim().is_empty() {
        return Err(TextError::Empty);
    }
    if text.chars().any(char::is_control) {
        return Err(TextError::Control);
    }
    if text.chars().count() > max_chars {
        return Err(TextError::TooLong(format!("{max_chars} characters")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_may_hold_anything_but_nul() {
        assert_eq!(prompt("fix it\n\t\u{1b}[0m \"; rm -rf / #"), Ok(()));
        assert_eq!(prompt("a\0b"), Err(TextError::Control));
        assert_eq!(prompt(" \n"), Err(TextError::Empty));
    }

    #[test]
    fn a_prompt_is_measured_in_bytes() {
        assert_eq!(prompt(&"é".repeat(limits::PROMPT_BYTES / 2)), Ok(()));
        assert!(matches!(
            prompt(&"é".repeat(limits::PROMPT_BYTES / 2 + 1)),
            Err(TextError::TooLong(_))
        ));
    }

    #[test]
    fn a_title_is_measured_in_characters_and_has_no_control_characters() {
        assert_eq!(one_line(&"é".repeat(256), 256), Ok(()));
        assert!(matches!(
            one_line(&"é".repeat(257), 256),
            Err(TextError::TooLong(_))
        ));
        for bad in ["a\nb", "a\0", "\u{7f}x", "\u{85}x"] {
            assert_eq!(one_line(bad, 256), Err(TextError::Control), "{bad:?}");
        }
    }
}
