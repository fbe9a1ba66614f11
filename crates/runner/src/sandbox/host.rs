//! The list of hosts that may be reached: how an entry is written, and what it lets through.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use agent_domain::special_address;

/// Ports of an entry that names none: HTTPS and HTTP.
const WEB_PORTS: [u16; 2] = [443, 80];
/// Longest name of a host (RFC 1035).
const NAME_MAX: usize = 253;

/// A host, or the hosts below a domain, that may be reached.
///
/// Written `host`, `*.domain`, `192.0.2.7`, `[2001:db8::7]`, each with `:port` where it is not
/// the web's. A name never leads to an address that is not public, unless that address is listed
/// too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRule {
    host: Pattern,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Name(String),
    Below(String),
    Address(IpAddr),
}

/// A text that is no [`HostRule`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a host, *.domain or an address, with or without :port")]
pub struct HostRuleError;

/// A host as a client of the proxy names it, in its one normal spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

/// Where a client of the proxy wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: Host,
    pub(super) port: u16,
}

/// The list, and the operator's own way to the model's API.
#[derive(Debug, Clone, Default)]
pub(super) struct HostList {
    rules: Vec<HostRule>,
    /// Set by the operator as where the model's API is, so it may lead to a private address.
    gateway: Option<HostRule>,
}

