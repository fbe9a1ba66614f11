//! A day of two hundred jobs on two subscriptions, by a clock that the test moves: limits are reached and
//! reset, one login dies until somebody sees to it, caps hold, the server is restarted, and the money
//! adds up.

use std::collections::HashMap;
use std::time::Duration;

use agent_domain::{
    AtCap, Caps, ClientChange, Clock as _, Coordinator as _, Credential, CredentialKind,
    CredentialNews, Edit, Ending, Facts, Finding, Found, JobId, Lease, LeaseTerms, LimitWindow,
    Limited, Reason, RepoSlug, Report, RunUsage, Share, Spending, State, Timestamp, Tokens, Usage,
    Usd, is_capped, utc_day,
};
use agent_queue::Target;
use agent_storage::{UsageFilter, UsageKey, UsageRow};

use crate::stage::{Stage, Told, submission};

const JOBS: usize = 200;
const SLOTS: usize = 8;
const SESSIONS: u32 = 5;
const CLIENTS: usize = 4;
const STEP: i64 = 120;
const HOUR: i64 = 3_600;
/// No call of the model costs more.
const CALL_MAX: u64 = 10;
/// In cents, what a subscription allows in five hours.
const WINDOW: u64 = 1_500;
const DAILY: u64 = 5_000;
/// Of the first client.
const DAILY_OF_FIRST: u64 = 900;
/// When the login of the second subscription dies, and when somebody sees to it.
const DIES: i64 = 4 * HOUR;
const MENDED: i64 = 9 * HOUR;
const RESTART: i64 = 6 * HOUR;

fn cents(cents: u64) -> Usd {
    Usd::from_nanos(cents * 10_000_000)
}

fn dollars(some: u64) -> f64 {
    cents(some).dollars()
}

fn after(now: Timestamp, seconds: i64) -> Timestamp {
    let wait = Duration::from_secs(seconds.unsigned_abs());
    now.checked_add(wait).unwrap()
}

/// Numbers without a pattern, the same in every run of the test.
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        1 + (self.0 >> 33) % most
    }
}

/// A subscription as it really is, whatever the server knows of it.
#[derive(Default)]
struct Account {
    is_dead: bool,
    resets_at: Option<Timestamp>,
    used: u64,
    /// The server was told that nothing goes before.
    shut_until: Option<Timestamp>,
    /// The server was told that it is dead.
    is_known_dead: bool,
    rejections: u32,
}

impl Account {
    /// How a run ends whose call it does not answer.
    fn rejects(&mut self, now: Timestamp) -> Option<(Ending, CredentialNews)> {
        let mut news = CredentialNews::default();
        if self.is_dead {
            self.is_known_dead = true;
            self.rejections += 1;
            news.refused = Some((Reason::Auth, "401".to_owned()));
            return Some((parked(None, Reason::Auth), news));
        }
        if self.resets_at.is_none_or(|at| at <= now) {
            self.resets_at = Some(after(now, 5 * HOUR));
            self.used = 0;
        }
        let until = self.resets_at?;
        if self.used < WINDOW {
            return None;
        }
        self.shut_until = Some(until);
        self.rejections += 1;
        let family = None;
        news.limited = Some(Limited { family, until });
        Some((parked(Some(until), Reason::UsageLimit), news))
    }

    /// Answers a call, and tells what is used then.
    fn takes(&mut self, cost: u64) -> LimitWindow {
        self.used += cost;
        LimitWindow {
            kind: "five_hour".into(),
            used: dollars(self.used) / dollars(WINDOW),
            resets_at: self.resets_at.unwrap(),
        }
    }
}

const fn parked(until: Option<Timestamp>, reason: Reason) -> Ending {
    Ending::Parked { until, reason }
}

/// What a job has still to do, and what its session has cost.
struct Work {
    calls: u64,
    session: u64,
    budget: Option<u64>,
}

struct Run {
    lease: Lease,
    credential: String,
    allotted: Option<Usd>,
    cost_before: Option<Usd>,
    spent: u64,
}

struct Day {
    stage: Stage,
    dice: Dice,
    begun: Timestamp,
    accounts: HashMap<String, Account>,
    work: HashMap<JobId, Work>,
    order: Vec<JobId>,
    runs: Vec<Run>,
}

impl Day {
    async fn begin() -> Self {
        let credential = |name: &str| Credential {
            name: name.parse().unwrap(),
            kind: CredentialKind::Subscription,
            max_sessions: Some(SESSIONS),
            ..Credential::environment()
        };
        let caps = Caps {
            daily: Some(cents(DAILY)),
            monthly: None,
        };
        let stage = Stage::told(Told {
            // Time passes for the wall clock only.
            terms: LeaseTerms::new(Duration::from_hours(1)),
            credentials: ["a", "b"].map(credential).to_vec(),
            parks: true,
            spending: Spending {
                caps,
                at_cap: AtCap::Wait,
                ..Spending::default()
            },
        })
        .await;
        let accounts = ["a", "b"].map(|name| (name.to_owned(), Account::default()));
        Self {
            begun: stage.clock.now(),
            stage,
            dice: Dice(41),
            accounts: accounts.into(),
            work: HashMap::new(),
            order: Vec::new(),
            runs: Vec::new(),
        }
    }

