//! The system's part of what is seen behind a wall, the same for every run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::arguments::Arguments;
use super::private::Private;
use super::scratch::Scratch;

/// What of a machine's root holds programs and their configuration. All else is not there.
const SYSTEM: [&str; 12] = [
    "bin", "etc", "gnu", "lib", "lib32", "lib64", "libx32", "nix", "opt", "sbin", "sys", "usr",
];
/// Data of the system that programs look at.
const SYSTEM_DATA: [&str; 2] = ["/var/lib/ca-certificates", "/var/lib/dpkg"];
/// Parts of the kernel's own file systems that say too much about the machine.
const OF_THE_MACHINE: [&str; 4] = [
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
];
/// Size of the shared memory, in bytes.
const SHARED_MEMORY: &str = "536870912";

/// Whether a path lies in what is shown of the system.
pub(super) fn holds(path: &Path) -> bool {
    let roots = SYSTEM.map(|name| Path::new("/").join(name));
    roots.iter().any(|root| path.starts_with(root))
}

/// Shows the system: read-only, without what is private in it, with devices and temporary
/// directories of the run's own.
pub(super) fn show(arguments: &mut Arguments, scratch: &Scratch) -> io::Result<()> {
    for name in SYSTEM {
        let path = Path::new("/").join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                arguments.at("--symlink", &fs::read_link(&path)?, &path);
            }
            Ok(found) if found.is_dir() => arguments.ro_bind(&path, &path),
            _ => {}
        }
    }
    hide_private(arguments, scratch)?;
    devices(arguments, scratch);
    temporary(arguments, scratch);
    Ok(())
}

fn hide_private(arguments: &mut Arguments, scratch: &Scratch) -> io::Result<()> {
    let private = Private::below(Path::new("/etc"))?;
    for path in OF_THE_MACHINE
        .map(PathBuf::from)
        .iter()
        .filter(|path| path.is_dir())
    {
        arguments.hide(path);
    }
    for path in &private.folders {
        arguments.hide(path);
    }
    for path in &private.files {
        arguments.ro_bind(&scratch.path("empty"), path);
    }
    Ok(())
}

fn devices(arguments: &mut Arguments, scratch: &Scratch) {
    // As root the agent could write to what belongs to root in there, capabilities or not.
    arguments.add(["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]);
    #[cfg(target_os = "linux")]
    for (own, device) in scratch.devices() {
        arguments.at("--dev-bind", &own, Path::new(device));
    }
    arguments.add([
        "--size",
        SHARED_MEMORY,
        "--tmpfs",
        "/dev/shm",
        "--remount-ro",
        "/dev",
    ]);
}

fn temporary(arguments: &mut Arguments, scratch: &Scratch) {
    arguments.add([
        "--dir",
        "/run",
        "--dir",
        "/var",
        "--symlink",
        "/run",
        "/var/run",
    ]);
    arguments.bind(&scratch.path("tmp"), Path::new("/tmp"));
    arguments.bind(&scratch.path("var-tmp"), Path::new("/var/tmp"));
    let resolver = fs::canonicalize("/etc/resolv.conf").into_iter();
    let data = SYSTEM_DATA.map(PathBuf::from).into_iter().chain(resolver);
    for path in data.filter(|path| path.exists() && !path.starts_with("/etc")) {
        arguments.ro_bind(&path, &path);
    }
}
