//! What jobs run on: nothing is started on a credential that is limited or stopped, and no job fails
//! for it.

use std::time::Duration;

use agent_domain::{
    AgentHealth, AgentKey, Assignment, Clock as _, Coordinator as _, Credential, CredentialKind,
    CredentialNews, Ending, Facts, JobId, JobSecrets, LeaseTerms, LimitWindow, Limited, Priority,
    Reason, Report, Secret, Spending, State, Timestamp,
};
use agent_queue::EngineError;

use crate::stage::{Stage, Told, submission};

const HOUR: i64 = 3_600;

fn named(name: &str) -> Credential {
    Credential {
        name: name.parse().unwrap(),
        kind: CredentialKind::Subscription,
        ..Credential::environment()
    }
}

fn told(credentials: Vec<Credential>) -> Told {
    Told {
        terms: LeaseTerms::new(Duration::from_secs(30)),
        credentials,
        parks: true,
        spending: Spending::default(),
    }
}

async fn stage(credentials: &[&str]) -> Stage {
    Stage::told(told(credentials.iter().map(|name| named(name)).collect())).await
}

/// The CLI says that somebody is logged in.
fn logged_in(stage: &Stage) {
    let health = AgentHealth {
        authenticated: true,
        ..AgentHealth::default()
    };
    stage.engine.agent_health(&stage.worker, health);
}

async fn submit(stage: &Stage, jobs: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    for number in 0..jobs {
        ids.push(stage.submit(&format!("b{number}")).await);
    }
    ids
}

fn on(run: &Assignment) -> &str {
    run.credential.as_ref().unwrap().as_str()
}

fn in_seconds(stage: &Stage, seconds: i64) -> Timestamp {
    let wait = Duration::from_secs(seconds.unsigned_abs());
    stage.clock.now().checked_add(wait).unwrap()
}

async fn report(stage: &Stage, run: &Assignment, ending: Ending, news: CredentialNews) {
    let facts = Facts {
        session_id: Some("11111111-1111-4111-8111-111111111111".into()),
        news: Some(Box::new(news)),
        ..Facts::default()
    };
    let report = Report { ending, facts };
    stage.engine.finish(&run.lease, report).await.unwrap();
}

/// The run meets a limit of a family of models.
async fn meets(stage: &Stage, run: &Assignment, family: Option<&str>, seconds: i64) -> Timestamp {
    let until = in_seconds(stage, seconds);
    let news = CredentialNews {
        limited: Some(Limited {
            family: family.map(Into::into),
            until,
        }),
        ..CredentialNews::default()
    };
    let ending = Ending::Parked {
        until: Some(until),
        reason: Reason::UsageLimit,
    };
    report(stage, run, ending, news).await;
    until
}

/// The run's credential is refused.
async fn is_refused(stage: &Stage, run: &Assignment) {
    let news = CredentialNews {
        refused: Some((Reason::Auth, "401 Unauthorized".into())),
        ..CredentialNews::default()
    };
    let ending = Ending::Parked {
        until: None,
        reason: Reason::Auth,
    };
    report(stage, run, ending, news).await;
}

async fn completes(stage: &Stage, run: &Assignment) {
    report(stage, run, Ending::Completed, CredentialNews::default()).await;
}

async fn waits(stage: &Stage, id: JobId) -> (Option<Timestamp>, Option<Reason>) {
    match stage.job(id).await.state {
        State::Queued { not_before, reason } => (not_before, reason),
        other => panic!("{other:?}"),
    }
}

