//! Just enough of Rust's lexical rules to tell code from comments and literals.

/// A source text with parts blanked out; lines stay where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blanked {
    /// Neither comments nor the insides of literals.
    pub(super) code: String,
    /// No comments.
    pub(super) uncommented: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// Blanks out comments and literals.
pub(super) fn blank(text: &str) -> Blanked {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut uncommented) = (String::new(), String::new());
    let mut at = 0;
    while at < chars.len() {
        let (kind, end) = token(&chars, at);
        for c in &chars[at..end] {
            let shown = |visible: bool| if visible || *c == '\n' { *c } else { ' ' };
            code.push(shown(kind == Kind::Code));
            uncommented.push(shown(kind != Kind::Comment));
        }
        at = end;
    }
    Blanked { code, uncommented }
}

/// The kind of what starts at `at`, and where it ends: always after `at`, never after the text.
fn token(chars: &[char], at: usize) -> (Kind, usize) {
    let rest = &chars[at..];
    let inside_word = at > 0 && is_word(chars[at - 1]);
    let (kind, length) = match rest {
        ['/', '/', ..] => (Kind::Comment, line_comment(rest)),
        ['/', '*', ..] => (Kind::Comment, block_comment(rest)),
        ['"', ..] => (Kind::Literal, string(rest)),
        ['r' | 'b' | 'c', ..] if !inside_word => match raw_string(rest) {
            Some(length) => (Kind::Literal, length),
            None => (Kind::Code, 1),
        },
        ['\'', '\\', ..] => (Kind::Literal, quoted(rest, '\'')),
        ['\'', _, '\'', ..] => (Kind::Literal, 3),
        _ => (Kind::Code, 1),
    };
    (kind, (at + length).min(chars.len()))
}

/// Whether a name may hold `c`.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_comment(rest: &[char]) -> usize {
    rest.iter().take_while(|c| **c != '\n').count()
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &[char]) -> usize {
    quoted(rest, '"')
}

/// The length of what opens with `quote` and closes with the next one without a backslash.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// `r"..."`, `br#"..."#` and their like.
fn raw_string(rest: &[char]) -> Option<usize> {
    let prefix = rest.iter().take_while(|c| "brc".contains(**c)).count();
    if rest[prefix - 1] != 'r' || prefix > 2 {
        return None;
    }
    let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
    let start = prefix + hashes;
    if rest.get(start) != Some(&'"') {
        return None;
    }
    let closes = |at: usize| {
        let after = rest.get(at + 1..at + 1 + hashes);
        rest[at] == '"' && after.is_some_and(|after| after.iter().all(|c| *c == '#'))
    };
    let end = (start + 1..rest.len()).find(|at| closes(*at));
    Some(end.map_or(rest.len(), |end| end + 1 + hashes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        blank(text).code.split_whitespace().collect()
    }

    #[test]
    fn comments_and_literals_of_every_kind_are_not_code() {
        for (text, left) in [
            ("a // b\nc", "ac"),
            ("a /* b /* c */ d */ e", "ae"),
            ("a /// \"\nb", "ab"),
            ("f(\"a\\\"b\") + c", "f()+c"),
            ("f(b\"x\", c\"y\")", "f(b,c)"),
            ("f(r\"\\\") + r#\"a\"b\"# + br##\"c\"#\"## + d", "f()+++d"),
            ("'\\'' + 'a' + '\"' + b", "+++b"),
            ("fn f<'a>(x: &'a str) {}", "fnf<'a>(x:&'astr){}"),
            ("for r in bar {}", "forrinbar{}"),
            ("\"// no comment\" + a", "+a"),
            ("x\"unterminated", "x"),
            ("/* unterminated", ""),
            ("r#type", "r#type"),
            ("'\\", ""),
        ] {
            assert_eq!(code(text), left, "{text:?}");
        }
    }

    #[test]
    fn lines_stay_where_they_are_and_literals_can_be_seen_without_comments() {
        let blanked = blank("a\n/* \n */ \"x\ny\" // z\nb");
        assert_eq!(blanked.code.lines().nth(4), Some("b"));
        assert_eq!(blanked.uncommented.lines().nth(2), Some("    \"x"));
        assert_eq!(
            blanked.uncommented.lines().nth(3).map(str::trim),
            Some("y\"")
        );
    }
}
