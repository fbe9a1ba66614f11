//! `cargo xtask tidy`: the rules of the project that a program can check.
//!
//! A rule is a pure function from what was read to what is wrong, and every rule has a test in
//! which it finds something. Exceptions are rows of tables, never comments in the code they except.

mod edges;
mod lexer;
mod lockfile;
mod migrations;
mod places;
mod proofs;
mod shape;
mod source;
mod spawns;
mod state;
mod style;
mod violation;
mod words;

use std::path::Path;

use anyhow::{Result, ensure};

use self::source::Tree;

/// Checks every rule, and prints each place where one is broken.
pub(crate) fn run(root: &Path) -> Result<()> {
    let tree = Tree::read(root)?;
    let mut found = [
        edges::check(&edges::read(root)?),
        lockfile::check(root)?,
        migrations::check(&tree),
        migrations::check_history(root)?,
        places::check(&tree),
        proofs::check(&tree),
        shape::check(&tree),
        spawns::check(&tree, spawns::ALLOWED),
        state::check(&tree),
        style::check(&tree),
        words::check(&tree),
    ]
    .concat();
    found.sort();
    for violation in &found {
        println!("{violation}");
    }
    ensure!(found.is_empty(), "{} rules are broken", found.len());
    println!("{} files are tidy", tree.files.len());
    Ok(())
}
