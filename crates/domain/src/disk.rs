//! How much room a volume must have before new work is taken, and when enough is back.

use std::fmt;

/// The default watermark is this many bytes or [`SHARE`] of the volume, whichever is smaller.
const BYTES: u64 = 2 << 30;
/// As [`BYTES`], for file entries: a volume without free ones takes no file, however empty it is.
const FILES: u64 = 10_000;
/// One part in so many of a volume: 5 %.
const SHARE: u64 = 20;
/// After a shortage, a tenth more than the watermark must be free: otherwise one finished
/// download would turn the server on and the next one off.
const HYSTERESIS: u64 = 10;

/// What a volume has, as far as an unprivileged program may use it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Free bytes.
    pub bytes: u64,
    /// All bytes.
    pub bytes_total: u64,
    /// Free file entries (inodes).
    pub files: u64,
    /// All file entries; zero where the file system has no fixed number of them.
    pub files_total: u64,
}

/// What a volume has too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Bytes.
    Bytes {
        /// Free ones.
        free: u64,
        /// How many must be free.
        wanted: u64,
    },
    /// File entries.
    Files {
        /// Free ones.
        free: u64,
        /// How many must be free.
        wanted: u64,
    },
}

/// How much must be free: bytes as the operator says, else by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watermark(pub Option<u64>);

impl Watermark {
    /// Bytes that must be free; zero asks for nothing.
    pub fn bytes(self, room: &Room) -> u64 {
        self.0
            .unwrap_or_else(|| BYTES.min(room.bytes_total / SHARE))
    }

    /// Says what is too little. `was_short` is what this said the last time: a shortage is over
    /// when a little more than the watermark is free.
    pub fn shortage(self, room: &Room, was_short: bool) -> Option<Shortage> {
        let with_margin = |wanted: u64| {
            if was_short {
                wanted.saturating_add(wanted / HYSTERESIS)
            } else {
                wanted
            }
        };
        let wanted = with_margin(self.bytes(room));
        if room.bytes < wanted {
            let free = room.bytes;
            return Some(Shortage::Bytes { free, wanted });
        }
        if self.0 == Some(0) {
            return None;
        }
        let (free, wanted) = (room.files, with_margin(FILES.min(room.files_total / SHARE)));
        (free < wanted).then_some(Shortage::Files { free, wanted })
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { free, wanted } => {
                let (free, wanted) = (Bytes(*free), Bytes(*wanted));
                write!(f, "{free} free, {wanted} wanted")
            }
            Self::Files { free, wanted } => {
                write!(f, "{free} file entries free, {wanted} wanted")
            }
        }
    }
}

/// A number of bytes as people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (unit, bits) in UNITS {
            let (whole, rest) = (self.0 >> bits, self.0 & ((1 << bits) - 1));
            if whole > 0 {
                return write!(f, "{whole}.{} {unit}", (rest * 10) >> bits);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn room(bytes: u64, bytes_total: u64) -> Room {
        Room {
            bytes,
            bytes_total,
            ..Room::default()
        }
    }

    #[test]
    fn the_default_is_two_gibibytes_and_on_small_volumes_five_percent() {
        let default = Watermark::default();
        assert_eq!(default.bytes(&room(0, 1000 * GIB)), 2 * GIB);
        assert_eq!(default.bytes(&room(0, 20 * GIB)), GIB);
        assert_eq!(Watermark(Some(7)).bytes(&room(0, 20 * GIB)), 7);
    }

    #[test]
    fn a_shortage_begins_at_the_watermark_and_ends_a_little_above_it() {
        let mark = Watermark(Some(1000));
        let at = |bytes, was_short| mark.shortage(&room(bytes, 1_000_000), was_short);
        let short = |free, wanted| Some(Shortage::Bytes { free, wanted });
        assert_eq!(at(1000, false), None);
        assert_eq!(at(999, false), short(999, 1000));
        assert_eq!(at(1099, true), short(1099, 1100));
        assert_eq!(at(1100, true), None);
    }

    #[test]
    fn a_volume_without_file_entries_is_short_however_empty_it_is() {
        let full = Room {
            files: 49,
            files_total: 1000,
            ..room(GIB, GIB)
        };
        let found = Watermark::default().shortage(&full, false);
        assert_eq!(
            found,
            Some(Shortage::Files {
                free: 49,
                wanted: 50
            })
        );
        let unlimited = Room {
            files: 0,
            files_total: 0,
            ..full
        };
        assert_eq!(Watermark::default().shortage(&unlimited, true), None);
    }

    #[test]
    fn a_watermark_of_zero_asks_for_nothing() {
        let none = Room {
            files_total: 1000,
            ..room(0, GIB)
        };
        assert_eq!(Watermark(Some(0)).shortage(&none, true), None);
    }

    #[test]
    fn sizes_read_as_people_say_them() {
        let said = |bytes| Bytes(bytes).to_string();
        assert_eq!(said(0), "0 bytes");
        assert_eq!(said(1536), "1.5 KiB");
        assert_eq!(said(2 * GIB), "2.0 GiB");
        assert_eq!(said(u64::MAX), "16777215.9 TiB");
    }
}
