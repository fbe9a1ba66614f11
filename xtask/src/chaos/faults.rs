//! What goes wrong, and how it is made to.

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent_tests::fault::Fault as Answer;
use agent_tests::process::{self, Process};
use anyhow::Result;
use fastrand::Rng;
use rustix::io::Errno;
use rustix::process::Signal;

use super::book::Harm;
use super::figures::Figures;
use super::world::{LEASE_SECONDS, World};

/// One thing that goes wrong; the numbers say which of those there are it happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server is killed, and started again at the end.
    KillServer,
    /// The server is told to stop, and started again at once.
    Terminate,
    /// The server is stopped (SIGSTOP) until the end.
    StopServer,
    /// The server is stopped for longer than a lease lasts.
    StopServerLong,
    /// A supervisor is killed.
    KillSupervisor(usize),
    /// A supervisor is stopped until the end.
    StopSupervisor(usize),
    /// An agent is killed.
    KillAgent(usize),
    /// A git command is killed.
    KillGit(usize),
    /// The clock jumps by so many seconds, and back at the end.
    Clock(i64),
    /// The clock loses half of each second.
    SlowClock,
    /// Every write of server and supervisors fails until the end.
    FailWrites,
    /// The disk is full until the end.
    FullDisk,
    /// The remote refuses pushes until the end.
    RemoteRefuses,
    /// The remote takes no push to its end until the end of the fault.
    RemoteHangs,
    /// A repository is not there until the end.
    RemoteGone(usize),
    /// GitHub answers so many requests badly.
    GitHub(usize),
    /// The receiver of callbacks answers so many badly.
    Receiver(usize),
}

impl Fault {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let pick = rng.usize(0..64);
        // The first are what the promises are about, so they come more often.
        match rng.u8(0..24) {
            0..=4 => Self::KillServer,
            5 | 6 => Self::KillSupervisor(pick),
            7 if rng.u8(0..3) == 0 => Self::StopServerLong,
            7 => Self::StopServer,
            8 => Self::Terminate,
            9 | 10 => Self::StopSupervisor(pick),
            11 | 12 => Self::KillAgent(pick),
            13 => Self::KillGit(pick),
            14 => Self::Clock(rng.i64(-100..=100)),
            15 => Self::SlowClock,
            16 | 17 => Self::FailWrites,
            18 | 19 => Self::FullDisk,
            20 => Self::RemoteRefuses,
            21 => Self::RemoteHangs,
            22 => Self::RemoteGone(pick),
            _ if rng.bool() => Self::GitHub(rng.usize(1..=2)),
            _ => Self::Receiver(rng.usize(1..=3)),
        }
    }

    /// How long it lasts in milliseconds; `None` for what is over at once.
    pub(super) fn length(self, rng: &mut Rng) -> Option<u64> {
        match self {
            Self::Terminate
            | Self::KillSupervisor(_)
            | Self::KillAgent(_)
            | Self::KillGit(_)
            | Self::GitHub(_)
            | Self::Receiver(_) => None,
            Self::KillServer => Some(rng.u64(0..300)),
            Self::StopServerLong => Some(LEASE_SECONDS * 1_000 + rng.u64(500..1_500)),
            _ => Some(rng.u64(100..900)),
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::KillServer => "server killed (KILL)",
            Self::Terminate => "server told to stop (TERM)",
            Self::StopServer => "server stopped (STOP, CONT)",
            Self::StopServerLong => "server stopped for longer than a lease",
            Self::KillSupervisor(_) => "supervisor killed",
            Self::StopSupervisor(_) => "supervisor stopped (STOP, CONT)",
            Self::KillAgent(_) => "agent killed",
            Self::KillGit(_) => "git killed",
            Self::Clock(_) => "clock jumps",
            Self::SlowClock => "clock slow",
            Self::FailWrites => "writes fail (EIO)",
            Self::FullDisk => "disk full",
            Self::RemoteRefuses => "remote refuses",
            Self::RemoteHangs => "remote hangs",
            Self::RemoteGone(_) => "repository gone",
            Self::GitHub(_) => "GitHub in trouble",
            Self::Receiver(_) => "receiver of callbacks in trouble",
        }
    }
}

