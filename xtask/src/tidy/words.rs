//! Words that belong to how the project is made and not to the project.

use super::source::{Source, Tree};
use super::violation::Violation;

/// Compared regardless of case. Written in two halves, so that this file is not found.
const WORDS: &[(&str, &str)] = &[
    (concat!("seed", " 00"), "name the system by its own name"),
    (concat!("/work", "/"), "no path of one machine"),
    (concat!("/tmp/", "issue"), "no path of one machine"),
    (
        concat!("DECISIONS", ".md"),
        "say it here, or point into docs/",
    ),
    (
        concat!("CONTRACTS", ".md"),
        "say it here, or point into docs/",
    ),
    (
        concat!("CLAUDE-CLI", ".md"),
        "say it here, or point into docs/",
    ),
    (concat!("DESIGN", ".md"), "say it here, or point into docs/"),
    (concat!("static.", "crates.io"), "no host of a registry"),
    (concat!("index.", "crates.io"), "no host of a registry"),
    (concat!("registry.", "npmjs"), "no host of a registry"),
    (
        concat!("co-authored", "-by"),
        "the history says who wrote it",
    ),
    (
        concat!("generated with ", "claude"),
        "the history says who wrote it",
    ),
    (
        concat!("claude code ", "session"),
        "write `session of the CLI` where that is meant",
    ),
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    tree.files.iter().flat_map(in_file).collect()
}

fn in_file(file: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let line = line.to_lowercase();
        for (word, advice) in WORDS {
            if line.contains(&word.to_lowercase()) {
                let sentence = format!("{word:?}: {advice}");
                found.push(Violation::new(&file.path, at + 1, "word", sentence));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_found_in_any_file_and_case() {
        for (word, _) in WORDS {
            let text = format!("fine\nas {} has it\n", word.to_uppercase());
            let tree = Tree::new(vec![Source::new("docs/a.md", &text)]);
            let lines: Vec<_> = check(&tree).iter().map(|found| found.line).collect();
            assert_eq!(lines, [2], "{word}");
        }
    }

    #[test]
    fn ordinary_text_is_not_found() {
        let text = "The session id, a seed for jitter, /worktrees/, crates.io, design notes.";
        let tree = Tree::new(vec![Source::new("README.md", text)]);
        assert_eq!(check(&tree), []);
    }
}
