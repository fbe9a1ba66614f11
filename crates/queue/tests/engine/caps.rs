//! What jobs may spend: shared at their start, kept to over restarts, given again when it is due.

use std::time::Duration;

use agent_domain::{
    Assignment, AtCap, ClientChange, Coordinator as _, Edit, Ending, Facts, JobId, Reason, Report,
    Spending, State, Status, Usd, iso_millis,
};

use crate::stage::{Stage, told};

const LEASE: Duration = Duration::from_secs(30);
const HALF_A_DAY: i64 = 43_200;

fn usd(dollars: f64) -> Usd {
    Usd::from_dollars(dollars).unwrap()
}

/// Caps what the stage's only client may spend in a day.
async fn cap(stage: &Stage, dollars: f64) {
    let client = stage.store.clients().await.unwrap().remove(0).id;
    let change = ClientChange {
        daily: Edit::Set(usd(dollars)),
        ..ClientChange::default()
    };
    stage.engine.update_client(client, change).await.unwrap();
}

async fn submit(stage: &Stage, jobs: u32) -> Vec<JobId> {
    let mut ids = Vec::new();
    for number in 0..jobs {
        ids.push(stage.submit(&format!("b{number}")).await);
    }
    ids
}

async fn ends(stage: &Stage, run: &Assignment, dollars: f64) {
    let facts = Facts {
        usage: Some(told(dollars)),
        ..Facts::default()
    };
    let ending = Ending::Completed;
    let report = Report { ending, facts };
    stage.engine.finish(&run.lease, report).await.unwrap();
}

fn allotted(runs: &[Assignment]) -> Vec<Option<Usd>> {
    runs.iter().map(|run| run.facts.allotted).collect()
}

