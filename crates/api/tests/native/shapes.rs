//! Every answer, member for member.

use std::path::PathBuf;

use agent_domain::{
    Coordinator as _, DeniedCall, Ending, Facts, JsonText, Mirrors as _, Phase, PullRequest,
    Reason, RepoSlug, RunUsage, Share, Tokens, Usage, Usd,
};
use serde_json::{Value, json};

use crate::options;
use crate::stage::{Stage, id_of};

const NOW: &str = "2025-01-07T12:00:00.123Z";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_created_listed_shown_changed_and_removed() {
    let stage = Stage::new().await;
    let body = json!({
        "osClientId": "e897788c-afc6-4218-be48-703f2955cb0f",
        "name": "French Language Solutions",
        "githubOrg": "SupportKings",
        "githubRepo": "french-language-solutions",
    });
    let created = stage.send("POST", "/clients", &body.to_string()).await;
    let id = id_of(&created);
    let mut expected = body.clone();
    expected["id"] = json!(id);
    expected["defaultBranch"] = json!("main");
    let mut as_created = expected.clone();
    as_created["repoCloned"] = json!(true);
    as_created["bareRepoPath"] = json!("/repos/SupportKings/french-language-solutions.git");
    assert_eq!(created.json(), as_created);
    assert_eq!(created.header("content-type"), Some("application/json"));

    expected["repoExists"] = json!(true);
    expected["createdAt"] = json!(NOW);
    let options = options::none().as_object().unwrap().clone();
    expected.as_object_mut().unwrap().extend(options);
    expected["trusted"] = json!(false);
    expected["priority"] = json!(0);
    expected["maxConcurrent"] = Value::Null;
    expected["budgetDailyUsd"] = Value::Null;
    expected["budgetMonthlyUsd"] = Value::Null;
    assert_eq!(stage.get("/clients").await, json!({"clients": [expected]}));

    let mut details = expected.clone();
    details["activeJobs"] = json!(0);
    details["totalJobs"] = json!(0);
    assert_eq!(stage.get(&format!("/clients/{id}")).await, details);

    let change = r#"{"name":"FLS Updated","defaultBranch":"develop"}"#;
    let changed = stage.send("PATCH", &format!("/clients/{id}"), change).await;
    expected["name"] = json!("FLS Updated");
    expected["defaultBranch"] = json!("develop");
    assert_eq!((changed.status, changed.json()), (200, expected));

    let removed = stage
        .send("DELETE", &format!("/clients/{id}?removeRepo=true"), "")
        .await;
    assert_eq!(
        (removed.status, removed.json()),
        (200, json!({"deleted": true, "repoRemoved": true}))
    );
    assert_eq!(stage.get("/clients").await, json!({"clients": []}));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_untrusted_until_it_is_said_to_be_trusted_and_a_worker_is_told() {
    let stage = Stage::new().await;
    let body = json!({"name": "Shop", "githubOrg": "acme", "githubRepo": "shop"});
    let id = id_of(&stage.send("POST", "/clients", &body.to_string()).await);
    let path = format!("/clients/{id}");
    assert_eq!(stage.get(&path).await["trusted"], false);
    let mut branch = 0;
    for trusted in [false, true, false] {
        let change = json!({ "trusted": trusted }).to_string();
        let changed = stage.send("PATCH", &path, &change).await;
        assert_eq!(
            (changed.status, &changed.json()["trusted"]),
            (200, &json!(trusted))
        );
        let renamed = stage.send("PATCH", &path, r#"{"name":"New"}"#).await;
        assert_eq!(renamed.json()["trusted"], trusted);
        assert_eq!(
            stage.get("/clients").await["clients"][0]["trusted"],
            trusted
        );
        branch += 1;
        let job = json!({"clientId": id, "prompt": "p", "branchName": format!("b{branch}")});
        stage.send("POST", "/jobs", &job.to_string()).await;
        assert_eq!(stage.claim().await.trusted, trusted);
    }
    let trusted = json!({"name": "T", "githubOrg": "acme", "githubRepo": "t", "trusted": true});
    let id = id_of(&stage.send("POST", "/clients", &trusted.to_string()).await);
    assert_eq!(stage.get(&format!("/clients/{id}")).await["trusted"], true);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_clone_fails_is_created_and_says_why() {
    let stage = Stage::new().await;
    let body = r#"{"name":"x","githubOrg":"acme","githubRepo":"broken","defaultBranch":"trunk"}"#;
    let created = stage.send("POST", "/clients", body).await.json();
    assert_eq!(created["repoCloned"], json!(false));
    assert_eq!(created["cloneError"], json!("repository not found"));
    assert_eq!(created["osClientId"], Value::Null);
    assert_eq!(created["defaultBranch"], json!("trunk"));
    let path = format!("/clients/{}", created["id"].as_str().unwrap());
    let removed = stage.send("DELETE", &path, "").await.json();
    assert_eq!(removed, json!({"deleted": true, "repoRemoved": false}));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_accepted_for_a_client_and_for_a_repository_without_one() {
    let stage = Stage::new().await;
    let client = stage.client().await;
    let body = json!({"clientId": client, "prompt": "p", "branchName": "a"});
    let first = stage.send("POST", "/jobs", &body.to_string()).await;
    let id = id_of(&first);
    let expected = json!({
        "id": id, "clientId": client, "status": "queued", "position": 1, "branchName": "a",
        "createdAt": NOW,
    });
    assert_eq!(first.json(), expected);

    let same = r#"{"githubOrg":"ACME","githubRepo":"Shop","prompt":"p","branchName":"b"}"#;
    let second = stage.send("POST", "/jobs", same).await.json();
    assert_eq!(
        (&second["clientId"], &second["position"]),
        (&json!(client), &json!(2))
    );

    let other = r#"{"githubOrg":"acme","githubRepo":"other","prompt":"p","branchName":"b"}"#;
    let third = stage.send("POST", "/jobs", other).await.json();
    assert_ne!(third["clientId"], json!(client));
    let added = stage
        .get(&format!("/clients/{}", third["clientId"].as_str().unwrap()))
        .await;
    assert_eq!(
        (&added["name"], &added["activeJobs"], &added["totalJobs"]),
        (&json!("other"), &json!(1), &json!(1))
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_as_urgent_as_it_says_or_as_its_client_and_can_be_made_more_so_while_it_waits() {
    let stage = Stage::new().await;
    let client = stage.client().await;
    let path = format!("/clients/{client}");
    let change = r#"{"priority":7,"maxConcurrent":2}"#;
    let changed = stage.send("PATCH", &path, change).await.json();
    let share = (&changed["priority"], &changed["maxConcurrent"]);
    assert_eq!(share, (&json!(7), &json!(2)));
    let submit = async |branch: &str, priority: Value| {
        let mut body = json!({"clientId": client, "prompt": "p", "branchName": branch});
        if !priority.is_null() {
            body["priority"] = priority;
        }
        stage.send("POST", "/jobs", &body.to_string()).await.json()
    };
    let first = submit("a", Value::Null).await["id"].clone();
    let second = submit("b", json!(-100)).await["id"].clone();
    let third = submit("c", json!(100)).await;
    assert_eq!(third["position"], 1);
    let queued = async || {
        let queue = stage.get("/queue").await;
        let queued = queue["queued"].as_array().unwrap().iter();
        let shown = queued.map(|job| (job["id"].clone(), job["priority"].clone()));
        shown.collect::<Vec<_>>()
    };
    let ids = [third["id"].clone(), first, second];
    let shown = ids.iter().cloned().zip([100, 7, -100].map(|n| json!(n)));
    assert_eq!(queued().await, shown.collect::<Vec<_>>());

    let last = format!("/jobs/{}", ids[2].as_str().unwrap());
    let changed = stage.send("PATCH", &last, r#"{"priority":99}"#).await;
    assert_eq!(
        (changed.status, &changed.json()["priority"]),
        (200, &json!(99))
    );
    assert_eq!(stage.get(&last).await["priority"], 99);
    assert_eq!(queued().await[1].0, ids[2]);
    let history = stage.get(&format!("{last}/history")).await;
    assert_eq!(history["history"][1]["detail"], "from -100 to 99");

    stage.claim().await;
    let running = format!("/jobs/{}", ids[0].as_str().unwrap());
    let refused = stage.send("PATCH", &running, r#"{"priority":0}"#).await;
    let code = refused.json()["code"].clone();
    assert_eq!((refused.status, code), (409, json!("job_unfinished")));
    stage.send("POST", &format!("{last}/cancel"), "").await;
    let refused = stage.send("PATCH", &last, r#"{"priority":0}"#).await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (400, &json!("job_ended"))
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_the_specified_members_and_a_cursor() {
    let stage = Stage::new().await;
    let body = json!({
        "githubOrg": "acme", "githubRepo": "shop", "prompt": "p", "branchName": "feature/a",
        "title": "\"; rm -rf / #", "osFeatureId": "4e7df575-6bdc-4c38-944b-23a404b391db",
    });
    let first = stage.send("POST", "/jobs", &body.to_string()).await.json();
    let second = stage.job("b").await;
    let page = stage.get("/jobs?limit=1").await;
    assert_eq!(page["jobs"][0]["id"], json!(second));
    assert_eq!(page["nextCursor"], json!(second));
    assert_eq!(
        (&page["total"], &page["limit"], &page["offset"]),
        (&json!(2), &json!(1), &json!(0))
    );

    let page = stage
        .get(&format!(
            "/jobs?limit=50&before={second}&status=queued,running"
        ))
        .await;
    let expected = json!({
        "jobs": [{
            "id": first["id"], "clientId": first["clientId"], "clientName": "shop",
            "status": "queued", "branchName": "feature/a", "title": "\"; rm -rf / #",
            "osFeatureId": "4e7df575-6bdc-4c38-944b-23a404b391db", "startedAt": null,
            "createdAt": NOW, "phase": null, "reason": null, "notBefore": null,
            "completedAt": null, "priority": 0,
        }],
        "total": 2, "limit": 50, "offset": 0, "nextCursor": null,
    });
    assert_eq!(page, expected);
    let none = stage
        .get(&format!("/jobs?clientId={}", "0".repeat(32)))
        .await;
    assert_eq!((&none["jobs"], &none["total"]), (&json!([]), &json!(0)));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_shown_from_queued_to_completed() {
    let stage = Stage::new().await;
    let client = stage.client().await;
    let body = json!({
        "clientId": client, "prompt": "Implement it", "branchName": "a", "title": "T",
        "osFeatureId": "f", "osCallbackUrl": "https://os.example.com/hook", "model": "opus",
        "permissionMode": "acceptEdits", "timeoutSeconds": 60, "idleTimeoutSeconds": 30,
    });
    let id = id_of(&stage.send("POST", "/jobs", &body.to_string()).await);
    let mut expected = queued(&id, &client);
    assert_eq!(stage.get(&format!("/jobs/{id}")).await, expected);

    let assignment = stage.claim().await;
    stage.clock.forward(2);
    let facts = Facts {
        worktree_path: Some(PathBuf::from("/w/acme/shop/x")),
        ..Facts::default()
    };
    let progress = stage
        .engine
        .progress(&assignment.lease, Phase::Agent, facts);
    progress.await.unwrap();
    expected["status"] = json!("running");
    expected["phase"] = json!("agent");
    expected["attempt"] = json!(1);
    expected["credential"] = json!("default");
    expected["startedAt"] = json!(NOW);
    expected["worktreePath"] = json!("/w/acme/shop/x");
    expected["updatedAt"] = json!("2025-01-07T12:00:02.123Z");
    assert_eq!(stage.get(&format!("/jobs/{id}")).await, expected);

    stage.clock.forward(1);
    stage
        .finish(&assignment, Ending::Completed, delivered())
        .await;
    for (member, value) in [
        ("status", json!("completed")),
        ("phase", Value::Null),
        ("completedAt", json!("2025-01-07T12:00:03.123Z")),
        ("updatedAt", json!("2025-01-07T12:00:03.123Z")),
        ("exitCode", json!(0)),
        ("filesChanged", json!(5)),
        ("prNumber", json!(42)),
        ("prUrl", json!("https://github.com/acme/shop/pull/42")),
        ("baseCommit", json!("a".repeat(40))),
        ("headCommit", json!("b".repeat(40))),
        ("sessionId", json!("s")),
        ("model", json!("claude-opus-5-5")),
        ("cliVersion", json!("2.1.329")),
        ("numTurns", json!(3)),
        ("costUsd", json!(0.25)),
        ("output", json!({"a": [1.5, "x"]})),
        (
            "logs",
            json!([{"attempt": 1, "bytes": 0, "sha256": NOTHING}]),
        ),
    ] {
        expected[member] = value;
    }
    expected["permissionDenials"] = json!([{"tool": "WebFetch", "input": null}]);
    assert_eq!(stage.get(&format!("/jobs/{id}")).await, expected);
    stage.close().await;
}

/// What a run tells that has cost so much.
fn spent(dollars: f64) -> RunUsage {
    let mut total = Usage::default();
    let cost = Usd::from_dollars(dollars);
    let tokens = Tokens::default();
    total.add("claude-opus-5-5", Share { tokens, cost });
    RunUsage {
        total: Some(total),
        ..RunUsage::default()
    }
}

/// SHA-256 of no bytes, as the played worker writes no log.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The job above before anybody has taken it.
fn queued(id: &str, client: &str) -> Value {
    let mut options = options::none();
    options["model"] = json!("opus");
    options["permissionMode"] = json!("acceptEdits");
    options["timeoutSeconds"] = json!(60);
    options["idleTimeoutSeconds"] = json!(30);
    let mut job = json!({
        "id": id, "clientId": client,
        "client": {"name": "Shop", "githubOrg": "acme", "githubRepo": "shop"},
        "status": "queued", "prompt": "Implement it", "branchName": "a", "title": "T",
        "osFeatureId": "f", "osCallbackUrl": "https://os.example.com/hook", "worktreePath": null,
        "startedAt": null, "completedAt": null, "exitCode": null, "error": null, "prUrl": null,
        "prNumber": null, "filesChanged": null, "reason": null, "phase": null, "phaseDetail": null, "attempt": 0,
        "notBefore": null, "cancelRequestedAt": null, "baseCommit": null, "headCommit": null,
        "savedRef": null, "sessionId": null, "model": "opus", "cliVersion": null,
        "numTurns": null, "costUsd": null, "retryOf": null, "dependsOn": [], "priority": 0, "hasSecrets": false,
        "createdAt": NOW, "updatedAt": NOW, "logs": [], "options": options, "permissionDenials": [], "output": null,
    });
    job["continues"] = Value::Null;
    for member in ["base", "credential", "metadata"] {
        job[member] = Value::Null;
    }
    job
}

/// What a worker knows at the end of the job above.
fn delivered() -> Facts {
    let url = "https://github.com/acme/shop/pull/42".to_owned();
    Facts {
        exit_code: Some(0),
        files_changed: Some(5),
        pull_request: Some(PullRequest { number: 42, url }),
        base_commit: "a".repeat(40).parse().ok(),
        head_commit: "b".repeat(40).parse().ok(),
        session_id: Some("s".into()),
        model: Some("claude-opus-5-5".into()),
        cli_version: Some("2.1.329".into()),
        num_turns: Some(3),
        usage: Some(spent(0.25)),
        output: Some(JsonText::new(r#"{"a":[1.5,"x"]}"#)),
        denied: vec![DeniedCall {
            id: "call".into(),
            tool: "WebFetch".into(),
            input: None,
        }],
        phase_detail: None,
        ..Facts::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_has_a_reason_and_a_sentence() {
    let stage = Stage::new().await;
    let id = stage.job("a").await;
    let assignment = stage.claim().await;
    let ending = Ending::Failed {
        reason: Reason::TimedOut,
        error: "ran too long".into(),
    };
    stage.finish(&assignment, ending, Facts::default()).await;
    let job = stage.get(&format!("/jobs/{id}")).await;
    assert_eq!(
        (&job["status"], &job["reason"], &job["error"]),
        (
            &json!("failed"),
            &json!("timed_out"),
            &json!("ran too long")
        )
    );

    let history = stage.get(&format!("/jobs/{id}/history")).await;
    let events: Vec<&str> = history["history"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|e| e["event"].as_str())
        .collect();
    assert_eq!(events.last(), Some(&"failed"), "{history}");
    let last = history["history"].as_array().unwrap().last().unwrap();
    assert_eq!(
        *last,
        json!({
            "at": NOW, "event": "failed", "status": "failed", "attempt": 1,
            "detail": "timed_out: ran too long",
        })
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_shows_what_runs_what_waits_and_what_is_parked() {
    let stage = Stage::new().await;
    let running = stage.job("a").await;
    stage.claim().await;
    let parked = stage.job("b").await;
    let assignment = stage.claim().await;
    let until = Some("2025-01-07T18:00:00Z".parse().unwrap());
    let ending = Ending::Parked {
        until,
        reason: Reason::UsageLimit,
    };
    stage.finish(&assignment, ending, Facts::default()).await;
    let ready = stage.job("c").await;
    stage.clock.forward(323);
    let expected = json!({
        "running": [{
            "id": running, "clientName": "shop", "branchName": "a", "startedAt": NOW,
            "runningFor": "5m 23s", "phase": "fetching",
        }],
        "queued": [{
            "id": ready, "clientName": "shop", "branchName": "c", "position": 1, "createdAt": NOW,
            "priority": 0, "notBefore": null, "reason": null,
        }, {
            "id": parked, "clientName": "shop", "branchName": "b", "position": null,
            "priority": 0, "createdAt": NOW, "notBefore": "2025-01-07T18:00:00.000Z", "reason": "usage_limit",
        }],
        "maxConcurrent": 2,
    });
    assert_eq!(stage.get("/queue").await, expected);
    assert_eq!(
        stage.get("/queue?limit=1").await["queued"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let health = json!({
        "status": "ok",
        "queue": {
            "running": 1, "queued": 2, "parked": 1, "parkedUntil": "2025-01-07T18:00:00.000Z",
            "maxConcurrent": 2, "staleWrites": 0,
        },
        "callbacks": {"failingEndpoints": 0},
        "claude": {"authenticated": false, "version": null, "checkedAt": null},
        "credentials": [{"name": "default", "status": "ok", "limitedUntil": null}],
    });
    let mut found = stage.get("/health").await;
    let disk = found.as_object_mut().unwrap().remove("disk").unwrap();
    assert_eq!(found, health);
    assert_eq!(
        (&disk[0]["name"], &disk[0]["problem"]),
        (&json!("data"), &Value::Null)
    );
    for member in ["freeBytes", "minFreeBytes"] {
        assert!(disk[0][member].is_u64(), "{disk}");
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_job_is_released_once_and_only_while_it_is_parked() {
    let stage = Stage::new().await;
    let id = stage.job("a").await;
    let path = format!("/jobs/{id}/release");
    let refused = stage.send("POST", &path, "").await;
    let code = &refused.json()["code"];
    assert_eq!((refused.status, code), (409, &json!("job_not_parked")));
    let assignment = stage.claim().await;
    let ending = Ending::Parked {
        until: Some("2025-01-07T18:00:00Z".parse().unwrap()),
        reason: Reason::UsageLimit,
    };
    let session = "11111111-1111-4111-8111-111111111111";
    let facts = Facts {
        session_id: Some(session.into()),
        ..Facts::default()
    };
    stage.finish(&assignment, ending, facts).await;
    let released = stage.send("POST", &path, "").await;
    let expected = json!({"id": id, "status": "queued"});
    assert_eq!((released.status, released.json()), (200, expected));
    let job = stage.get(&format!("/jobs/{id}")).await;
    assert_eq!(
        (&job["notBefore"], &job["reason"]),
        (&Value::Null, &json!("usage_limit"))
    );
    let again = stage.claim().await;
    let resume = again.resume.unwrap();
    assert_eq!(resume.session_id, session);
    assert_eq!(stage.send("POST", &path, "").await.status, 409, "it runs");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_job_is_cancelled_at_once_and_an_ended_one_is_not() {
    let stage = Stage::new().await;
    let id = stage.job("a").await;
    let path = format!("/jobs/{id}/cancel");
    let cancelled = stage.send("POST", &path, "").await;
    let expected = json!({"id": id, "status": "cancelled", "wasRunning": false});
    assert_eq!((cancelled.status, cancelled.json()), (200, expected));
    let again = stage.send("POST", &path, "{}").await;
    assert_eq!(
        (again.status, &again.json()["error"]),
        (400, &json!("Job already cancelled"))
    );
    assert_eq!(again.json()["code"], json!("job_ended"));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_cancelled_when_its_worker_says_so() {
    let stage = Stage::new().await;
    let id = stage.job("a").await;
    let assignment = stage.claim().await;
    let path = format!("/jobs/{id}/cancel");
    let asked = stage.send("POST", &format!("{path}?wait=false"), "").await;
    let expected =
        json!({"id": id, "status": "running", "wasRunning": true, "cancelRequestedAt": NOW});
    assert_eq!((asked.status, asked.json()), (202, expected));

    let worker = async {
        // The second request raises the directive to "kill"; only then the worker reports.
        let seen = agent_domain::Directive::Cancel;
        stage
            .engine
            .directive(&assignment.lease, seen)
            .await
            .unwrap();
        stage
            .finish(&assignment, Ending::Cancelled, Facts::default())
            .await;
    };
    let (cancelled, ()) = tokio::join!(stage.send("POST", &path, ""), worker);
    let expected = json!({"id": id, "status": "cancelled", "wasRunning": true});
    assert_eq!((cancelled.status, cancelled.json()), (200, expected));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_job_is_retried_as_a_new_one() {
    let stage = Stage::new().await;
    let id = stage.job("a").await;
    let unfinished = stage.send("POST", &format!("/jobs/{id}/retry"), "").await;
    assert_eq!(
        (unfinished.status, &unfinished.json()["code"]),
        (409, &json!("job_unfinished"))
    );
    stage.send("POST", &format!("/jobs/{id}/cancel"), "").await;
    let retried = stage.send("POST", &format!("/jobs/{id}/retry"), "").await;
    let new = id_of(&retried);
    let expected = json!({
        "id": new, "originalJobId": id, "status": "queued", "position": 1, "branchName": "a",
    });
    assert_eq!(retried.json(), expected);
    assert_eq!(
        stage.get(&format!("/jobs/{new}")).await["retryOf"],
        json!(id)
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_show_what_is_still_to_be_sent() {
    let stage = Stage::new().await;
    let body = json!({
        "githubOrg": "acme", "githubRepo": "shop", "prompt": "p", "branchName": "a",
        // Names end in .invalid for certain: nothing is ever sent.
        "osCallbackUrl": "https://os.invalid/hook?key=1",
    });
    let id = id_of(&stage.send("POST", "/jobs", &body.to_string()).await);
    assert_eq!(
        stage.get(&format!("/jobs/{id}/deliveries")).await,
        json!({"deliveries": []})
    );
    stage.send("POST", &format!("/jobs/{id}/cancel"), "").await;
    let delivery = &stage.get(&format!("/jobs/{id}/deliveries")).await["deliveries"][0];
    assert_eq!(delivery["url"], json!("https://os.invalid/hook?key=1"));
    assert_eq!(delivery["state"], json!("pending"));
    assert_eq!(delivery["createdAt"], json!(NOW));
    let members: Vec<&String> = delivery.as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        ["createdAt", "dueAt", "id", "state", "tries", "url"]
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_tells_of_every_repository() {
    let stage = Stage::new().await;
    stage.client().await;
    let body = r#"{"name":"x","githubOrg":"acme","githubRepo":"broken"}"#;
    stage.send("POST", "/clients", body).await;
    let shop = RepoSlug::new("acme", "shop").unwrap();
    stage.mirrors.remove(&shop).await.unwrap();
    let synced = stage.send("POST", "/sync", "").await;
    let expected = json!({"synced": [
        {"repo": "shop", "githubOrg": "acme", "success": true, "error": null},
        {"repo": "broken", "githubOrg": "acme", "success": false, "error": "repository not found"},
    ]});
    assert_eq!((synced.status, synced.json()), (200, expected));
    assert!(stage.mirrors.exists(&shop));
    stage.close().await;
}
