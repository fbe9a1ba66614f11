//! Which crate may depend on which: one table, so that a new edge is a reviewed line.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::violation::Violation;
use crate::workspace;

/// What a package may depend on.
struct Row {
    package: &'static str,
    /// Packages of this workspace.
    ours: &'static [&'static str],
    /// Further packages of this workspace that its tests may use.
    in_tests: &'static [&'static str],
}

const fn row(
    package: &'static str,
    ours: &'static [&'static str],
    in_tests: &'static [&'static str],
) -> Row {
    Row {
        package,
        ours,
        in_tests,
    }
}

const ROWS: &[Row] = &[
    row("agent-domain", &[], &[]),
    row("agent-client", &[], &[]),
    row("agent-storage", &["agent-domain"], &[]),
    row("agent-git", &["agent-domain"], &[]),
    row("agent-forge", &["agent-domain"], &[]),
    row("agent-runner", &["agent-domain"], &[]),
    row("agent-webhook", &["agent-domain"], &[]),
    row(
        "agent-worker",
        &[
            "agent-domain",
            "agent-git",
            "agent-forge",
            "agent-runner",
            "agent-client",
        ],
        &[],
    ),
    row(
        "agent-queue",
        &["agent-domain", "agent-storage", "agent-webhook"],
        &[],
    ),
    row(
        "agent-api",
        &["agent-domain", "agent-queue", "agent-client"],
        // Its tests wire an engine of their own.
        &["agent-storage", "agent-webhook"],
    ),
    row(
        "agent-server",
        &[
            "agent-api",
            "agent-domain",
            "agent-forge",
            "agent-git",
            "agent-queue",
            "agent-runner",
            "agent-storage",
            "agent-webhook",
            "agent-worker",
        ],
        &[],
    ),
    // The runner reads transcripts, which `jobs logs` shows as people read them.
    row(
        "agent-admin",
        &["agent-client", "agent-domain", "agent-runner"],
        &[],
    ),
    row("fake-claude", &[], &[]),
    row("agent-tests", &["agent-client"], &[]),
    row(
        "xtask",
        &["agent-client", "agent-domain", "agent-tests"],
        &[],
    ),
];

/// Everything the domain may depend on: no I/O, no runtime, no serialisation.
const DOMAIN_NEEDS: &[&str] = &["jiff", "thiserror", "zeroize"];

/// Who may use `anyhow`; libraries have errors of their own.
const ANYHOW: &[&str] = &[
    "agent-admin",
    "agent-server",
    "agent-tests",
    "fake-claude",
    "xtask",
];

/// One dependency as a manifest has it.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    from: String,
    to: String,
    in_tests: bool,
    ours: bool,
    manifest: String,
}

/// Asks cargo for every dependency of the workspace's packages.
pub(super) fn read(root: &Path) -> Result<Vec<Edge>> {
    let mut metadata = workspace::cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let output = metadata.output().context("cannot run cargo metadata")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {errors}");
    let document: Value = serde_json::from_slice(&output.stdout)?;
    let prefix = format!("{}/", root.display());
    let mut edges = Vec::new();
    for package in array(&document, "packages") {
        let manifest = text(package, "manifest_path");
        let manifest = manifest.strip_prefix(&prefix).unwrap_or(manifest);
        for dependency in array(package, "dependencies") {
            edges.push(Edge {
                from: text(package, "name").to_owned(),
                to: text(dependency, "name").to_owned(),
                in_tests: dependency["kind"] == "dev",
                ours: dependency["path"].is_string(),
                manifest: manifest.to_owned(),
            });
        }
    }
    Ok(edges)
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

pub(super) fn check(edges: &[Edge]) -> Vec<Violation> {
    edges
        .iter()
        .filter_map(|edge| Some((edge, fault(edge)?)))
        .map(|(edge, sentence)| Violation::new(&edge.manifest, 1, "edge", sentence))
        .collect()
}

fn fault(edge: &Edge) -> Option<String> {
    let Edge { from, to, .. } = edge;
    if edge.ours {
        let Some(row) = ROWS.iter().find(|row| row.package == from) else {
            return Some(format!("{from} is not in the table of edges"));
        };
        let allowed = row.ours.contains(&to.as_str())
            || (edge.in_tests && row.in_tests.contains(&to.as_str()));
        return (!allowed).then(|| format!("{from} may not depend on {to}"));
    }
    let pure = from != "agent-domain" || edge.in_tests || DOMAIN_NEEDS.contains(&to.as_str());
    let own_errors = to != "anyhow" || edge.in_tests || ANYHOW.contains(&from.as_str());
    match (pure, own_errors) {
        (false, _) => Some(format!("the domain may not depend on {to}")),
        (true, false) => Some(format!("{from} has errors of its own, not anyhow's")),
        (true, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(from: &str, to: &str, in_tests: bool) -> usize {
        check(&[Edge {
            from: from.into(),
            to: to.into(),
            in_tests,
            ours: to.starts_with("agent-"),
            manifest: "Cargo.toml".into(),
        }])
        .len()
    }

    #[test]
    fn edges_that_are_not_in_the_table_are_found() {
        assert_eq!(count("agent-queue", "agent-storage", false), 0);
        for (from, to) in [
            ("agent-domain", "agent-client"),
            ("agent-storage", "agent-git"),
            ("agent-worker", "agent-queue"),
            ("agent-api", "agent-storage"),
            ("agent-unheard-of", "agent-domain"),
        ] {
            assert_eq!(count(from, to, false), 1, "{from} -> {to}");
        }
        assert_eq!(count("agent-api", "agent-storage", true), 0);
        assert_eq!(count("agent-api", "agent-git", true), 1);
    }

    #[test]
    fn the_domain_stays_pure_and_libraries_have_errors_of_their_own() {
        assert_eq!(count("agent-domain", "jiff", false), 0);
        assert_eq!(count("agent-domain", "serde", false), 1);
        assert_eq!(count("agent-git", "serde", false), 0);
        assert_eq!(count("agent-git", "anyhow", false), 1);
        assert_eq!(count("agent-server", "anyhow", false), 0);
    }

    #[test]
    fn cargo_tells_the_edges_of_this_workspace() {
        let edges = read(workspace::root()).unwrap();
        let known = edges
            .iter()
            .any(|edge| edge.from == "agent-webhook" && edge.to == "agent-domain" && edge.ours);
        assert!(known, "{edges:?}");
    }
}
