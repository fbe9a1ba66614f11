//! Making sense of an event whose line was too long for the log, so that only its beginning is there.

/// How much of the scan has been understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    InString,
    /// In an escape that began here and needs so many more characters.
    InEscape(usize, u8),
}

/// Closes what is open at the end of a JSON text that was cut off; `None` where that makes no JSON.
pub(crate) fn closed(text: &str) -> Option<String> {
    let mut open = Vec::new();
    let mut place = Place::Outside;
    // Where the last member or element began that may be broken, and what was open there.
    let mut last = (1, vec![b'}']);
    for (at, byte) in text.bytes().enumerate() {
        place = match (place, byte) {
            (Place::InEscape(from, 1), b'u') if from + 1 == at => Place::InEscape(from, 4),
            (Place::InEscape(_, 1), _) | (Place::Outside, b'"') => Place::InString,
            (Place::InEscape(from, left), _) => Place::InEscape(from, left - 1),
            (Place::InString, b'\\') => Place::InEscape(at, 1),
            (Place::InString, b'"') => Place::Outside,
            (place, _) => place,
        };
        if place == Place::Outside {
            match byte {
                b'{' => open.push(b'}'),
                b'[' => open.push(b']'),
                b'}' | b']' => drop(open.pop()),
                b',' => last = (at, open.clone()),
                _ => {}
            }
        }
    }
    let end = match place {
        Place::InEscape(from, _) => from,
        Place::Outside | Place::InString => text.len(),
    };
    let quote = if place == Place::Outside { "" } else { "\"" };
    let whole = with_ends(&text[..end], quote, &open);
    // Cut within a key or a number, or before a value: the broken member is left out.
    is_json(&whole)
        .then_some(whole)
        .or_else(|| Some(with_ends(text.get(..last.0)?, "", &last.1)).filter(|text| is_json(text)))
}

fn with_ends(text: &str, quote: &str, open: &[u8]) -> String {
    let ends: String = open.iter().rev().copied().map(char::from).collect();
    format!("{text}{quote}{ends}")
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_cut_anywhere_is_closed_and_keeps_what_came_before() {
        let event = r#"{"type":"result","n":[1,-2.5e3,{"a":null}],"ok":true,"result":"a \"b\" \\ \ud83d\ude00 é\n{[","last":"x"}"#;
        for cut in 1..event.len() {
            let Some(text) = event.get(..cut) else {
                continue;
            };
            let found = closed(text).unwrap_or_else(|| panic!("{text}"));
            let kept = found.trim_end_matches(['}', ']', '"']);
            assert!(event.starts_with(kept), "{text} becomes {found}");
            let has_type = cut >= r#"{"type":"resul"#.len();
            assert_eq!(found.contains(r#""type":"resul"#), has_type, "{found}");
        }
    }

    #[test]
    fn what_was_no_event_stays_none() {
        for text in ["{x", "{\"a\":x", "plain", "]"] {
            assert!(closed(text).is_none_or(|found| found == "{}"), "{text}");
        }
    }
}
