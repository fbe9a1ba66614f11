//! Habits that lints cannot see, or see only where they are switched on.

use super::places::has_word;
use super::source::{Source, Tree};
use super::violation::Violation;

const PRINTS: &[&str] = &["print!", "println!", "eprint!", "eprintln!", "dbg!"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    tree.rust()
        .flat_map(|file| [product(file), everywhere(file), test_branches(file)])
        .flatten()
        .collect()
}

fn product(file: &Source) -> Vec<Violation> {
    let library = file.path.starts_with("crates/");
    let mut found = Vec::new();
    for (number, line) in file.product_code() {
        let mut add = |rule, sentence| {
            found.push(Violation::new(&file.path, number, rule, sentence));
        };
        if line.contains(".unwrap()") {
            add("unwrap", "say what happens when it fails");
        }
        if library && PRINTS.iter().any(|print| has_word(line, print)) {
            add(
                "print",
                "libraries do not print; use `tracing` or return it",
            );
        }
    }
    found
}

fn everywhere(file: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, line) in file.code.lines().enumerate() {
        let squeezed: String = line.split_whitespace().collect();
        let attribute = |name: &str| {
            squeezed.contains(&format!("#[{name}")) || squeezed.contains(&format!("#![{name}"))
        };
        let mut add = |rule, sentence| {
            found.push(Violation::new(&file.path, at + 1, rule, sentence));
        };
        if attribute("allow(") {
            add(
                "allow",
                "use `#[expect(.., reason = \"..\")]`, which notices when it is not needed",
            );
        }
        if attribute("ignore") {
            add(
                "ignore",
                "a test that does not run is none; make it run or remove it",
            );
        }
    }
    found
}

/// `cfg(test)` may hold back a module of tests, and nothing that product code does differently.
fn test_branches(file: &Source) -> Vec<Violation> {
    let lines: Vec<&str> = file.code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let branch = line.contains("cfg!(test") || line.contains("cfg(not(test");
        let next = lines[at + 1..]
            .iter()
            .map(|line| line.trim())
            .find(|line| !line.is_empty() && !line.starts_with("#["));
        let module = next.is_some_and(|next| has_word(next, "mod"));
        if branch || (line.contains("#[cfg(test)]") && !module) {
            let sentence = "product code has no branch for tests; put a contract in between";
            found.push(Violation::new(&file.path, at + 1, "test-branch", sentence));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        let tree = Tree::new(vec![Source::new(path, text)]);
        check(&tree).iter().map(|found| found.rule).collect()
    }

    #[test]
    fn each_habit_is_found() {
        for (text, rule) in [
            ("x.unwrap();", "unwrap"),
            ("println!();", "print"),
            ("std::eprint!();", "print"),
            ("#[allow(dead_code)]", "allow"),
            ("#![ allow(dead_code)]", "allow"),
            ("#[ignore]", "ignore"),
            ("#[ignore = \"slow\"]", "ignore"),
            ("if cfg!(test) {}", "test-branch"),
            ("#[cfg(not(test))]\nmod a;", "test-branch"),
            ("#[cfg(test)]\nfn only_in_tests() {}", "test-branch"),
        ] {
            assert_eq!(rules("crates/x/src/a.rs", text), [rule], "{text}");
        }
    }

    #[test]
    fn what_is_meant_otherwise_is_not_found() {
        for text in [
            "x.unwrap_or(1);",
            "sprintln!();",
            "// x.unwrap() println! #[allow(x)]",
            "#[expect(dead_code)]",
            "#[cfg(test)]\nmod tests { fn f() { x.unwrap(); println!(); } }",
            "#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;",
        ] {
            assert_eq!(rules("crates/x/src/a.rs", text), [""; 0], "{text}");
        }
        assert_eq!(rules("bins/x/src/main.rs", "println!();"), [""; 0]);
        assert_eq!(rules("tests/src/a.rs", "x.unwrap();"), [""; 0]);
        assert_eq!(rules("tests/src/a.rs", "#[ignore]"), ["ignore"]);
    }
}
