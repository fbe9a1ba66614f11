//! Migrations are numbered without gaps, come in pairs, and never change once landed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::source::Tree;
use super::violation::Violation;

const RULE: &str = "migration";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let paths = tree.files.iter().map(|file| file.path.as_str());
    let mut engines: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut found = Vec::new();
    for path in paths {
        let Some(rest) = path.strip_prefix("migrations/") else {
            continue;
        };
        match rest.split_once('/') {
            Some((engine, name)) if is_name(name) => engines.entry(engine).or_default().push(name),
            _ => {
                let sentence = "call it migrations/<engine>/NNNN_name.sql";
                found.push(Violation::new(path, 1, RULE, sentence));
            }
        }
    }
    for (engine, names) in &engines {
        found.extend(gaps(engine, names));
    }
    found.extend(unpaired(&engines));
    found
}

fn is_name(name: &str) -> bool {
    let parts = name
        .strip_suffix(".sql")
        .and_then(|stem| stem.split_once('_'));
    parts.is_some_and(|(number, words)| {
        number.len() == 4
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && !words.is_empty()
            && words
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    })
}

fn gaps(engine: &str, names: &[&str]) -> Vec<Violation> {
    let numbered = (1..).zip(names);
    numbered
        .filter(|(number, name)| !name.starts_with(&format!("{number:04}_")))
        .map(|(number, name)| {
            let sentence = format!("its number should be {number:04}: no gaps, none twice");
            Violation::new(&format!("migrations/{engine}/{name}"), 1, RULE, sentence)
        })
        .collect()
}

fn unpaired(engines: &BTreeMap<&str, Vec<&str>>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (engine, names) in engines {
        for (other, theirs) in engines {
            for name in names.iter().filter(|name| !theirs.contains(name)) {
                let path = format!("migrations/{engine}/{name}");
                let sentence = format!("there is none of this name for {other}");
                found.push(Violation::new(&path, 1, RULE, sentence));
            }
        }
    }
    found
}

/// Compares with the commit before the present one, where there is one.
pub(super) fn check_history(root: &Path) -> Result<Vec<Violation>> {
    let mut git = Command::new("git");
    git.current_dir(root).args([
        "diff",
        "--name-status",
        "--no-renames",
        "HEAD~1",
        "--",
        "migrations",
    ]);
    let output = git.output().context("cannot run git")?;
    // No commit before this one, or a shallow clone: nothing to compare with.
    if !output.status.success() {
        return Ok(Vec::new());
    }
    Ok(changed(&String::from_utf8_lossy(&output.stdout)))
}

fn changed(name_status: &str) -> Vec<Violation> {
    name_status
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(status, _)| *status != "A")
        .map(|(_, path)| {
            Violation::new(path, 1, RULE, "it has landed; write a further one instead")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::Source;

    fn count(paths: &[&str]) -> usize {
        let files = paths.iter().map(|path| Source::new(path, "SELECT 1;"));
        check(&Tree::new(files.collect())).len()
    }

    #[test]
    fn names_gaps_and_missing_pairs_are_found() {
        let one = "migrations/sqlite/0001_jobs.sql";
        let pair = "migrations/postgres/0001_jobs.sql";
        assert_eq!(count(&[one]), 0);
        assert_eq!(count(&[pair, one]), 0);
        for bad in [
            "1_jobs.sql",
            "0001.sql",
            "0001_.sql",
            "0001_Jobs.sql",
            "0001_a.txt",
            "a.sql",
        ] {
            assert_eq!(count(&[&format!("migrations/sqlite/{bad}")]), 1, "{bad}");
        }
        assert_eq!(count(&["migrations/0001_jobs.sql"]), 1);
        assert_eq!(count(&[one, "migrations/sqlite/0003_more.sql"]), 1);
        assert_eq!(count(&[one, "migrations/sqlite/0001_more.sql"]), 1);
        assert_eq!(count(&[pair, one, "migrations/sqlite/0002_more.sql"]), 1);
    }

    #[test]
    fn a_landed_migration_may_not_change_or_go() {
        let diff = "A\tmigrations/sqlite/0002_a.sql\nM\tmigrations/sqlite/0001_jobs.sql\n\
                    D\tmigrations/sqlite/0003_b.sql\n";
        let found = changed(diff);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].path, "migrations/sqlite/0001_jobs.sql");
        assert_eq!(changed(""), []);
    }
}
