//! The prompt from the command line and standard input.

use std::io::{IsTerminal, Read};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::args::Args;

/// How long an idle pipe is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

const WARNING: &str = "Warning: no stdin data received in 3s, proceeding without it. If piping from a slow command, redirect stdin explicitly: < /dev/null to skip, or wait longer.";
const MISSING: &str =
    "Error: Input must be provided either through stdin or as a prompt argument when using --print";

/// What was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Input {
    /// The argument, then what came on standard input.
    pub(crate) prompt: String,
    /// What came on standard input, byte for byte.
    pub(crate) stdin: Vec<u8>,
}

/// Reads the prompt; the error is a message for standard error.
pub(crate) fn read(args: &Args) -> Result<Input, String> {
    let stdin = if std::io::stdin().is_terminal() {
        Some(Vec::new())
    } else {
        read_stdin()
    };
    if stdin.is_none() && args.prompt.is_some() {
        eprintln!("{WARNING}");
    }
    let stdin = stdin.unwrap_or_default();
    let piped = String::from_utf8_lossy(&stdin).into_owned();
    let parts = [args.prompt.clone().unwrap_or_default(), piped];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let prompt = parts.join("\n");
    if prompt.trim().is_empty() {
        return Err(MISSING.into());
    }
    Ok(Input { prompt, stdin })
}

/// Everything up to the end; `None` when nothing at all came for a while.
fn read_stdin() -> Option<Vec<u8>> {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = stdin.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut all = match receiver.recv_timeout(PATIENCE) {
        Ok(first) => first,
        Err(RecvTimeoutError::Disconnected) => return Some(Vec::new()),
        Err(RecvTimeoutError::Timeout) => return None,
    };
    receiver.iter().for_each(|more| all.extend(more));
    Some(all)
}
