//! From the chunks a pipe yields to log entries, and to whole lines for the observer.

use agent_domain::{ENTRY_TEXT_MAX, LogLine, LogStream, Timestamp};

/// Longest line the observer is shown; a longer one is in the log, but not looked at.
const OBSERVED_LINE_MAX: usize = 16 * 1024 * 1024;

/// Cuts one stream into log entries. Keeps every byte but the line feeds and what makes a line too
/// long, and holds at most one entry's text.
#[derive(Debug)]
pub(crate) struct Framer {
    stream: LogStream,
    held: Vec<u8>,
    /// The last entry left its line open.
    open: bool,
    /// Longest line that is kept, in bytes.
    line_max: usize,
    /// Bytes of the line under way, the held ones among them.
    kept: usize,
    /// Further bytes of it that were left out.
    left_out: u64,
}

impl Framer {
    pub(crate) fn new(stream: LogStream, line_max: usize) -> Self {
        Self {
            stream,
            held: Vec::new(),
            open: false,
            line_max,
            kept: 0,
            left_out: 0,
        }
    }

    /// Takes in a chunk and appends the entries it completes to `out`.
    pub(crate) fn feed(&mut self, at: Timestamp, chunk: &[u8], out: &mut Vec<u8>) {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.hold(at, &rest[..end], out);
            self.end_line(at, out);
            rest = &rest[end + 1..];
        }
        self.hold(at, rest, out);
    }

    /// Whether text waits for the rest of its line.
    pub(crate) fn holds_text(&self) -> bool {
        !self.held.is_empty()
    }

    /// Writes out held text without ending its line, so that readers see it.
    pub(crate) fn show(&mut self, at: Timestamp, out: &mut Vec<u8>) {
        if self.holds_text() {
            self.emit(at, true, out);
        }
    }

    /// Ends the last line, for a stream that ends without a line feed.
    pub(crate) fn finish(&mut self, at: Timestamp, out: &mut Vec<u8>) {
        if self.holds_text() || self.open {
            self.end_line(at, out);
        }
    }

    /// Ends the line, and says how much of it was left out.
    fn end_line(&mut self, at: Timestamp, out: &mut Vec<u8>) {
        self.emit(at, false, out);
        self.kept = 0;
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            let stream = self.stream.as_str();
            let text = format!("{left_out} more bytes of a long line on {stream} are not kept");
            LogLine {
                at,
                stream: LogStream::System,
                partial: false,
                text: text.as_bytes(),
            }
            .write(out);
        }
    }

    fn hold(&mut self, at: Timestamp, text: &[u8], out: &mut Vec<u8>) {
        let (mut text, rest) = text.split_at(text.len().min(self.line_max - self.kept));
        self.kept += text.len();
        self.left_out += rest.len() as u64;
        while self.held.len() + text.len() > ENTRY_TEXT_MAX {
            let (head, tail) = text.split_at(ENTRY_TEXT_MAX - self.held.len());
            self.held.extend_from_slice(head);
            self.emit(at, true, out);
            text = tail;
        }
        self.held.extend_from_slice(text);
    }

    fn emit(&mut self, at: Timestamp, partial: bool, out: &mut Vec<u8>) {
        LogLine {
            at,
            stream: self.stream,
            partial,
            text: &self.held,
        }
        .write(out);
        self.held.clear();
        self.open = partial;
    }
}

/// Puts whole lines together for an observer, in bounded memory.
#[derive(Debug)]
pub(crate) struct Lines {
    held: Vec<u8>,
    /// The line under way is too long.
    skipping: bool,
    max: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            held: Vec::new(),
            skipping: false,
            max: OBSERVED_LINE_MAX,
        }
    }
}

impl Lines {
    /// Takes in a chunk and shows `seen` every line it completes, without its line feed.
    pub(crate) fn feed(&mut self, chunk: &[u8], mut seen: impl FnMut(&[u8])) {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.hold(&rest[..end]);
            self.finish(&mut seen);
            rest = &rest[end + 1..];
        }
        self.hold(rest);
    }

    /// Shows `seen` the line under way, if there is one, as if it had ended.
    pub(crate) fn finish(&mut self, mut seen: impl FnMut(&[u8])) {
        if !self.skipping && !self.held.is_empty() {
            seen(&self.held);
        }
        self.skipping = false;
        self.held.clear();
        // One long line is no reason to keep its memory for the rest of the run.
        self.held.shrink_to(ENTRY_TEXT_MAX);
    }

    fn hold(&mut self, text: &[u8]) {
        if self.skipping || self.held.len() + text.len() > self.max {
            self.skipping = true;
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(text);
        }
    }
}

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    held: Vec<u8>,
}

impl Tail {
    const KEPT: usize = 4096;

    /// Takes in a chunk.
    pub(crate) fn feed(&mut self, chunk: &[u8]) {
        self.held.extend_from_slice(chunk);
        // Cutting only now and then keeps this cheap for a stream of any length.
        if self.held.len() > 4 * Self::KEPT {
            self.held.drain(..self.held.len() - Self::KEPT);
        }
    }

