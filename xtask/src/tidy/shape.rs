//! What a file is called, how it opens, and how long it is.

use super::source::{Source, Tree};
use super::violation::Violation;

/// Lines of a file without its tests.
const LONGEST: usize = 500;

/// Names that say nothing about what is in a file.
const EMPTY_NAMES: &[&str] = &[
    "common", "helper", "helpers", "manager", "misc", "prelude", "service", "util", "utils",
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    tree.rust()
        .flat_map(|file| [opening(file), length(file), name(file)])
        .flatten()
        .collect()
}

fn opening(file: &Source) -> Option<Violation> {
    let opens = file.text.starts_with("//! ");
    (!opens).then(|| {
        let sentence = "open the file with `//!` and what it is about";
        Violation::new(&file.path, 1, "opening", sentence)
    })
}

fn length(file: &Source) -> Option<Violation> {
    let lines = file.product_lines();
    (lines > LONGEST).then(|| {
        let sentence = format!("{lines} lines without tests; cut it, the limit is {LONGEST}");
        Violation::new(&file.path, LONGEST + 1, "length", sentence)
    })
}

fn name(file: &Source) -> Option<Violation> {
    let mut parts = file.path.trim_end_matches(".rs").split('/');
    let empty = parts.find(|part| EMPTY_NAMES.contains(part))?;
    let sentence = format!("`{empty}` says nothing; name it after what is in it");
    Some(Violation::new(&file.path, 1, "name", sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        let tree = Tree::new(vec![Source::new(path, text)]);
        check(&tree).iter().map(|found| found.rule).collect()
    }

    #[test]
    fn a_file_without_an_opening_is_found() {
        assert_eq!(rules("crates/x/src/a.rs", "//! Good.\n"), [""; 0]);
        assert_eq!(
            rules("crates/x/src/a.rs", "use x;\n//! Late.\n"),
            ["opening"]
        );
        assert_eq!(rules("crates/x/src/a.rs", "//!\n"), ["opening"]);
    }

    #[test]
    fn a_file_that_is_too_long_is_found_but_its_tests_do_not_count() {
        let long = |product: usize| {
            let mut text = format!("//! X.\n{}", "x();\n".repeat(product - 1));
            text.push_str("#[cfg(test)]\nmod tests {\n");
            text.push_str(&"x();\n".repeat(600));
            text.push_str("}\n");
            text
        };
        assert_eq!(rules("crates/x/src/a.rs", &long(500)), [""; 0]);
        assert_eq!(rules("crates/x/src/a.rs", &long(501)), ["length"]);
    }

    #[test]
    fn names_without_meaning_are_found() {
        for path in [
            "crates/x/src/utils.rs",
            "crates/common/src/a.rs",
            "a/tests/helpers/mod.rs",
        ] {
            assert_eq!(rules(path, "//! X.\n"), ["name"], "{path}");
        }
        assert_eq!(rules("crates/x/src/service_url.rs", "//! X.\n"), [""; 0]);
    }
}
