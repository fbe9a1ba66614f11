//! How the API is reached from this machine: through a proxy, trusting which certificates.

use std::ffi::OsString;

use ureq::Proxy;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use url::Url;

use crate::ForgeError;

/// Variables as the binary gave them; nothing is read from the process's own environment.
type Env = [(OsString, OsString)];

/// The proxy that `env` names for `api`, if it is to be reached through one.
pub(crate) fn proxy(api: &Url, env: &Env) -> Result<Option<Proxy>, ForgeError> {
    let host = api.host_str().unwrap_or_default();
    let direct = first(env, &["no_proxy", "NO_PROXY"]).is_some_and(|list| lists(&list, host));
    let names: &[&str] = match api.scheme() {
        "https" => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        // A CGI server sets HTTP_PROXY from a request's header, so only the lower-case one holds.
        _ => &["http_proxy", "all_proxy", "ALL_PROXY"],
    };
    match first(env, names).filter(|_| !direct) {
        Some(url) => Proxy::new(&url)
            .map(Some)
            // The URL itself may hold a password.
            .map_err(|_| ForgeError::Unavailable(format!("{} is no proxy's URL", names[0]))),
        None => Ok(None),
    }
}

/// Trust in the certificates of the file that `SSL_CERT_FILE` names, if it is set.
pub(crate) fn tls(env: &Env) -> Result<TlsConfig, ForgeError> {
    let Some(path) = first(env, &["SSL_CERT_FILE"]) else {
        return Ok(TlsConfig::default());
    };
    let refuse = |why: String| ForgeError::Unavailable(format!("SSL_CERT_FILE: {path}: {why}"));
    let pem = std::fs::read(&path).map_err(|error| refuse(error.to_string()))?;
    let mut found: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) =
            item.map_err(|error| refuse(error.to_string()))?
        {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(refuse("no certificate in it".into()));
    }
    let roots = RootCerts::new_with_certs(&found);
    Ok(TlsConfig::builder().root_certs(roots).build())
}

fn first(env: &Env, names: &[&str]) -> Option<String> {
    let value = |wanted: &&str| {
        let (_, value) = env.iter().find(|(name, _)| name == *wanted)?;
        value
            .to_str()
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    };
    names.iter().find_map(value)
}

/// Whether a list of hosts and domains has `host`.
fn lists(list: &str, host: &str) -> bool {
    list.split(',').map(str::trim).any(|entry| {
        let domain = entry.trim_start_matches("*.").trim_start_matches('.');
        let below = host.strip_suffix(domain);
        entry == "*"
            || (!domain.is_empty() && below.is_some_and(|sub| sub.is_empty() || sub.ends_with('.')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(api: &str, env: &[(&str, &str)]) -> Option<String> {
        let env: Vec<(OsString, OsString)> = env
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let proxy = proxy(&api.parse().unwrap(), &env).unwrap();
        proxy.map(|proxy| proxy.host().to_owned())
    }

    #[test]
    fn the_proxy_is_the_one_of_the_given_environment() {
        let github = "https://api.github.com";
        let both = [
            ("HTTPS_PROXY", "http://p1:3128"),
            ("http_proxy", "http://p2"),
        ];
        assert_eq!(through(github, &both), Some("p1".into()));
        assert_eq!(through("http://h/api/v3", &both), Some("p2".into()));
        assert_eq!(through(github, &[]), None);
        assert_eq!(through("http://h", &[("HTTP_PROXY", "http://p")]), None);
    }

    #[test]
    fn hosts_that_need_no_proxy_are_reached_directly() {
        for (list, direct) in [
            ("github.com", true),
            ("a, .github.com", true),
            ("*.github.com", true),
            ("*", true),
            ("hub.com", false),
            ("github.com.example", false),
            ("", false),
            (".", false),
        ] {
            let env = [("https_proxy", "http://p"), ("no_proxy", list)];
            assert_eq!(
                through("https://api.github.com", &env).is_none(),
                direct,
                "{list}"
            );
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path().to_owned(), "/does/not/exist".into()] {
            assert!(tls(&[("SSL_CERT_FILE".into(), path.into())]).is_err());
        }
        assert!(tls(&[]).is_ok());
    }
}
