//! What the agents do, and what has to become of their jobs.

use std::path::Path;

use fastrand::Rng;

/// What each run's result says it cost, in US dollars; exact in binary, so that sums are.
pub(super) const PRICE: f64 = 0.25;
/// What one message is estimated at that no result accounts for, in US dollars: the stand-in's tokens at
/// the model's list price.
pub(super) const MESSAGE_PRICE: f64 = 12.0 * 4e-6 + 7.0 * 2e-5 + 2_048.0 * 2e-7;
/// The file that most agents write, with the job's name in it.
pub(super) const FILE: &str = "a.txt";

/// How an agent behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Says a few words and writes a file.
    Quick,
    /// The same, but slowly.
    Slow,
    /// Says much, bytes that are no text among it.
    Big,
    /// Leaves processes behind in every way it can.
    Tree,
    /// Writes many files.
    Many,
    /// Changes nothing.
    Nothing,
    /// Commits by itself, and leaves more.
    Commits,
    /// Says that it has failed.
    Fails,
    /// Is killed by a signal.
    Dies,
    /// Does not end by itself.
    Hangs,
    /// Does not end, and says nothing.
    Silent,
    /// Meets a usage limit in the middle, and does the rest in the same session.
    Limited,
}

const ALL: [Kind; 12] = [
    Kind::Quick,
    Kind::Slow,
    Kind::Big,
    Kind::Tree,
    Kind::Many,
    Kind::Nothing,
    Kind::Commits,
    Kind::Fails,
    Kind::Dies,
    Kind::Hangs,
    Kind::Silent,
    Kind::Limited,
];

impl Kind {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        // The first four are what most jobs are like.
        let most = if rng.bool() { 4 } else { ALL.len() };
        ALL[rng.usize(0..most)]
    }

    /// The status and reason it ends with where nothing comes in between.
    pub(super) fn end(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Fails | Self::Dies => ("failed", Some("agent_failed")),
            Self::Hangs => ("failed", Some("timed_out")),
            Self::Silent => ("failed", Some("idle")),
            _ => ("completed", None),
        }
    }

    /// How many files a completed job of this kind changes.
    pub(super) fn files(self) -> u64 {
        match self {
            Self::Many => 120,
            Self::Nothing => 0,
            Self::Commits | Self::Limited => 2,
            _ => 1,
        }
    }

    /// Limits of the job, as fields of its submission.
    pub(super) fn limits(self) -> Option<(&'static str, u64)> {
        match self {
            Self::Hangs => Some(("timeoutSeconds", 1)),
            Self::Silent => Some(("idleTimeoutSeconds", 1)),
            _ => None,
        }
    }

    /// The prompt of a job called `name`, whose run is written down in `ledger`.
    pub(super) fn prompt(self, ledger: &Path, name: &str) -> String {
        let ledger = ledger.display();
        let mut work = self.work(&format!("{ledger}.left"), name);
        if self == Self::Limited {
            let met = format!("fresh note {ledger} limited {name}\nfresh result usage_limit");
            work = format!("fresh write half.txt {name}\n{met}\nfresh exit 1\n{work}");
        }
        format!(
            "Do {name}.\n```fake\nprice {PRICE}\nledger {ledger} {name}\n{work}\nnote {ledger} good {name}\n```\n"
        )
    }

    fn work(self, left: &str, name: &str) -> String {
        let write = format!("write {FILE} {name}");
        let said = |count: usize| -> String {
            let lines: Vec<_> = (0..count).map(|n| format!("text {name} {n}")).collect();
            lines.join("\n")
        };
        match self {
            Self::Quick | Self::Limited => format!("{}\n{write}\nresult ok", said(5)),
            Self::Slow => format!("delay 25\n{}\n{write}\nresult ok", said(25)),
            Self::Big => {
                format!("line 3000 60\nhex 00fffe80c1200a\n{write}\nline 70000 2\nresult ok")
            }
            Self::Tree => {
                let kinds = ["setsid", "nohup", "stubborn", "hold", "clean"];
                let survivors = kinds.map(|kind| format!("survivor {kind} {left}"));
                format!("{}\n{write}\n{}\nresult ok", survivors.join("\n"), said(2))
            }
            Self::Many => {
                let files = self.files();
                format!(
                    "shell for n in $(seq {files}); do echo {name} > file$n.txt; done\nresult ok"
                )
            }
            Self::Nothing => format!("{}\nresult ok", said(3)),
            Self::Commits => {
                format!("{write}\ncommit Work of {name}\nwrite more.txt {name}\nresult ok")
            }
            Self::Fails => format!("{}\n{write}\nresult execution_error", said(2)),
            Self::Dies => format!("{}\n{write}\ndie KILL", said(2)),
            Self::Hangs | Self::Silent => format!("{}\n{write}\nhang", said(1)),
        }
    }
}
