//! Writing a job's log. One writer at a time: the supervisor while the agent runs, the worker
//! before and after.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use agent_domain::{ENTRY_TEXT_MAX, LINE_TORN, LogLine, LogStream, Timestamp};

/// Appends entries to a log file.
///
/// Entries are collected in memory until [`LogWriter::flush`]; a flush that fails halfway, as on
/// a full disk, goes on where it stopped when it is called again.
#[derive(Debug)]
pub struct LogWriter {
    file: File,
    /// Set while the file's name may not be on disk yet.
    new_in: Option<PathBuf>,
    length: u64,
    pending: Vec<u8>,
    written: usize,
    /// The last line before ours was cut off, and nothing says so yet.
    torn: bool,
}

impl LogWriter {
    /// Opens the log at `path` for appending, and creates it and its directory where missing.
    ///
    /// A last line without its line feed, left behind by a writer that was killed, is ended first, and
    /// a line of ours says that it was cut off.
    pub fn open(path: &Path) -> io::Result<Self> {
        let parent = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(0o600);
        let (mut file, new_in) = match options.open(path) {
            Ok(file) => (file, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = options.create(true).open(path)?;
                (file, Some(parent.to_owned()))
            }
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let torn = is_torn(&mut file, length)?;
        let pending = if torn { b"\n".to_vec() } else { Vec::new() };
        Ok(Self {
            file,
            new_in,
            length,
            pending,
            written: 0,
            torn,
        })
    }

    /// Adds one entry; its text holds no line feed and is at most [`ENTRY_TEXT_MAX`] long.
    pub fn entry(&mut self, line: &LogLine<'_>) {
        self.mark_torn(line.at);
        line.write(&mut self.pending);
    }

    /// Says that the line before was cut off, if it was.
    pub(crate) fn mark_torn(&mut self, at: Timestamp) {
        if std::mem::take(&mut self.torn) {
            LogLine {
                at,
                stream: LogStream::System,
                partial: false,
                text: LINE_TORN.as_bytes(),
            }
            .write(&mut self.pending);
        }
    }

    /// Adds what the server itself has to say, one entry a line.
    pub fn system(&mut self, at: Timestamp, text: &str) {
        for line in text.lines() {
            let mut pieces = line.as_bytes().chunks(ENTRY_TEXT_MAX).peekable();
            while let Some(text) = pieces.next() {
                self.entry(&LogLine {
                    at,
                    stream: LogStream::System,
                    partial: pieces.peek().is_some(),
                    text,
                });
            }
        }
    }

    /// Writes out what was added, so that readers see it; returns the log's length.
    pub fn flush(&mut self) -> io::Result<u64> {
        while self.written < self.pending.len() {
            match self.file.write(&self.pending[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    self.length += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.pending.clear();
        self.written = 0;
        Ok(self.length)
    }

    /// Like [`LogWriter::flush`], and returns when the bytes survive a loss of power.
    pub fn sync(&mut self) -> io::Result<u64> {
        self.flush()?;
        self.file.sync_data()?;
        if let Some(parent) = &self.new_in {
            File::open(parent)?.sync_all()?;
            self.new_in = None;
        }
        Ok(self.length)
    }

    /// Bytes in the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where entries can be added in their final form.
    pub(crate) fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Forgets what could not be written, for a file that will take no more.
    pub(crate) fn give_up(&mut self) {
        self.pending.clear();
        self.written = 0;
    }
}

fn is_torn(file: &mut File, length: u64) -> io::Result<bool> {
    if length == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[test]
    fn a_torn_last_line_is_ended_and_marked_before_anything_is_added() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.log");
        let mut log = LogWriter::open(&path).unwrap();
        log.system(at(), "one\ntwo");
        assert_eq!(log.sync().unwrap(), fs::metadata(&path).unwrap().len());
        drop(log);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 2]).unwrap();
        let mut log = LogWriter::open(&path).unwrap();
        log.system(at(), "three");
        let length = log.flush().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(length, text.len() as u64);
        let stamp = "1970-01-01T00:00:00.000000000Z system F";
        assert_eq!(
            text,
            format!("{stamp} one\n{stamp} tw\n{stamp} {LINE_TORN}\n{stamp} three\n")
        );
    }

    #[test]
    fn opening_a_log_that_ends_well_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.log");
        for _ in 0..2 {
            let mut log = LogWriter::open(&path).unwrap();
            log.system(at(), "x");
            log.flush().unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_long_line_of_ours_is_written_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.log");
        let mut log = LogWriter::open(&path).unwrap();
        log.system(at(), &"x".repeat(ENTRY_TEXT_MAX + 1));
        log.flush().unwrap();
        let bytes = fs::read(&path).unwrap();
        let partial: Vec<bool> = bytes
            .split(|byte| *byte == b'\n')
            .filter_map(LogLine::parse)
            .map(|line| line.partial)
            .collect();
        assert_eq!(partial, [true, false]);
    }
}
