//! Which addresses a callback may reach.
//!
//! A caller chooses the URL, and this server may stand where the caller cannot: beside internal
//! services and a cloud's metadata. So only globally reachable unicast addresses are allowed, and
//! what an operator allows on top.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agent_domain::{CallbackUrl, Cidr, Class, special_address};
use url::{Host, Url};

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
    match special_address(address) {
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

/// Names that hosts files and resolvers keep for the machine itself.
const LOCAL_NAMES: [&str; 6] = [
    "localhost",
    "localhost.localdomain",
    "localhost6",
    "localhost6.localdomain6",
    "ip6-localhost",
    "ip6-loopback",
];
