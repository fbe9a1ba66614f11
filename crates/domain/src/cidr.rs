//! Ranges of addresses, as operators write them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address alone.
///
/// Bits after the prefix are dropped: `10.1.2.3/8` is `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    prefix: u8,
}

/// Why a text is no [`Cidr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The part before the slash.
    #[error("{0:?} is not an IP address")]
    Address(String),
    /// The part after the slash.
    #[error("{given:?} is not a prefix length from 0 to {most}")]
    Prefix {
        /// What was written.
        given: String,
        /// The length of the address in bits.
        most: u8,
    },
}

impl Cidr {
    pub(crate) const fn from_parts(base: IpAddr, prefix: u8) -> Self {
        Self { base, prefix }
    }

    /// Whether `address` lies in the range. Ranges of one family hold no address of the other.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let differing = u32::from(base) ^ u32::from(address);
                u32::from(self.prefix) <= differing.leading_zeros()
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let differing = u128::from(base) ^ u128::from(address);
                u32::from(self.prefix) <= differing.leading_zeros()
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let given = address
            .parse::<IpAddr>()
            .map_err(|_| CidrError::Address(address.into()))?;
        let most = if given.is_ipv4() { 32 } else { 128 };
        let prefix = match length {
            None => most,
            Some(length) => prefix_length(length, most)?,
        };
        Ok(Self {
            base: first(given, prefix),
            prefix,
        })
    }
}

fn prefix_length(text: &str, most: u8) -> Result<u8, CidrError> {
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|prefix| digits_only && *prefix <= most)
        .ok_or_else(|| CidrError::Prefix {
            given: text.into(),
            most,
        })
}

/// The first address of the range that `address` lies in.
fn first(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(range: &str, address: &str) -> bool {
        let range: Cidr = range.parse().unwrap();
        range.contains(address.parse().unwrap())
    }

    #[test]
    fn a_range_holds_exactly_the_addresses_with_its_prefix() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("172.16.0.0/12", "172.31.255.255", "172.32.0.0"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.6"),
            ("10.1.2.3/31", "10.1.2.2", "10.1.2.4"),
            ("128.0.0.0/1", "255.0.0.0", "127.255.255.255"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("::1", "::1", "::"),
            ("2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"),
        ] {
            assert!(holds(range, inside), "{inside} in {range}");
            assert!(!holds(range, outside), "{outside} not in {range}");
        }
    }

    #[test]
    fn a_range_of_length_zero_holds_its_whole_family_and_nothing_of_the_other() {
        assert!(holds("0.0.0.0/0", "255.255.255.255") && holds("::/0", "ffff::"));
        assert!(!holds("0.0.0.0/0", "::1") && !holds("::/0", "127.0.0.1"));
    }

    #[test]
    fn bits_after_the_prefix_are_dropped() {
        let shown = |text: &str| text.parse::<Cidr>().unwrap().to_string();
        assert_eq!(shown("10.1.2.3/8"), "10.0.0.0/8");
        assert_eq!(shown("10.1.2.3"), "10.1.2.3/32");
        assert_eq!(shown("fd00::1/0"), "::/0");
        assert_eq!(shown("fd00::1"), "fd00::1/128");
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "/",
            "/8",
            "10",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.0.0.0 /8",
            "::/129",
            "localhost",
            "10.0.0.0/255.0.0.0",
            "0x7f.1",
            "fe80::1%eth0",
            "[::1]",
            "10.0.0.0/99999999999",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad:?}");
        }
    }
}
