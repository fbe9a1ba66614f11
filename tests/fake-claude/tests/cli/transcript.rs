//! Points 5, 11, 15 to 18: what is written, to whom, and in what shape.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Place, git};

#[test]
fn blocks_of_one_answer_have_an_event_each_and_share_the_message_id() {
    let done = Place::new().script("thinking hm\ntext one\nshell echo out\ntext two");
    assert_eq!(
        done.kinds(),
        [
            "system/init",
            "assistant",
            "assistant",
            "assistant",
            "user",
            "assistant",
            "result"
        ]
    );
    let ids: Vec<_> = done
        .of("assistant")
        .iter()
        .map(|event| event["message"]["id"].clone())
        .collect();
    assert_eq!((&ids[0], &ids[1]), (&ids[1], &ids[2]));
    assert_ne!(ids[2], ids[3]);
    assert!(
        done.of("assistant")
            .iter()
            .all(|event| event["message"]["content"].as_array().unwrap().len() == 1)
    );
    assert_eq!(
        done.of("user")[0]["message"]["content"][0]["content"],
        "out"
    );
}

#[test]
fn hook_events_may_come_before_init() {
    let done = Place::new().script("hook\ntext hi");
    assert_eq!(
        done.kinds()[..3],
        ["system/hook_started", "system/hook_response", "system/init"]
    );
}

#[test]
fn unknown_events_are_sprinkled_in_on_request() {
    let kinds = Place::new().script("unknown\nevent {\"x\":1}").kinds();
    assert_eq!(
        kinds,
        [
            "system/init",
            "system/invented_tomorrow",
            "news",
            "?",
            "?",
            "result"
        ]
    );
}

#[test]
fn the_keys_of_a_result_have_no_fixed_order_and_type_is_never_first() {
    let mut orders = BTreeSet::new();
    for seed in 0..20 {
        let text = Place::new()
            .script(&format!("seed {seed}\nresult ok"))
            .text();
        let last = text.lines().last().unwrap().to_owned();
        assert!(!last.starts_with("{\"type\""), "{last}");
        orders.insert(last.chars().take(24).collect::<String>());
    }
    assert!(orders.len() > 5, "{orders:?}");
}

