//! The lock file is tracked, and names the public registry only.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::violation::Violation;

const FILE: &str = "Cargo.lock";

/// How cargo writes the public registry, whatever it is fetched from.
const PUBLIC: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(root: &Path) -> Result<Vec<Violation>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "--", FILE]);
    let tracked = !git.output().context("cannot run git")?.stdout.is_empty();
    let text = std::fs::read_to_string(root.join(FILE)).unwrap_or_default();
    Ok(in_text(tracked, &text))
}

fn in_text(tracked: bool, text: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    if !tracked {
        found.push(Violation::new(
            FILE,
            1,
            "lock",
            "the lock file must be tracked",
        ));
    }
    for (at, line) in text.lines().enumerate() {
        let source = line.strip_prefix("source = \"");
        if source.is_some_and(|source| source.trim_end_matches('"') != PUBLIC) {
            let sentence = "dependencies come from the public registry only";
            found.push(Violation::new(FILE, at + 1, "lock", sentence));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untracked_file_and_another_source_are_found() {
        let good = format!("[[package]]\nsource = \"{PUBLIC}\"\n");
        assert_eq!(in_text(true, &good), []);
        assert_eq!(in_text(false, &good).len(), 1);
        for other in [
            "registry+https://mirror.example/index",
            "git+https://a.example/b#c",
        ] {
            let found = in_text(true, &format!("{good}source = \"{other}\"\n"));
            assert_eq!(found.len(), 1, "{other}");
            assert_eq!(found[0].line, 3);
        }
    }
}
