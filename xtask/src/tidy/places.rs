//! What may stand in few places only: starting programs, reading the environment and the clock,
//! randomness, unsafe code.

use super::lexer::is_word;
use super::source::{Source, Tree};
use super::violation::Violation;

/// Something that may stand in few places only. Tests may do anything but `unsafe`.
struct Place {
    rule: &'static str,
    words: &'static [&'static str],
    /// Files, or folders with a slash at the end.
    allowed: &'static [&'static str],
    tests_may: bool,
    sentence: &'static str,
}

const PLACES: &[Place] = &[
    Place {
        rule: "command",
        words: &["Command::new"],
        allowed: &[
            "crates/forge/src/gh.rs",
            "crates/git/src/command.rs",
            "crates/runner/src/",
            "xtask/",
        ],
        tests_may: true,
        sentence: "programs are started by git/command.rs, forge/gh.rs, the runner and xtask only",
    },
    Place {
        rule: "environment",
        words: &[
            "env::args",
            "env::args_os",
            "env::current_dir",
            "env::current_exe",
            "env::set_var",
            "env::temp_dir",
            "env::var",
            "env::var_os",
            "env::vars",
            "env::vars_os",
            "home_dir()",
        ],
        allowed: &["bins/", "xtask/"],
        tests_may: true,
        sentence: "only binaries read the environment; take a plain value",
    },
    Place {
        rule: "clock",
        words: &[
            "SystemTime::now",
            "Timestamp::now",
            "Zoned::now",
            "Instant::now",
        ],
        // The one clock that the engine brings for those who have no other.
        allowed: &["bins/", "crates/queue/src/system.rs", "xtask/"],
        tests_may: true,
        sentence: "take the time from the injected `Clock`, durations from tokio's `Instant`",
    },
    Place {
        rule: "randomness",
        words: &["getrandom", "rand", "RandomState", "thread_rng"],
        allowed: &["bins/", "crates/queue/src/system.rs", "xtask/"],
        tests_may: true,
        sentence: "take ids from the injected `Ids`",
    },
    Place {
        rule: "unsafe",
        words: &["unsafe"],
        allowed: &["crates/runner/src/child.rs"],
        tests_may: false,
        sentence: "unsafe code stands in one file of the runner only",
    },
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let rust: Vec<&Source> = tree.rust().collect();
    let pairs = PLACES
        .iter()
        .flat_map(|place| rust.iter().map(move |file| (place, *file)));
    pairs
        .filter(|(place, file)| !is_allowed(place, &file.path))
        .flat_map(|(place, file)| in_file(place, file))
        .collect()
}

fn is_allowed(place: &Place, path: &str) -> bool {
    place
        .allowed
        .iter()
        .any(|allowed| path == *allowed || (allowed.ends_with('/') && path.starts_with(allowed)))
}

fn in_file(place: &Place, file: &Source) -> Vec<Violation> {
    let monotonic = uses_tokio_instant(&file.code);
    let mut found = Vec::new();
    for (at, line) in file.code.lines().enumerate() {
        if place.tests_may && file.is_test_line(at + 1) {
            continue;
        }
        for word in place.words {
            let harmless = *word == "Instant::now" && monotonic;
            if !harmless && has_word(line, word) {
                let sentence = format!("`{word}`: {}", place.sentence);
                found.push(Violation::new(&file.path, at + 1, place.rule, sentence));
            }
        }
    }
    found
}

/// Whether `Instant` in this file is tokio's, which is for durations only and which tests can stop.
fn uses_tokio_instant(code: &str) -> bool {
    code.split(';')
        .filter_map(|statement| statement.rsplit_once("use tokio::time::"))
        .any(|(_, names)| has_word(names, "Instant"))
        || (code.contains("tokio::time::Instant::now")
            && code.matches("tokio::time::Instant::now").count()
                == code.matches("Instant::now").count())
}

/// Whether `line` holds `word` and not as a part of a longer name.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        let tree = Tree::new(vec![Source::new(path, text)]);
        check(&tree).iter().map(|found| found.rule).collect()
    }

    #[test]
    fn each_is_found_in_a_library() {
        for (text, rule) in [
            ("std::process::Command::new(x);", "command"),
            ("let x = env::var(y);", "environment"),
            ("let x = std::env::vars_os();", "environment"),
            ("let x = std::env::home_dir();", "environment"),
            ("let x = SystemTime::now();", "clock"),
            ("map(Timestamp::now)", "clock"),
            ("use std::time::Instant;\nlet x = Instant::now();", "clock"),
            ("getrandom::fill(x)", "randomness"),
            ("unsafe { x() }", "unsafe"),
        ] {
            assert_eq!(rules("crates/queue/src/a.rs", text), [rule], "{text}");
        }
    }

    #[test]
    fn each_may_stand_where_its_row_says() {
        for (path, text) in [
            ("crates/git/src/command.rs", "Command::new(x)"),
            ("crates/runner/src/deep/a.rs", "Command::new(x)"),
            (
                "xtask/src/a.rs",
                "Command::new(x); env::var(y); Instant::now()",
            ),
            (
                "bins/agent-server/src/a.rs",
                "env::var(y); Timestamp::now()",
            ),
            ("crates/git/tests/a.rs", "Command::new(x); Instant::now()"),
            ("crates/runner/src/child.rs", "unsafe {}"),
        ] {
            assert_eq!(rules(path, text), [""; 0], "{path}");
        }
        assert_eq!(
            rules("bins/agent-server/src/a.rs", "Command::new(x)"),
            ["command"]
        );
        assert_eq!(rules("crates/git/tests/a.rs", "unsafe {}"), ["unsafe"]);
        assert_eq!(
            rules("crates/git/src/command.rs.rs", "Command::new(x)"),
            ["command"]
        );
    }

    #[test]
    fn the_instant_of_tokio_is_no_clock() {
        let path = "crates/queue/src/a.rs";
        for text in [
            "use tokio::time::Instant;\nInstant::now();",
            "use tokio::time::{sleep, Instant};\nInstant::now();",
            "tokio::time::Instant::now();",
        ] {
            assert_eq!(rules(path, text), [""; 0], "{text}");
        }
        let mixed = "tokio::time::Instant::now(); std::time::Instant::now();";
        assert_eq!(rules(path, mixed), ["clock"]);
        let other = "use tokio::time::sleep;\nstd::time::Instant::now();";
        assert_eq!(rules(path, other), ["clock"]);
    }

    #[test]
    fn comments_literals_and_longer_names_are_nothing() {
        let text = "// unsafe\nlet x = \"Command::new\"; MyCommand::new(x); cmd.current_dir(y);\n\
                    #[expect(unsafe_code)] env::var_names(); Command::newer()";
        assert_eq!(rules("crates/queue/src/a.rs", text), [""; 0]);
    }
}