impl World {
    /// Lets a fault begin.
    pub(super) fn strike(&mut self, fault: Fault, figures: &mut Figures) -> Result<()> {
        let seen = match fault {
            Fault::KillServer => self.kill_server(),
            Fault::Terminate => self.terminate(figures)?,
            Fault::StopServer => self.stop_server(),
            Fault::StopServerLong => {
                self.shared.book.harm(Harm::Lease);
                self.stop_server()
            }
            Fault::KillSupervisor(pick) => self.kill_supervisor(pick),
            Fault::StopSupervisor(pick) => self.stop_supervisor(pick),
            Fault::KillAgent(pick) => self.kill_agent(pick),
            Fault::KillGit(pick) => self.kill_git(pick),
            Fault::Clock(_) | Fault::SlowClock | Fault::FailWrites | Fault::FullDisk => {
                self.strike_machine(fault)?
            }
            _ => self.strike_outside(fault)?,
        };
        if let Some(seen) = seen {
            figures.fault(fault.label());
            self.shared
                .book
                .say(format!("FAULT {}: {seen}", fault.label()));
        }
        Ok(())
    }

    /// Ends a fault that lasts.
    pub(super) fn relieve(&mut self, fault: Fault, figures: &mut Figures) -> Result<()> {
        let shared = self.shared.clone();
        match fault {
            Fault::KillServer => self.bring_up(figures)?,
            Fault::StopServer | Fault::StopServerLong => self.resume_server(),
            Fault::StopSupervisor(_) => self.resume_supervisors(),
            Fault::Clock(_) => self.shim.set_clock_off(0)?,
            Fault::FailWrites => self.shim.heal_disk()?,
            Fault::FullDisk => match &self.disk {
                Some(disk) => drop(disk.make_room()),
                None => self.shim.heal_disk()?,
            },
            Fault::RemoteRefuses => drop(fs::remove_file(self.flag("refuse"))),
            Fault::RemoteHangs => drop(fs::remove_file(self.flag("hang"))),
            Fault::RemoteGone(pick) => self.return_repository(pick),
            _ => return Ok(()),
        }
        shared.book.say(format!("end of {}", fault.label()));
        Ok(())
    }

    /// Ends every fault, and sees that the server runs.
    pub(super) fn heal(&mut self, figures: &mut Figures) -> Result<()> {
        self.resume_server();
        self.resume_supervisors();
        self.shim.set_clock_off(0)?;
        self.shim.slow_clock(Duration::ZERO)?;
        self.shim.heal_disk()?;
        if let Some(disk) = &self.disk {
            disk.make_room().ok();
        }
        for flag in ["refuse", "hang"] {
            fs::remove_file(self.flag(flag)).ok();
        }
        for repo in 0..self.shared.repos.len() {
            self.return_repository(repo);
        }
        self.github.faults().clear();
        self.shared.book.say("every fault is over");
        self.bring_up(figures)
    }

    fn strike_machine(&mut self, fault: Fault) -> Result<Option<String>> {
        let book = &self.shared.book;
        Ok(Some(match fault {
            Fault::Clock(seconds) => {
                self.shim.set_clock_off(seconds)?;
                format!("by {seconds} s")
            }
            Fault::SlowClock => {
                self.shim.slow_clock(Duration::from_millis(500))?;
                "by half".to_owned()
            }
            Fault::FullDisk if self.disk.is_some() => {
                book.harm(Harm::Disk);
                self.disk.as_ref().map_or(Ok(()), |disk| disk.fill(0))?;
                "the server's own".to_owned()
            }
            Fault::FullDisk => {
                book.harm(Harm::Disk);
                self.shim.fail_disk(Errno::NOSPC.raw_os_error())?;
                "as far as the shim reaches".to_owned()
            }
            _ => {
                book.harm(Harm::Disk);
                self.shim.fail_disk(Errno::IO.raw_os_error())?;
                "of server and supervisors".to_owned()
            }
        }))
    }

    fn strike_outside(&mut self, fault: Fault) -> Result<Option<String>> {
        let book = &self.shared.book;
        Ok(Some(match fault {
            Fault::RemoteRefuses => {
                book.harm(Harm::Remote);
                fs::write(self.flag("refuse"), "")?;
                "every push".to_owned()
            }
            Fault::RemoteHangs => {
                fs::write(self.flag("hang"), "")?;
                "every push".to_owned()
            }
            Fault::RemoteGone(pick) => {
                book.harm(Harm::Remote);
                let repo = &self.shared.repos[pick % self.shared.repos.len()];
                fs::rename(repo.path(), repo.path().with_extension("away")).ok();
                repo.name().to_owned()
            }
            Fault::GitHub(count) => {
                book.harm(Harm::GitHub);
                let answers = [Answer::status(502), Answer::Drop, Answer::DropAfter];
                let answer = &answers[count % answers.len()];
                self.github.faults().next(count, answer);
                format!("{count} times {answer:?}")
            }
            Fault::Receiver(count) => {
                let slow = Answer::Slow(Duration::from_millis(200));
                let answers = [Answer::status(500), Answer::Drop, Answer::DropAfter, slow];
                let answer = &answers[count % answers.len()];
                self.shared.receiver.break_next(count, answer);
                format!("{count} times {answer:?}")
            }
            _ => return Ok(None),
        }))
    }

