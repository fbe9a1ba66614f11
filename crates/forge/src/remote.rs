//! Whether a remote is GitHub.

/// Whether pull requests are to be opened for remotes below `remote_base`: its host is
/// github.com, or the API's URL was set by hand.
pub fn is_github(remote_base: &str, api_url_set: bool) -> bool {
    // The second one is GitHub's ssh behind port 443, for networks that let nothing else out.
    let is_known = |host: &str| ["github.com", "ssh.github.com"].contains(&host);
    let host = host(remote_base).map(str::to_ascii_lowercase);
    api_url_set || host.is_some_and(|host| is_known(&host))
}

/// The host of `scheme://[user[:password]@]host[:port]/...` or of scp-like `[user@]host:...`.
fn host(remote: &str) -> Option<&str> {
    if let Some((scheme, rest)) = remote.split_once("://") {
        if scheme.eq_ignore_ascii_case("file") {
            return None;
        }
        let authority = rest.split('/').next()?;
        let host = authority.rsplit('@').next()?;
        return host.split(':').next();
    }
    let (front, _) = remote.split_once(':')?;
    // A slash before the colon makes it a path.
    (!front.contains('/'))
        .then(|| front.rsplit('@').next())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn github_is_recognised_in_every_form_of_url() {
        for remote in [
            "git@github.com:",
            "github.com:org",
            "ssh://git@github.com/",
            "ssh://git@github.com:22/",
            "https://github.com/",
            "https://user@GitHub.com/x",
            "ssh://git@ssh.github.com:443/",
        ] {
            assert!(is_github(remote, false), "{remote}");
        }
    }

    #[test]
    fn other_hosts_and_paths_are_plain_unless_the_api_is_named() {
        for remote in [
            "git@gitlab.com:",
            "https://github.com.evil.example/",
            "https://evil.example/github.com/",
            "https://github.com@evil.example/",
            "/srv/github.com:",
            "file://github.com/x",
            "./github.com:x",
            "",
        ] {
            assert!(!is_github(remote, false), "{remote}");
            assert!(is_github(remote, true), "{remote}");
        }
    }
}
