//! The lines of one attempt's log, put together from their pieces.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use agent_domain::{LogLine, LogStream, Timestamp};

/// Longest line that is put together from its pieces; a longer one comes as several lines.
const LINE_MAX: usize = 16 * 1024 * 1024;
/// Longest entry accepted from a log file; ours are far shorter.
const ENTRY_MAX: u64 = 1024 * 1024;
const BUFFER: usize = 64 * 1024;

/// Reads a log from an offset on.
pub(crate) struct Lines {
    file: BufReader<io::Take<File>>,
    entry: Vec<u8>,
    open: [Open; 3],
    offset: u64,
    is_whole: bool,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// When it was ended.
    pub(crate) at: Timestamp,
    /// Who wrote it.
    pub(crate) stream: LogStream,
    /// What it says; what is not UTF-8 is replaced.
    pub(crate) text: String,
    /// Where to go on after it; `None` while a line of another stream has begun but not ended.
    pub(crate) next: Option<u64>,
}

/// A line whose pieces are being put together.
#[derive(Default)]
struct Open {
    text: Vec<u8>,
    /// Of its last piece.
    piece: Option<(Timestamp, LogStream)>,
}

impl Lines {
    /// Reads the log at `path` from `offset` to `end`, at most. When it `is_whole`, a line without
    /// its end is all there will be of it, since its writer was killed; else it is still being
    /// written.
    pub(crate) fn open(
        path: &Path,
        offset: u64,
        end: Option<u64>,
        is_whole: bool,
    ) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let file = file.take(end.unwrap_or(u64::MAX).saturating_sub(offset));
        Ok(Self {
            file: BufReader::with_capacity(BUFFER, file),
            entry: Vec::new(),
            open: Default::default(),
            offset,
            is_whole,
        })
    }

    /// The next line, `None` when there is no more of them.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line>> {
        while self.read_entry()? {
            let Some(piece) = LogLine::parse(&self.entry) else {
                continue;
            };
            let line = &mut self.open[piece.stream as usize];
            line.text.extend_from_slice(piece.text);
            line.piece = Some((piece.at, piece.stream));
            if !piece.partial || line.text.len() >= LINE_MAX {
                let stream = piece.stream as usize;
                return Ok(self.close(stream));
            }
        }
        if !self.is_whole {
            return Ok(None);
        }
        let begun = self.open.iter().position(|line| line.piece.is_some());
        Ok(begun.and_then(|stream| self.close(stream)))
    }

    /// Reads an entry without its line feed; false where there is no whole one.
    fn read_entry(&mut self) -> io::Result<bool> {
        self.entry.clear();
        let mut entry = self.file.by_ref().take(ENTRY_MAX);
        let read = entry.read_until(b'\n', &mut self.entry)? as u64;
        if self.entry.last() == Some(&b'\n') {
            self.entry.pop();
        } else if read == 0 || (read < ENTRY_MAX && !self.is_whole) {
            // A torn last entry is whole at the next reading.
            return Ok(false);
        }
        self.offset += read;
        Ok(true)
    }

    fn close(&mut self, stream: usize) -> Option<Line> {
        let line = &mut self.open[stream];
        let (at, stream) = line.piece.take()?;
        let text = String::from_utf8_lossy(&line.text).into_owned();
        line.text.clear();
        let is_clean = self.open.iter().all(|line| line.piece.is_none());
        Some(Line {
            at,
            stream,
            text,
            next: is_clean.then_some(self.offset),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "1970-01-01T00:00:00.000000000Z";

    fn lines(content: &str, offset: u64, is_whole: bool) -> Vec<(String, Option<u64>)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        std::fs::write(&path, content).unwrap();
        let mut lines = Lines::open(&path, offset, None, is_whole).unwrap();
        std::iter::from_fn(|| lines.next().unwrap())
            .map(|line| (line.text, line.next))
            .collect()
    }

    #[test]
    fn one_can_go_on_behind_a_line_only_where_no_other_has_begun() {
        let content = [
            format!("{AT} stdout P a\n"),
            format!("{AT} stderr F b\n"),
            format!("{AT} stdout F c\n"),
            format!("{AT} system F d\n"),
        ];
        let place = |n: usize| content[..n].iter().map(String::len).sum::<usize>() as u64;
        let expected = [
            ("b".to_owned(), None),
            ("ac".to_owned(), Some(place(3))),
            ("d".to_owned(), Some(place(4))),
        ];
        assert_eq!(lines(&content.concat(), 0, false), expected);
        assert_eq!(lines(&content.concat(), place(3), false), expected[2..]);
    }

    #[test]
    fn what_is_still_being_written_is_left_for_the_next_reading() {
        let whole = format!("{AT} stdout F a\n");
        let torn = format!("{whole}{AT} stdout F b");
        let first = ("a".to_owned(), Some(whole.len() as u64));
        assert_eq!(lines(&torn, 0, false), std::slice::from_ref(&first));
        let second = ("b".to_owned(), Some(torn.len() as u64));
        assert_eq!(lines(&torn, 0, true), [first, second]);
    }
}
