//! What the clients know: every job they were promised, and what they have read of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::kinds::Kind;

/// A job as its client sees it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// `c<cycle>-j<number>`; a repeated job has the name of the first.
    pub(super) name: String,
    /// What its agent does.
    pub(super) kind: Kind,
    /// Index of its repository.
    pub(super) repo: usize,
    /// The branch asked for; a repeated job may get another one.
    pub(super) branch: String,
    /// Whether somebody is to be called back.
    pub(super) callback: bool,
    /// The id the server gave it, as answered or as found in a list.
    pub(super) id: Option<String>,
    /// Whether the client has got the answer: from then on the job must not be lost.
    pub(super) acknowledged: bool,
    /// Whether a client has asked for its end.
    pub(super) cancelled: bool,
    /// How often it was asked to be repeated, answered or not.
    pub(super) retries: u32,
}

/// A moment of the story.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    /// Since the world began.
    pub(super) at: Duration,
    /// What happened.
    pub(super) what: String,
}

/// What the attacks of the present cycle may excuse.
#[derive(Debug, Clone, Default)]
pub(super) struct Damage {
    /// Marks `<job>.<attempt>` of supervisors that were killed, and when.
    pub(super) supervisors: BTreeMap<String, u128>,
    /// Marks of agents that were killed.
    pub(super) agents: BTreeSet<String>,
    /// What else was not as it should be.
    pub(super) harms: BTreeSet<Harm>,
}

/// What may not work for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Harm {
    /// A git command was killed.
    Git,
    /// Writes failed.
    Disk,
    /// The remote refused, or was gone.
    Remote,
    /// GitHub refused.
    GitHub,
    /// A worker could not renew its leases in time.
    Lease,
}

impl Damage {
    /// Whether this was so at any time in the cycle.
    pub(super) fn has(&self, harm: Harm) -> bool {
        self.harms.contains(&harm)
    }
}

#[derive(Debug)]
struct Inner {
    entries: Vec<Entry>,
    /// What was read of each job's log, by its id.
    read: BTreeMap<String, Vec<u8>>,
    moments: Vec<Moment>,
    damage: Damage,
    /// Answers that no client should get.
    bad_answers: Vec<String>,
    /// A call was cut.
    cut: bool,
    /// How long starts of the server took until every job was settled.
    settled: Vec<Duration>,
    /// How often the server was stopped.
    stops: u32,
}

/// Shared by all clients and whoever makes the faults.
#[derive(Debug)]
pub(super) struct Book {
    began: Instant,
    inner: Mutex<Inner>,
}

impl Book {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            inner: Mutex::new(Inner {
                entries: Vec::new(),
                read: BTreeMap::new(),
                moments: Vec::new(),
                damage: Damage::default(),
                bad_answers: Vec::new(),
                cut: false,
                settled: Vec::new(),
                stops: 0,
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the last cycle.
    pub(super) fn turn_page(&self, entries: Vec<Entry>) {
        let mut inner = self.inner();
        inner.entries = entries;
        inner.read.clear();
        inner.moments.clear();
        inner.damage = Damage::default();
        inner.bad_answers.clear();
        inner.cut = false;
    }

    /// The jobs of this cycle.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.inner().entries.clone()
    }

    /// One job of this cycle.
    pub(super) fn entry(&self, number: usize) -> Option<Entry> {
        self.inner().entries.get(number).cloned()
    }

    /// Changes what is known of a job.
    pub(super) fn with<T>(&self, number: usize, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.inner().entries.get_mut(number).map(change)
    }

    /// Adds a job.
    pub(super) fn add(&self, entry: Entry) {
        self.inner().entries.push(entry);
    }

    /// How much was read of a job's log.
    pub(super) fn read_so_far(&self, id: &str) -> usize {
        self.inner().read.get(id).map_or(0, Vec::len)
    }

    /// Adds what was read from `offset` on, unless somebody else has read it meanwhile.
    pub(super) fn append_read(&self, id: &str, offset: usize, bytes: &[u8]) {
        let mut inner = self.inner();
        let known = inner.read.entry(id.to_owned()).or_default();
        if known.len() == offset {
            known.extend_from_slice(bytes);
        }
    }

    /// What was read of a job's log.
    pub(super) fn read(&self, id: &str) -> Vec<u8> {
        self.inner().read.get(id).cloned().unwrap_or_default()
    }

    /// Writes down a moment of the story.
    pub(super) fn say(&self, what: impl Into<String>) {
        let moment = Moment {
            at: self.began.elapsed(),
            what: what.into(),
        };
        self.inner().moments.push(moment);
    }

    /// The story of this cycle.
    pub(super) fn moments(&self) -> Vec<Moment> {
        self.inner().moments.clone()
    }

    /// Notes an answer that no client should get.
    pub(super) fn bad_answer(&self, what: String) {
        self.say(format!("bad answer to {what}"));
        self.inner().bad_answers.push(what);
    }

    /// The answers that no client should get.
    pub(super) fn bad_answers(&self) -> Vec<String> {
        self.inner().bad_answers.clone()
    }

    /// Notes damage.
    pub(super) fn damage(&self, change: impl FnOnce(&mut Damage)) {
        change(&mut self.inner().damage);
    }

    /// Notes that a supervisor is killed now.
    pub(super) fn killed_supervisor(&self, mark: String) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_nanos());
        self.inner().damage.supervisors.insert(mark, now);
    }

    /// Notes that the call to be cut was reached.
    pub(super) fn cut(&self) {
        self.inner().cut = true;
    }

    /// Whether the call to be cut was reached.
    pub(super) fn was_cut(&self) -> bool {
        self.inner().cut
    }

    /// Notes that the server is stopped.
    pub(super) fn stopped(&self) {
        self.inner().stops += 1;
    }

    /// How often it was stopped so far.
    pub(super) fn stops(&self) -> u32 {
        self.inner().stops
    }

    /// Notes how long a start of the server took until every job was settled.
    pub(super) fn settled(&self, took: Duration) {
        self.inner().settled.push(took);
    }

    /// Takes these times.
    pub(super) fn take_settled(&self) -> Vec<Duration> {
        std::mem::take(&mut self.inner().settled)
    }

    /// Notes harm.
    pub(super) fn harm(&self, harm: Harm) {
        self.inner().damage.harms.insert(harm);
    }

    /// The damage done in this cycle.
    pub(super) fn damaged(&self) -> Damage {
        self.inner().damage.clone()
    }
}
