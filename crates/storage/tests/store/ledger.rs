//! The ledger: each attempt is booked once, with its end, and everything added up says the same.

use agent_domain::{
    Ending, Event, Facts, Job, LogSeal, RunUsage, SecretKinds, Share, Timestamp, Tokens, Usage, Usd,
};
use agent_storage::{Booking, Change, Store};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::kit::{at, change, claimed_until, client, create, happens, job, store};

const DAY: i64 = 86_400;
const OPUS: &str = "claude-opus-5-5";

fn share(input: u64, output: u64, cost: Option<f64>) -> Share {
    let tokens = Tokens {
        input,
        output,
        ..Tokens::default()
    };
    let cost = cost.and_then(Usd::from_dollars);
    Share { tokens, cost }
}

fn of(model: &str, share: Share) -> Usage {
    let mut usage = Usage::default();
    usage.add(model, share);
    usage
}

/// What a run of 2.1.329 tells whose session has cost `total` by then, its last model call included.
fn told(session: &str, total: Usage) -> Booking {
    Booking {
        session_id: Some(session.into()),
        cli_version: Some("2.1.329".into()),
        usage: RunUsage {
            total: Some(total),
            ..RunUsage::default()
        },
    }
}

/// What a killed run is known by.
fn killed(session: &str, messages: Usage) -> Booking {
    Booking {
        session_id: Some(session.into()),
        cli_version: Some("2.1.329".into()),
        usage: RunUsage {
            messages,
            ..RunUsage::default()
        },
    }
}

async fn running(store: &Store, job: &Job, now: Timestamp) -> Job {
    happens(store, job, claimed_until(at(1_000_000_000)), now).await
}

fn end(running: &Job, ending: Ending, booking: Option<Booking>, now: Timestamp) -> Change {
    let event = Event::Finished {
        fence: running.fence,
        ending,
        facts: Facts::default(),
    };
    Change {
        booking,
        ..change(running, event, now)
    }
}

/// Runs a new job to its end, and returns what it cost.
async fn spends(store: &Store, number: u64, booking: Booking, now: Timestamp) -> Option<f64> {
    let queued = job(number, &client(1));
    create(store, &queued).await;
    let running = running(store, &queued, at(20)).await;
    let end = end(&running, Ending::Completed, Some(booking), now);
    assert!(store.commit(end).await.unwrap());
    cost(store, &running).await
}

async fn cost(store: &Store, job: &Job) -> Option<f64> {
    let found = store.job(job.id).await.unwrap().unwrap();
    found.job.facts.cost.map(Usd::dollars)
}

