//! Reads what git wrote to its standard error: which kind of failure, and in few words.

use std::path::PathBuf;

use crate::GitError;

/// Longest message taken over from git, in characters.
const MESSAGE_MAX: usize = 600;

/// The remote end does not accept who we are or what we want.
const DENIED: &[&str] = &[
    "authentication failed",
    "could not read username",
    "could not read password",
    "terminal prompts disabled",
    "permission denied",
    "host key verification failed",
    "invalid username or token",
    "invalid username or password",
    "requested url returned error: 401",
    "requested url returned error: 403",
    "dubious ownership",
    "access denied",
    "you are not allowed",
    "permission to ",
    "too many authentication failures",
    "transport 'ext' not allowed",
    "certificate problem",
    "server certificate verification failed",
];

/// There is no such repository.
const NOT_FOUND: &[&str] = &[
    "repository not found",
    "requested url returned error: 404",
    "does not appear to be a git repository",
    "' not found",
    "does not exist",
    "could not be found",
];

/// A program git needs cannot be started here: nothing the remote or the network can mend.
const NOT_INSTALLED: &[&str] = &["cannot run ", "unable to fork"];

/// The way to the remote, or its server, is broken for now.
const NETWORK: &[&str] = &[
    "could not resolve host",
    "temporary failure in name resolution",
    "name or service not known",
    "connection refused",
    "connection reset",
    "connection timed out",
    "connection closed",
    "connection was reset",
    "connection aborted",
    "operation timed out",
    "operation too slow",
    "timed out",
    "network is unreachable",
    "no route to host",
    "host is down",
    "failed to connect",
    "couldn't connect",
    "could not connect",
    "unable to connect",
    "early eof",
    "hung up unexpectedly",
    "unexpected disconnect",
    "rpc failed",
    "broken pipe",
    "kex_exchange_identification",
    "ssh_exchange_identification",
    "requested url returned error: 5",
    "requested url returned error: 429",
    "requested url returned error: 408",
    "empty reply from server",
    "recv failure",
    "send failure",
    "transfer closed",
    "bytes remaining to read",
    "ssl_error_syscall",
    "ssl_read",
    "handshake",
    "gnutls",
    "invalid index-pack output",
    "index-pack failed",
    "internal server error",
    "service unavailable",
    "could not read from remote repository",
];

/// Names the failure of `git <verb>`, whose standard error (already masked) is `stderr`.
pub(crate) fn failure(
    verb: &'static str,
    network: bool,
    code: Option<i32>,
    stderr: &str,
) -> GitError {
    if let Some(path) = lock_in_the_way(stderr) {
        return GitError::Locked { path };
    }
    let ours: String = stderr
        .lines()
        .filter(|line| !line.starts_with("remote:"))
        .flat_map(|line| [line, "\n"])
        .collect::<String>()
        .to_lowercase();
    let full = [
        "no space left on device",
        "disk quota exceeded",
        "out of diskspace",
    ];
    if has(&ours, &full) {
        return GitError::DiskFull { verb };
    }
    let message = shortened(stderr);
    let all = stderr.to_lowercase();
    if !network || has(&all, NOT_INSTALLED) {
        GitError::Command {
            verb,
            code,
            message,
        }
    } else if has(&all, NOT_FOUND) {
        GitError::NotFound { verb, message }
    } else if has(&all, DENIED) {
        GitError::Denied { verb, message }
    } else if has(&all, NETWORK) {
        GitError::Network { verb, message }
    } else {
        GitError::Command {
            verb,
            code,
            message,
        }
    }
}

fn has(text: &str, patterns: &[&str]) -> bool {
    patterns.iter().any(|pattern| text.contains(pattern))
}

/// Finds the lock file that git, or gix, could not create because it is there already.
pub(crate) fn lock_in_the_way(text: &str) -> Option<PathBuf> {
    let from_git = text.lines().find_map(|line| {
        let rest = line.split_once("nable to create '")?.1;
        let (path, rest) = rest.rsplit_once('\'')?;
        rest.contains("File exists").then_some(path)
    });
    let from_library = || {
        let rest = text.split_once("The lockfile at \"")?.1;
        Some(rest.split_once("\" might need")?.0)
    };
    from_git
        .or_else(from_library)
        .map(PathBuf::from)
        .filter(|path| path.extension().is_some_and(|ending| ending == "lock"))
}

