//! Weeks of many jobs side by side under caps of clients and of everybody: runs that end well, fail,
//! overshoot, are lost or survive a restart. No cap is exceeded by more than one call of the model, and
//! every figure is the sum of what runs have told.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_domain::{
    Assignment, Caps, ClientChange, ClientId, Coordinator as _, Edit, Ending, Facts, Finding,
    Found, JobId, Phase, Reason, Report, Spending, State, Timestamp, Usd, utc_day, utc_month,
};
use agent_queue::Engine;
use agent_storage::{UsageFilter, UsageKey};

use crate::stage::{Stage, told};

const SLOTS: usize = 6;
const STEPS: u32 = 240;
/// By how much a run may go beyond what it may spend: its last call of the model.
const CALL: Usd = Usd::from_nanos(1_000_000_000);
const HOUR: i64 = 3600;

fn usd(dollars: f64) -> Usd {
    Usd::from_dollars(dollars).unwrap()
}

fn caps(daily: Option<f64>, monthly: Option<f64>) -> Caps {
    Caps {
        daily: daily.map(usd),
        monthly: monthly.map(usd),
    }
}

/// The same choices each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What has been spent, as the runs have told it.
#[derive(Default)]
struct Book(Vec<(ClientId, JobId, i64, Usd)>);

impl Book {
    fn sum(&self, of: impl Fn(ClientId, i64) -> bool) -> Usd {
        let these = self
            .0
            .iter()
            .filter(|(client, _, day, _)| of(*client, *day));
        these.map(|(_, _, _, spent)| *spent).sum()
    }

    fn by<K: Ord>(&self, key: impl Fn(ClientId, JobId, i64) -> K) -> BTreeMap<K, Usd> {
        let mut sums = BTreeMap::new();
        for (client, job, day, spent) in &self.0 {
            let sum: &mut Usd = sums.entry(key(*client, *job, *day)).or_default();
            *sum = sum.plus(*spent);
        }
        sums
    }
}

struct World {
    stage: Stage,
    dice: Dice,
    book: Book,
    running: Vec<(Assignment, ClientId)>,
    clients: Vec<(ClientId, Caps)>,
    total: Caps,
    jobs: u32,
    /// How often each cap was used up, by its place: of each client by day and month, then of all.
    used_up: Vec<u32>,
}

impl World {
    async fn new() -> Self {
        let total = caps(Some(30.0), Some(450.0));
        let spending = Spending {
            caps: total,
            ..Spending::default()
        };
        let stage = Stage::with_money(Duration::from_mins(10), spending).await;
        let mut clients = Vec::new();
        for (repo, of_client) in [
            ("a", caps(Some(7.0), Some(60.0))),
            ("b", caps(None, Some(80.0))),
            ("c", Caps::default()),
        ] {
            let first = stage.submit_to(repo, "first", None).await;
            let client = stage.job(first).await.client_id;
            let change = ClientChange {
                daily: of_client.daily.map_or(Edit::Keep, Edit::Set),
                monthly: of_client.monthly.map_or(Edit::Keep, Edit::Set),
                ..ClientChange::default()
            };
            stage.engine.update_client(client, change).await.unwrap();
            clients.push((client, of_client));
        }
        Self {
            stage,
            dice: Dice(7),
            book: Book::default(),
            running: Vec::new(),
            used_up: vec![0; 2 * clients.len() + 2],
            clients,
            total,
            jobs: 0,
        }
    }

    fn now(&self) -> Timestamp {
        self.stage.engine.now()
    }

    async fn submit(&mut self) {
        for repo in ["a", "b", "c"] {
            self.jobs += 1;
            let budget = (self.dice.below(3) == 0).then(|| usd(2.5));
            let branch = format!("b-{}", self.jobs);
            self.stage.submit_to(repo, &branch, budget).await;
        }
    }

