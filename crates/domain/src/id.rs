//! Identifiers: 128 random bits, written as 32 lower-case hex digits.

use std::fmt;
use std::str::FromStr;

/// A text that is not 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is 32 lower-case hex digits")]
pub struct IdError;

/// Source of fresh ids, injected so that tests can predict them.
pub trait Ids: Send + Sync {
    /// Returns 16 bytes that no earlier call has returned.
    fn fresh(&self) -> [u8; 16];
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Wraps sixteen bytes from [`Ids::fresh`].
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The sixteen bytes.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0
            }

            /// Takes a fresh id from `ids`.
            pub fn fresh(ids: &dyn Ids) -> Self {
                Self(ids.fresh())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let digits = to_hex(self.0);
                f.pad(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex(text).map(Self)
            }
        }
    };
}

id!(
    /// Identifies a job.
    JobId
);
id!(
    /// Identifies a client, that is one configured repository of a customer.
    ClientId
);
id!(
    /// Identifies one callback delivery; it stays the same on every retry and redelivery.
    DeliveryId
);

/// Ids are written several times for every request, and the formatter's own hex is slow.
fn to_hex(bytes: [u8; 16]) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = digit(byte >> 4);
        pair[1] = digit(byte & 15);
    }
    digits
}

const fn digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + nibble - 10,
    }
}

fn parse_hex(text: &str) -> Result<[u8; 16], IdError> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return Err(IdError);
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(bytes)
}

fn nibble(digit: u8) -> Result<u8, IdError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(IdError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_written() {
        let id = JobId::from_bytes(*b"0123456789abcdef");
        assert_eq!(id.to_string(), "30313233343536373839616263646566");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn anything_but_32_lower_case_hex_digits_is_refused() {
        for bad in [
            "",
            "30",
            "3031323334353637383961626364656G",
            "30313233343536373839616263646566 ",
            "ABCDEF33343536373839616263646566",
            "é0313233343536373839616263646566",
        ] {
            assert_eq!(bad.parse::<JobId>(), Err(IdError), "{bad:?}");
        }
    }
}
