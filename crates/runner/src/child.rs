//! Starting the agent so that it cannot outlive its supervisor. The one file with unsafe code.

use std::io;
use std::process::Stdio;

use rustix::process::Pid;
use tokio::process::{Child, Command};

use crate::environment::MARK;
use crate::record::Spec;

/// Starts the agent in a session of its own, with pipes for all three streams.
///
/// Must be called on the supervisor's main thread: on Linux the agent is killed when the thread
/// that started it ends.
pub(crate) fn start(spec: &Spec<'_>) -> io::Result<Child> {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .env_clear()
        .envs(spec.environment.iter().map(|(name, value)| (name, value)))
        .env(MARK, &spec.mark)
        .current_dir(&spec.cwd)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    in_own_session(&mut command);
    command.spawn()
}

#[expect(unsafe_code, reason = "nothing else runs code between fork and exec")]
fn in_own_session(command: &mut Command) {
    let supervisor = rustix::process::getpid();
    // SAFETY: between fork and exec only async-signal-safe functions may be called. The closure
    // makes three system calls through rustix, which neither allocates nor takes locks, and its
    // errors are plain numbers.
    unsafe {
        command.pre_exec(move || prepare(supervisor));
    }
}

fn prepare(supervisor: Pid) -> io::Result<()> {
    rustix::process::setsid()?;
    #[cfg(target_os = "linux")]
    {
        use rustix::process::Signal;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    // It may have been killed before the request took hold.
    if rustix::process::getppid() == Some(supervisor) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(
            rustix::io::Errno::CHILD.raw_os_error(),
        ))
    }
}