impl Host {
    /// Reads a name or an address; an address in brackets is of IPv6.
    fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: IpAddr = inner.strip_suffix(']')?.parse().ok()?;
            return address
                .is_ipv6()
                .then_some(Self::Address(address.to_canonical()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            // Without brackets its end could be a port.
            return address.is_ipv4().then_some(Self::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label = |label: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !label.is_empty() && label.bytes().all(plain)
        };
        let fits = name.len() <= NAME_MAX && name.split('.').all(label);
        fits.then_some(Self::Name(name))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl Target {
    /// Reads `host:port`; `default_port` stands for a port that is missing.
    pub(super) fn parse(text: &str, default_port: Option<u16>) -> Option<Self> {
        let (host, port) = split_port(text)?;
        Some(Self {
            host: Host::parse(host)?,
            port: port.or(default_port).filter(|port| *port != 0)?,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let end_of_host = if text.starts_with('[') {
        text.find(']')? + 1
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (host, rest) = text.split_at(end_of_host);
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, Some(digits.parse().ok()?)))
        }
        _ => None,
    }
}

impl HostRule {
    /// The host of a URL, with exactly the port it leads to.
    pub fn of_url(url: &str) -> Result<Self, HostRuleError> {
        let (scheme, rest) = url.split_once("://").ok_or(HostRuleError)?;
        let port = match scheme.to_ascii_lowercase().as_str() {
            "https" => 443,
            "http" => 80,
            _ => return Err(HostRuleError),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let target = Target::parse(&rest[..end], Some(port)).ok_or(HostRuleError)?;
        Ok(Self {
            host: match target.host {
                Host::Name(name) => Pattern::Name(name),
                Host::Address(address) => Pattern::Address(address),
            },
            port: Some(target.port),
        })
    }

    fn covers(&self, target: &Target) -> bool {
        let host = match (&self.host, &target.host) {
            (Pattern::Name(listed), Host::Name(name)) => listed == name,
            (Pattern::Below(domain), Host::Name(name)) => name
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            (Pattern::Address(listed), Host::Address(address)) => listed == address,
            _ => false,
        };
        host && match self.port {
            Some(port) => port == target.port,
            None => WEB_PORTS.contains(&target.port),
        }
    }

    /// Whether it lists an address of the machine itself.
    pub(super) fn loopback(&self) -> Option<IpAddr> {
        match self.host {
            Pattern::Address(address) if address.is_loopback() => Some(address),
            _ => None,
        }
    }

    pub(super) fn is_localhost(&self) -> bool {
        matches!(&self.host, Pattern::Name(name) if name == "localhost")
    }
}

impl FromStr for HostRule {
    type Err = HostRuleError;

    fn from_str(text: &str) -> Result<Self, HostRuleError> {
        let (host, port) = split_port(text).ok_or(HostRuleError)?;
        if port == Some(0) {
            return Err(HostRuleError);
        }
        let (domain, below) = match host.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (host, false),
        };
        let host = match Host::parse(domain).ok_or(HostRuleError)? {
            Host::Name(name) if below => Pattern::Below(name),
            Host::Name(name) => Pattern::Name(name),
            Host::Address(_) if below => return Err(HostRuleError),
            Host::Address(address) => Pattern::Address(address),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Pattern::Name(name) => f.write_str(name)?,
            Pattern::Below(domain) => write!(f, "*.{domain}")?,
            Pattern::Address(address) => write!(f, "{}", Host::Address(*address))?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl HostList {
    pub(super) fn new(rules: Vec<HostRule>, gateway: Option<HostRule>) -> Self {
        Self { rules, gateway }
    }

    /// Whether the list has the target.
    pub(super) fn has(&self, target: &Target) -> bool {
        self.rules
            .iter()
            .chain(&self.gateway)
            .any(|rule| rule.covers(target))
    }

    /// Whether a listed target may be reached at this address, which its name resolved to.
    pub(super) fn may_reach(&self, target: &Target, address: IpAddr) -> bool {
        let itself = Target {
            host: Host::Address(address.to_canonical()),
            port: target.port,
        };
        special_address(address).is_none()
            || self.has(&itself)
            || self
                .gateway
                .as_ref()
                .is_some_and(|rule| rule.covers(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(rules: &[&str], gateway: Option<&str>) -> HostList {
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        HostList::new(rules, gateway.map(|url| HostRule::of_url(url).unwrap()))
    }

    fn has(list: &HostList, target: &str) -> bool {
        Target::parse(target, None).is_some_and(|target| list.has(&target))
    }

    #[test]
    fn rules_read_back_as_written() {
        for text in [
            "example.com",
            "example.com:8443",
            "*.example.com",
            "*.example.com:22",
            "192.0.2.7:81",
            "[2001:db8::7]:443",
        ] {
            assert_eq!(text.parse::<HostRule>().unwrap().to_string(), text);
        }
        assert_eq!(
            "EXAMPLE.com.".parse::<HostRule>().unwrap().to_string(),
            "example.com"
        );
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in [
            "",
            "*",
            "*.",
            "a..b",
            "a b",
            "https://example.com",
            "example.com/",
            "user@example.com",
            "example.com:",
            "example.com:0",
            "example.com:99999",
            "example.com:+1",
            "*.127.0.0.1",
            "2001:db8::7",
            "[127.0.0.1]",
            "[fe80::1%eth0]",
            "exämple.com",
            "a.*.com",
        ] {
            assert!(text.parse::<HostRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_lets_through_itself_on_the_ports_of_the_web_or_its_own() {
        let list = list(&["example.com", "git.example.org:22"], None);
        assert!(has(&list, "example.com:443") && has(&list, "EXAMPLE.COM.:80"));
        assert!(has(&list, "git.example.org:22"));
        for other in [
            "example.com:22",
            "www.example.com:443",
            "notexample.com:443",
            "example.com.evil.org:443",
            "git.example.org:443",
            "example.com%00.evil.org:443",
            "example.com@evil.org:443",
        ] {
            assert!(!has(&list, other), "{other}");
        }
    }

    #[test]
    fn a_star_lets_through_what_is_below_a_domain_and_not_the_domain() {
        let list = list(&["*.example.com"], None);
        assert!(has(&list, "a.example.com:443") && has(&list, "a.b.example.com:443"));
        assert!(!has(&list, "example.com:443") && !has(&list, "evilexample.com:443"));
    }

    #[test]
    fn an_address_is_let_through_only_where_it_is_listed_as_one() {
        let list = list(&["example.com", "10.0.0.7:8080", "[::1]:9"], None);
        assert!(has(&list, "10.0.0.7:8080") && has(&list, "[::ffff:10.0.0.7]:8080"));
        assert!(has(&list, "[::1]:9"));
        for other in [
            "10.0.0.7:443",
            "10.0.0.8:8080",
            "8.8.8.8:443",
            "0x0a.0.0.7:8080",
            "167772167:8080",
            "127.0.0.1:9",
        ] {
            assert!(!has(&list, other), "{other}");
        }
    }

    #[test]
    fn a_listed_name_leads_to_public_addresses_and_to_those_listed_too() {
        let list = list(
            &["example.com", "10.0.0.7"],
            Some("https://gateway.internal/v1"),
        );
        let target = |text| Target::parse(text, None).unwrap();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let example = target("example.com:443");
        assert!(list.may_reach(&example, address("1.1.1.1")));
        assert!(list.may_reach(&example, address("10.0.0.7")));
        for private in ["10.0.0.8", "127.0.0.1", "169.254.169.254", "::1", "fe80::1"] {
            assert!(!list.may_reach(&example, address(private)), "{private}");
        }
        let gateway = target("gateway.internal:443");
        assert!(list.has(&gateway) && list.may_reach(&gateway, address("10.9.9.9")));
        assert!(!list.has(&target("gateway.internal:80")));
    }

    #[test]
    fn the_port_of_a_url_is_its_own_or_its_schemes() {
        for (url, rule) in [
            ("https://api.example.com", "api.example.com:443"),
            ("http://127.0.0.1:8080/v1?x", "127.0.0.1:8080"),
            ("HTTP://[::1]", "[::1]:80"),
        ] {
            assert_eq!(HostRule::of_url(url).unwrap().to_string(), rule);
        }
        assert!(HostRule::of_url("ftp://x").is_err() && HostRule::of_url("x").is_err());
        assert!(HostRule::of_url("https://user@host").is_err());
    }
}
