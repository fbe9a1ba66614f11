//! A worker that loses its lease ends its own agent, says nothing more, and touches nothing that
//! may be another's by now.

use std::fs;
use std::time::Duration;

use agent_domain::Ending;
use rustix::process::Signal;
use tokio::time::Instant;

use crate::coordinator::{Renewals, Said};
use crate::place::{Place, signal, until};

/// Long enough that a busy machine does not blur who is first.
const LEASE: Duration = Duration::from_secs(9);
const GRACE: Duration = Duration::from_secs(5);

/// Leaves a file in its workspace, and works on.
const ENDLESS: &str = "echo begun > b.txt; echo $$ > $T/up; exec sleep 1000";

async fn is_ended_in_time(renewals: Renewals) {
    let place = Place::new(ENDLESS, LEASE);
    place.coordinator.answer_renewals(renewals);
    let worker = place.worker(1);
    place.coordinator.offer(place.assignment(1, 1));
    // Whatever the coordinator has to wait for begins no earlier than this.
    let offered = Instant::now();
    until("the agent is up", || place.path("up").exists()).await;
    let said = place.coordinator.said().len();
    until("the agent is gone", || place.processes().is_empty()).await;
    assert!(offered.elapsed() < place.terms.coordinator_waits());
    assert!(
        offered.elapsed() >= place.terms.worker_gives_up_after(),
        "too early"
    );
    until("the attempt is given up", || {
        !place.attempt_dir(1, 1).exists()
    })
    .await;
    // A claim is no word about the attempt.
    let about_it = place.coordinator.said().split_off(said);
    assert!(
        about_it.iter().all(|said| *said == Said::Claimed),
        "{about_it:?}"
    );
    assert_eq!(
        fs::read_to_string(place.workspace(1).join("b.txt")).unwrap(),
        "begun\n"
    );
    worker.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_ended_before_its_job_can_be_given_away_when_no_renewal_is_answered() {
    is_ended_in_time(Renewals::Swallowed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_ended_before_its_job_can_be_given_away_when_every_renewal_fails() {
    is_ended_in_time(Renewals::Failing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_that_fail_for_a_while_end_nothing() {
    let place = Place::new(
        "echo $$ > $T/up; while [ ! -e $T/go ]; do sleep 0.05; done",
        LEASE,
    );
    place.coordinator.answer_renewals(Renewals::Failing);
    let worker = place.worker(1);
    place.coordinator.offer(place.assignment(1, 1));
    until("the agent is up", || place.path("up").exists()).await;
    tokio::time::sleep(LEASE / 2).await;
    place.coordinator.answer_renewals(Renewals::Granted);
    tokio::time::sleep(LEASE).await;
    fs::write(place.path("go"), "").unwrap();
    until("the attempt is reported", || {
        place.coordinator.has_finished(place.job(1), 1).is_some()
    })
    .await;
    worker.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_attempt_of_a_job_waits_until_the_earlier_one_is_ended_by_force() {
    // Notes it when another agent of the same job is living.
    let script = "if [ -e $T/up ]; then \
                      grep -q '^State:.[^ZX]' /proc/$(cat $T/up)/status && touch $T/overlap; touch $T/again; exit 1; \
                  fi; \
                  echo kept > b.txt; echo $$ > $T/up; exec sleep 1000";
    let place = Place::new(script, Duration::from_secs(3));
    let worker = place.worker(2);
    place.coordinator.offer(place.assignment(1, 1));
    let up = || fs::read_to_string(place.path("up")).unwrap_or_default();
    until("the agent is up", || up().ends_with('\n')).await;
    let agent: i32 = up().trim().parse().unwrap();
    let supervisor = place
        .processes()
        .into_iter()
        .find(|pid| *pid != agent)
        .unwrap();
    // From now on it does nothing that it is told.
    signal(supervisor, Signal::STOP);
    place.coordinator.answer_renewals(Renewals::Stale);
    tokio::time::sleep(place.terms.lasts()).await;
    place.coordinator.answer_renewals(Renewals::Granted);
    let base = place.git(&["rev-parse", "refs/remotes/origin/main"]);
    let mut next = place.assignment(1, 2);
    next.facts.base_commit = Some(base.trim().parse().unwrap());
    place.coordinator.offer(next);
    until("the second agent has run", || {
        place.coordinator.has_finished(place.job(1), 2).is_some()
    })
    .await;
    assert!(place.path("again").exists());
    assert!(!place.path("overlap").exists(), "two agents at once");
    let kept = place.git(&["show", &format!("refs/agent/{}:b.txt", place.job(1))]);
    assert_eq!(kept, "kept\n", "the work of the first is kept");
    assert!(place.coordinator.has_finished(place.job(1), 1).is_none());
    until("nothing is left", || place.processes().is_empty()).await;
    worker.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_of_which_nobody_knows_is_ended_when_a_worker_starts() {
    let place = Place::new(ENDLESS, LEASE);
    let worker = place.worker(1);
    place.coordinator.offer(place.assignment(1, 1));
    until("the agent is up", || place.path("up").exists()).await;
    worker.stop(Duration::ZERO).await;
    assert_eq!(place.processes().len(), 2, "supervisor and agent live on");
    fs::create_dir(place.path("attempts/not-an-attempt")).unwrap();
    // As after the database was restored: the coordinator knows of nothing.
    let worker = place.worker(1);
    until("the orphan is gone", || !place.attempt_dir(1, 1).exists()).await;
    assert!(place.processes().is_empty());
    assert!(place.path("attempts/not-an-attempt").exists());
    assert!(place.coordinator.has_finished(place.job(1), 1).is_none());
    worker.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_delivered_while_its_lease_is_renewed() {
    let place = Place::new(
        "echo done > b.txt; echo '{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false}'",
        LEASE,
    );
    let worker = place.worker(1);
    place.coordinator.offer(place.assignment(1, 1));
    until("it is reported", || {
        place.coordinator.has_finished(place.job(1), 1).is_some()
    })
    .await;
    assert_eq!(
        place.coordinator.has_finished(place.job(1), 1),
        Some(Ending::Completed)
    );
    until("its directory is gone", || {
        !place.attempt_dir(1, 1).exists()
    })
    .await;
    assert!(!place.workspace(1).exists());
    worker.stop(GRACE).await;
}
