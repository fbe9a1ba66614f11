//! A scripted stand-in for the Claude Code CLI, version 2.1.329, in headless use.
//!
//! What it prints, refuses and survives is what was observed of the real one; what the model
//! would have decided comes from a script instead. `README.md` beside this crate has the format.

mod args;
mod auth;
mod clock;
mod control;
mod ending;
mod events;
mod given;
mod ids;
mod input;
mod ledger;
mod outcome;
mod permission;
mod project;
mod record;
mod run;
mod script;
mod session;
mod signals;
mod state;
mod step;
mod survivor;
mod tools;
mod transcript;
mod work;

use std::process::ExitCode;

/// What `--version` prints and the init event carries.
const VERSION: &str = "2.1.329";
/// Exit code for a mistake in the script, which the real CLI cannot make.
const SCRIPT_ERROR: u8 = 64;

fn main() -> ExitCode {
    let argv: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["__in-session", program, rest @ ..] => tools::in_session(program, rest),
        ["__survive", kind, rest @ ..] => survivor::survive(kind, rest),
        ["auth", "status", rest @ ..] => auth::status(rest.contains(&"--text")),
        // Without a terminal it says nothing and never ends.
        ["setup-token", ..] => loop {
            std::thread::park();
        },
        _ => headless(&argv),
    }
}

fn headless(argv: &[String]) -> ExitCode {
    let args = match args::parse(argv) {
        Ok(args) => args,
        Err(message) => return refuse(&message),
    };
    if args.version {
        println!("{VERSION} (Claude Code)");
        return ExitCode::SUCCESS;
    }
    match args::check(&args) {
        Ok(()) => run::run(args),
        Err(message) => refuse(&message),
    }
}

/// A failure before anything began: standard error only, exit code 1.
fn refuse(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}
