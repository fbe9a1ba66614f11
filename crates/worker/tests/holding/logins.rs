//! What a worker makes of attempts on credentials that its server does not have.

use std::time::Duration;

use agent_domain::Ending;

use crate::place::{Place, until};

const LEASE: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_attempt_on_a_credential_that_is_gone_starts_no_agent_and_goes_back_to_the_queue() {
    let place = Place::new("touch $T/started", LEASE);
    let worker = place.worker(1);
    let mut assignment = place.assignment(1, 1);
    assignment.credential = Some("gone".parse().unwrap());
    place.coordinator.offer(assignment);
    let job = place.job(1);
    until("the attempt has ended", || {
        place.coordinator.has_finished(job, 1).is_some()
    })
    .await;
    let ending = place.coordinator.has_finished(job, 1).unwrap();
    let error = "the credential gone is not configured on this server".into();
    assert_eq!(ending, Ending::Lost { error });
    assert!(!place.path("started").exists());
    worker.stop(GRACE).await;
}
