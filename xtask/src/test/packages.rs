//! The programs that tests need: installed where we may, named where we may not.

use std::process::Command;

use anyhow::{Result, bail};

use super::{checked, find, is_debian, require_program};

/// Programs, and the Debian packages that bring them.
const NEEDED: &[(&str, &str)] = &[
    ("git", "git"),
    ("cc", "gcc"),
    ("curl", "curl"),
    ("sshd", "openssh-server"),
    ("ssh", "openssh-client"),
    ("gh", "gh"),
    ("bwrap", "bubblewrap"),
    ("perl", "perl-base"),
];

/// Sees to it that every program is there.
pub(super) fn require() -> Result<()> {
    require_program("git", "Install git.")?;
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    if !is_debian() || !rustix::process::geteuid().is_root() {
        let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
        bail!(
            "missing: {}. On Debian: apt-get install {}",
            programs.join(", "),
            packages.join(" ")
        );
    }
    println!("installing {}", packages.join(", "));
    checked(apt().arg("update"))?;
    checked(
        apt()
            .args(["install", "-y", "--no-install-recommends"])
            .args(&packages),
    )
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").arg("-q");
    apt
}