async fn resume(stage: &Stage, name: &str) {
    let name = name.parse().unwrap();
    let view = stage.engine.resume_credential(&name).await.unwrap();
    assert_eq!((view.state.stopped, view.state.limits), (None, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_more_is_started_on_a_limited_credential_before_it_resets() {
    let stage = stage(&["a"]).await;
    let ids = submit(&stage, 4).await;
    let runs = stage.claim(1).await;
    let until = meets(&stage, &runs[0], None, HOUR).await;
    assert_eq!(stage.claim(4).await, []);
    for id in &ids {
        assert_eq!(
            waits(&stage, *id).await,
            (Some(until), Some(Reason::UsageLimit))
        );
    }
    let health = stage.engine.health().await.unwrap();
    assert_eq!((health.parked, health.parked_until), (4, Some(until)));
    assert_eq!(
        health.credentials[0]
            .state
            .limited_until(None, stage.clock.now()),
        Some(until)
    );
    // One that comes in meanwhile waits as well.
    let late = stage.submit("late").await;
    stage.clock.step(HOUR - 1);
    assert_eq!(stage.claim(5).await, []);
    assert_eq!(waits(&stage, late).await.0, Some(until));
    stage.clock.step(1);
    let again = stage.claim(5).await;
    let begun: Vec<JobId> = again.iter().map(|run| run.lease.job).collect();
    assert_eq!(begun[..4], ids, "in their order");
    assert_eq!((again.len(), again[0].lease.attempt), (5, 2));
    assert!(again[0].resume.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_meets_a_limit_goes_on_at_once_on_another_credential() {
    let stage = stage(&["a", "b"]).await;
    stage.submit("x").await;
    let first = stage.claim(1).await.remove(0);
    assert_eq!(on(&first), "a");
    meets(&stage, &first, None, HOUR).await;
    let second = stage.claim(1).await.remove(0);
    assert_eq!((second.lease.job, on(&second)), (first.lease.job, "b"));
    assert_eq!(second.resume.as_ref().unwrap().session_id.len(), 36);
    // Where both are limited it waits for the one that resets first.
    let until = meets(&stage, &second, None, HOUR / 2).await;
    assert_eq!(waits(&stage, second.lease.job).await.0, Some(until));
    stage.clock.step(HOUR / 2);
    assert_eq!(on(&stage.claim(1).await.remove(0)), "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_one_family_of_models_leaves_the_others_alone() {
    let stage = stage(&["a"]).await;
    let mut ids = Vec::new();
    for model in ["opus", "sonnet", "claude-opus-5-5"] {
        let mut wanted = submission(model, None);
        wanted.spec.options.model = Some(model.into());
        ids.push(stage.engine.submit(wanted).await.unwrap().id);
    }
    let opus = stage.claim(1).await.remove(0);
    let until = meets(&stage, &opus, Some("opus"), HOUR).await;
    let next = stage.claim(3).await;
    assert_eq!((next.len(), next[0].lease.job), (1, ids[1]));
    assert_eq!(waits(&stage, ids[2]).await.0, Some(until));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_is_stopped_once_and_no_job_fails_for_it() {
    let stage = stage(&["a"]).await;
    logged_in(&stage);
    let ids = submit(&stage, 40).await;
    let runs = stage.claim(3).await;
    is_refused(&stage, &runs[0]).await;
    assert_eq!(stage.claim(40).await, []);
    stage.clock.step(5);
    is_refused(&stage, &runs[1]).await;
    completes(&stage, &runs[2]).await;
    assert_eq!(
        stage.claim(40).await,
        [],
        "one success does not prove that it is good again"
    );
    for id in ids.iter().filter(|id| **id != runs[2].lease.job) {
        assert_eq!(waits(&stage, *id).await, (None, Some(Reason::Auth)));
    }
    let stopped = stage
        .engine
        .credentials()
        .await
        .unwrap()
        .remove(0)
        .state
        .stopped
        .unwrap();
    assert_eq!(stopped.error, "401 Unauthorized");
    let five_ago = Duration::from_secs(5);
    assert_eq!(stopped.at, stage.clock.now().checked_sub(five_ago).unwrap());
    // Time alone helps nothing, nor does a restart with the same settings.
    stage.clock.step(100 * HOUR);
    assert_eq!(stage.claim(40).await, []);
    let health = stage.engine.health().await.unwrap();
    assert_eq!((health.parked, health.agent.authenticated), (39, false));
    resume(&stage, "a").await;
    assert_eq!(stage.claim(40).await.len(), 39);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_credential_is_refused_goes_on_at_once_on_another() {
    let stage = stage(&["a", "b"]).await;
    logged_in(&stage);
    submit(&stage, 4).await;
    let runs = stage.claim(4).await;
    let names: Vec<_> = runs.iter().map(on).collect();
    assert_eq!(names, ["a", "b", "a", "b"], "they share the work");
    is_refused(&stage, &runs[0]).await;
    is_refused(&stage, &runs[2]).await;
    let again = stage.claim(4).await;
    assert_eq!(again.iter().map(on).collect::<Vec<_>>(), ["b", "b"]);
    assert!(stage.engine.health().await.unwrap().agent.authenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_says_that_began_before_somebody_has_seen_to_its_credential_does_not_stop_it() {
    let stage = stage(&["a"]).await;
    submit(&stage, 3).await;
    let runs = stage.claim(2).await;
    is_refused(&stage, &runs[0]).await;
    resume(&stage, "a").await;
    is_refused(&stage, &runs[1]).await;
    let again = stage.claim(3).await;
    assert_eq!(again.len(), 3);
    is_refused(&stage, &again[0]).await;
    assert_eq!(stage.claim(1).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn releasing_a_job_tries_its_credentials_again() {
    for refused in [false, true] {
        let stage = stage(&["a", "b"]).await;
        let ids = submit(&stage, 3).await;
        for run in stage.claim(2).await {
            if refused {
                is_refused(&stage, &run).await;
            } else {
                meets(&stage, &run, None, HOUR).await;
            }
        }
        assert_eq!(stage.claim(3).await, []);
        stage.engine.release_once(ids[1], None).await.unwrap();
        assert_eq!(stage.claim(3).await.len(), 3);
        let again = stage.engine.release_once(ids[1], None).await.unwrap_err();
        assert_eq!(again.code(), "job_not_parked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_a_key_of_its_own_neither_needs_nor_harms_a_credential() {
    let stage = stage(&["a"]).await;
    stage.submit("first").await;
    let first = stage.claim(1).await.remove(0);
    is_refused(&stage, &first).await;
    let mut own = submission("own", None);
    own.secrets = JobSecrets {
        agent: Some(AgentKey::ApiKey(Secret::new("sk-ant-own-own-own"))),
        ..JobSecrets::default()
    };
    stage.engine.submit(own).await.unwrap();
    let own = stage.claim(2).await.remove(0);
    assert_eq!(own.credential, None);
    let until = meets(&stage, &own, None, HOUR).await;
    assert_eq!(waits(&stage, own.lease.job).await.0, Some(until));
    resume(&stage, "a").await;
    assert_eq!(
        waits(&stage, own.lease.job).await.0,
        Some(until),
        "it has nothing to do with it"
    );
    assert_eq!(on(&stage.claim(2).await.remove(0)), "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_runs_use_a_credential_at_once_than_may() {
    let mut few = named("a");
    few.max_sessions = Some(2);
    let mut stage = Stage::told(told(vec![few])).await;
    let ids = submit(&stage, 5).await;
    let runs = stage.claim(5).await;
    assert_eq!(runs.len(), 2);
    assert_eq!(stage.claim(5).await, []);
    assert_eq!(
        waits(&stage, ids[2]).await,
        (None, None),
        "they keep their places"
    );
    // After a restart, too.
    stage.restart().await;
    assert_eq!(stage.claim(5).await, []);
    completes(&stage, &runs[0]).await;
    assert_eq!(stage.claim(5).await.len(), 1);
    let view = stage.engine.credentials().await.unwrap().remove(0);
    assert_eq!(view.state.running, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_credential_of_one_client_does_not_hold_up_another_client() {
    let (mut few, mut rest) = (named("a"), named("b"));
    few.max_sessions = Some(1);
    few.clients = Some(vec!["acme/*".parse().unwrap()]);
    rest.clients = Some(vec!["other/*".parse().unwrap()]);
    let stage = Stage::told(told(vec![few, rest])).await;
    submit(&stage, 3).await;
    let mut other = submission("o", None);
    other.target = agent_queue::Target::Repo(agent_domain::RepoSlug::new("other", "x").unwrap());
    stage.engine.submit(other).await.unwrap();
    let runs = stage.claim(4).await;
    assert_eq!(runs.iter().map(on).collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_repository_that_no_credential_is_for_is_refused_or_fails_when_its_turn_comes() {
    let mut stage = stage(&["a"]).await;
    let id = stage.submit("x").await;
    let mut others = named("a");
    others.clients = Some(vec!["other/*".parse().unwrap()]);
    stage.told.credentials = vec![others];
    stage.restart().await;
    assert_eq!(stage.claim(1).await, []);
    let State::Failed { reason, error, .. } = stage.job(id).await.state else {
        panic!("not failed")
    };
    assert_eq!(reason, Reason::Auth);
    assert_eq!(
        error,
        "No credential of this server may be used for jobs of acme/site"
    );
    let refused = stage
        .engine
        .submit(submission("y", None))
        .await
        .unwrap_err();
    assert!(matches!(refused, EngineError::NoCredential(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_waits_for_a_limit_jobs_fail_at_their_turn_before_they_cost_anything() {
    let mut fails = told(vec![named("a")]);
    fails.parks = false;
    let stage = Stage::told(fails).await;
    let ids = submit(&stage, 2).await;
    let run = stage.claim(1).await.remove(0);
    let until = in_seconds(&stage, HOUR);
    let limited = Some(Limited {
        family: None,
        until,
    });
    let ending = Ending::Failed {
        reason: Reason::UsageLimit,
        error: "limit".into(),
    };
    let news = CredentialNews {
        limited,
        ..CredentialNews::default()
    };
    report(&stage, &run, ending, news).await;
    assert_eq!(stage.claim(1).await, []);
    let job = stage.job(ids[1]).await;
    assert_eq!(
        (job.attempt, job.state.reason()),
        (0, Some(Reason::UsageLimit))
    );
    let State::Failed { error, .. } = job.state else {
        panic!("not failed")
    };
    assert!(error.contains("2025-01-07T13:00:00.000Z"), "{error}");
    stage.clock.step(HOUR);
    stage.submit("later").await;
    assert_eq!(stage.claim(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_credentials_outlives_the_server_unless_their_secret_is_another() {
    let mut stage = stage(&["a"]).await;
    let ids = submit(&stage, 2).await;
    let run = stage.claim(1).await.remove(0);
    is_refused(&stage, &run).await;
    assert_eq!(stage.claim(2).await, []);
    stage.restart().await;
    assert_eq!(stage.claim(2).await, []);
    assert_eq!(waits(&stage, ids[1]).await, (None, Some(Reason::Auth)));
    stage.told.credentials[0].fingerprint = Some("0123".into());
    stage.restart().await;
    assert_eq!(stage.claim(2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_comes_new_is_there_for_those_that_wait() {
    let mut stage = stage(&["a"]).await;
    submit(&stage, 2).await;
    let run = stage.claim(1).await.remove(0);
    meets(&stage, &run, None, HOUR).await;
    assert_eq!(stage.claim(2).await, []);
    stage.told.credentials.push(named("b"));
    stage.restart().await;
    let runs = stage.claim(2).await;
    assert_eq!(runs.iter().map(on).collect::<Vec<_>>(), ["b", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_the_cli_misses_stops_its_credential_until_it_is_there_again() {
    let stage = stage(&["a"]).await;
    let probe = async |is_there| {
        let health = AgentHealth {
            logins: vec![("a".parse().unwrap(), is_there)],
            ..AgentHealth::default()
        };
        stage.engine.agent_health(&stage.worker, health);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let view = stage.engine.credentials().await.unwrap().remove(0);
        view.state.stopped.is_some()
    };
    stage.submit("x").await;
    assert!(!probe(Some(true)).await);
    assert!(probe(Some(false)).await);
    assert_eq!(stage.claim(1).await, []);
    assert!(probe(None).await, "nothing is known");
    assert!(!probe(Some(true)).await);
    let run = stage.claim(1).await.remove(0);
    is_refused(&stage, &run).await;
    assert!(
        probe(Some(true)).await,
        "that it is there does not make it good"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_credential_with_most_headroom_is_used_first_as_runs_have_told_it() {
    let stage = stage(&["a", "b"]).await;
    submit(&stage, 3).await;
    let first = stage.claim(1).await.remove(0);
    let window = |used| LimitWindow {
        kind: "five_hour".into(),
        used,
        resets_at: in_seconds(&stage, HOUR),
    };
    let news = CredentialNews {
        windows: vec![window(0.3)],
        ..CredentialNews::default()
    };
    report(&stage, &first, Ending::Completed, news).await;
    assert_eq!(on(&stage.claim(1).await.remove(0)), "b");
    assert_eq!(
        on(&stage.claim(1).await.remove(0)),
        "b",
        "it has more, although it is in use"
    );
    assert_eq!(
        stage.engine.credentials().await.unwrap()[0].state.windows,
        [window(0.3)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_of_another_priority_waits_on() {
    let stage = stage(&["a"]).await;
    let ids = submit(&stage, 2).await;
    let run = stage.claim(1).await.remove(0);
    is_refused(&stage, &run).await;
    assert_eq!(stage.claim(1).await, []);
    stage
        .engine
        .reprioritize(ids[1], Priority::try_from(9).unwrap())
        .await
        .unwrap();
    assert_eq!(stage.claim(1).await, []);
    resume(&stage, "a").await;
    assert_eq!(stage.claim(1).await.remove(0).lease.job, ids[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_credential_that_somebody_has_seen_to_at_the_same_moment() {
    let stage = stage(&["a"]).await;
    let id = stage.submit("x").await;
    for round in 0..60 {
        let run = stage.claim(1).await.remove(0);
        assert_eq!(run.lease.job, id, "round {round}");
        tokio::join!(is_refused(&stage, &run), async {
            tokio::time::sleep(Duration::from_micros(round * 40)).await;
            let name = "a".parse().unwrap();
            stage.engine.resume_credential(&name).await.unwrap();
        });
        let view = stage.engine.credentials().await.unwrap().remove(0);
        if view.state.stopped.is_some() {
            resume(&stage, "a").await;
        }
    }
}
