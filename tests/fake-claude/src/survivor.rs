//! Processes that outlive the run, each in its own way; all of them end by themselves.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::clock;

/// How long a survivor lives where nobody ends it.
const LIFE_SECONDS: u64 = 120;
/// The same for the fork loop, which leaves a dead process behind for every generation.
const FORK_LIFE_SECONDS: u64 = 30;
/// How long one generation of the fork loop lives.
const GENERATION: Duration = Duration::from_millis(20);

/// The kinds there are.
pub(crate) const KINDS: [&str; 6] = ["setsid", "nohup", "stubborn", "fork", "hold", "clean"];

/// Starts one; where a file is named, its process ids are appended to it.
pub(crate) fn start(kind: &str, file: Option<&str>) {
    let life = if kind == "fork" {
        FORK_LIFE_SECONDS
    } else {
        LIFE_SECONDS
    };
    let until = clock::unix_seconds().unsigned_abs() + life;
    let mut command = again(kind, until, file.unwrap_or(""));
    if kind != "hold" {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    if kind == "clean" {
        command.env_clear().current_dir("/");
    }
    match command.spawn() {
        // The intermediate process of a grandchild ends at once and is reaped here.
        Ok(mut child) if kind == "nohup" => drop(child.wait()),
        Ok(_) => {}
        Err(error) => eprintln!("fake-claude: cannot start a survivor: {error}"),
    }
}

fn again(kind: &str, until: u64, file: &str) -> Command {
    let program = std::env::current_exe().unwrap_or_else(|_| "fake-claude".into());
    let mut command = Command::new(program);
    command
        .args(["__survive", kind, &until.to_string(), file])
        .stdin(Stdio::null());
    command
}

/// The survivor's own `main`.
pub(crate) fn survive(kind: &str, rest: &[&str]) -> ExitCode {
    let until: u64 = rest.first().and_then(|text| text.parse().ok()).unwrap_or(0);
    let file = rest.get(1).copied().unwrap_or("");
    // Every survivor leaves the session and group of the run.
    rustix::process::setsid().ok();
    match kind {
        "nohup" => {
            again("setsid", until, file)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .ok();
            return ExitCode::SUCCESS;
        }
        "stubborn" => {
            for signal in [1, 2, 15] {
                signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).ok();
            }
        }
        _ => {}
    }
    note(file);
    let over = || clock::unix_seconds().unsigned_abs() >= until;
    if kind == "fork" {
        std::thread::sleep(GENERATION);
        if !over() {
            again("fork", until, file).spawn().ok();
        }
        return ExitCode::SUCCESS;
    }
    while !over() {
        std::thread::sleep(Duration::from_millis(200));
    }
    ExitCode::SUCCESS
}

fn note(file: &str) {
    if file.is_empty() {
        return;
    }
    let open = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file);
    if let Ok(mut file) = open {
        // In one piece: others append to it at the same time.
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
            .ok();
    }
}