#[test]
fn a_seed_makes_the_ids_the_same_every_time() {
    let run = |seed: u64| {
        let events = Place::new()
            .script(&format!("seed {seed}\ntext hi"))
            .events();
        events
            .iter()
            .map(|event| event["uuid"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn lines_can_be_very_long_and_many() {
    let done = Place::new().script("line 300000 3");
    let lengths: Vec<usize> = done
        .text()
        .lines()
        .map(str::len)
        .filter(|length| *length > 300_000)
        .collect();
    assert_eq!(lengths.len(), 3);
}

#[test]
fn bytes_that_are_not_utf_8_and_a_cut_last_line_come_through() {
    let done = Place::new().script("hex 7b ff fe 0a\nraw {\"type\":\"assis\ndie KILL");
    assert_eq!(done.signal(), Some(9));
    assert!(done.stdout.windows(4).any(|four| four == b"{\xff\xfe\n"));
    assert!(done.stdout.ends_with(b"{\"type\":\"assis"));
    assert!(done.results().is_empty());
}

#[test]
fn a_reader_that_goes_away_does_not_stop_the_run() {
    let place = Place::new();
    let mut running = place.start(
        &[],
        "text one\nmark first\nwait go\ntext two\nline 200000\nwrite done.txt yes",
    );
    place.wait_for("first");
    drop(running.child.stdout.take());
    std::fs::write(place.work().join("go"), "").unwrap();
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    assert_eq!(place.read("done.txt"), "yes\n");
}

#[test]
fn standard_output_can_end_before_the_process_does() {
    let place = Place::new();
    let mut running = place.start(
        &[],
        "text one\nclose-stdout\nmark closed\nwait go\nresult ok",
    );
    let mut text = String::new();
    std::io::Read::read_to_string(&mut running.child.stdout.take().unwrap(), &mut text).unwrap();
    place.wait_for("closed");
    assert!(running.child.try_wait().unwrap().is_none());
    std::fs::write(place.work().join("go"), "").unwrap();
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    assert!(!text.contains("\"result\""));
}

#[test]
fn a_denial_is_no_error_of_the_run() {
    let place = Place::new();
    let prompt = crate::harness::fenced("write a.txt x\nresult ok I tried.");
    let done = place.bare(&["-p", &prompt, "--output-format", "stream-json", "--verbose"]);
    assert_eq!(done.code(), Some(0));
    assert_eq!(done.of("system/permission_denied")[0]["tool_name"], "Write");
    assert_eq!(
        done.of("user")[0]["message"]["content"][0]["is_error"],
        true
    );
    let denials = done.result()["permission_denials"].clone();
    assert_eq!(denials[0]["tool_name"], "Write");
    assert!(!place.work().join("a.txt").exists());
}

#[test]
fn every_permission_mode_allows_what_it_should() {
    let table = [
        ("default", 0, 0),
        ("plan", 0, 0),
        ("dontAsk", 0, 0),
        ("acceptEdits", 1, 0),
        ("bypassPermissions", 1, 1),
    ];
    for (mode, write, shell) in table {
        let place = Place::new();
        let prompt = crate::harness::fenced("write w x\nshell touch s");
        let done = place.bare(&["-p", &prompt, "--permission-mode", mode]);
        let made = |name: &str| i32::from(place.work().join(name).exists());
        assert_eq!(
            (done.code(), made("w"), made("s")),
            (Some(0), write, shell),
            "{mode}"
        );
    }
    let place = Place::new();
    let prompt = crate::harness::fenced("write w x\nshell touch s");
    place.bare(&[
        "-p",
        &prompt,
        "--allowedTools",
        "Bash(touch *),Read",
        "--disallowedTools",
        "Write",
    ]);
    assert!(place.work().join("s").exists() && !place.work().join("w").exists());
}

#[test]
fn structured_output_is_missing_unless_the_script_has_it() {
    let place = Place::new();
    let schema = ["--json-schema", "{\"type\":\"object\"}"];
    let without = place.script_with(&schema, "result ok");
    assert_eq!(
        (without.code(), without.result().get("structured_output")),
        (Some(0), None)
    );
    let with = place.script_with(&schema, "structured {\"a\":1}\nresult ok");
    assert_eq!(with.result()["structured_output"]["a"], 1);
}

#[test]
fn files_are_written_and_commits_made_in_the_directory() {
    let place = Place::new();
    git(&place.work(), &["init", "-q", "-b", "main"]);
    let done = place
        .script("write src/a.txt one\nappend src/a.txt \"two\"\ncommit It's done; $(touch oops)");
    assert_eq!(place.read("src/a.txt"), "one\ntwo");
    assert_eq!(
        git(&place.work(), &["log", "-1", "--format=%s"]),
        "It's done; $(touch oops)"
    );
    assert!(!place.work().join("oops").exists());
    assert_eq!(done.of("system/vcs_state_changed").len(), 1);
}

#[test]
fn without_a_script_something_changes_and_succeeds() {
    let place = Place::new();
    let done = place.bare(&["-p", "Fix the bug", "--dangerously-skip-permissions"]);
    assert_eq!(
        (done.code(), done.text().as_str()),
        (Some(0), "I have added a note to AGENT_NOTES.md.\n")
    );
    assert!(place.work().join("AGENT_NOTES.md").exists());
}

#[test]
fn a_script_can_come_from_a_file_and_the_prompt_beats_it() {
    let place = Place::new();
    let file = place.home().join("script");
    std::fs::write(&file, "result ok from the file").unwrap();
    let place = place.env("FAKE_CLAUDE_SCRIPT", file.to_str().unwrap());
    assert_eq!(place.bare(&["-p", "hi"]).text(), "from the file\n");
    let done = place.script("result ok from the prompt");
    assert_eq!(done.result()["result"], "from the prompt");
}

#[test]
fn json_is_the_last_result_alone_or_with_verbose_an_array_of_all_events() {
    let place = Place::new();
    let prompt = crate::harness::fenced("text a\nresult ok b");
    let one = place.bare(&["-p", &prompt, "--output-format", "json"]);
    let value: Value = serde_json::from_str(&one.text()).unwrap();
    assert_eq!(value["result"], "b");
    let all = place.bare(&["-p", &prompt, "--output-format", "json", "--verbose"]);
    let value: Value = serde_json::from_str(&all.text()).unwrap();
    assert_eq!(value.as_array().unwrap().len(), 3);
}

#[test]
fn conditions_let_a_script_do_something_else_next_time() {
    let place = Place::new();
    let script = "unless seen result server_error\nunless seen exit 1\nresult ok";
    let script = format!("if been mark seen\nmark been\n{script}");
    assert_eq!(place.script(&script).code(), Some(1));
    assert_eq!(place.script(&script).code(), Some(0));
}

#[test]
fn windows_of_a_limit_are_told_as_the_script_has_them() {
    let place = Place::new()
        .without("ANTHROPIC_API_KEY")
        .env("CLAUDE_CODE_OAUTH_TOKEN", "t");
    let script =
        "window seven_day 0.81 500\nrate-limit allowed_warning seven_day\nrate-limit rejected";
    let done = place.script(script);
    let told = done.of("rate_limit_event");
    let info = |n: usize| told[n]["rate_limit_info"].clone();
    let used = |n: usize, kind: &str| info(n)["unifiedWindows"][kind]["utilization"].clone();
    assert_eq!(
        (&info(0)["utilization"], &used(0, "seven_day")),
        (&0.81.into(), &0.81.into())
    );
    assert_eq!(
        info(0)["resetsAt"],
        info(0)["unifiedWindows"]["seven_day"]["resetsAt"]
    );
    assert_eq!(used(0, "five_hour"), 0.42);
    assert_eq!(
        (used(1, "five_hour"), used(1, "seven_day")),
        (1.0.into(), 0.81.into())
    );
    assert_eq!(info(1).get("utilization"), None, "as the real one");
}

#[test]
fn steps_may_depend_on_who_pays() {
    let script = "paid key-of-a text a\npaid key-of-b text b\npaid file text file";
    let said = |name: &str, value: &str| {
        let place = Place::new().without("ANTHROPIC_API_KEY").env(name, value);
        let done = place.script(script);
        let text = |event: &Value| event["message"]["content"][0]["text"].clone();
        done.of("assistant").iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(said("ANTHROPIC_API_KEY", "the-key-of-a-1"), ["a"]);
    assert_eq!(said("CLAUDE_CODE_OAUTH_TOKEN", "key-of-b"), ["b"]);
}
