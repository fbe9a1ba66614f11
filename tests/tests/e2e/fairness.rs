//! Who is served when: clients side by side, limits, urgency, and jobs that wait for others.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use agent_tests::callback::Receiver;
use agent_tests::job::{body, reached, with};
use agent_tests::process;
use agent_tests::repo::BareRepo;
use agent_tests::server::{Builder, Server};
use serde_json::{Value, json};
use ureq::http::Method;

const SOON: Duration = Duration::from_secs(60);

/// A server with so many slots, and a repository each of two clients.
fn start(slots: usize) -> (Server, BareRepo, BareRepo) {
    let builder = Builder::new().unwrap();
    let busy = builder.repo("acme", "busy").unwrap();
    let quiet = builder.repo("umbrella", "quiet").unwrap();
    let builder = builder.env("MAX_CONCURRENT_JOBS", slots.to_string());
    (builder.start().unwrap(), busy, quiet)
}

/// A script that says that it is there, and waits until it may go on.
fn held(dir: &Path, name: &str) -> String {
    let dir = dir.display();
    format!("mark {dir}/{name}.began\nwait {dir}/{name}.go\nresult ok")
}

fn began(server: &Server, name: &str) {
    reached(&server.dir().join(format!("{name}.began"))).unwrap();
}

fn let_go(server: &Server, name: &str) {
    fs::write(server.dir().join(format!("{name}.go")), "").unwrap();
}

fn submit(server: &Server, repo: &BareRepo, name: &str, script: &str, more: Value) -> Value {
    let body = with(body(repo, name, script), more);
    let made = server.client().post("/jobs", &body).unwrap();
    made.expect(201).unwrap()
}

fn id(job: &Value) -> &str {
    job["id"].as_str().unwrap()
}

/// How many jobs of a client stand so.
fn count(server: &Server, client: &Value, status: &str) -> u64 {
    let client = client.as_str().unwrap();
    let path = format!("/jobs?clientId={client}&status={status}&limit=1");
    let list = server.client().get(&path).unwrap().expect(200).unwrap();
    list["total"].as_u64().unwrap()
}

/// Submits many jobs over several connections.
fn submit_many(server: &Server, repo: &BareRepo, jobs: usize) {
    const CONNECTIONS: usize = 8;
    thread::scope(|scope| {
        for first in 0..CONNECTIONS {
            scope.spawn(move || {
                for number in (first..jobs).step_by(CONNECTIONS) {
                    submit(
                        server,
                        repo,
                        &format!("many/{number}"),
                        "result ok",
                        json!({}),
                    );
                }
            });
        }
    });
}

#[test]
fn the_first_job_of_a_client_begins_with_the_next_free_slot_though_another_has_a_thousand_waiting()
{
    let (server, busy, quiet) = start(2);
    let holds = |name: &str| submit(&server, &busy, name, &held(server.dir(), name), json!({}));
    let [first, second] = [holds("first"), holds("second")];
    began(&server, "first");
    began(&server, "second");
    submit_many(&server, &busy, 1000);
    assert_eq!(count(&server, &first["clientId"], "queued"), 1000);

    let script = held(server.dir(), "other");
    let other = submit(&server, &quiet, "other", &script, json!({}));
    assert_eq!(other["position"], 1);
    let_go(&server, "first");
    began(&server, "other");
    // It has the slot of the first; the second holds its own.
    assert_eq!(server.wait(id(&first)).unwrap()["status"], "completed");
    assert_eq!(server.job(id(&second)).unwrap()["status"], "running");
    assert_eq!(count(&server, &first["clientId"], "queued"), 1000);

    // The client with the many has its turn then, though the other one has more by now.
    submit(&server, &quiet, "more", "result ok", json!({}));
    let_go(&server, "other");
    let moved = process::wait_until(SOON, || count(&server, &first["clientId"], "queued") < 1000);
    assert!(moved, "nobody else is served any more");
}

#[test]
fn a_client_never_has_more_jobs_running_than_it_may_and_others_use_the_slots() {
    const JOBS: usize = 6;
    let (server, limited, other) = start(4);
    let created = json!({
        "name": "limited", "githubOrg": "acme", "githubRepo": "busy", "maxConcurrent": 2,
    });
    let client = server.client().post("/clients", &created).unwrap();
    let client = client.expect(201).unwrap()["id"].clone();
    let names: Vec<String> = (0..JOBS).map(|number| format!("job-{number}")).collect();
    let mut jobs = Vec::new();
    for name in &names {
        jobs.push(submit(
            &server,
            &limited,
            name,
            &held(server.dir(), name),
            json!({}),
        ));
    }
    for turn in 0..JOBS {
        for name in names.iter().skip(turn).take(2) {
            began(&server, name);
        }
        // Two slots are free meanwhile: a job that came later begins and ends.
        let name = format!("other-{turn}");
        let passing = submit(&server, &other, &name, "result ok", json!({}));
        assert_eq!(server.wait(id(&passing)).unwrap()["status"], "completed");
        let running = u64::try_from((JOBS - turn).min(2)).unwrap();
        assert_eq!(count(&server, &client, "running"), running);
        let_go(&server, &names[turn]);
        assert_eq!(server.wait(id(&jobs[turn])).unwrap()["status"], "completed");
    }
}

