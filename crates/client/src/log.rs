//! Reading a job's log as it grows.

use std::fmt;
use std::io::{self, Read};

/// The bytes of a job's log from a given offset on; counts where it stands, so that a reader whose
/// connection broke can go on from there.
pub struct LogReader {
    body: ureq::BodyReader<'static>,
    offset: u64,
}

impl LogReader {
    pub(crate) fn new(body: ureq::BodyReader<'static>, offset: u64) -> Self {
        Self { body, offset }
    }

    /// The offset of the next byte; ask for it to go on after a broken connection.
    pub const fn offset(&self) -> u64 {
        self.offset
    }
}

impl Read for LogReader {
    /// Returns 0 only at the true end of what was asked for; a connection that breaks earlier is
    /// an error.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader")
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}