/// Keeps the lines that say what went wrong, on one line, without hints and progress.
pub(crate) fn shortened(stderr: &str) -> String {
    let lines = || {
        stderr
            .split(['\n', '\r'])
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("hint:"))
    };
    let telling = |line: &&str| {
        ["fatal:", "error:", "remote:", "ERROR:", "ssh:", "!"]
            .iter()
            .any(|start| line.starts_with(start))
            && !line.ends_with("remote:")
    };
    let mut kept: Vec<&str> = lines().filter(telling).collect();
    if kept.is_empty() {
        kept = lines().collect();
    }
    let joined = kept.join("; ");
    let mut short: String = joined
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MESSAGE_MAX)
        .collect();
    if short.len() < joined.len() {
        short.push_str("...");
    }
    if short.is_empty() {
        short.push_str("git said nothing");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(stderr: &str) -> GitError {
        failure("fetch", true, Some(128), stderr)
    }

    #[test]
    fn faults_of_the_network_are_transient() {
        for text in [
            "fatal: unable to access 'https://x/': Could not resolve host: x",
            "fatal: unable to access 'https://x/': Failed to connect to x port 443 after 3 ms: Couldn't connect to server",
            "fatal: unable to access 'http://x/': The requested URL returned error: 503",
            "fatal: unable to access 'http://x/': The requested URL returned error: 429",
            "error: RPC failed; curl 18 transfer closed with outstanding read data remaining\nfatal: early EOF\nfatal: fetch-pack: invalid index-pack output",
            "ssh: connect to host x port 22: Connection timed out\nfatal: Could not read from remote repository.",
            "ssh: Could not resolve hostname x: Temporary failure in name resolution",
            "kex_exchange_identification: Connection closed by remote host",
            "fatal: the remote end hung up unexpectedly",
        ] {
            assert!(matches!(of(text), GitError::Network { .. }), "{text}");
            assert!(of(text).is_transient());
        }
    }

    #[test]
    fn what_the_remote_refuses_is_final() {
        for text in [
            "fatal: Authentication failed for 'https://x/'",
            "fatal: could not read Username for 'http://x': terminal prompts disabled",
            "git@x: Permission denied (publickey).\nfatal: Could not read from remote repository.",
            "Host key verification failed.\nfatal: Could not read from remote repository.",
            "remote: Permission to a/b.git denied to c.\nfatal: unable to access 'https://x/': The requested URL returned error: 403",
        ] {
            assert!(matches!(of(text), GitError::Denied { .. }), "{text}");
        }
        for text in [
            "remote: Repository not found.\nfatal: repository 'https://x/' not found",
            "ERROR: Repository not found.\nfatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.",
            "fatal: '/srv/a.git' does not appear to be a git repository\nfatal: Could not read from remote repository.",
        ] {
            assert!(matches!(of(text), GitError::NotFound { .. }), "{text}");
            assert!(!of(text).is_transient());
        }
    }

    #[test]
    fn a_full_disk_here_is_told_apart_from_one_at_the_remote() {
        for text in [
            "error: unable to write file: No space left on device",
            "fatal: sha1 file '/m/a.git/index.lock' write error. Out of diskspace",
        ] {
            assert!(matches!(of(text), GitError::DiskFull { .. }), "{text}");
        }
        let there = of("remote: fatal: No space left on device\nfatal: early EOF");
        assert!(matches!(there, GitError::Network { .. }));
    }

    #[test]
    fn a_lock_file_is_found_in_what_git_and_gix_say() {
        let git = "error: cannot lock ref 'refs/remotes/origin/a': Unable to create '/m/it's.git/packed-refs.lock': File exists.\n\nAnother git process";
        let gix = "The lockfile at \"/m/a.lock\" might need manual deletion.";
        assert_eq!(
            lock_in_the_way(git),
            Some("/m/it's.git/packed-refs.lock".into())
        );
        assert_eq!(lock_in_the_way(gix), Some("/m/a.lock".into()));
        assert_eq!(
            lock_in_the_way("Unable to create '/m/x.lock': Permission denied"),
            None
        );
    }

    #[test]
    fn a_message_is_one_bounded_line_without_hints() {
        let text = "From x\nhint: do this\nremote: \nremote: no\u{1b}[31m\nfatal: bad\n";
        assert_eq!(shortened(text), "remote: no [31m; fatal: bad");
        assert!(shortened(&"é".repeat(10_000)).chars().count() < 700);
        assert_eq!(shortened(""), "git said nothing");
    }
}
