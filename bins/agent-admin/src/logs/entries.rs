//! From the bytes of a log to whole lines.

use agent_domain::{LogLine, LogStream, Timestamp};

/// Longest line put together from its pieces; a longer one is shown in several.
const LINE_MAX: usize = 16 * 1024 * 1024;

/// A line of the agent's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// When its last piece was written.
    pub(crate) at: Timestamp,
    /// Where it came from.
    pub(crate) stream: LogStream,
    /// The text; bytes that are not UTF-8 are replaced.
    pub(crate) text: String,
}

/// Puts lines together from bytes that arrive in any portions.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// The beginning of an entry whose end has not arrived.
    torn: Vec<u8>,
    /// The beginnings of lines whose ends have not arrived, per stream.
    open: [Vec<u8>; 3],
}

impl Entries {
    /// Takes the next bytes and returns the lines they complete.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let mut entry = std::mem::take(&mut self.torn);
            entry.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            // What is no entry is the tail of one: reading began in its middle.
            if let Some(piece) = LogLine::parse(&entry) {
                lines.extend(self.join(piece));
            }
        }
        self.torn.extend_from_slice(rest);
        lines
    }

    fn join(&mut self, piece: LogLine<'_>) -> Option<Line> {
        let open = &mut self.open[piece.stream as usize];
        open.extend_from_slice(piece.text);
        if piece.partial && open.len() < LINE_MAX {
            return None;
        }
        let text = String::from_utf8_lossy(open).into_owned();
        open.clear();
        Some(Line {
            at: piece.at,
            stream: piece.stream,
            text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = b"2025-01-07T12:00:00.000000001Z stdout P a\xc3\n\
        2025-01-07T12:00:00.000000002Z stderr F oops\n\
        2025-01-07T12:00:00.000000003Z stdout F \xa4b\n";

    fn texts(lines: &[Line]) -> Vec<(&'static str, &str)> {
        lines
            .iter()
            .map(|line| (line.stream.as_str(), line.text.as_str()))
            .collect()
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        let whole = Entries::default().take(LOG);
        assert_eq!(texts(&whole), [("stderr", "oops"), ("stdout", "aäb")]);
        for size in 1..LOG.len() {
            let mut entries = Entries::default();
            let lines: Vec<Line> = LOG
                .chunks(size)
                .flat_map(|part| entries.take(part))
                .collect();
            assert_eq!(lines, whole, "portions of {size}");
        }
    }

    #[test]
    fn reading_that_begins_inside_an_entry_skips_its_tail() {
        let lines = Entries::default().take(&LOG[70..]);
        assert_eq!(texts(&lines), [("stdout", "\u{fffd}b")]);
    }
}
