//! The format of a job's log: one line of the CRI log format per piece of output.
//!
//! `<RFC 3339 with nanoseconds> <stdout|stderr|system> <F|P> <text>\n`, as the Kubernetes container runtime
//! interface has it, so that people can read and grep it and other tools know it. `P` marks a
//! piece whose line goes on in the next entry of the same stream, `F` one that ends its line. The
//! text holds the agent's own bytes, whatever their encoding, without the line feed.

use std::io::Write as _;

use crate::Timestamp;

/// Longest text of one entry, in bytes; a longer line is written as several `P` entries.
pub const ENTRY_TEXT_MAX: usize = 64 * 1024;

/// What the server says after a line that was cut off when its writer was killed.
pub const LINE_TORN: &str = "the line before this one was cut off when its writer was killed";

/// Where a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// The agent's standard output.
    Stdout,
    /// The agent's standard error.
    Stderr,
    /// What the server itself has to say about the job.
    System,
}

impl LogStream {
    /// The spelling in the log and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
        }
    }
}

/// One entry of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// When it was read from the agent.
    pub at: Timestamp,
    /// Where it came from.
    pub stream: LogStream,
    /// Whether the line goes on in the next entry of this stream.
    pub partial: bool,
    /// The agent's bytes.
    pub text: &'a [u8],
}

impl<'a> LogLine<'a> {
    /// Appends the entry to `out`, line feed included.
    pub fn write(&self, out: &mut Vec<u8>) {
        let flag = if self.partial { 'P' } else { 'F' };
        // Writing to a vector cannot fail.
        write!(out, "{:.9} {} {flag} ", self.at, self.stream.as_str()).ok();
        out.extend_from_slice(self.text);
        out.push(b'\n');
    }

    /// Reads an entry, given without its line feed; `None` when it is none.
    pub fn parse(entry: &'a [u8]) -> Option<Self> {
        let mut parts = entry.splitn(4, |byte| *byte == b' ');
        let at = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let stream = match parts.next()? {
            b"stdout" => LogStream::Stdout,
            b"stderr" => LogStream::Stderr,
            b"system" => LogStream::System,
            _ => return None,
        };
        let partial = match parts.next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        Some(Self {
            at,
            stream,
            partial,
            text: parts.next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_as_written_whatever_its_bytes() {
        let at = Timestamp::from_nanosecond(1_736_251_200_123_456_789).unwrap();
        let line = LogLine {
            at,
            stream: LogStream::Stderr,
            partial: true,
            text: b"a  b \xff\r",
        };
        let mut out = Vec::new();
        line.write(&mut out);
        assert_eq!(
            out,
            b"2025-01-07T12:00:00.123456789Z stderr P a  b \xff\r\n"
        );
        assert_eq!(LogLine::parse(&out[..out.len() - 1]), Some(line));
    }

    #[test]
    fn an_empty_line_is_an_entry_and_a_torn_one_is_none() {
        let at = Timestamp::UNIX_EPOCH;
        let mut out = Vec::new();
        LogLine {
            at,
            stream: LogStream::Stdout,
            partial: false,
            text: b"",
        }
        .write(&mut out);
        assert_eq!(
            LogLine::parse(out.strip_suffix(b"\n").unwrap()).map(|line| line.text),
            Some(&b""[..])
        );
        for torn in [
            &b""[..],
            b"2025",
            b"2025-01-07T12:00:00Z stdout",
            b"2025-01-07T12:00:00Z stdout F",
            b"x stdout F a",
        ] {
            assert_eq!(LogLine::parse(torn), None);
        }
    }
}