    fn kill_server(&mut self) -> Option<String> {
        let pid = self.server.pid()?;
        self.server.kill().ok()?;
        Some(format!("server {pid}"))
    }

    fn stop_server(&self) -> Option<String> {
        let pid = self.server.pid()?;
        self.shared.book.stopped();
        process::signal(pid, Signal::STOP);
        Some(format!("server {pid}"))
    }

    fn terminate(&mut self, figures: &mut Figures) -> Result<Option<String>> {
        let Some(pid) = self.server.pid() else {
            return Ok(None);
        };
        // A stopped process would not hear of it.
        self.resume_server();
        let status = self.server.terminate()?;
        self.bring_up(figures)?;
        Ok(Some(format!("server {pid}, which left with {status}")))
    }

    fn kill_supervisor(&self, pick: usize) -> Option<String> {
        let found = self.supervisors();
        let (pid, mark) = found.get(pick % found.len().max(1))?;
        // Noted first: the job may run again before we come to it.
        self.shared.book.killed_supervisor(mark.clone());
        process::signal(*pid, Signal::KILL);
        Some(format!("{pid} of {mark}"))
    }

    fn stop_supervisor(&mut self, pick: usize) -> Option<String> {
        let found = self.supervisors();
        let (pid, mark) = found.get(pick % found.len().max(1))?;
        process::signal(*pid, Signal::STOP);
        self.stopped.push(*pid);
        Some(format!("{pid} of {mark}"))
    }

    fn kill_agent(&self, pick: usize) -> Option<String> {
        let mut found = process::belonging_to(self.server.dir());
        found.retain(is_agent);
        let one = found.get(pick % found.len().max(1))?;
        let mark = mark_of(one.pid)?;
        self.shared.book.damage(|damage| {
            damage.agents.insert(mark.clone());
        });
        process::signal(one.pid, Signal::KILL);
        Some(format!("{} of {mark}", one.pid))
    }

    fn kill_git(&self, pick: usize) -> Option<String> {
        let mut found = process::belonging_to(self.server.dir());
        found.retain(is_git);
        let one = found.get(pick % found.len().max(1))?;
        self.shared.book.harm(Harm::Git);
        process::signal(one.pid, Signal::KILL);
        let command: String = one.command.chars().take(200).collect();
        Some(format!("{} {command}", one.pid))
    }

    /// Every living supervisor with the mark of its attempt.
    fn supervisors(&self) -> Vec<(i32, String)> {
        let mut found = process::belonging_to(self.server.dir());
        found.retain(|one| one.command.contains(" supervise "));
        let pids: Vec<_> = found.iter().map(|one| one.pid).collect();
        // A supervisor's child is a copy of it until it becomes the agent.
        found.retain(|one| parent_of(one.pid).is_none_or(|parent| !pids.contains(&parent)));
        found
            .iter()
            .filter_map(|one| {
                let path = Path::new(one.command.trim_end());
                Some((one.pid, path.file_name()?.to_str()?.to_owned()))
            })
            .collect()
    }

    fn resume_server(&self) {
        if let Some(pid) = self.server.pid() {
            process::signal(pid, Signal::CONT);
        }
    }

    fn resume_supervisors(&mut self) {
        for pid in self.stopped.drain(..) {
            // One that ended meanwhile may have left its number to somebody else, whom this does
            // no harm.
            process::signal(pid, Signal::CONT);
        }
    }

    fn return_repository(&self, pick: usize) {
        let repo = &self.shared.repos[pick % self.shared.repos.len()];
        fs::rename(repo.path().with_extension("away"), repo.path()).ok();
    }
}

fn is_agent(one: &Process) -> bool {
    one.command.contains("fake-claude")
        && one.command.contains(" -p ")
        && !one.command.contains(" supervise ")
}

fn is_git(one: &Process) -> bool {
    let program = one.command.split(' ').next().unwrap_or_default();
    let name = Path::new(program).file_name();
    name.and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("git"))
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1;
    fields.split_whitespace().nth(1)?.parse().ok()
}

/// The mark of the attempt a process belongs to.
fn mark_of(pid: i32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|one| one.strip_prefix(b"AGENT_SERVER_ATTEMPT="))?;
    String::from_utf8(value.to_vec()).ok()
}
