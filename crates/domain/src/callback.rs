//! Callbacks: where they may go, and when a failed one is tried again.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::limits;

/// Waits between the attempts of one delivery; after the last one it is given up, visibly.
///
/// Each is spread by up to 20 % either way ([`crate::jittered`]). The schedule of Standard Webhooks 1.0.0
/// stretched to about 18 hours.
pub const CALLBACK_SCHEDULE: [Duration; 8] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
];

/// An absolute http or https URL without credentials.
///
/// Whether its address may be reached is decided where names are resolved, not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackUrl(String);

/// Why a callback URL was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallbackUrlError {
    /// Longer than [`limits::URL_BYTES`].
    #[error("must be at most {} bytes", limits::URL_BYTES)]
    TooLong,
    /// Not `http://host...` or `https://host...`.
    #[error("must be an http or https URL")]
    Scheme,
    /// Holds `user:password@`.
    #[error("must not contain credentials")]
    Credentials,
    /// Holds white space or control characters.
    #[error("must not contain spaces or control characters")]
    Character,
}

impl CallbackUrl {
    /// The URL as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Scheme, host and port, in lower case and without the port that the scheme implies: what is
    /// up or down as one.
    pub fn endpoint(&self) -> String {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        let scheme = scheme.to_ascii_lowercase();
        let authority = authority(rest).to_ascii_lowercase();
        let implied = if scheme == "https" { ":443" } else { ":80" };
        let host = authority.strip_suffix(implied).unwrap_or(&authority);
        format!("{scheme}://{host}")
    }
}

/// What stands before the path. A backslash ends it for browsers and the WHATWG parser, so it does here.
fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#', '\\']).next().unwrap_or_default()
}

impl fmt::Display for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CallbackUrl {
    type Err = CallbackUrlError;

    fn from_str(text: &str) -> Result<Self, CallbackUrlError> {
        if text.len() > limits::URL_BYTES {
            return Err(CallbackUrlError::TooLong);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(CallbackUrlError::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(CallbackUrlError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(CallbackUrlError::Scheme);
        }
        let authority = authority(rest);
        if authority.contains('@') {
            return Err(CallbackUrlError::Credentials);
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err(CallbackUrlError::Scheme);
        }
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_one_scheme_host_and_port_have_one_endpoint() {
        for (url, endpoint) in [
            ("http://a", "http://a"),
            ("HTTP://A.Example:80/x?y#z", "http://a.example"),
            ("https://a.example:443?x", "https://a.example"),
            ("https://a.example:80#x", "https://a.example:80"),
            ("http://[::1]:9\\x", "http://[::1]:9"),
        ] {
            let url: CallbackUrl = url.parse().unwrap();
            assert_eq!(url.endpoint(), endpoint);
        }
    }

    #[test]
    fn only_http_urls_without_credentials_are_accepted() {
        for good in [
            "http://a",
            "https://os.example/api?x=1#y",
            "HTTP://127.0.0.1:80/",
            "http://[::1]:9/x@y",
        ] {
            assert!(good.parse::<CallbackUrl>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "ftp://a",
            "http:/a",
            "//a",
            "http://",
            "http:///x",
            "http://:80/",
            "http://u@a",
            "http://u:p@a/",
            "http://a b",
            "http://a\n",
            "javascript:alert(1)",
        ] {
            assert!(bad.parse::<CallbackUrl>().is_err(), "{bad:?}");
        }
    }
}
