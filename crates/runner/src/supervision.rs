//! Watching over a running agent: its limits, the ladder of signals, and the end of its tree.

use std::collections::HashSet;
use std::future::pending;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use agent_domain::{RunEnd, Stop, Usd};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use rustix::process::{Pid, Signal};
use tokio::signal::unix::Signal as SignalStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_process_stream::{Item, ProcessChunkStream};

use crate::Ladder;
use crate::attempt::SUPERVISOR;
use crate::limits::Enforced;
use crate::output::Output;
use crate::processes::{self, Process};
use crate::record::{self, ExitRecord, ProcessId, Spec, SupervisorRecord};
use crate::sandbox::Gate;
use crate::socket::Command;
use crate::tree::{self, Tree};

/// How often the tree is looked at, so that orphans are known should we be killed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often where it is also to be seen what memory it takes.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// How long it is tried again to end what could not be ended before.
const PATIENCE_AGAIN: Duration = Duration::from_millis(500);
/// How often a control group is tried to be removed from which the last process has just gone.
const REMOVE_TRIES: u32 = 50;
/// How long the pipes of killed processes may stay open.
const AFTER_KILL: Duration = Duration::from_millis(500);
/// How long an agent is still waited for that no signal has ended.
const AFTER_FAILED_KILL: Duration = Duration::from_secs(5);

/// How long an agent may take to end that has said by its result that it is over its budget; one that is
/// on its way out and is stopped would say, and count, the same once more.
const OVER_BUDGET: Duration = Duration::from_secs(3);

/// How far the ending of the agent has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Running,
    Interrupted,
    Terminated,
    Killed,
}

/// Watches over one agent.
pub(crate) struct Supervision {
    inbox: Inbox,
    output: Output,
    record: SupervisorRecord,
    agent: i32,
    tree: Tree,
    ladder: Ladder,
    timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    budget: Option<Usd>,
    stop: Option<Stop>,
    step: Step,
    exit_code: Option<i32>,
    over: bool,
    wall_at: Option<Instant>,
    over_budget_at: Option<Instant>,
    heard_at: Instant,
    step_at: Option<Instant>,
    leave_at: Option<Instant>,
    look_at: Instant,
    looked_at: HashSet<ProcessId>,
    /// Most memory that the tree may take, where nobody but us sees to it.
    watched_memory: Option<u64>,
    over_memory: bool,
    /// What could not be ended.
    unkillable: Vec<u32>,
}

/// What happens to a supervision from outside.
pub(crate) struct Inbox {
    pub(crate) stream: ProcessChunkStream,
    pub(crate) commands: mpsc::Receiver<Command>,
    /// SIGCHLD.
    pub(crate) children: SignalStream,
    /// What the sandbox has to say in the log; ends at once where there is none.
    pub(crate) notices: mpsc::Receiver<String>,
    /// The way to an agent behind a wall.
    pub(crate) gate: Option<Gate>,
}

impl Supervision {
    pub(crate) fn new(
        spec: &Spec<'_>,
        inbox: Inbox,
        output: Output,
        record: SupervisorRecord,
        agent: i32,
        enforced: Enforced,
    ) -> Self {
        let now = Instant::now();
        let watched_memory = spec.limits.memory.filter(|_| !enforced.memory);
        Self {
            inbox,
            output,
            tree: Tree::below_self(record.groups.clone()),
            record,
            agent,
            ladder: spec.ladder,
            timeout: spec.timeout,
            idle_timeout: spec.idle_timeout,
            budget: spec.budget.map(Usd::from_nanos),
            stop: None,
            step: Step::Running,
            exit_code: None,
            over: false,
            wall_at: spec.timeout.and_then(|limit| now.checked_add(limit)),
            over_budget_at: None,
            heard_at: now,
            step_at: None,
            leave_at: None,
            look_at: now + look_every(watched_memory),
            looked_at: HashSet::new(),
            watched_memory,
            over_memory: false,
            unkillable: Vec::new(),
        }
    }

    /// Runs until the agent and all it has started are gone and its output is safe.
    pub(crate) async fn run(mut self) -> ExitRecord {
        while !self.over {
            let due = self.due();
            let listens = !self.output.is_blocked();
            tokio::select! {
                item = self.inbox.stream.next(), if listens => self.hear(item),
                Some(command) = self.inbox.commands.recv() => self.obey(command).await,
                _ = self.inbox.children.recv() => self.take_note(),
                Some(notice) = self.inbox.notices.recv() => self.output.say(&notice),
                () = sleep_until(due) => self.keep_time().await,
            }
        }
        self.close().await
    }

