//! Point 6: sessions and what they cost.

use serde_json::Value;

use crate::harness::Place;

const ID: &str = "11111111-1111-4111-8111-111111111111";
const OTHER: &str = "22222222-2222-4222-8222-222222222222";

#[test]
fn a_session_id_is_honoured_kept_on_disk_and_not_given_twice() {
    let place = Place::new();
    let done = place.script_with(&["--session-id", ID], "result ok");
    assert!(done.events().iter().all(|event| event["session_id"] == ID));
    let slug: String = place
        .work()
        .to_str()
        .unwrap()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    assert!(
        place
            .home()
            .join(format!(".claude/projects/{slug}/{ID}.jsonl"))
            .is_file()
    );
    let again = place.script_with(&["--session-id", ID], "result ok");
    assert_eq!((again.code(), again.text().as_str()), (Some(1), ""));
    assert!(
        again
            .stderr
            .contains(&format!("Session ID {ID} is already in use."))
    );
    assert_eq!(
        place
            .script_with(&["--session-id", "nope"], "result ok")
            .code(),
        Some(1)
    );
}

#[test]
fn a_resumed_session_keeps_its_id_and_adds_to_its_cost() {
    let place = Place::new();
    let mut costs = vec![
        place
            .script_with(&["--session-id", ID], "price 0.5\nresult ok")
            .result(),
    ];
    for _ in 0..2 {
        let done = place.script_with(
            &["--resume", ID],
            "price 0.5\nresumed text again\nfresh exit 9\nresult ok",
        );
        assert_eq!(done.code(), Some(0), "{}", done.stderr);
        costs.push(done.result());
    }
    assert!(costs.iter().all(|result| result["session_id"] == ID));
    let totals: Vec<f64> = costs
        .iter()
        .map(|result| result["total_cost_usd"].as_f64().unwrap())
        .collect();
    assert_eq!(totals, [0.5, 1.0, 1.5]);
    for (runs, result) in (1..).zip(&costs) {
        let of = |key: &str| {
            result[key]
                .as_object()
                .unwrap()
                .values()
                .next()
                .unwrap()
                .clone()
        };
        let (all, own) = (of("modelUsage"), of("model_usage_since_last_result"));
        assert_eq!(
            (&all["inputTokens"], &own["inputTokens"]),
            (&Value::from(24 * runs), &24.into())
        );
        assert_eq!(own["costUSD"], 0.5, "a run tells of itself alone, too");
    }
}

#[test]
fn a_run_that_was_killed_is_not_counted_later_but_can_be_resumed() {
    let place = Place::new();
    place.script_with(&["--session-id", ID], "price 0.5\nresult ok");
    place.script_with(&["--resume", ID], "price 7\ntext hi\ndie KILL");
    let done = place.script_with(&["--resume", ID], "price 0.5\nresult ok");
    assert_eq!(done.result()["total_cost_usd"], 1.0);
}

#[test]
fn resuming_what_is_not_there_fails_and_a_stream_gets_an_empty_result() {
    let place = Place::new();
    let done = place.script_with(&["--resume", ID], "result ok");
    assert_eq!(done.code(), Some(1));
    assert_eq!(
        done.stderr,
        format!("No conversation found with session ID: {ID}\n")
    );
    assert_eq!(
        (done.kinds(), &done.result()["num_turns"]),
        (vec!["result".to_owned()], &0.into())
    );
    let json = place.bare(&["-p", "hi", "--resume", ID, "--output-format", "json"]);
    assert_eq!((json.code(), json.text().as_str()), (Some(1), ""));
}

#[test]
fn a_fork_has_a_new_id_and_the_cost_of_both() {
    let place = Place::new();
    place.script_with(&["--session-id", ID], "price 1\nresult ok");
    let fork = ["--resume", ID, "--fork-session", "--session-id", OTHER];
    let done = place.script_with(&fork, "price 1\nresult ok");
    assert_eq!(
        (
            &done.result()["session_id"],
            &done.result()["total_cost_usd"]
        ),
        (&OTHER.into(), &2.0.into())
    );
    assert_eq!(
        place
            .script_with(&["--resume", ID], "price 1\nresult ok")
            .result()["total_cost_usd"],
        2.0
    );
}

#[test]
fn a_configuration_that_cannot_be_written_is_no_error_but_forgets() {
    let place = Place::new().env("CLAUDE_CONFIG_DIR", "/proc/nope");
    assert_eq!(
        place.script_with(&["--session-id", ID], "result ok").code(),
        Some(0)
    );
    assert_eq!(
        place.script_with(&["--resume", ID], "result ok").code(),
        Some(1)
    );
}

#[test]
fn nothing_is_kept_where_that_is_asked_for() {
    let place = Place::new();
    place.script_with(
        &["--session-id", ID, "--no-session-persistence"],
        "result ok",
    );
    assert_eq!(
        place.script_with(&["--resume", ID], "result ok").code(),
        Some(1)
    );
}
