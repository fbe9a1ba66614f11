//! Writes down how this process was started, for a test to look at.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

/// Writes arguments, environment, directory and standard input to a JSON file.
///
/// The file appears complete or not at all.
pub(crate) fn write(path: &Path, stdin: &[u8], prompt: &str, told: &Value) {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .map(|(name, value)| {
            let text = |part: std::ffi::OsString| part.to_string_lossy().into_owned();
            (text(name), text(value))
        })
        .collect();
    let argv: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let own = rustix::process::getpid();
    let record = json!({
        "argv": argv,
        "env": environment,
        "cwd": std::env::current_dir().unwrap_or_default(),
        "stdin": String::from_utf8_lossy(stdin),
        "stdinBytes": stdin.len(),
        "prompt": prompt,
        "told": told,
        "pid": own.as_raw_nonzero().get(),
        "ppid": rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()),
    });
    let draft = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = std::fs::write(&draft, format!("{record:#}\n"));
    if let Err(error) = written.and_then(|()| std::fs::rename(&draft, path)) {
        eprintln!("fake-claude: cannot record to {}: {error}", path.display());
    }
}