fn rows<T: rusqlite::types::FromSql>(dir: &TempDir, sql: &str) -> Vec<T> {
    let conn = Connection::open(dir.path().join("agent.db")).unwrap();
    let mut statement = conn.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

async fn opened() -> (Store, TempDir) {
    let (store, dir) = store();
    store.insert_client(client(1)).await.unwrap();
    (store, dir)
}

#[tokio::test]
async fn an_attempt_is_booked_with_its_end_or_not_at_all() {
    let (store, dir) = opened().await;
    let queued = job(1, &client(1));
    create(&store, &queued).await;
    let run = running(&store, &queued, at(20)).await;
    let booking = told("s", of(OPUS, share(10, 5, Some(0.000_14))));
    let lost = Ending::Lost { error: "x".into() };
    let lost = end(&run, lost, Some(booking.clone()), at(30));
    let other = change(&run, Event::CancelRequested, at(29));
    assert!(store.commit(other).await.unwrap());
    assert!(!store.commit(lost).await.unwrap(), "somebody was first");
    assert_eq!(cost(&store, &run).await, None);
    assert!(rows::<i64>(&dir, "SELECT seq FROM ledger").is_empty());

    let run = store.job(run.id).await.unwrap().unwrap().job;
    let cancelled = end(&run, Ending::Cancelled, Some(booking), at(30));
    assert!(store.commit(cancelled.clone()).await.unwrap());
    assert!(!store.commit(cancelled).await.unwrap(), "it is told again");
    assert_eq!(cost(&store, &run).await, Some(0.000_14));
    let booked =
        "SELECT job_id || attempt || model || input_tokens || '+' || output_tokens || source
        || estimated || credential || cost_nanos FROM ledger";
    let line = format!("{}1{OPUS}10+5result0default140000", run.id);
    assert_eq!(rows::<String>(&dir, booked), [line]);
}

#[tokio::test]
async fn what_all_attempts_of_a_job_cost_is_added_up() {
    let (store, _dir) = opened().await;
    let mut current = job(1, &client(1));
    create(&store, &current).await;
    for (second, session) in [(30, "a"), (60, "b")] {
        let run = running(&store, &current, at(second)).await;
        let booking = told(session, of(OPUS, share(10, 5, Some(0.1))));
        let lost = Ending::Lost { error: "x".into() };
        let lost = end(&run, lost, Some(booking), at(second + 1));
        current = lost.job.clone();
        assert!(store.commit(lost).await.unwrap());
    }
    // As floats it would not be.
    let run = running(&store, &current, at(90)).await;
    let booking = told("c", of(OPUS, share(10, 5, Some(0.1))));
    let done = end(&run, Ending::Completed, Some(booking), at(91));
    assert!(store.commit(done).await.unwrap());
    assert_eq!(cost(&store, &run).await, Some(0.3));
}

#[tokio::test]
async fn of_a_session_that_is_resumed_only_the_difference_is_booked() {
    let (store, dir) = opened().await;
    let total = |runs: u32| {
        let (n, cost) = (u64::from(runs), f64::from(runs) * 0.000_14);
        told("s", of(OPUS, share(10 * n, 5 * n, Some(cost))))
    };
    for runs in 1..=2 {
        let spent = spends(&store, runs.into(), total(runs), at(30)).await;
        assert_eq!(spent, Some(0.000_14));
    }
    // A run that is killed is in no later total.
    let estimate = killed("s", of(OPUS, share(10, 1, None)));
    assert_eq!(spends(&store, 3, estimate, at(30)).await, Some(0.000_06));
    assert_eq!(spends(&store, 4, total(3), at(30)).await, Some(0.000_14));
    let sum = "SELECT sum(cost_nanos) FROM ledger";
    assert_eq!(rows::<i64>(&dir, sum), [3 * 140_000 + 60_000]);
    let tokens = "SELECT sum(input_tokens) FROM ledger WHERE source = 'result'";
    assert_eq!(rows::<i64>(&dir, tokens), [30]);
}

#[tokio::test]
async fn what_nobody_has_told_the_cost_of_is_estimated_from_what_is_known_or_left_open() {
    let (store, dir) = opened().await;
    let tokens = || of("some-model", share(1000, 100, None));
    assert_eq!(spends(&store, 1, killed("a", tokens()), at(30)).await, None);
    let seen = told("b", of("some-model", share(2000, 200, Some(0.5))));
    assert_eq!(spends(&store, 2, seen, at(30)).await, Some(0.5));
    let estimated = spends(&store, 3, killed("c", tokens()), at(30)).await;
    assert_eq!(estimated, Some(0.25));
    let listed = killed("d", of(OPUS, share(1000, 100, None)));
    assert_eq!(spends(&store, 4, listed, at(30)).await, Some(0.006));
    let marked = "SELECT job_id FROM ledger WHERE estimated AND source = 'messages'";
    assert_eq!(rows::<String>(&dir, marked).len(), 3);
    let open = "SELECT unpriced_tokens FROM usage_days WHERE model = 'some-model'";
    assert_eq!(rows::<i64>(&dir, open), [1100]);
}

#[tokio::test]
async fn what_a_subscription_pays_is_an_estimate_and_a_jobs_own_key_is_told_apart() {
    let (store, dir) = opened().await;
    let mut booking = told("s", of(OPUS, share(10, 5, Some(0.25))));
    booking.usage.subscription = true;
    let mut queued = job(1, &client(1));
    queued.spec.secrets = SecretKinds {
        agent: true,
        git: false,
    };
    create(&store, &queued).await;
    let run = running(&store, &queued, at(20)).await;
    let done = end(&run, Ending::Completed, Some(booking), at(30));
    assert!(store.commit(done).await.unwrap());
    let line = "SELECT credential || estimated_nanos FROM usage_days";
    assert_eq!(rows::<String>(&dir, line), ["job250000000"]);
}

#[tokio::test]
async fn an_attempt_whose_log_is_read_late_is_booked_once() {
    let (store, dir) = opened().await;
    let seal = LogSeal {
        length: 1,
        sha256: [7; 32],
    };
    let booking = || Some(told("s", of(OPUS, share(10, 5, Some(0.25)))));
    let mut runs = Vec::new();
    for (number, at_end) in [(1, None), (2, booking())] {
        let queued = job(number, &client(1));
        create(&store, &queued).await;
        let run = running(&store, &queued, at(20)).await;
        let done = end(&run, Ending::Completed, at_end, at(30));
        assert!(store.commit(done).await.unwrap());
        runs.push(run);
    }
    for run in &runs {
        for is_first in [true, false] {
            let sealed = store.seal(run.id, 1, seal, booking()).await;
            assert_eq!(sealed, Ok(is_first));
        }
    }
    // The second one's session was known to have cost as much.
    assert_eq!(cost(&store, &runs[1]).await, Some(0.25));
    assert_eq!(cost(&store, &runs[0]).await, Some(0.0));
    assert_eq!(rows::<i64>(&dir, "SELECT count(*) FROM ledger"), [1]);

    let queued = job(3, &client(1));
    create(&store, &queued).await;
    let run = running(&store, &queued, at(20)).await;
    let done = end(&run, Ending::Completed, None, at(30));
    assert!(store.commit(done).await.unwrap());
    let other = Some(told("t", of(OPUS, share(10, 5, Some(0.5)))));
    assert_eq!(store.seal(run.id, 1, seal, other).await, Ok(true));
    assert_eq!(cost(&store, &run).await, Some(0.5));
}

#[tokio::test]
async fn the_sums_by_day_are_those_of_the_ledger_and_money_outlives_its_job() {
    let (store, dir) = opened().await;
    for number in 1..=6_u64 {
        let now = at(DAY * i64::try_from(number / 2).unwrap() + 100);
        let both = of(OPUS, share(number, 1, Some(0.1))).plus(of("b", share(1, 1, Some(0.2))));
        let session = number.to_string();
        spends(&store, number, told(&session, both), now).await;
    }
    let by_day = "SELECT (at / 86400000000) || '|' || client_id || '|' || sum(cost_nanos) || '|'
        || sum(input_tokens) FROM ledger GROUP BY at / 86400000000, client_id ORDER BY 1";
    let summed = "SELECT day || '|' || client_id || '|' || sum(cost_nanos) || '|'
        || sum(input_tokens) FROM usage_days GROUP BY day, client_id ORDER BY 1";
    let ledger = rows::<String>(&dir, by_day);
    assert_eq!(ledger, rows::<String>(&dir, summed));
    assert_eq!(ledger.len(), 4);
    for client in ["= ''", "<> ''"] {
        let spent = format!("SELECT sum(cost_nanos) FROM spent_days WHERE client_id {client}");
        assert_eq!(rows::<i64>(&dir, &spent), [1_800_000_000]);
    }
    let jobs = (1..=6).map(|number| job(number, &client(1)).id).collect();
    assert_eq!(store.forget_jobs(jobs).await, Ok(6));
    assert_eq!(rows::<String>(&dir, by_day), ledger);
}

#[tokio::test]
async fn no_row_of_the_ledger_can_be_changed_or_removed() {
    let (store, dir) = opened().await;
    let booking = told("s", of(OPUS, share(10, 5, Some(0.25))));
    spends(&store, 1, booking, at(30)).await;
    let conn = Connection::open(dir.path().join("agent.db")).unwrap();
    for sql in ["UPDATE ledger SET cost_nanos = 0", "DELETE FROM ledger"] {
        let refused = conn.execute(sql, []).unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
}

#[tokio::test]
async fn a_run_that_says_it_cost_nothing_is_told_from_one_that_says_nothing() {
    let (store, _dir) = opened().await;
    let free = spends(&store, 1, told("s", Usage::default()), at(30)).await;
    assert_eq!(free, Some(0.0));
    let silent = spends(&store, 2, killed("t", Usage::default()), at(40)).await;
    assert_eq!(silent, None);
}
