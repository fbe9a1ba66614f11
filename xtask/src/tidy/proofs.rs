//! A test that asserts nothing proves nothing.

use super::source::{Source, Tree};
use super::violation::Violation;

/// How a test can fail other than by an assertion's name.
const FAILS: &[&str] = &[
    "assert",
    "panic!",
    "unreachable!",
    ".expect_err(",
    "verify(",
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    tree.rust()
        .filter(|file| has_tests(file) && !FAILS.iter().any(|word| file.code.contains(word)))
        .map(|file| Violation::new(&file.path, 1, "proof", "its tests assert nothing"))
        .collect()
}

fn has_tests(file: &Source) -> bool {
    ["#[test]", "::test]", "::test("]
        .iter()
        .any(|mark| file.code.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        check(&Tree::new(vec![Source::new("crates/x/tests/a.rs", text)])).len()
    }

    #[test]
    fn a_file_of_tests_without_an_assertion_is_found() {
        for attribute in [
            "#[test]",
            "#[tokio::test]",
            "#[actix_web::test]",
            "#[tokio::test(x = 1)]",
        ] {
            assert_eq!(
                count(&format!("{attribute}\nfn a() {{ x(); }} // assert")),
                1
            );
            assert_eq!(
                count(&format!("{attribute}\nfn a() {{ assert_eq!(x, 1); }}")),
                0
            );
        }
        assert_eq!(count("pub fn support() {}"), 0);
    }
}
