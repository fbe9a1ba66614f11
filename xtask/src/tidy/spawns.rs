//! Where work is started beside the caller: every place is known, so that every place is stopped.

use std::collections::BTreeMap;

use super::places::has_word;
use super::source::Tree;
use super::violation::Violation;

/// Functions that start work; methods called `spawn` with an argument do too.
const WORDS: &[&str] = &[
    "rt::spawn",
    "spawn_blocking",
    "spawn_local",
    "task::spawn",
    "thread::spawn",
    "tokio::spawn",
    "web::block",
];

/// A file that starts tasks or threads, in how many places, and what ends them.
pub(super) type Row = (&'static str, usize, &'static str);

const AWAITED: &str = "blocking work that its caller awaits";

pub(super) const ALLOWED: &[Row] = &[
    (
        "bins/agent-server/src/serve.rs",
        2,
        "one look at the programs after the start; one line of the log",
    ),
    (
        "crates/api/src/server.rs",
        1,
        "the HTTP server, until it is stopped by its handle",
    ),
    (
        "crates/api/src/stream.rs",
        1,
        "ends with the answer that it writes",
    ),
    ("crates/forge/src/github.rs", 1, AWAITED),
    (
        "crates/git/src/command.rs",
        1,
        "ends a command that was given up, within its kill ladder",
    ),
    ("crates/git/src/mirror.rs", 1, AWAITED),
    (
        "crates/queue/src/engine.rs",
        1,
        "tracked by the engine, which waits for it when it stops",
    ),
    ("crates/queue/src/disk.rs", 1, AWAITED),
    ("crates/queue/src/events.rs", 1, AWAITED),
    ("crates/queue/src/log.rs", 1, AWAITED),
    ("crates/queue/src/retention.rs", 3, AWAITED),
    (
        "crates/queue/src/loops.rs",
        8,
        "tracked by the engine; the loops, until it stops",
    ),
    (
        "crates/queue/src/messages.rs",
        1,
        "tracked by the engine; ends with its reader",
    ),
    (
        "crates/queue/src/outbox.rs",
        2,
        "tracked by the engine; a try has a time limit",
    ),
    ("crates/queue/src/seal.rs", 1, AWAITED),
    ("crates/runner/src/run.rs", 1, AWAITED),
    ("crates/runner/src/runner.rs", 1, AWAITED),
    (
        "crates/runner/src/sandbox/inside.rs",
        2,
        "ends with the first process behind a wall",
    ),
    (
        "crates/runner/src/sandbox/proxy.rs",
        2,
        "ends with the supervisor's process",
    ),
    ("crates/runner/src/sessions.rs", 3, AWAITED),
    (
        "crates/runner/src/socket.rs",
        2,
        "ends with the supervisor's process",
    ),
    (
        "crates/runner/src/supervise.rs",
        1,
        "ends when the agent's input is closed",
    ),
    ("crates/runner/src/survey.rs", 2, AWAITED),
    ("crates/storage/src/pool.rs", 1, AWAITED),
    ("crates/storage/src/store.rs", 4, AWAITED),
    (
        "crates/storage/src/writer.rs",
        1,
        "the writer thread, ended when the store is closed",
    ),
    (
        "crates/worker/src/worker.rs",
        3,
        "tracked by the worker; its loops and attempts, until it stops",
    ),
];

pub(super) fn check(tree: &Tree, allowed: &[Row]) -> Vec<Violation> {
    let mut found: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for file in tree.rust().filter(|file| !file.path.starts_with("xtask/")) {
        for (number, line) in file.product_code() {
            let uses = !line.trim_start().starts_with("use ");
            if uses && starts_work(line) {
                found.entry(&file.path).or_default().push(number);
            }
        }
    }
    let mut violations = Vec::new();
    for (path, lines) in &found {
        let row = allowed.iter().find(|(file, _, _)| file == path);
        let most = row.map_or(0, |(_, places, _)| *places);
        if let Some(line) = lines.get(most) {
            let sentence = format!(
                "{} places start tasks or threads, {most} are known; add what ends them to the table",
                lines.len()
            );
            violations.push(Violation::new(path, *line, "spawn", sentence));
        }
    }
    for (path, places, _) in allowed {
        let real = found.get(path).map_or(0, Vec::len);
        if real < *places {
            let sentence = format!("the table knows {places} places, there are {real}");
            violations.push(Violation::new(path, 1, "spawn", sentence));
        }
    }
    violations
}

fn starts_work(line: &str) -> bool {
    // A program is started by `spawn()`, or by a method of its owner.
    let method = line
        .split_once(".spawn(")
        .is_some_and(|(owner, rest)| !rest.starts_with(')') && !owner.ends_with("self"));
    method || WORDS.iter().any(|word| has_word(line, word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::Source;

    fn count(text: &str, allowed: &[Row]) -> usize {
        let tree = Tree::new(vec![Source::new("crates/x/src/a.rs", text)]);
        check(&tree, allowed).len()
    }

    #[test]
    fn every_way_to_start_work_is_found_in_a_file_that_is_not_known() {
        for text in [
            "tokio::spawn(x)",
            "std::thread::spawn(x)",
            "thread::Builder::new().spawn(move || x)",
            "set.spawn(x)",
            "tasks.spawn_blocking(x)",
            "actix_web::rt::spawn(x)",
        ] {
            assert_eq!(count(text, &[]), 1, "{text}");
        }
        assert_eq!(
            count("use tokio::task::spawn_blocking;\ncommand.spawn()", &[]),
            0
        );
    }

    #[test]
    fn a_known_file_has_exactly_the_places_that_are_known() {
        let text = "tokio::spawn(x);\ntokio::spawn(y);\n";
        let row = |places| [("crates/x/src/a.rs", places, "a test")];
        assert_eq!(count(text, &row(2)), 0);
        assert_eq!(count(text, &row(1)), 1);
        assert_eq!(count(text, &row(3)), 1);
        assert_eq!(count("", &[("crates/gone.rs", 1, "a test")]), 1);
    }
}
