//! What a worker tells of a run while it is on.

use std::fs;
use std::time::Duration;

use agent_domain::{Facts, Phase};

use crate::coordinator::Said;
use crate::place::{Place, until};

const LEASE: Duration = Duration::from_secs(30);
const OVERLOADED: &str = "the API is overloaded (529): try 1 of 10 at 2";
const UNREACHABLE: &str = "the API does not answer: try 2 of 10 at 2";

/// Says the same retry a hundred times, then another one, then goes on.
const SCRIPT: &str = r#"
wait_for() { while [ ! -e "$T/$1" ]; do sleep 0.02; done; }
retry() { echo "{\"type\":\"system\",\"subtype\":\"api_retry\",\"attempt\":$1,\"max_retries\":10,\"retry_delay_ms\":600000,\"error_status\":$2}"; }
i=0; while [ $i -lt 100 ]; do retry 1 529; i=$((i+1)); done
wait_for second
retry 2 null
wait_for on
echo '{"type":"assistant","message":{"id":"m","content":[{"type":"text","text":"Hello"}]}}'
touch $T/went-on
wait_for end
echo '{"type":"result","subtype":"success","is_error":false,"result":"done"}'
"#;

/// What was told of the first job while its agent ran, in order.
fn told(place: &Place) -> Vec<Option<String>> {
    let said = place.coordinator.said();
    let details = said.into_iter().filter_map(|said| match said {
        Said::Progressed(_, _, Phase::Agent, facts) => Some(facts.phase_detail),
        _ => None,
    });
    details.collect()
}

fn last_is(place: &Place, wanted: &str) -> bool {
    let told = told(place);
    let last = told.last().cloned().flatten();
    last.is_some_and(|last| last.starts_with(wanted))
}

#[tokio::test]
async fn what_holds_a_run_up_is_told_once_and_taken_back_when_it_goes_on() {
    let place = Place::new(SCRIPT, LEASE);
    let worker = place.worker(1);
    place.coordinator.offer(place.assignment(1, 1));
    until("the overload is told", || last_is(&place, OVERLOADED)).await;
    fs::write(place.path("second"), "").unwrap();
    until("the next retry is told", || last_is(&place, UNREACHABLE)).await;
    fs::write(place.path("on"), "").unwrap();
    until("it is taken back", || told(&place).last() == Some(&None)).await;
    fs::write(place.path("end"), "").unwrap();
    let job = place.job(1);
    until("the job has ended", || {
        place.coordinator.has_finished(job, 1).is_some()
    })
    .await;
    // The entry to the phase, two retries, and that it goes on: nothing for each line.
    let told = told(&place);
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!((&told[0], &told[3]), (&None, &None));
    worker.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_was_told_before_a_restart_is_taken_back_when_it_is_over() {
    let place = Place::new(SCRIPT, LEASE);
    let worker = place.worker(1);
    place.coordinator.offer(place.assignment(1, 1));
    until("the overload is told", || last_is(&place, OVERLOADED)).await;
    worker.stop(Duration::ZERO).await;
    let before = told(&place);
    // Nobody is there to hear that it goes on.
    fs::write(place.path("second"), "").unwrap();
    fs::write(place.path("on"), "").unwrap();
    until("it goes on", || place.path("went-on").exists()).await;
    let mut assignment = place.assignment(1, 1);
    assignment.facts = Facts {
        phase_detail: before.last().cloned().flatten(),
        ..Facts::default()
    };
    place.coordinator.holds(assignment, Phase::Agent);
    let worker = place.worker(1);
    until("it is taken back", || told(&place).last() == Some(&None)).await;
    assert_eq!(told(&place).len(), before.len() + 1);
    fs::write(place.path("end"), "").unwrap();
    let job = place.job(1);
    until("the job has ended", || {
        place.coordinator.has_finished(job, 1).is_some()
    })
    .await;
    worker.stop(Duration::from_secs(5)).await;
}
