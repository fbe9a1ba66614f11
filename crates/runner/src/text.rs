//! Shortening of texts for people.

/// Cuts `text` to at most about `max` bytes, at a character, and marks the cut.
pub(crate) fn shortened(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(max)])
}

/// The first line that is not blank, shortened; the cut is marked when anything is left out.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let text = text.trim();
    let first = text.lines().next().unwrap_or_default().trim_end();
    if first.len() < text.len() && first.len() <= max {
        format!("{first} …")
    } else {
        shortened(first, max)
    }
}

/// The first `lines` lines, at most `max` bytes, with a note of how many are left out.
pub(crate) fn few_lines(text: &str, lines: usize, max: usize) -> String {
    let text = text.trim_end();
    let total = text.lines().count();
    let kept: Vec<&str> = text.lines().take(lines).collect();
    let few = shortened(&kept.join("\n"), max);
    match total.saturating_sub(lines) {
        0 => few,
        left_out => format!("{few}\n… ({left_out} more lines)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_never_falls_inside_a_character() {
        assert_eq!(shortened("aé", 2), "a…");
        assert_eq!(shortened("aé", 3), "aé");
    }

    #[test]
    fn what_is_left_out_is_marked() {
        assert_eq!(one_line("\n a\nb", 10), "a …");
        assert_eq!(one_line("abc", 2), "ab…");
        assert_eq!(few_lines("a\nb\nc\n", 2, 10), "a\nb\n… (1 more lines)");
        assert_eq!(few_lines("a\nb\n", 2, 10), "a\nb");
    }
}
