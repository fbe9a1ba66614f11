//! What an attempt's log was when the attempt ended.

use std::fmt;

/// Seals the log of an attempt that has ended: its length, and the checksum of that much of it.
/// Whatever is written behind the seal, by someone who does not know yet that the attempt is over,
/// is not part of the log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogSeal {
    /// In bytes.
    pub length: u64,
    /// SHA-256 of the first `length` bytes.
    pub sha256: [u8; 32],
}

impl LogSeal {
    /// The checksum in lower-case hexadecimal digits, as `sha256sum` prints it.
    pub fn sha256_hex(&self) -> String {
        let digits: Vec<String> = self
            .sha256
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        digits.concat()
    }
}

impl fmt::Debug for LogSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogSeal({} bytes, {})", self.length, self.sha256_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_reads_as_other_tools_print_it() {
        let mut sha256 = [0; 32];
        (sha256[0], sha256[31]) = (0x0a, 0xff);
        let hex = LogSeal { length: 0, sha256 }.sha256_hex();
        assert!(hex.len() == 64 && hex.starts_with("0a00") && hex.ends_with("00ff"));
    }
}