    async fn claim(&mut self) {
        let free = SLOTS - self.running.len();
        let (engine, worker) = (&self.stage.engine, &self.stage.worker);
        let claimed = engine.claim(worker, free, Duration::ZERO).await.unwrap();
        for run in claimed {
            let job = self.stage.job(run.lease.job).await;
            let budget = job.spec.options.budget;
            let left = budget.map(|budget| budget.minus(job.facts.cost.unwrap_or_default()));
            assert!(run.facts.allotted.is_some(), "there is a cap for all");
            assert!(
                left.is_none_or(|left| run.facts.allotted <= Some(left)),
                "{left:?}"
            );
            self.running.push((run, job.client_id));
        }
    }

    /// What a run spends that may spend so much: less, all, or one call more.
    fn spends(&mut self, run: &Assignment) -> Usd {
        let most = run.facts.allotted.unwrap();
        let part = |of: u64, parts: u64| Usd::from_nanos(of / 100 * parts);
        match self.dice.below(4) {
            0 => most.plus(part(CALL.nanos(), self.dice.below(101))),
            1 => most.plus(CALL),
            _ => part(most.nanos(), self.dice.below(101)),
        }
    }

    fn note(&mut self, run: &Assignment, client: ClientId, spent: Usd) {
        let day = utc_day(self.now());
        self.book.0.push((client, run.lease.job, day, spent));
    }

    /// One run ends in one of the ways in which runs end.
    async fn end_one(&mut self) {
        let number = u64::try_from(self.running.len()).unwrap();
        let one = usize::try_from(self.dice.below(number)).unwrap();
        let (run, client) = self.running.swap_remove(one);
        let spent = self.spends(&run);
        let (ending, tells) = match self.dice.below(6) {
            0 => (failed(Reason::Refused), true),
            1 => (failed(Reason::Budget), true),
            2 => (lost(), false),
            3 => (parked(self.now()), true),
            _ => (Ending::Completed, true),
        };
        let mut facts = Facts::default();
        if tells {
            facts.usage = Some(told(spent.dollars()));
        } else {
            Stage::write_log(&run.log, &spent.dollars().to_string());
        }
        self.note(&run, client, spent);
        let report = Report { ending, facts };
        let finished = self.stage.engine.finish(&run.lease, report).await;
        finished.unwrap();
    }

    /// The server is begun anew, and finds some runs living and some killed.
    async fn restart(&mut self) {
        self.stage.restart().await;
        let before = std::mem::take(&mut self.running);
        let mut findings = Vec::new();
        let mut living = Vec::new();
        for (run, client) in before {
            let entered = enter(&self.stage.engine, &run);
            entered.await;
            let found = if self.dice.below(2) == 0 {
                living.push((run.clone(), client));
                Found::Kept
            } else {
                let spent = self.spends(&run);
                Stage::write_log(&run.log, &spent.dollars().to_string());
                self.note(&run, client, spent);
                Found::Lost {
                    seen: "its supervisor was killed".to_owned(),
                    facts: Box::default(),
                }
            };
            let lease = run.lease;
            findings.push(Finding { lease, found });
        }
        let (engine, worker) = (&self.stage.engine, &self.stage.worker);
        let kept = engine.settle(worker, findings).await.unwrap();
        for lease in kept {
            let at = living
                .iter()
                .position(|(run, _)| run.lease.job == lease.job);
            // One that was lost for the last time comes back to be ended.
            let Some(at) = at else {
                let ending = lost();
                let facts = Facts::default();
                let report = Report { ending, facts };
                engine.finish(&lease, report).await.unwrap();
                continue;
            };
            let (mut run, client) = living.swap_remove(at);
            run.lease = lease;
            self.running.push((run, client));
        }
    }