    /// The text, from the beginning of a line where it had to be cut.
    pub(crate) fn text(&self) -> String {
        let cut = self.held.len().saturating_sub(Self::KEPT);
        let mut tail = &self.held[cut..];
        if cut > 0
            && let Some(end) = tail.iter().position(|byte| *byte == b'\n')
        {
            tail = &tail[end + 1..];
        }
        String::from_utf8_lossy(tail).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: usize = 4 * ENTRY_TEXT_MAX;

    fn framed(line_max: usize, chunks: &[&[u8]]) -> Vec<u8> {
        let mut framer = Framer::new(LogStream::Stdout, line_max);
        let mut out = Vec::new();
        for chunk in chunks {
            framer.feed(Timestamp::UNIX_EPOCH, chunk, &mut out);
        }
        framer.finish(Timestamp::UNIX_EPOCH, &mut out);
        out
    }

    fn entries(chunks: &[&[u8]]) -> Vec<(bool, Vec<u8>)> {
        let out = framed(LONG, chunks);
        let body = out.strip_suffix(b"\n").unwrap_or_default();
        body.split(|byte| *byte == b'\n')
            .filter_map(LogLine::parse)
            .map(|line| (line.partial, line.text.to_vec()))
            .collect()
    }

    #[test]
    fn lines_are_the_same_however_the_stream_is_cut() {
        let whole: &[u8] = b"one\r\n\n\xff two \xc3\nlast";
        let expected: Vec<(bool, Vec<u8>)> = [&b"one\r"[..], b"", b"\xff two \xc3", b"last"]
            .map(|text| (false, text.to_vec()))
            .into();
        for cut in 0..=whole.len() {
            assert_eq!(
                entries(&[&whole[..cut], &whole[cut..]]),
                expected,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_long_line_becomes_pieces_of_the_largest_size() {
        let max = ENTRY_TEXT_MAX;
        for (length, pieces) in [
            (max, vec![max]),
            (max + 1, vec![max, 1]),
            (2 * max, vec![max; 2]),
        ] {
            let mut line = vec![b'x'; length];
            line.push(b'\n');
            let found = entries(&[&line[..7], &line[7..]]);
            let lengths: Vec<usize> = found.iter().map(|(_, text)| text.len()).collect();
            assert_eq!(lengths, pieces);
            let (last, before) = found.split_last().unwrap();
            assert!(!last.0 && before.iter().all(|(partial, _)| *partial));
        }
    }

    #[test]
    fn of_a_line_that_is_too_long_the_beginning_is_kept_and_the_rest_counted() {
        let text = |chunks: &[&[u8]]| {
            let out = String::from_utf8(framed(4, chunks)).unwrap();
            let entries: Vec<String> = out.lines().map(|line| line[31..].to_owned()).collect();
            entries
        };
        let marker = "system F 3 more bytes of a long line on stdout are not kept";
        assert_eq!(
            text(&[b"1234567\nok\n"]),
            ["stdout F 1234", marker, "stdout F ok"]
        );
        assert_eq!(text(&[b"12", b"345", b"67"]), ["stdout F 1234", marker]);
        assert_eq!(text(&[b"1234\n", b"1234"]), ["stdout F 1234"; 2]);
    }

    #[test]
    fn the_rest_of_a_long_line_is_counted_although_its_beginning_was_shown() {
        let at = Timestamp::UNIX_EPOCH;
        let mut framer = Framer::new(LogStream::Stderr, 4);
        let mut out = Vec::new();
        framer.feed(at, b"123456", &mut out);
        framer.show(at, &mut out);
        framer.feed(at, b"7", &mut out);
        framer.finish(at, &mut out);
        let text = String::from_utf8(out).unwrap();
        let entries: Vec<&str> = text.lines().map(|line| &line[31..]).collect();
        let marker = "system F 3 more bytes of a long line on stderr are not kept";
        assert_eq!(entries, ["stderr P 1234", "stderr F ", marker]);
    }

    #[test]
    fn text_shown_before_its_line_ended_is_closed_by_the_rest() {
        let at = Timestamp::UNIX_EPOCH;
        let mut framer = Framer::new(LogStream::Stdout, LONG);
        let mut out = Vec::new();
        framer.feed(at, b"wait", &mut out);
        framer.show(at, &mut out);
        framer.show(at, &mut out);
        framer.finish(at, &mut out);
        let text = String::from_utf8(out).unwrap();
        let flags: Vec<&str> = text.lines().map(|line| &line[31..]).collect();
        assert_eq!(flags, ["stdout P wait", "stdout F "]);
    }

    #[test]
    fn the_observer_sees_whole_lines_and_none_that_is_too_long() {
        let mut lines = Lines {
            max: 4,
            ..Lines::default()
        };
        let mut seen = Vec::new();
        for chunk in [&b"a"[..], b"b\nlong", b"er\n", b"ok\n\nend"] {
            lines.feed(chunk, |line| seen.push(line.to_vec()));
        }
        lines.finish(|line| seen.push(line.to_vec()));
        assert_eq!(seen, [&b"ab"[..], b"ok", b"end"]);
    }

    #[test]
    fn the_tail_keeps_the_last_whole_lines() {
        let mut tail = Tail::default();
        for number in 0..10_000 {
            tail.feed(format!("line {number}\n").as_bytes());
        }
        let text = tail.text();
        assert!(text.len() <= Tail::KEPT && text.starts_with("line "));
        assert!(text.ends_with("line 9999\n"));
    }
}