#[test]
fn the_most_urgent_job_is_next_and_equal_ones_come_in_their_order() {
    let (server, busy, _) = start(1);
    let order = server.dir().join("order");
    submit(
        &server,
        &busy,
        "held",
        &held(server.dir(), "held"),
        json!({}),
    );
    began(&server, "held");
    let mut ids = Vec::new();
    for (name, priority) in [("a", 0), ("b", -5), ("c", 5), ("d", 0), ("e", -5)] {
        let script = format!("shell echo {name} >> {}\nresult ok", order.display());
        let job = submit(&server, &busy, name, &script, json!({"priority": priority}));
        ids.push(id(&job).to_owned());
    }
    // The last one cannot wait after all.
    let path = format!("/jobs/{}", ids[4]);
    let urgent = json!({"priority": 50});
    let changed = server.client().send_json(Method::PATCH, &path, &urgent);
    changed.unwrap().expect(200).unwrap();
    let queue = server.client().get("/queue").unwrap().expect(200).unwrap();
    let shown = queue["queued"].as_array().unwrap().iter();
    let shown: Vec<_> = shown
        .map(|job| job["branchName"].as_str().unwrap())
        .collect();
    assert_eq!(shown, ["e", "c", "a", "d", "b"], "{queue:#}");
    let_go(&server, "held");
    for id in &ids {
        server.wait(id).unwrap();
    }
    assert_eq!(fs::read_to_string(order).unwrap(), "e\nc\na\nd\nb\n");
}

#[test]
fn a_chain_of_jobs_runs_link_by_link_and_each_waits_for_the_one_before() {
    let (server, first_repo, second_repo) = start(3);
    let order = server.dir().join("order");
    let says = |name: &str| format!("shell echo {name} >> {}\nresult ok", order.display());
    let script = format!("wait {}/a.go\n{}", server.dir().display(), says("a"));
    let a = submit(&server, &first_repo, "a", &script, json!({}));
    let mut before = id(&a).to_owned();
    let mut links = Vec::new();
    // Of another client, too.
    for (name, repo) in [("b", &second_repo), ("c", &first_repo)] {
        let after = json!({"dependsOn": [&before, id(&a)]});
        let job = submit(&server, repo, name, &says(name), after);
        assert_eq!(
            (&job["status"], &job["position"]),
            (&json!("queued"), &Value::Null)
        );
        before = id(&job).to_owned();
        let job = server.job(&before).unwrap();
        assert_eq!(job["reason"], "waiting_for_jobs");
        links.push(before.clone());
    }
    // Two slots are free, and what waits for nothing runs in them.
    let free = submit(&server, &second_repo, "free", &says("free"), json!({}));
    server.wait(id(&free)).unwrap();
    assert_eq!(fs::read_to_string(&order).unwrap(), "free\n");
    let_go(&server, "a");
    for link in &links {
        let job = server.wait(link).unwrap();
        assert_eq!(
            (&job["status"], &job["attempt"]),
            (&json!("completed"), &json!(1))
        );
    }
    assert_eq!(fs::read_to_string(order).unwrap(), "free\na\nb\nc\n");
}

#[test]
fn what_waits_for_a_job_that_fails_or_is_cancelled_fails_with_it_and_calls_back() {
    let (server, repo, _) = start(1);
    let receiver = Receiver::start().unwrap();
    let after = |id: &str| json!({"dependsOn": [id], "osCallbackUrl": receiver.url()});
    let fails = submit(&server, &repo, "fails", "result execution_error", json!({}));
    let second = submit(&server, &repo, "second", "result ok", after(id(&fails)));
    let third = submit(&server, &repo, "third", "result ok", after(id(&second)));
    let stops = submit(&server, &repo, "stops", "hang", json!({}));
    let fourth = submit(&server, &repo, "fourth", "result ok", after(id(&stops)));
    let path = format!("/jobs/{}/cancel", id(&stops));
    let cancelled = server.client().post(&path, &json!({})).unwrap();
    cancelled.expect(200).unwrap();
    for (job, on) in [(&second, &fails), (&third, &second), (&fourth, &stops)] {
        let job = server.wait(id(job)).unwrap();
        assert_eq!(
            (
                &job["status"],
                &job["reason"],
                &job["attempt"],
                &job["costUsd"]
            ),
            (
                &json!("failed"),
                &json!("dependency_failed"),
                &json!(0),
                &Value::Null
            )
        );
        assert!(job["error"].as_str().unwrap().contains(id(on)), "{job:#}");
    }
    let told = receiver.wait_for(3, SOON).unwrap();
    let mut told: Vec<String> = told
        .iter()
        .map(|request| serde_json::from_slice::<Value>(&request.body).unwrap())
        .map(|body| id(&json!({"id": body["jobId"]})).to_owned())
        .collect();
    told.sort();
    let mut expected = [&second, &third, &fourth].map(|job| id(job).to_owned());
    expected.sort();
    assert_eq!(told, expected);
}
