//! Starting the agent so that it cannot outlive its supervisor. The one file with unsafe code.

use std::fs::File;
use std::io;
use std::process::Stdio;

use rustix::process::{Pid, Resource, Rlimit};
use tokio::process::{Child, Command};

use crate::environment::MARK;
use crate::record::Spec;

/// Starts the agent in a session of its own, with pipes for all three streams, inside the control
/// groups that `entrances` lead to.
///
/// An entrance that turns out to be shut is passed by; whether the agent is inside can be seen
/// afterwards. `processes` limits the processes of its user.
///
/// Must be called on the supervisor's main thread: on Linux the agent is killed when the thread
/// that started it ends.
pub(crate) fn start(
    spec: &Spec<'_>,
    entrances: Vec<File>,
    processes: Option<Rlimit>,
) -> io::Result<Child> {
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
    before_exec(&mut command, entrances, processes);
    command.spawn()
}

#[expect(unsafe_code, reason = "nothing else runs code between fork and exec")]
fn before_exec(command: &mut Command, entrances: Vec<File>, processes: Option<Rlimit>) {
    let supervisor = rustix::process::getpid();
    // SAFETY: between fork and exec only async-signal-safe functions may be called. The closure
    // makes a few system calls through rustix, which neither allocates nor takes locks; its errors
    // are plain numbers, and what it has captured was made before the fork and is only read.
    unsafe {
        command.pre_exec(move || prepare(supervisor, &entrances, processes.as_ref()));
    }
}

fn prepare(supervisor: Pid, entrances: &[File], processes: Option<&Rlimit>) -> io::Result<()> {
    for entrance in entrances {
        // First of all, so that whatever is started from here on is born inside.
        rustix::io::write(entrance, b"0").ok();
    }
    if let Some(limit) = processes {
        rustix::process::setrlimit(Resource::Nproc, *limit)?;
    }
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