    /// Takes in what the agent has written, as much as is there, and writes it in one go.
    fn hear(&mut self, item: Option<Item<Bytes>>) {
        let mut next = Some(item);
        while let Some(item) = next {
            match item {
                Some(Item::Done(status)) => {
                    // Where it is unknown here, we have collected it ourselves.
                    let code = status.ok().and_then(code);
                    self.exit_code = self.exit_code.or(code);
                    self.over = true;
                    break;
                }
                None => {
                    self.over = true;
                    break;
                }
                Some(item) => self.output.take(&item),
            }
            next = if self.output.is_large() {
                None
            } else {
                self.inbox.stream.next().now_or_never()
            };
        }
        self.heard_at = Instant::now();
        self.output.flush();
        self.keep_within_budget();
    }

    /// The CLI keeps to its budget by itself, after each call of the model; this is for one that does
    /// not. Only what its results say counts.
    fn keep_within_budget(&mut self) {
        if self.over_budget_at.is_none() && self.is_over_budget().is_some() {
            self.over_budget_at = Instant::now().checked_add(OVER_BUDGET);
        }
    }

    fn is_over_budget(&self) -> Option<(Usd, Usd)> {
        let (cost, budget) = (self.output.cost()?, self.budget?);
        (cost > budget).then_some((cost, budget))
    }

    async fn obey(&mut self, command: Command) {
        if self.exit_code.is_some() {
            // It has ended by itself; there is only no more reason to wait for the rest.
            self.leave_at = self.leave_at.map(|_| Instant::now());
        } else if command == Command::Cancel && self.step == Step::Running {
            self.begin(Stop::Cancelled, "cancelled: asking the agent to stop");
        } else {
            self.stop = self.stop.or(Some(Stop::Cancelled));
            self.kill().await;
        }
    }

    /// Some child has ended: the agent, or an orphan that was handed to us.
    fn take_note(&mut self) {
        let ran = self.exit_code.is_none();
        self.exit_code = self.exit_code.or(tree::reap(self.agent));
        if ran && self.exit_code.is_some() {
            self.leave_at = Some(Instant::now() + self.ladder.drain);
        }
    }

    /// The next moment at which something is to be done.
    fn due(&self) -> Option<Instant> {
        let blocked = self.output.is_blocked();
        let lives = self.exit_code.is_none();
        let runs = lives && self.step == Step::Running;
        let due = [
            Some(self.look_at),
            self.output.due(),
            self.wall_at.filter(|_| runs),
            self.over_budget_at.filter(|_| runs),
            self.idle_at().filter(|_| runs && !blocked),
            self.step_at.filter(|_| lives),
            self.leave_at.filter(|_| !blocked),
        ];
        due.into_iter().flatten().min()
    }

    /// When the agent has been silent for too long.
    fn idle_at(&self) -> Option<Instant> {
        self.heard_at.checked_add(self.patience()?)
    }

    fn patience(&self) -> Option<Duration> {
        let stay = self.output.is_done().then_some(self.ladder.stay);
        [stay, self.idle_timeout].into_iter().flatten().min()
    }

    async fn keep_time(&mut self) {
        let now = Instant::now();
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let was_blocked = self.output.is_blocked();
        self.output.tick();
        if was_blocked {
            // Neither silence nor slowness of the agent counts while it was us who did not read.
            self.heard_at = now;
            self.leave_at = self.leave_at.map(|_| now + self.ladder.drain);
        }
        if self.look_at <= now {
            self.look().await;
        }
        if self.exit_code.is_none() && self.step == Step::Running {
            if let (true, Some((cost, budget))) =
                (passed(self.over_budget_at), self.is_over_budget())
            {
                let text = format!("has cost {cost}, more than {budget}: stopping the agent");
                self.begin(Stop::Budget, &text);
            } else if passed(self.wall_at) {
                let limit = seconds(self.timeout);
                self.begin(
                    Stop::TimedOut,
                    &format!("ran longer than {limit}: stopping the agent"),
                );
            } else if passed(self.idle_at()) && !was_blocked {
                self.lose_patience();
            }
        } else if self.exit_code.is_none() && passed(self.step_at) {
            self.climb().await;
        }
        if passed(self.leave_at) && !self.output.is_blocked() {
            self.leave().await;
        }
    }

    /// One that has said its result is done, and what it says while it is ended changes nothing.
    fn lose_patience(&mut self) {
        let limit = seconds(self.patience());
        if self.output.is_done() {
            self.output.close();
            let text = format!("silent for {limit} since its result: ending the agent");
            self.begin(Stop::Stayed, &text);
        } else {
            let text = format!("silent for {limit}: stopping the agent");
            self.begin(Stop::Idle, &text);
        }
    }

    /// First step of the ladder.
    fn begin(&mut self, stop: Stop, text: &str) {
        self.stop = Some(stop);
        self.output.say(text);
        self.signal_group(Signal::INT);
        self.step = Step::Interrupted;
        self.step_at = Some(Instant::now() + self.ladder.int_to_term);
    }

    async fn climb(&mut self) {
        if self.step == Step::Interrupted {
            self.signal_group(Signal::TERM);
            self.step = Step::Terminated;
            self.step_at = Some(Instant::now() + self.ladder.term_to_kill);
        } else {
            self.kill().await;
        }
    }

