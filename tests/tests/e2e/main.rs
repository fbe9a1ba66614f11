//! The whole server as its users meet it: both binaries as processes, real git over real
//! transports, the fake CLI, a fake GitHub, a receiver of callbacks.

use serde_json::{Value, json};

mod admin;
mod callback_ledger;

mod cancel;
mod credentials;
mod disk;
mod embedding;
mod fairness;
mod gh;
mod github;
mod housekeeping;
mod jobs;
mod leases;
mod limits;
mod money;
mod once;
mod options;
mod own_keys;
mod parking;
mod recovery;
mod sandbox;
mod secrets;
mod sessions;
mod shutdown;
mod signs;
mod specification;
mod ssh;
mod trust;

/// A job of `acme/site` whose agent does what `script` says.
fn scripted(branch: &str, script: &str) -> Value {
    json!({
        "githubOrg": "acme",
        "githubRepo": "site",
        "branchName": branch,
        "prompt": format!("Do it.\n```fake\n{script}\n```\n"),
    })
}