    fn seconds(&self) -> i64 {
        self.stage.clock.now().as_second() - self.begun.as_second()
    }

    /// Every tenth job has a budget that is too small for what it is to do.
    async fn submit(&mut self) {
        let number = self.order.len();
        let calls = 3 + self.dice.up_to(12);
        let budget = (number % 10 == 9).then_some(12);
        let mut wanted = submission(&format!("b{number}"), None);
        let repo = RepoSlug::new("acme", &format!("site-{}", number % CLIENTS));
        wanted.target = Target::Repo(repo.unwrap());
        wanted.spec.options.budget = budget.map(cents);
        // No wait counts as an attempt that may be lost.
        wanted.spec.options.max_attempts = Some(1);
        let accepted = self.stage.engine.submit(wanted).await.unwrap();
        if number == 0 {
            let change = ClientChange {
                daily: Edit::Set(cents(DAILY_OF_FIRST)),
                ..ClientChange::default()
            };
            let changed = self.stage.engine.update_client(accepted.client_id, change);
            changed.await.unwrap();
        }
        let work = Work {
            calls,
            session: 0,
            budget,
        };
        self.work.insert(accepted.id, work);
        self.order.push(accepted.id);
    }

    /// Takes what may begin, and sees that nothing begins that the server knows to be in vain.
    async fn claim(&mut self) {
        let now = self.stage.clock.now();
        let free = SLOTS - self.runs.len();
        let engine = &self.stage.engine;
        let claimed = engine.claim(&self.stage.worker, free, Duration::ZERO);
        for run in claimed.await.unwrap() {
            let credential = run.credential.as_ref().unwrap().to_string();
            let account = &self.accounts[&credential];
            let hour = self.seconds() / HOUR;
            assert!(!account.is_known_dead, "hour {hour}: begun on a dead login");
            let open = account.shut_until.is_none_or(|until| until <= now);
            assert!(open, "hour {hour}: begun on {credential} before it resets");
            self.runs.push(Run {
                lease: run.lease,
                credential,
                allotted: run.facts.allotted,
                cost_before: run.facts.cost,
                spent: 0,
            });
        }
        for name in self.accounts.keys() {
            let of_it = self.runs.iter().filter(|run| run.credential == *name);
            assert!(of_it.count() <= SESSIONS as usize);
        }
    }

    /// Each run makes one call of the model, and ends if that was its last.
    async fn work(&mut self) {
        for run in std::mem::take(&mut self.runs) {
            let mut run = run;
            match self.call(&mut run) {
                None => self.runs.push(run),
                Some((ending, news)) => self.report(&run, ending, news).await,
            }
        }
    }

    fn call(&mut self, run: &mut Run) -> Option<(Ending, CredentialNews)> {
        let now = self.stage.clock.now();
        let account = self.accounts.get_mut(&run.credential).unwrap();
        if let Some(rejected) = account.rejects(now) {
            return Some(rejected);
        }
        let cost = self.dice.up_to(CALL_MAX);
        let window = account.takes(cost);
        let work = self.work.get_mut(&run.lease.job).unwrap();
        work.session += cost;
        work.calls -= 1;
        run.spent += cost;
        let is_over = run.allotted.is_some_and(|most| cents(run.spent) >= most);
        let ending = if work.calls == 0 {
            Ending::Completed
        } else if is_over && is_capped(run.allotted, work.budget.map(cents), run.cost_before) {
            parked(Some(after(now, 5)), Reason::Budget)
        } else if is_over {
            Ending::Failed {
                reason: Reason::Budget,
                error: "its budget".to_owned(),
            }
        } else {
            return None;
        };
        let news = CredentialNews {
            windows: vec![window],
            ..CredentialNews::default()
        };
        Some((ending, news))
    }

    /// As the CLI does, a run tells what its whole session has cost.
    async fn report(&self, run: &Run, ending: Ending, news: CredentialNews) {
        let job = run.lease.job;
        let share = Share {
            tokens: Tokens::default(),
            cost: Some(cents(self.work[&job].session)),
        };
        let usage = RunUsage {
            total: Some(Usage([("m".to_owned(), share)].into())),
            ..RunUsage::default()
        };
        let id = job.to_string();
        let facts = Facts {
            session_id: Some(format!("11111111-1111-4111-8111-{}", &id[..12])),
            usage: Some(usage),
            news: (!news.is_empty()).then(|| Box::new(news)),
            ..Facts::default()
        };
        let report = Report { ending, facts };
        self.stage.engine.finish(&run.lease, report).await.unwrap();
    }

