//! What the model's tools do for real: files, commands, commits.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

/// A command in a session of its own, its output in a file that has no name any more.
///
/// A file, because a process left behind in the background must not keep anyone waiting for the
/// end of a pipe.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    output: File,
}

impl Running {
    /// Starts a command line.
    pub(crate) fn start(command_line: &str, session_id: &str) -> io::Result<Self> {
        let output = scratch()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["__in-session", "/bin/bash", "-c", command_line])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?);
        mark(&mut command, session_id);
        let child = command.spawn()?;
        Ok(Self { child, output })
    }

    /// Its process id, which is also the id of its session and group.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    /// Waits for the command itself and returns what had been printed by then.
    pub(crate) fn wait(mut self) -> io::Result<(i32, String)> {
        let status = self.child.wait()?;
        let mut bytes = Vec::new();
        self.output.rewind()?;
        self.output.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        Ok((code(status), text))
    }
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

fn scratch() -> io::Result<File> {
    let name = format!(
        "fake-claude-{}-{}",
        std::process::id(),
        crate::clock::unix_nanos()
    );
    let path = std::env::temp_dir().join(name);
    let file = File::options()
        .read(true)
        .append(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// The environment of a tool: the CLI's own marks, and not its OAuth token.
fn mark(command: &mut Command, session_id: &str) {
    let version = crate::VERSION.replace('.', "-");
    command
        .env_remove("CLAUDE_CODE_OAUTH_TOKEN")
        .env("CLAUDECODE", "1")
        .env("CLAUDE_CODE_SESSION_ID", session_id)
        .env("CLAUDE_CODE_ENTRYPOINT", "sdk-cli")
        .env("CLAUDE_CODE_CHILD_SESSION", "1")
        .env("CLAUDE_PID", std::process::id().to_string())
        .env("AI_AGENT", format!("claude-code_{version}_agent"))
        .env("GIT_EDITOR", "true");
    if let Ok(program) = std::env::current_exe() {
        command.env("CLAUDE_CODE_EXECPATH", program);
    }
}

/// Becomes another program at the head of a new session.
pub(crate) fn in_session(program: &str, args: &[&str]) -> ExitCode {
    rustix::process::setsid().ok();
    let error = Command::new(program).args(args).exec();
    eprintln!("fake-claude: cannot run {program}: {error}");
    ExitCode::from(127)
}

/// Writes or extends a file; `true` when it is new.
pub(crate) fn write(path: &Path, text: &str, append: bool) -> io::Result<bool> {
    let is_new = !path.exists();
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut options = File::options();
    options
        .create(true)
        .append(append)
        .write(true)
        .truncate(!append);
    options.open(path)?.write_all(text.as_bytes())?;
    Ok(is_new)
}

/// The command line that commits everything.
pub(crate) fn commit_line(message: &str) -> String {
    let quoted = message.replace('\'', "'\\''");
    format!(
        "git add -A && git -c user.name=Fake -c user.email=fake@localhost commit -q -m '{quoted}'"
    )
}
