//! One place decides what becomes of a job, and one place per database writes it.

use super::lexer::is_word;
use super::source::{Source, Tree};
use super::violation::Violation;

/// The module that calls the state machine.
const DECIDES: &str = "crates/queue/src/change.rs";

/// The modules that write job rows. Moving a parked job into line is part of claiming: it changes
/// its place, not its state. Retention removes what has ended.
const WRITES: &[&str] = &[
    "crates/storage/src/jobs.rs",
    "crates/storage/src/claim.rs",
    "crates/storage/src/retention.rs",
];

const STATEMENTS: &[&str] = &[
    "update jobs",
    "insert into jobs",
    "insert or replace into jobs",
    "replace into jobs",
    "delete from jobs",
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let product = |file: &&Source| file.product_lines() > 0 && !file.path.starts_with("xtask/");
    tree.rust()
        .filter(product)
        .flat_map(|file| [decisions(file), writes(file)])
        .flatten()
        .collect()
}

fn decisions(file: &Source) -> Vec<Violation> {
    if file.path == DECIDES || file.path.starts_with("crates/domain/") {
        return Vec::new();
    }
    file.product_code()
        .filter(|(_, line)| calls_apply(line))
        .map(|(number, _)| {
            let sentence = format!("only {DECIDES} calls the state machine");
            Violation::new(&file.path, number, "state", sentence)
        })
        .collect()
}

/// Whether `line` calls a function named `apply`, not a method and not a definition.
fn calls_apply(line: &str) -> bool {
    line.match_indices("apply(").any(|(at, _)| {
        let before = &line[..at];
        let method = before.ends_with('.') || before.ends_with("self::");
        let longer = before.chars().next_back().is_some_and(is_word);
        !method && !longer && !before.ends_with("fn ")
    })
}

fn writes(file: &Source) -> Vec<Violation> {
    if WRITES.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let lower = file.uncommented.to_ascii_lowercase();
    let (flat, lines) = flattened(&lower);
    let mut found = Vec::new();
    for statement in STATEMENTS {
        for (at, _) in flat.match_indices(statement) {
            let next = flat[at + statement.len()..].chars().next();
            let number = lines[at];
            if !next.is_some_and(is_word) && !file.is_test_line(number) {
                let sentence = format!("only {} write job rows", WRITES.join(" and "));
                found.push(Violation::new(&file.path, number, "state", sentence));
            }
        }
    }
    found
}

/// The text with every run of white space (and of line continuations) as one space, and for each
/// byte of it the line it came from.
fn flattened(text: &str) -> (String, Vec<usize>) {
    let (mut flat, mut lines, mut number) = (String::new(), Vec::new(), 1);
    for c in text.chars() {
        let blank = c.is_whitespace() || c == '\\';
        if !(blank && flat.ends_with(' ')) {
            let shown = if blank { ' ' } else { c };
            flat.push(shown);
            lines.resize(flat.len(), number);
        }
        number += usize::from(c == '\n');
    }
    (flat, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let tree = Tree::new(vec![Source::new(path, text)]);
        check(&tree).iter().map(|found| found.line).collect()
    }

    #[test]
    fn writing_job_rows_elsewhere_is_found_however_it_is_laid_out() {
        let path = "crates/storage/src/outbox.rs";
        for text in [
            "\nlet sql = \"UPDATE jobs SET status = 1\";",
            "\nlet sql = \"update\n   jobs\n  set x\";",
            "\nlet sql = \"INSERT INTO \\\n jobs (a)\";",
            "\nlet sql = r#\"DELETE FROM jobs\"#;",
        ] {
            assert_eq!(lines(path, text), [2], "{text}");
            assert_eq!(lines("crates/storage/src/jobs.rs", text), [0; 0], "{text}");
        }
        let others = "// UPDATE jobs\n\"UPDATE jobs_seen\"; \"SELECT FROM jobs\"";
        assert_eq!(lines(path, others), [0; 0]);
    }

    #[test]
    fn calling_the_state_machine_elsewhere_is_found() {
        for text in [
            "let next = apply(&job, event, now);",
            "transition::apply(x)",
            "domain::apply(",
        ] {
            assert_eq!(lines("crates/worker/src/a.rs", text), [1], "{text}");
            assert_eq!(lines(DECIDES, text), [0; 0], "{text}");
        }
        for text in ["change.apply(x)", "fn apply(x)", "reapply(x)"] {
            assert_eq!(lines("crates/worker/src/a.rs", text), [0; 0], "{text}");
        }
    }
}
