//! What a run shows of itself while it is on.

use std::time::Duration;

use agent_runner::{Reconnected, Run, Runner, Signs};

use crate::support::Place;

/// Meets an overload, waits for a file, goes on, and waits for another.
const OVERLOAD: &str = r#"
wait_for() { while [ ! -e "$1" ]; do sleep 0.02; done; }
echo '{"type":"system","subtype":"init","session_id":"s"}'
echo '{"type":"system","subtype":"api_retry","attempt":2,"max_retries":10,"retry_delay_ms":600000,"error_status":529,"error":"overloaded"}'
wait_for ../on
echo '{"type":"assistant","message":{"id":"m","content":[{"type":"text","text":"Hello"}]}}'
wait_for ../end
echo '{"type":"result","subtype":"success","is_error":false}'
"#;

/// Waits until the run shows what is looked for; `None` is nothing that holds it up.
async fn shows(run: &mut Run, wanted: Option<&str>) {
    let mut signs = run.signs();
    let is_shown = |signs: &Option<Signs>| match (signs, wanted) {
        (None, _) => false,
        (Some(signs), None) => signs.held_up.is_none(),
        (Some(signs), Some(wanted)) => {
            let held_up = signs.held_up.as_deref();
            held_up.is_some_and(|held_up| held_up.starts_with(wanted))
        }
    };
    tokio::select! {
        shown = signs.wait_for(is_shown) => drop(shown.unwrap()),
        _ = run.wait() => panic!("ended early"),
        () = tokio::time::sleep(Duration::from_mins(1)) => panic!("never shown: {wanted:?}"),
    }
}

async fn found_again(place: &Place) -> Run {
    let runner = Runner::new(place.config.clone());
    match runner.reconnect(place.job, 1, &place.log()).await.unwrap() {
        Reconnected::Living(run) => run,
        other => panic!("not living: {other:?}"),
    }
}

#[tokio::test]
async fn an_api_that_is_asked_again_is_shown_until_the_run_goes_on() {
    const HELD_UP: Option<&str> = Some("the API is overloaded (529): try 2 of 10 at 2");
    let place = Place::new(OVERLOAD);
    let mut run = place.start().await;
    shows(&mut run, HELD_UP).await;
    // Another server that takes the run up is told, whatever was said before it came.
    drop(run);
    let mut run = found_again(&place).await;
    assert_eq!(*run.signs().borrow(), None);
    shows(&mut run, HELD_UP).await;
    std::fs::write(place.path("on"), "").unwrap();
    shows(&mut run, None).await;
    drop(run);
    // That nothing holds it up is told as well: an earlier server may have said otherwise.
    let mut run = found_again(&place).await;
    shows(&mut run, None).await;
    std::fs::write(place.path("end"), "").unwrap();
    place.wait(&mut run).await.unwrap();
    place.assert_gone();
}