    async fn kill(&mut self) {
        self.step = Step::Killed;
        self.step_at = None;
        self.end_tree().await;
        let wait = match self.exit_code {
            Some(_) => AFTER_KILL,
            None => AFTER_FAILED_KILL,
        };
        self.leave_at = Some(Instant::now() + wait);
    }

    /// The pipes are still open although the agent has ended, or it cannot be ended at all.
    async fn leave(&mut self) {
        if self.step == Step::Killed {
            self.over = true;
            return;
        }
        self.step = Step::Killed;
        self.end_tree().await;
        self.leave_at = Some(Instant::now() + AFTER_KILL);
    }

    /// Signals the agent's own process group. Its number cannot belong to another group before
    /// the agent's exit code has been collected.
    ///
    /// An agent behind a wall is in another one, which the first process inside signals; the
    /// wall itself would fall.
    fn signal_group(&self, signal: Signal) {
        if let Some(gate) = &self.inbox.gate {
            gate.signal(signal);
            return;
        }
        if let Some(group) = Pid::from_raw(self.agent)
            && self.exit_code.is_none()
        {
            rustix::process::kill_process_group(group, signal).ok();
            // A stopped process acts on nothing else.
            rustix::process::kill_process_group(group, Signal::CONT).ok();
        }
    }

    async fn end_tree(&mut self) {
        let patience = match self.unkillable.as_slice() {
            [] => self.ladder.patience,
            _ => PATIENCE_AGAIN,
        };
        let Self {
            exit_code,
            agent,
            tree,
            ..
        } = self;
        let left = tree.end(patience, || {
            *exit_code = exit_code.or(tree::reap(*agent));
            tree::is_anything_left()
        });
        match left.await {
            Ok(left) => {
                let pids: Vec<u32> = left.iter().filter_map(Process::number).collect();
                for pid in pids.iter().filter(|pid| !self.unkillable.contains(pid)) {
                    self.output.say(&format!("process {pid} cannot be ended"));
                }
                if !left.is_empty() {
                    // By this they are known to whoever tries again.
                    self.record.strays = left.iter().map(|process| process.id).collect();
                    self.write_down();
                }
                self.unkillable = pids;
            }
            Err(error) => self
                .output
                .say(&format!("cannot list the processes: {error}")),
        }
    }

    /// Notes in the record which members of the tree could not be recognised by their mark, and
    /// sees what memory they take.
    async fn look(&mut self) {
        self.look_at = Instant::now() + look_every(self.watched_memory);
        self.take_note();
        let Ok(members) = self.tree.look() else {
            return;
        };
        self.note(&members);
        let most = self.watched_memory.filter(|_| self.step != Step::Killed);
        if most.is_some_and(|most| processes::memory_of(&members) > most) {
            self.over_memory = true;
            self.output
                .say("more memory in use than a run may take: everything is killed");
            self.kill().await;
        }
    }

    fn note(&mut self, members: &[Process]) {
        let before = self.record.strays.len();
        let living: HashSet<ProcessId> = members.iter().map(|process| process.id).collect();
        self.looked_at.retain(|id| living.contains(id));
        self.record.strays.retain(|id| living.contains(id));
        let mut changed = self.record.strays.len() != before;
        for id in living {
            if self.looked_at.insert(id) && !processes::is_marked(id.pid, &self.record.mark) {
                self.record.strays.push(id);
                changed = true;
            }
        }
        if changed {
            self.write_down();
        }
    }

    fn write_down(&self) {
        // Only a help for the worst case; it is tried again with the next change.
        record::update(Path::new("."), SUPERVISOR, &self.record).ok();
    }

    async fn close(mut self) -> ExitRecord {
        self.end_tree().await;
        let killed = self.tree.groups().killed_for_memory();
        if killed > 0 {
            self.output.say(&format!(
                "processes that the system has killed for want of memory: {killed}"
            ));
        }
        self.remove_groups().await;
        let (log_length, summary, stderr_tail) = self.output.finish().await;
        ExitRecord {
            end: RunEnd {
                stop: self.stop,
                exit_code: self.exit_code,
                spawn_error: None,
                disk_full: None,
                sandbox_error: None,
                summary,
                stderr_tail,
                out_of_memory: self.over_memory || killed > 0,
                unkillable: self.unkillable,
            },
            log_length,
        }
    }

    async fn remove_groups(&self) {
        for _ in 0..REMOVE_TRIES {
            if self.tree.groups().remove() || !self.unkillable.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn look_every(watched_memory: Option<u64>) -> Duration {
    watched_memory.map_or(LOOK_EVERY, |_| WATCH_EVERY)
}

fn code(status: ExitStatus) -> Option<i32> {
    status.code().or_else(|| Some(128 + status.signal()?))
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => pending().await,
    }
}

fn seconds(limit: Option<Duration>) -> String {
    format!("{} s", limit.unwrap_or_default().as_secs_f64())
}
