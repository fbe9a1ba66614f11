//! The supervisor's own process, from its first act to its last.

use std::fs::File;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_domain::{Clock, RunEnd, Secret};
use rustix::fs::FlockOperation;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_process_stream::ProcessChunkStream;

use crate::attempt::{EXIT, LOCK, SUPERVISOR};
use crate::cgroup::Groups;
use crate::limits::Enforced;
use crate::log::LogWriter;
use crate::mask::Masker;
use crate::output::{self, Output};
use crate::record::{self, Answer, ExitRecord, ProcessId, Spec, SupervisorRecord};
use crate::sandbox::{self, Closed, Gate};
use crate::socket::Told;
use crate::supervision::{Inbox, Supervision};
use crate::tree::{self, Tree};
use crate::{child, processes, socket};

/// Largest spec that is read: a prompt and an environment fit many times over.
const SPEC_MAX: u64 = 64 * 1024 * 1024;
/// Further tries to write the exit record after an error that need not go away.
const RECORD_TRIES: u32 = 10;

/// Supervises one agent and returns when it and all it has started are gone.
///
/// This is what the program named in [`crate::RunnerConfig::supervisor`] does. It is to be called
/// first thing in `main`, before any thread is started; it takes its task from standard input and
/// works in the current directory, which is that of the attempt.
pub fn supervise(clock: Arc<dyn Clock>) -> ExitCode {
    match begin(clock) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error.to_string());
            let said = error.to_string();
            answer(&if output::is_full(&error) {
                Answer::DiskFull(said)
            } else {
                Answer::Refused(said)
            });
            ExitCode::FAILURE
        }
    }
}

fn begin(clock: Arc<dyn Clock>) -> io::Result<()> {
    // Fails only for a leader of a process group, which whoever starts us did not make us.
    rustix::process::setsid().ok();
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let lock = File::open(LOCK)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    // Only the end of the process is to release it.
    std::mem::forget(lock);
    let spec = read_spec()?;
    let spec: Spec<'_> = serde_json::from_slice(&spec)?;
    // Looked for while nothing counts as started: a log that cannot be opened for another reason ends
    // the run.
    if let Some(full) = LogWriter::open(Path::new(&spec.log))
        .err()
        .filter(output::is_full)
    {
        return Err(full);
    }
    let own = rustix::process::getpid().as_raw_pid();
    let record = SupervisorRecord {
        supervisor: processes::id_of(own).unwrap_or(ProcessId {
            pid: own,
            started: 0,
        }),
        boot: processes::boot(),
        agent: None,
        mark: spec.mark.clone(),
        strays: Vec::new(),
        groups: groups(&spec),
        patience: spec.ladder.patience,
    };
    record::update(Path::new("."), SUPERVISOR, &record)?;
    // After a loss of power it only matters that the record is there, not what it says.
    File::open(".")?.sync_all()?;
    File::open("..")?.sync_all()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&spec, record, clock))
}

fn groups(spec: &Spec<'_>) -> Groups {
    if spec.control_groups {
        Groups::choose(&spec.mark, &spec.limits)
    } else {
        Groups::default()
    }
}

/// Reads one line from standard input; without its line feed it is torn, since whoever wrote it
/// has died, and nothing may be started.
fn read_spec() -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut input = io::stdin().lock().take(SPEC_MAX);
    input.read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        Ok(line)
    } else {
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the task is not complete",
        ))
    }
}

async fn run(
    spec: &Spec<'_>,
    mut record: SupervisorRecord,
    clock: Arc<dyn Clock>,
) -> io::Result<()> {
    let children = signal(SignalKind::child())?;
    // Whoever wants the agent ended says so through the socket. What is sent to everything, at
    // shutdown or from a terminal, does not end us, and so leaves the ending of the tree to us.
    for kind in [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ] {
        // The handler stays when its stream is dropped, and unlike an ignored signal it is not
        // passed on to the agent.
        drop(signal(kind)?);
    }
    let (told, telling) = watch::channel(Told::default());
    let commands = socket::listen(telling)?;
    let secrets: Vec<Secret> = spec.secrets.iter().map(|one| Secret::new(&**one)).collect();
    let masker = Masker::new(&secrets);
    let exit = match start(spec, &mut record).await {
        Err(closed) => {
            answer_ready(&record);
            not_started(spec, closed, &masker, clock.as_ref())
        }
        Ok(Started {
            log,
            agent,
            pid,
            gate,
            notices,
            enforced,
        }) => {
            answer_ready(&record);
            let output = Output::new(clock, log, told, masker, spec.log_limits);
            let inbox = Inbox {
                stream: ProcessChunkStream::from(agent),
                commands,
                children,
                notices,
                gate,
            };
            Supervision::new(spec, inbox, output, record, pid, enforced)
                .run()
                .await
        }
    };
    write_exit(&exit).await
}

/// An agent that runs.
struct Started {
    log: LogWriter,
    agent: Child,
    pid: i32,
    enforced: Enforced,
    gate: Option<Gate>,
    notices: mpsc::Receiver<String>,
}

