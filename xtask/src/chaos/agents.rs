//! The account the agents keep: who ran when, as what process, and how it ended.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One run of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// The job's name.
    pub(super) name: String,
    /// `<job>.<attempt>`.
    pub(super) mark: String,
    /// When it began, in nanoseconds since 1970.
    pub(super) began: u128,
    /// Whether it came to a good result, and said so.
    pub(super) good: bool,
    /// Whether it met a usage limit, and said so: then the job goes on in another run.
    pub(super) limited: bool,
    /// Whether another run of the same name was alive when it began.
    pub(super) twice: bool,
    /// The file with everything it said.
    pub(super) said: PathBuf,
}

/// Reads the account; runs in the order they began.
pub(super) fn read(ledger: &Path) -> Vec<Run> {
    let text = fs::read_to_string(ledger).unwrap_or_default();
    let mut runs: Vec<Run> = Vec::new();
    // Where the run of a process is.
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [what, name, mark, pid, started, at] = words.as_slice() else {
            continue;
        };
        let process = format!("{pid}.{started}");
        match *what {
            "begin" => {
                known.insert(process.clone(), runs.len());
                runs.push(Run {
                    name: (*name).to_owned(),
                    mark: (*mark).to_owned(),
                    began: at.parse().unwrap_or_default(),
                    good: false,
                    limited: false,
                    twice: false,
                    said: PathBuf::from(format!("{}.{process}", ledger.display())),
                });
            }
            "twice" | "good" | "limited" => {
                if let Some(run) = known.get(&process).and_then(|at| runs.get_mut(*at)) {
                    run.good |= *what == "good";
                    run.limited |= *what == "limited";
                    run.twice |= *what == "twice";
                }
            }
            _ => {}
        }
    }
    runs
}

/// Survivors that wrote down their process ids and are still alive.
pub(super) fn survivors(ledger: &Path) -> Vec<i32> {
    let list = format!("{}.left", ledger.display());
    let text = fs::read_to_string(&list).unwrap_or_default();
    let pids = text.lines().filter_map(|line| line.parse::<i32>().ok());
    pids.filter(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // The number may be somebody else's by now, even that of a survivor of another world.
        let names = |text: &[u8]| command.split(|byte| *byte == 0).any(|word| word == text);
        agent_tests::process::is_alive(*pid) && names(b"__survive") && names(list.as_bytes())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_runs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let text =
            "begin a j.1 7 70 1\nbegin b k.1 8 80 2\ntwice b k.1 8 80 3\ngood a j.1 7 70 4\ntorn";
        fs::write(&path, text).unwrap();
        let runs = read(&path);
        assert_eq!(runs.len(), 2);
        assert!(runs[0].good && !runs[0].twice && runs[0].mark == "j.1");
        assert!(!runs[1].good && runs[1].twice && runs[1].began == 2);
        assert!(runs[1].said.ends_with("ledger.8.80"));
    }
}
