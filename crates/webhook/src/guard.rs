//! Which addresses a callback may reach.
//!
//! A caller chooses the URL, and this server may stand where the caller cannot: beside internal
//! services and a cloud's metadata. So only globally reachable unicast addresses are allowed, and
//! what an operator allows on top.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agent_domain::{CallbackUrl, Class};
use url::{Host, Url};

use crate::Cidr;

/// Why an address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a URL that could be called.
    #[error("is not a URL that can be called")]
    Url,
    /// A name that always means this machine.
    #[error("must not point at this machine ({0})")]
    LocalName(String),
    /// An address that is not reachable from the public internet.
    #[error("must not point at a private or special address ({address}: {kind})")]
    Address {
        /// The address.
        address: IpAddr,
        /// What it is reserved for.
        kind: &'static str,
    },
}

impl AddressError {
    /// What kind of error this is.
    pub const fn class(&self) -> Class {
        Class::Invalid
    }
}

/// Refuses a URL whose host is, in any spelling, an address that `check_address` refuses, or a
/// name of this machine. Other names are checked when they are resolved.
pub fn check_literal(url: &CallbackUrl, allow: &[Cidr]) -> Result<(), AddressError> {
    match normal(url)?.host() {
        None => Err(AddressError::Url),
        Some(Host::Ipv4(address)) => check_address(address.into(), allow),
        Some(Host::Ipv6(address)) => check_address(address.into(), allow),
        Some(Host::Domain(name)) => check_name(name, allow),
    }
}

/// The URL as it is called: the host in its one normal spelling, no fragment.
pub(crate) fn normal(url: &CallbackUrl) -> Result<Url, AddressError> {
    let mut url = Url::parse(url.as_str()).map_err(|_| AddressError::Url)?;
    let http = matches!(url.scheme(), "http" | "https");
    if !http || !url.username().is_empty() || url.password().is_some() {
        return Err(AddressError::Url);
    }
    url.set_fragment(None);
    Ok(url)
}

fn check_name(name: &str, allow: &[Cidr]) -> Result<(), AddressError> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let local = LOCAL_NAMES.contains(&name.as_str()) || name.ends_with(".localhost");
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    if name.is_empty() {
        Err(AddressError::Url)
    } else if local && !loopback.into_iter().any(|address| allowed(address, allow)) {
        Err(AddressError::LocalName(name))
    } else {
        Ok(())
    }
}

/// Refuses an address that is private, of this machine, or otherwise not plain public unicast,
/// unless `allow` has it.
pub(crate) fn check_address(address: IpAddr, allow: &[Cidr]) -> Result<(), AddressError> {
    match special(address) {
        Some(kind) if !allowed(address, allow) => Err(AddressError::Address { address, kind }),
        _ => Ok(()),
    }
}

/// An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is reached over IPv4, so it counts as that.
fn allowed(address: IpAddr, allow: &[Cidr]) -> bool {
    let forms = [address, address.to_canonical()];
    allow
        .iter()
        .any(|range| forms.iter().any(|form| range.contains(*form)))
}

fn special(address: IpAddr) -> Option<&'static str> {
    let listed = SPECIAL
        .iter()
        .find(|(range, _)| range.contains(address))
        .map(|(_, kind)| *kind);
    // Of IPv6, only this range is given out for public use, so what no row names is refused too.
    let unassigned = address.is_ipv6() && !GLOBAL_UNICAST.contains(address);
    listed.or(unassigned.then_some("not public unicast"))
}

/// Names that hosts files and resolvers keep for the machine itself.
const LOCAL_NAMES: [&str; 6] = [
    "localhost",
    "localhost.localdomain",
    "localhost6",
    "localhost6.localdomain6",
    "ip6-localhost",
    "ip6-loopback",
];

const GLOBAL_UNICAST: Cidr = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// IANA's special-purpose registries (RFC 6890 and later), multicast, and what clouds use.
///
/// Ranges that carry an IPv4 address inside (mapped, compatible, NAT64, 6to4, Teredo) are refused as
/// a whole: what a gateway makes of them is not ours to know.
const SPECIAL: [(Cidr, &str); 37] = [
    (v4([0, 0, 0, 0], 8), "this network"),
    (v4([10, 0, 0, 0], 8), "private"),
    (v4([100, 64, 0, 0], 10), "shared by a carrier"),
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([168, 63, 129, 16], 32), "cloud metadata"),
    (v4([169, 254, 0, 0], 16), "link-local"),
    (v4([172, 16, 0, 0], 12), "private"),
    (v4([192, 0, 0, 0], 24), "protocol assignments"),
    (v4([192, 0, 2, 0], 24), "documentation"),
    (v4([192, 88, 99, 0], 24), "6to4 relay"),
    (v4([192, 168, 0, 0], 16), "private"),
    (v4([198, 18, 0, 0], 15), "benchmarks"),
    (v4([198, 51, 100, 0], 24), "documentation"),
    (v4([203, 0, 113, 0], 24), "documentation"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    (v4([255, 255, 255, 255], 32), "broadcast"),
    (v4([240, 0, 0, 0], 4), "reserved"),
    (v6([0; 8], 128), "unspecified"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    (v6([0; 8], 96), "IPv4-compatible"),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "IPv4-mapped"),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), "IPv4-translated"),
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), "NAT64"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "local NAT64"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discarded"),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), "discarded"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "Teredo"),
    (
        v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
        "protocol assignments",
    ),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "documentation"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "6to4"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "documentation"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "segment routing"),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32), "cloud metadata"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "private"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "site-local"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

const fn v4(octets: [u8; 4], prefix: u8) -> Cidr {
    let [a, b, c, d] = octets;
    Cidr::from_parts(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix)
}

const fn v6(s: [u16; 8], prefix: u8) -> Cidr {
    let address = Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]);
    Cidr::from_parts(IpAddr::V6(address), prefix)
}