async fn parked_until(stage: &Stage, id: JobId) -> Option<String> {
    match stage.job(id).await.state {
        State::Queued {
            not_before,
            reason: Some(Reason::Budget),
        } => not_before.map(iso_millis),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_begin_at_once_share_what_a_cap_leaves_and_keep_it_though_each_overshoots_by_a_call()
 {
    const CALL: f64 = 1.0;
    let stage = Stage::new(LEASE).await;
    let ids = submit(&stage, 6).await;
    cap(&stage, 10.0).await;
    let runs = stage.claim(4).await;
    assert_eq!(allotted(&runs), [Some(usd(1.5)); 4]);
    assert_eq!(stage.claim(2).await, [], "all of it is reserved");
    assert_eq!(stage.status(ids[4]).await, Status::Queued);
    assert_eq!(
        parked_until(&stage, ids[4]).await,
        None,
        "it keeps its place"
    );
    for run in &runs {
        ends(&stage, run, 1.5 + CALL).await;
    }
    assert_eq!(stage.claim(2).await, []);
    let midnight = Some("2025-01-08T00:00:00.000Z".to_owned());
    for id in &ids[4..] {
        assert_eq!(parked_until(&stage, *id).await, midnight);
    }
    let spent: Usd = {
        let mut costs = Vec::new();
        for id in &ids {
            costs.extend(stage.job(*id).await.facts.cost);
        }
        costs.into_iter().sum()
    };
    assert_eq!(spent, usd(10.0));
    stage.clock.step(HALF_A_DAY);
    assert_eq!(allotted(&stage.claim(2).await), [Some(usd(4.0)); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reserved_stays_so_over_a_restart_and_what_was_not_spent_comes_free() {
    let mut stage = Stage::new(LEASE).await;
    submit(&stage, 3).await;
    cap(&stage, 10.0).await;
    let runs = stage.claim(2).await;
    assert_eq!(allotted(&runs), [Some(usd(4.0)); 2]);
    stage.restart().await;
    assert_eq!(stage.claim(1).await, []);
    ends(&stage, &runs[0], 0.1).await;
    assert_eq!(allotted(&stage.claim(1).await), [Some(usd(3.9))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn near_a_cap_a_job_runs_alone_and_only_it_goes_beyond_by_a_call() {
    let stage = Stage::new(LEASE).await;
    submit(&stage, 4).await;
    cap(&stage, 3.0).await;
    let runs = stage.claim(4).await;
    assert_eq!(allotted(&runs), [Some(usd(3.0))]);
    ends(&stage, &runs[0], 2.5).await;
    let runs = stage.claim(4).await;
    assert_eq!(allotted(&runs), [Some(usd(0.5))]);
    ends(&stage, &runs[0], 1.5).await;
    assert_eq!(stage.claim(4).await, [], "reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_that_is_raised_lets_go_on_what_waited_for_it() {
    let stage = Stage::new(LEASE).await;
    let ids = submit(&stage, 1).await;
    cap(&stage, 0.0).await;
    assert_eq!(stage.claim(1).await, []);
    assert!(parked_until(&stage, ids[0]).await.is_some());
    cap(&stage, 2.0).await;
    assert_eq!(allotted(&stage.claim(1).await), [Some(usd(2.0))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_given_what_its_budget_leaves_and_fails_when_that_is_nothing() {
    let stage = Stage::new(LEASE).await;
    let id = stage.submit_within("a", usd(0.5)).await;
    for (left, spent) in [(0.5, 0.2), (0.3, 0.3)] {
        let run = stage.claim(1).await.remove(0);
        assert_eq!(run.facts.allotted, Some(usd(left)));
        let facts = Facts {
            usage: Some(told(spent)),
            ..Facts::default()
        };
        let ending = Ending::Lost {
            error: "gone".into(),
        };
        let report = Report { ending, facts };
        stage.engine.finish(&run.lease, report).await.unwrap();
        stage.clock.step(10);
    }
    assert_eq!(stage.claim(1).await, []);
    let job = stage.job(id).await;
    assert_eq!(job.state.status(), Status::Failed);
    assert_eq!(job.state.reason(), Some(Reason::Budget));
    assert_eq!((job.attempt, job.facts.cost), (2, Some(usd(0.5))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_at_a_cap_fails_where_that_is_set_before_it_has_cost_anything_and_says_which_cap() {
    let spending = Spending {
        at_cap: AtCap::Fail,
        ..Spending::default()
    };
    let mut stage = Stage::with_money(LEASE, spending).await;
    let ids = submit(&stage, 3).await;
    cap(&stage, 1.0).await;
    let runs = stage.claim(1).await;
    assert_eq!(stage.claim(1).await, [], "what is reserved may come free");
    assert_eq!(stage.status(ids[1]).await, Status::Queued);
    ends(&stage, &runs[0], 1.25).await;
    assert_eq!(stage.claim(1).await, []);
    stage.restart().await;
    for id in &ids[1..] {
        let job = stage.job(*id).await;
        assert_eq!((job.attempt, job.facts.cost), (0, None));
        let State::Failed { reason, error, .. } = job.state else {
            panic!("{:?}", job.state);
        };
        assert_eq!(reason, Reason::Budget);
        let expected = "the client's jobs have cost $1.25 today and may cost $1 a day: \
             there is money again from 2025-01-08T00:00:00.000Z";
        assert_eq!(error, expected);
    }
    stage.clock.step(HALF_A_DAY);
    stage.submit("tomorrow").await;
    assert_eq!(allotted(&stage.claim(1).await), [Some(usd(1.0))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_has_its_own_budget_else_its_clients_else_the_servers() {
    let spending = Spending {
        job_budget: Some(usd(3.0)),
        ..Spending::default()
    };
    let stage = Stage::with_money(LEASE, spending).await;
    stage.submit("server").await;
    let run = stage.claim(1).await.remove(0);
    assert_eq!(run.facts.allotted, Some(usd(3.0)));
    // Whoever runs it has to know whether it is its own budget that is used up.
    assert_eq!(run.options.budget, Some(usd(3.0)));
    let client = stage.store.clients().await.unwrap().remove(0).id;
    let mut change = ClientChange::default();
    change.options.budget = Edit::Set(usd(2.0));
    stage.engine.update_client(client, change).await.unwrap();
    stage.submit("client").await;
    assert_eq!(allotted(&stage.claim(1).await), [Some(usd(2.0))]);
    stage.submit_within("own", usd(5.0)).await;
    assert_eq!(allotted(&stage.claim(1).await), [Some(usd(5.0))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_run_may_have_spent_stays_reserved_until_its_log_can_be_read() {
    let mut stage = Stage::new(LEASE).await;
    let ids = submit(&stage, 2).await;
    cap(&stage, 1.0).await;
    let run = stage.claim(1).await.remove(0);
    std::fs::create_dir_all(&run.log).unwrap();
    let ending = Ending::Lost {
        error: "gone".into(),
    };
    let facts = Facts::default();
    let report = Report { ending, facts };
    stage.engine.finish(&run.lease, report).await.unwrap();
    assert_eq!(stage.job(ids[0]).await.facts.cost, None, "nobody knows yet");
    assert_eq!(stage.claim(1).await, []);
    std::fs::remove_dir(&run.log).unwrap();
    Stage::write_log(&run.log, "0.75");
    stage.restart().await;
    let wait = Duration::from_mins(1);
    let next = stage.engine.claim(&stage.worker, 1, wait).await.unwrap();
    assert_eq!(allotted(&next), [Some(usd(0.25))]);
    assert_eq!(stage.job(ids[0]).await.facts.cost, Some(usd(0.75)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_can_never_be_read_keeps_nothing_reserved_for_ever() {
    let stage = Stage::new(LEASE).await;
    submit(&stage, 2).await;
    cap(&stage, 1.0).await;
    let run = stage.claim(1).await.remove(0);
    std::fs::create_dir_all(&run.log).unwrap();
    ends(&stage, &run, 0.25).await;
    stage.clock.step(3600);
    assert_eq!(allotted(&stage.claim(1).await), [Some(usd(0.75))]);
}
