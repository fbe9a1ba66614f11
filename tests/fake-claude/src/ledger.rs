//! An account of runs, kept outside the workspace, by which a test sees what really ran: when each
//! run began, what it said, and whether two of one job were alive at once.
//!
//! One line a fact, each written in one piece: `WHAT NAME ATTEMPT PID STARTED NANOSECONDS`. A process is named by
//! its id and the tick it was started in, since ids come again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::clock;

/// The server's mark of the attempt this run belongs to.
const MARK: &str = "AGENT_SERVER_ATTEMPT";

/// Opens the file that gets a copy of everything this run says. To be done first: a run that is
/// in the account has one.
pub(crate) fn copy(path: &Path) -> io::Result<File> {
    let own = own();
    let copy = PathBuf::from(format!("{}.{}.{}", path.display(), own.0, own.1));
    OpenOptions::new().create(true).append(true).open(copy)
}

/// Notes that this run has begun, and whether another of the same name is alive.
pub(crate) fn begin(path: &Path, name: &str) -> io::Result<()> {
    note(path, "begin", name)?;
    // Read after writing: of two that begin at the same time at least one sees the other.
    let own = own();
    for line in fs::read_to_string(path)?.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let ["begin", other, _, pid, started, _] = words.as_slice() else {
            continue;
        };
        if *other == name && (*pid, *started) != (&own.0, &own.1) && is_alive(pid, started) {
            note(path, "twice", name)?;
        }
    }
    Ok(())
}

/// Notes one fact.
pub(crate) fn note(path: &Path, what: &str, name: &str) -> io::Result<()> {
    let (pid, started) = own();
    let attempt = std::env::var(MARK).unwrap_or_else(|_| "-".into());
    let line = format!(
        "{what} {name} {attempt} {pid} {started} {}\n",
        clock::unix_nanos()
    );
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(line.as_bytes())
}

fn own() -> (String, String) {
    let pid = std::process::id().to_string();
    let started = started(&pid).map_or_else(|| "0".to_owned(), |(_, started)| started);
    (pid, started)
}

fn is_alive(pid: &str, began: &str) -> bool {
    started(pid).is_some_and(|(state, started)| started == began && !"ZX".contains(&state))
}

/// A process's state and the tick it was started in; `None` where there is none, or no `/proc`.
fn started(pid: &str) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything, so fields are counted after the last bracket.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.to_owned();
    Some((state, fields.nth(18)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_beside_a_living_one_of_the_same_name_is_noted_and_one_after_a_dead_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        // Process 1 lives; no process has this number.
        let (_, first) = started("1").unwrap();
        let others = format!("begin a - 1 {first} 0\nbegin b - 1 7 0\nbegin c - 99999999 1 0\n");
        fs::write(&path, others).unwrap();
        for name in ["a", "b", "c"] {
            begin(&path, name).unwrap();
        }
        let noted = fs::read_to_string(&path).unwrap();
        let twice: Vec<_> = noted
            .lines()
            .filter(|line| line.starts_with("twice "))
            .collect();
        assert_eq!(twice.len(), 1, "{noted}");
        assert!(twice[0].starts_with("twice a "));
    }
}
