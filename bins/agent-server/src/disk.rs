//! Settings about room on the disk.

use std::time::Duration;

use agent_domain::Watermark;
use agent_queue::Retention;
use anyhow::Context as _;
use clap::Args;

/// What an operator can set about the disk; an empty text counts as not set.
#[derive(Debug, Args)]
pub(crate) struct DiskSettings {
    /// Bytes that must be free on every volume, or no new job is taken; also with K, M, G or T
    /// (powers of 1024). The smaller of 2G and 5 % of the volume where not set; 0 turns it off.
    #[arg(long, env = "DISK_MIN_FREE", default_value = "")]
    disk_min_free: String,
    /// Room kept back beside the database, so that what becomes of running jobs can be stored on
    /// a full disk; given as DISK_MIN_FREE. 0 keeps none.
    #[arg(long, env = "DISK_RESERVE", default_value = "64M")]
    disk_reserve: String,
    /// Ended jobs are forgotten so many days after their end, with logs and saved work; 0: never.
    #[arg(long, env = "RETENTION_DAYS", default_value_t = 90)]
    retention_days: u32,
    /// What all logs together may take, given as DISK_MIN_FREE; beyond it the longest ended jobs
    /// are forgotten first.
    #[arg(long, env = "LOGS_MAX_BYTES", default_value = "")]
    logs_max_bytes: String,
}

/// Settings about the disk, checked.
#[derive(Debug)]
pub(crate) struct DiskLimits {
    pub(crate) watermark: Watermark,
    /// Bytes kept back.
    pub(crate) reserve: u64,
    pub(crate) retention: Retention,
}

impl DiskSettings {
    pub(crate) fn check(&self) -> anyhow::Result<DiskLimits> {
        let min_free = match self.disk_min_free.trim() {
            "" => None,
            text => Some(bytes(text).context("DISK_MIN_FREE")?),
        };
        Ok(DiskLimits {
            watermark: Watermark(min_free),
            reserve: bytes(&self.disk_reserve).context("DISK_RESERVE")?,
            retention: self.retention()?,
        })
    }
}

impl DiskSettings {
    fn retention(&self) -> anyhow::Result<Retention> {
        let days = u64::from(self.retention_days);
        let logs = match self.logs_max_bytes.trim() {
            "" => None,
            text => Some(bytes(text).context("LOGS_MAX_BYTES")?),
        };
        Ok(Retention {
            age: (days > 0).then(|| Duration::from_hours(24 * days)),
            logs,
        })
    }
}

/// Reads a number of bytes such as `500M`.
fn bytes(text: &str) -> anyhow::Result<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim().to_ascii_uppercase();
    let unit = unit.trim_end_matches('B').trim_end_matches('I');
    let bits = match unit {
        "" => Some(0),
        "K" => Some(10),
        "M" => Some(20),
        "G" => Some(30),
        "T" => Some(40),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    let bytes = number
        .zip(bits)
        .and_then(|(n, bits)| n.checked_mul(1 << bits));
    bytes.with_context(|| format!("{text:?} is no number of bytes; write 500M or 2G"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_powers_of_1024() {
        for (text, wanted) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("500M", 500 << 20),
            ("2G", 2 << 30),
            ("2GiB", 2 << 30),
            ("64 kb", 64 << 10),
            ("1T", 1 << 40),
        ] {
            assert_eq!(bytes(text).unwrap(), wanted, "{text}");
        }
        for bad in ["", "G", "5%", "-1", "1.5G", "2X", "99999999T", "2GG"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