    /// No cap is exceeded by more than one call.
    fn check(&mut self) {
        let today = utc_day(self.now());
        let (first, _) = utc_month(self.now());
        let mut accounts: Vec<(Option<ClientId>, Caps)> = Vec::new();
        accounts.extend(self.clients.iter().map(|(id, caps)| (Some(*id), *caps)));
        accounts.push((None, self.total));
        let mut place = 0;
        for (owner, caps) in accounts {
            for (cap, since) in [(caps.daily, today), (caps.monthly, first)] {
                let is_theirs = |client, day| owner.is_none_or(|id| id == client) && day >= since;
                let spent = self.book.sum(is_theirs);
                if let Some(cap) = cap {
                    assert!(spent <= cap.plus(CALL), "{owner:?}: {spent} of {cap}");
                    self.used_up[place] += u32::from(spent >= cap);
                }
                place += 1;
            }
        }
    }

    /// Jobs, usage by client and by day: all are the sums of what was told.
    async fn add_up(&self) {
        for (job, spent) in self.book.by(|_, job, _| job) {
            assert_eq!(self.stage.job(job).await.facts.cost, Some(spent));
        }
        let usage = |by: UsageKey| {
            let filter = UsageFilter {
                from: 0,
                to: utc_day(self.now()),
                client: None,
                by: vec![by],
                limit: 1000,
            };
            self.stage.engine.usage(filter)
        };
        let by_day = usage(UsageKey::Day).await.unwrap();
        let by_day: BTreeMap<_, _> = by_day
            .iter()
            .map(|row| (row.day.unwrap(), row.cost))
            .collect();
        assert_eq!(by_day, self.book.by(|_, _, day| day));
        for row in usage(UsageKey::Client).await.unwrap() {
            let (client, _) = row.client.unwrap();
            assert_eq!(row.cost, self.book.sum(|of, _| of == client));
        }
    }
}

async fn enter(engine: &Engine, run: &Assignment) {
    let entered = engine.progress(&run.lease, Phase::Agent, Facts::default());
    entered.await.unwrap();
}

fn failed(reason: Reason) -> Ending {
    Ending::Failed {
        reason,
        error: "it did not work".into(),
    }
}

fn lost() -> Ending {
    Ending::Lost {
        error: "killed".into(),
    }
}

fn parked(now: Timestamp) -> Ending {
    Ending::Parked {
        until: Some(now + Duration::from_secs(5)),
        reason: Reason::Budget,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_weeks_of_runs_that_fail_are_lost_and_overshoot_no_cap_gives_and_all_adds_up() {
    let mut world = World::new().await;
    for step in 0..STEPS {
        world.submit().await;
        world.claim().await;
        world.check();
        if step % 20 == 19 {
            world.restart().await;
            world.check();
        }
        for _ in 0..world.dice.below(5) {
            if !world.running.is_empty() {
                world.end_one().await;
                world.check();
            }
        }
        let hours = i64::try_from(world.dice.below(9)).unwrap();
        world.stage.clock.step(hours * HOUR);
    }
    world.add_up().await;
    let used_up = &world.used_up;
    // Client a by day and month, b by month, all by day and month.
    for place in [0, 1, 3, 6, 7] {
        assert!(
            used_up[place] > 0,
            "a cap that nothing has tried: {used_up:?}"
        );
    }
    // Nothing is reserved for ever: without runs all that is left can be had again.
    while !world.running.is_empty() {
        world.end_one().await;
    }
    world.stage.clock.step(40 * 24 * HOUR);
    let (engine, worker) = (&world.stage.engine, &world.stage.worker);
    let next = engine
        .claim(worker, 1, Duration::ZERO)
        .await
        .unwrap()
        .remove(0);
    let job = world.stage.job(next.lease.job).await;
    assert!(matches!(job.state, State::Running { .. }));
    let cost = job.facts.cost.unwrap_or_default();
    let left = job.spec.options.budget.map(|budget| budget.minus(cost));
    let most = left.map_or(usd(7.0), |left| left.min(usd(7.0)));
    let given = next.facts.allotted;
    assert!(given >= Some(most), "{given:?} of {most}");
}