/// Opens the log and starts the agent in the record's groups, behind a wall where there is to be
/// one.
async fn start(spec: &Spec<'_>, record: &mut SupervisorRecord) -> Result<Started, Closed> {
    let log = Path::new(&spec.log);
    let log = LogWriter::open(log).map_err(|error| {
        Closed::Agent(format!("cannot open the log {}: {error}", log.display()))
    })?;
    let cwd = Path::new(&spec.cwd);
    if !cwd.is_dir() {
        let error = format!("cannot start the agent: {} is no directory", cwd.display());
        return Err(Closed::Agent(error));
    }
    let raised = spec
        .wall
        .as_ref()
        .map(|wall| sandbox::raise(spec, wall, Path::new(".")))
        .transpose()
        .map_err(|error| Closed::of_wall(&error, error.to_string()))?;
    let begun = match &raised {
        Some(wall) => begin_agent(&wall.spec(spec), record)
            .map_err(|error| Closed::of_wall(&error, wall.not_started(&error))),
        None => begin_agent(spec, record).map_err(|error| {
            Closed::Agent(format!("cannot start {}: {error}", spec.program.display()))
        }),
    };
    let (mut agent, pid, enforced) = begun?;
    feed(&mut agent, &spec.prompt);
    let opened = match raised {
        Some(raised) => raised
            .open(&mut agent)
            .await
            .map(|(gate, notices)| (Some(gate), notices)),
        None => Ok((None, mpsc::channel(1).1)),
    };
    if opened.is_err() {
        let mut left = Tree::below_self(record.groups.clone());
        let collect = || {
            tree::reap(pid);
            tree::is_anything_left()
        };
        left.end(spec.ladder.patience, collect).await.ok();
        record.groups.remove();
    }
    let (gate, notices) = opened?;
    Ok(Started {
        log,
        agent,
        pid,
        enforced,
        gate,
        notices,
    })
}

/// Starts the agent, or the wall around it, and puts down who it is before it can have done
/// anything of note.
fn begin_agent(
    spec: &Spec<'_>,
    record: &mut SupervisorRecord,
) -> io::Result<(Child, i32, Enforced)> {
    let enforced = record.groups.make(&spec.limits);
    let started = start_in(spec, &mut record.groups, enforced);
    if let Ok((_, pid, _)) = &started {
        record.agent = processes::id_of(*pid);
        // Should it fail, the mark finds the agent too.
        record::update(Path::new("."), SUPERVISOR, record).ok();
    } else {
        record.groups.remove();
    }
    started
}

fn start_in(
    spec: &Spec<'_>,
    groups: &mut Groups,
    enforced: Enforced,
) -> io::Result<(Child, i32, Enforced)> {
    let processes = spec.limits.fallback(enforced);
    let agent = child::start(spec, groups.entrances(), processes)?;
    let pid = agent.id().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.ok_or_else(|| io::Error::other("it ended before it began"))?;
    if !groups.hold(pid) && processes::is_alive(pid) {
        groups.keep_holding(pid);
        output::complain("the agent could not be put into every control group made for it");
        return Ok((agent, pid, Enforced::default()));
    }
    Ok((agent, pid, enforced))
}

fn not_started(spec: &Spec<'_>, closed: Closed, masker: &Masker, clock: &dyn Clock) -> ExitRecord {
    let end = match closed {
        Closed::Agent(error) => RunEnd {
            spawn_error: Some(masker.text(&error).into_owned()),
            ..RunEnd::default()
        },
        Closed::NoRoom(error) => RunEnd {
            disk_full: Some(masker.text(&error).into_owned()),
            ..RunEnd::default()
        },
        Closed::Wall(error) => RunEnd {
            sandbox_error: Some(format!(
                "the sandbox cannot be set up: {}",
                masker.text(&error)
            )),
            ..RunEnd::default()
        },
    };
    let log_length = LogWriter::open(Path::new(&spec.log)).and_then(|mut log| {
        let errors = [&end.spawn_error, &end.sandbox_error, &end.disk_full];
        let error = errors.into_iter().find_map(Option::as_ref);
        log.system(clock.now(), error.map_or("", String::as_str));
        log.sync()
    });
    ExitRecord {
        end,
        log_length: log_length.unwrap_or_default(),
    }
}

/// Writes the prompt while the agent is already being listened to, and closes its input.
fn feed(agent: &mut Child, prompt: &str) {
    let Some(mut input) = agent.stdin.take() else {
        return;
    };
    let prompt = prompt.as_bytes().to_vec();
    tokio::spawn(async move {
        // An agent that does not read its prompt says itself what is wrong.
        input.write_all(&prompt).await.ok();
    });
}

/// Writes the exit record, if need be when there is room on the disk again.
async fn write_exit(exit: &ExitRecord) -> io::Result<()> {
    let mut tries = 0;
    loop {
        let Err(error) = record::write(Path::new("."), EXIT, exit) else {
            return Ok(());
        };
        if !output::is_full(&error) {
            tries += 1;
        }
        if tries > RECORD_TRIES || error.kind() == io::ErrorKind::NotFound {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn answer_ready(record: &SupervisorRecord) {
    let number = |id: ProcessId| u32::try_from(id.pid).unwrap_or_default();
    answer(&Answer::Ready {
        supervisor: number(record.supervisor),
        agent: record.agent.map(number),
    });
}

fn answer(answer: &Answer) {
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    let mut output = io::stdout().lock();
    // Whoever started us may be gone; that changes nothing.
    output.write_all(&line).and_then(|()| output.flush()).ok();
}