    /// The server is restarted, and its worker takes up what runs.
    async fn restart(&mut self) {
        self.stage.restart().await;
        let worker = &self.stage.worker;
        let held = self.stage.engine.held(worker).await.unwrap();
        assert_eq!(held.len(), self.runs.len());
        let kept = held.into_iter().map(|holding| Finding {
            lease: holding.lease,
            found: Found::Kept,
        });
        let leases = self
            .stage
            .engine
            .settle(worker, kept.collect())
            .await
            .unwrap();
        for run in &mut self.runs {
            let mut anew = leases.iter().filter(|lease| lease.job == run.lease.job);
            run.lease = *anew.next().unwrap();
        }
    }

    async fn unfinished(&self) -> usize {
        let counts = self.stage.store.counts().await.unwrap();
        let there = counts.running + counts.ready + counts.parked;
        JOBS - self.order.len() + usize::try_from(there).unwrap()
    }

    /// They come in over ten hours.
    fn next_comes_at(&self) -> i64 {
        let coming = self.order.len() * 10 * 3_600 / JOBS;
        i64::try_from(coming).unwrap()
    }

    /// Nobody is left behind by a day: some jobs wait for the caps of the next.
    async fn pass(&mut self) {
        while self.unfinished().await > 0 {
            let seconds = self.seconds();
            assert!(seconds < 72 * HOUR, "{} are left", self.unfinished().await);
            while self.order.len() < JOBS && self.next_comes_at() <= seconds {
                self.submit().await;
            }
            let b = self.accounts.get_mut("b").unwrap();
            if seconds == DIES {
                b.is_dead = true;
            }
            if seconds == MENDED {
                assert!(b.is_known_dead);
                (b.is_dead, b.is_known_dead) = (false, false);
                let name = "b".parse().unwrap();
                self.stage.engine.resume_credential(&name).await.unwrap();
            }
            if seconds == RESTART {
                self.restart().await;
            }
            self.claim().await;
            self.work().await;
            self.stage.clock.step(STEP);
        }
    }

    async fn spent(&self, by: &[UsageKey]) -> Vec<UsageRow> {
        let filter = UsageFilter {
            from: utc_day(self.begun),
            to: utc_day(self.stage.clock.now()),
            by: by.to_vec(),
            client: None,
            limit: 1_000,
        };
        self.stage.engine.usage(filter).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_two_hundred_jobs_on_two_subscriptions_ends_well() {
    let mut day = Day::begin().await;
    day.pass().await;

    for (number, id) in day.order.iter().enumerate() {
        let job = day.stage.job(*id).await;
        let work = &day.work[id];
        match job.state {
            State::Completed { .. } => assert_eq!(work.calls, 0, "job {number}"),
            State::Failed { reason, .. } => {
                assert_eq!(reason, Reason::Budget, "job {number}");
                let most = work.budget.unwrap();
                assert!(
                    (most..most + CALL_MAX).contains(&work.session),
                    "job {number}"
                );
            }
            other => panic!("job {number}: {other:?}"),
        }
        assert_eq!(job.facts.cost, Some(cents(work.session)), "job {number}");
    }
    let completed = day.work.values().filter(|work| work.calls == 0).count();
    assert!(completed >= JOBS * 9 / 10, "{completed}");
    money_adds_up(&day).await;
    caps_hold(&day).await;
    // Each limit was run into by those only that were under way, and the dead login as well.
    let counts = day.accounts.values().map(|account| account.rejections);
    let counts: Vec<u32> = counts.collect();
    assert!(
        counts.iter().all(|count| (1..40).contains(count)),
        "{counts:?}"
    );
    assert_eq!(day.stage.engine.health().await.unwrap().running, 0);
}

async fn money_adds_up(day: &Day) {
    // To the cent, however it is added up.
    let truth = cents(day.work.values().map(|work| work.session).sum());
    for by in [
        UsageKey::Day,
        UsageKey::Client,
        UsageKey::Credential,
        UsageKey::Model,
    ] {
        let rows = day.spent(&[by]).await;
        let sum = rows.iter().map(|row| row.cost.nanos()).sum();
        assert_eq!(Usd::from_nanos(sum), truth, "{by:?}");
    }
    assert_eq!(day.spent(&[UsageKey::Credential]).await.len(), 2);
}

async fn caps_hold(day: &Day) {
    // No cap is exceeded by more than one call, and they were in the way at all.
    let first = day.stage.job(day.order[0]).await.client_id;
    for (by, of, cap) in [
        (vec![UsageKey::Day], None, DAILY),
        (
            vec![UsageKey::Day, UsageKey::Client],
            Some(first),
            DAILY_OF_FIRST,
        ),
    ] {
        let rows = day.spent(&by).await;
        let whose = |row: &UsageRow| row.client.as_ref().map(|(id, _)| *id);
        let its = rows.iter().filter(|row| whose(row) == of);
        let most = its.map(|row| row.cost).max().unwrap();
        assert!(most < cents(cap + CALL_MAX), "{most:?} of {cap} cents");
        assert!(
            most > cents(cap - CALL_MAX),
            "{most:?} of {cap} cents: never reached"
        );
    }
}
