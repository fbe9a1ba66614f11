//! A fault at every step: the first, second, third, ... call of a job's life that changes something
//! fails, or is the last thing its process does; then everything is let run to quiet and checked.

use std::thread;
use std::time::{Duration, Instant};

use agent_tests::process;
use agent_tests::shim::Action;
use anyhow::{Result, ensure};
use rustix::io::Errno;

use super::book::{Entry, Harm};
use super::clients::{self, Clients};
use super::figures::Figures;
use super::kinds::Kind;
use super::plan::{Act, PlannedJob};
use super::world::World;
use super::{account::Violation, world};
use crate::interrupt::Interrupt;

/// A life with fewer calls than this was not observed at all.
const LEAST_CALLS: u64 = 50;
/// How long a job may take to end or to be cut short.
const PATIENCE: Duration = Duration::from_mins(1);

/// A job's life that is cut at every step.
#[derive(Debug, Clone, Copy)]
struct Life {
    label: &'static str,
    kind: Kind,
    is_cancelled: bool,
}

const LIVES: [Life; 4] = [
    Life {
        label: "delivered",
        kind: Kind::Quick,
        is_cancelled: false,
    },
    Life {
        label: "without a change",
        kind: Kind::Nothing,
        is_cancelled: false,
    },
    Life {
        label: "failed",
        kind: Kind::Fails,
        is_cancelled: false,
    },
    Life {
        label: "cancelled",
        kind: Kind::Slow,
        is_cancelled: true,
    },
];

/// What happens to the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Fails,
    LastBefore,
    LastAfter,
}

impl Cut {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Fails, "a call fails"),
        (Self::LastBefore, "killed before a call"),
        (Self::LastAfter, "killed after a call"),
    ];

    fn action(self, at: u64) -> Action {
        match self {
            Self::Fails if at.is_multiple_of(2) => Action::Fail(Errno::NOSPC.raw_os_error()),
            Self::Fails => Action::Fail(Errno::IO.raw_os_error()),
            Self::LastBefore => Action::KillBefore,
            Self::LastAfter => Action::KillAfter,
        }
    }
}

/// Cuts every life at every `stride`th step, beginning with step `first`.
pub(super) fn run(
    (first, stride): (u64, u64),
    keep_going: bool,
    interrupt: &Interrupt,
    figures: &mut Figures,
) -> Result<()> {
    for life in LIVES {
        for (cut, label) in Cut::ALL {
            let mut world = World::begin(keep_going, interrupt)?;
            let (mut at, mut number) = (first, 0);
            loop {
                number += 1;
                let began = Instant::now();
                if !world.cut(life, (cut, at), number, figures)? {
                    break;
                }
                figures.cycle(began.elapsed());
                figures.fault(label);
                at += stride;
            }
            let calls = world.shim.calls()?;
            println!(
                "chaos: {}, {label}: {calls} calls, {number} lives",
                life.label
            );
            ensure!(
                calls >= LEAST_CALLS,
                "{calls} calls cannot be all of a job's life"
            );
            world.close(figures)?;
        }
    }
    Ok(())
}

impl World {
    /// Lets one job live with one call cut; `false` when it had fewer calls than that.
    fn cut(
        &mut self,
        life: Life,
        (cut, at): (Cut, u64),
        number: u32,
        figures: &mut Figures,
    ) -> Result<bool> {
        let job = PlannedJob {
            kind: life.kind,
            repo: 0,
            callback: true,
            keyed: true,
        };
        let shared = self.shared.clone();
        let entry = world::entry(number, 0, &job);
        let bodies = vec![world::body(&shared, &entry)];
        shared.book.turn_page(vec![entry]);
        let title = format!("{}, {cut:?} at call {at}", life.label);
        shared.book.say(title.clone());
        self.shim.arm(at, cut.action(at))?;
        let clients = Clients {
            url: &shared.url,
            book: &shared.book,
            jobs: &[job],
            bodies,
        };
        let lived = thread::scope(|scope| {
            let living = scope.spawn(|| live(&clients, life));
            while !living.is_finished() {
                self.note_cut(cut, at)?;
                self.bring_up(figures)?;
                thread::sleep(Duration::from_millis(5));
            }
            Ok::<_, anyhow::Error>(())
        });
        let hit = self.note_cut(cut, at)?;
        self.shim.disarm()?;
        lived.and_then(|()| self.heal(figures))?;
        let violations: Vec<Violation> = self.account(figures)?;
        self.judge(&violations, figures)?;
        Ok(hit)
    }

    /// Writes down that the call was reached, and what that may excuse.
    fn note_cut(&mut self, cut: Cut, at: u64) -> Result<bool> {
        let Some(what) = self.shim.hit()? else {
            return Ok(false);
        };
        if self.shared.book.was_cut() {
            return Ok(true);
        }
        let book = &self.shared.book;
        book.cut();
        book.say(format!("FAULT {cut:?} at call {at}: {what}"));
        if cut == Cut::Fails {
            book.harm(Harm::Disk);
        } else if let Some(mark) = supervised(&what) {
            book.killed_supervisor(mark);
        } else {
            // The shim has killed it, so it has not ended by itself.
            process::wait_until(Duration::from_secs(5), || !self.server.is_running());
            self.server.kill().ok();
        }
        Ok(true)
    }
}

/// One job from its submission to its end.
fn live(clients: &Clients<'_>, life: Life) {
    clients.act(Act::Submit(0));
    let mut asked = false;
    process::wait_until(PATIENCE, || {
        let entry = clients.book.entry(0);
        let Some(Entry { id: Some(id), .. }) = entry else {
            // Its answer was lost; whoever counts the jobs at the end finds it.
            return true;
        };
        let reply = clients::client(clients.url).get(&format!("/jobs/{id}"));
        let job = reply.map(|reply| reply.json()).unwrap_or_default();
        if life.is_cancelled && !asked && job["phase"] == "agent" {
            asked = true;
            clients.act(Act::Cancel(0, true));
        }
        matches!(
            job["status"].as_str(),
            Some("completed" | "failed" | "cancelled")
        )
    });
}

/// The mark of the attempt whose supervisor made the call.
fn supervised(what: &str) -> Option<String> {
    let (who, _) = what.split_once(": ")?;
    let dir = who.strip_prefix("supervise ")?;
    Some(dir.rsplit_once('/')?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_is_told_from_the_server() {
        let what = "supervise /x/attempts/abc.2: write /x/logs/abc/2.log";
        assert_eq!(supervised(what).as_deref(), Some("abc.2"));
        assert_eq!(supervised("server: fsync /x/agent.db-wal"), None);
    }
}
