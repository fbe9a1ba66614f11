//! The files of the checkout, and which of their lines are product code.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::lexer::{blank, is_word};

/// Every file that git tracks, or would if it were added.
pub(super) struct Tree {
    pub(super) files: Vec<Source>,
}

/// One file that is text.
pub(super) struct Source {
    /// Relative to the checkout, with `/`.
    pub(super) path: String,
    /// As it is.
    pub(super) text: String,
    /// Without comments and the insides of literals.
    pub(super) code: String,
    /// Without comments.
    pub(super) uncommented: String,
    /// Per line, whether it is compiled for tests only.
    test_lines: Vec<bool>,
}

impl Tree {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for path in listed(root)? {
            // Deleted files are still listed; files that are not text have no rules.
            if let Ok(text) = std::fs::read_to_string(root.join(&path)) {
                files.push(Source::new(&path, &text));
            }
        }
        Ok(Self::new(files))
    }

    pub(super) fn new(mut files: Vec<Source>) -> Self {
        let modules: BTreeSet<String> = files.iter().flat_map(Source::test_modules).collect();
        for file in &mut files {
            if modules.contains(&file.path) {
                file.test_lines.fill(true);
            }
        }
        Self { files }
    }

    /// The files with Rust in them.
    pub(super) fn rust(&self) -> impl Iterator<Item = &Source> {
        self.files.iter().filter(|file| file.is_rust())
    }
}

fn listed(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let output = git.output().context("cannot run git")?;
    ensure!(output.status.success(), "git ls-files: {}", output.status);
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let names: BTreeSet<_> = names.split_terminator('\0').map(str::to_owned).collect();
    Ok(names.into_iter().collect())
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let blanked = blank(text);
        let mut test_lines = vec![is_test_path(path); text.lines().count()];
        if is_rust(path) {
            for (first, last) in test_items(&blanked.code) {
                test_lines[first..=last].fill(true);
            }
        }
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code: blanked.code,
            uncommented: blanked.uncommented,
            test_lines,
        }
    }

    pub(super) fn is_rust(&self) -> bool {
        is_rust(&self.path)
    }

    /// Lines of code outside tests, numbered from 1.
    pub(super) fn product_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code.lines().zip(&self.test_lines).enumerate();
        lines
            .filter(|(_, (_, test))| !**test)
            .map(|(at, (line, _))| (at + 1, line))
    }

    /// How many lines are not compiled for tests only.
    pub(super) fn product_lines(&self) -> usize {
        self.test_lines.iter().filter(|test| !**test).count()
    }

    /// Whether line `number`, from 1, is compiled for tests only.
    pub(super) fn is_test_line(&self, number: usize) -> bool {
        self.test_lines.get(number - 1).is_some_and(|test| *test)
    }

    /// The files of modules that this one declares for tests only: every path they might have.
    fn test_modules(&self) -> Vec<String> {
        let (dir, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let stem = name.trim_end_matches(".rs");
        let mut paths = Vec::new();
        for (first, last) in test_items(&self.code) {
            let lines: Vec<&str> = self.uncommented.lines().collect();
            let item = lines[first..=last].join(" ");
            if let Some((_, path)) = item.split_once("#[path = \"") {
                paths.extend(path.split('"').next().map(|path| format!("{dir}/{path}")));
            } else if let Some((_, module)) = item.split_once("mod ") {
                let module: String = module.chars().take_while(|c| is_word(*c)).collect();
                for parent in [dir.to_owned(), format!("{dir}/{stem}")] {
                    paths.push(format!("{parent}/{module}.rs"));
                    paths.push(format!("{parent}/{module}/mod.rs"));
                }
            }
        }
        paths
    }
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|end| end == "rs")
}

/// Files that exist for tests alone.
fn is_test_path(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/")
}

/// First and last line, from 0, of every item under `#[cfg(test)]`.
fn test_items(code: &str) -> Vec<(usize, usize)> {
    const MARK: &str = "#[cfg(test)]";
    let mut items = Vec::new();
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let start = from + found;
        let end = item_end(code, start + MARK.len());
        let line_of = |at: usize| code[..at].matches('\n').count();
        items.push((line_of(start), line_of(end - 1)));
        from = end;
    }
    items
}

/// Where the item that begins at `from` ends: after its semicolon or its closing brace.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return from + at + 1;
                }
            }
            ';' if depth == 0 => return from + at + 1,
            _ => {}
        }
    }
    code.trim_end().len().max(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(source: &Source) -> Vec<&str> {
        source.product_code().map(|(_, line)| line.trim()).collect()
    }

    #[test]
    fn test_modules_inside_a_file_are_not_product_code() {
        let text = "a();\n#[cfg(test)]\nmod tests {\n    fn f() { '{'; }\n}\nb();\n";
        let source = Source::new("crates/x/src/lib.rs", text);
        assert_eq!(product(&source), ["a();", "b();"]);
        assert!(source.is_test_line(4) && !source.is_test_line(6));
    }

    #[test]
    fn files_of_test_modules_are_not_product_code() {
        let parent = "#[cfg(test)]\nmod kit;\n#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;\n";
        for (path, lines) in [
            ("crates/x/src/one/kit.rs", 0),
            ("crates/x/src/kit/mod.rs", 0),
            ("crates/x/src/x_tests.rs", 0),
            ("crates/x/src/other.rs", 1),
        ] {
            let tree = Tree::new(vec![
                Source::new("crates/x/src/one.rs", parent),
                Source::new(path, "a();\n"),
            ]);
            assert_eq!(tree.files[1].product_lines(), lines, "{path}");
        }
    }

    #[test]
    fn whatever_stands_under_tests_is_a_test() {
        for path in ["tests/src/a.rs", "crates/x/tests/a/b.rs"] {
            assert_eq!(Source::new(path, "a();").product_lines(), 0, "{path}");
        }
    }

    #[test]
    fn an_unfinished_item_reaches_to_the_end() {
        for text in ["#[cfg(test)]", "#[cfg(test)]\nmod a {\n", "#[cfg(test)]\n"] {
            assert_eq!(Source::new("a.rs", text).product_lines(), 0, "{text:?}");
        }
    }
}
