//! Callbacks: what is sent, how it is signed, when it is sent again, and where it never goes.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use agent_tests::callback::{self, Receiver};
use agent_tests::client::JsonClient;
use agent_tests::fault::Fault;
use agent_tests::github::GitHub;
use agent_tests::http_server::{Answer, HttpServer, Request, Response};
use agent_tests::job::{body, reached, with};
use agent_tests::process;
use agent_tests::repo::BareRepo;
use agent_tests::server::{Builder, Server};
use agent_tests::tls::Certificate;
use serde_json::{Value, json};
use ureq::http::Method;

const PLAIN: &str = "a plain secret of some length";
const CODED: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// A callback, its first retry included.
const SOON: Duration = Duration::from_secs(40);
/// The schedule's first pause less its jitter.
const FIRST_PAUSE: Duration = Duration::from_secs(4);

fn start(secret: Option<&str>) -> (Server, BareRepo, Receiver) {
    let mut builder = Builder::new().unwrap();
    if let Some(secret) = secret {
        builder = builder.env("WEBHOOK_SECRET", secret);
    }
    let repo = builder.repo("acme", "app").unwrap();
    (builder.start().unwrap(), repo, Receiver::start().unwrap())
}

/// Submits a job that calls back to this address.
fn submit(server: &Server, repo: &BareRepo, script: &str, url: &str) -> String {
    let extra = json!({"osCallbackUrl": url, "osFeatureId": "feature-7"});
    let body = with(body(repo, "fix/it", script), extra);
    server.submit(&body).unwrap()
}

/// The only callback of a job, as the delivery log has it; `Null` before the job has ended.
fn delivery(server: &Server, id: &str) -> Value {
    let reply = server.client().get(&format!("/jobs/{id}/deliveries"));
    let log = reply.unwrap().expect(200).unwrap();
    let deliveries = log["deliveries"].as_array().unwrap();
    assert!(deliveries.len() <= 1, "{log:#}");
    deliveries.first().cloned().unwrap_or_default()
}

/// Waits until the delivery log is as wanted.
fn delivery_when(server: &Server, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = process::wait_until(SOON, || {
        last = delivery(server, id);
        wanted(&last)
    });
    assert!(found, "{last:#}");
    last
}

fn tried(count: usize) -> impl Fn(&Value) -> bool {
    move |delivery| delivery["tries"].as_array().map(Vec::len) == Some(count)
}

fn fields(body: &Value) -> Vec<&str> {
    let object = body.as_object().expect("a callback is an object");
    object.keys().map(String::as_str).collect()
}

const FIELDS: [&str; 8] = [
    "completedAt",
    "error",
    "filesChanged",
    "jobId",
    "osFeatureId",
    "prNumber",
    "prUrl",
    "status",
];

#[test]
fn a_completed_job_calls_back_with_the_specified_body_under_both_signatures() {
    for secret in [PLAIN, CODED] {
        let (server, repo, receiver) = start(Some(secret));
        let id = submit(&server, &repo, "write a.txt one", &receiver.url());
        let job = server.wait(&id).unwrap();
        let got = receiver.wait_for(1, SOON).unwrap();
        let body = callback::verify(&got[0], secret).unwrap();
        assert_eq!(
            body,
            json!({
                "jobId": id,
                "osFeatureId": "feature-7",
                "status": "completed",
                "prUrl": null,
                "prNumber": null,
                "filesChanged": 1,
                "error": null,
                "completedAt": job["completedAt"],
            })
        );
        assert_eq!(got[0].method, "POST");
        assert_eq!(got[0].target, "/callback");
        assert_eq!(got[0].header("content-type"), Some("application/json"));
        let delivered = delivery_when(&server, &id, tried(1));
        assert_eq!(delivered["state"], "delivered");
        assert_eq!(delivered["url"], receiver.url());
        assert_eq!(delivered["id"], json!(got[0].header("webhook-id")));
        assert_eq!(delivered["tries"][0]["status"], 204);
        assert_eq!(delivered["tries"][0]["signed"], true);
        assert_eq!(delivered["tries"][0]["error"], Value::Null);
    }
}

#[test]
fn a_callback_carries_the_pull_request() {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "app").unwrap();
    let github = GitHub::start("ghp_of_the_test").unwrap();
    github.add(&repo);
    let server = builder
        .env("GITHUB_API_URL", github.url())
        .env("GITHUB_TOKEN", "ghp_of_the_test")
        .env("WEBHOOK_SECRET", PLAIN)
        .start()
        .unwrap();
    let receiver = Receiver::start().unwrap();
    let id = submit(&server, &repo, "write a.txt one", &receiver.url());
    let job = server.wait(&id).unwrap();
    let got = receiver.wait_for(1, SOON).unwrap();
    let body = callback::verify(&got[0], PLAIN).unwrap();
    let pull = &github.pulls("acme", "app")[0];
    assert_eq!(body["prUrl"], pull["html_url"]);
    assert_eq!(body["prNumber"], pull["number"]);
    assert_eq!(body["prUrl"], job["prUrl"]);
    assert_eq!(body["filesChanged"], 1);
}

#[test]
fn without_a_secret_callbacks_go_unsigned_and_the_log_and_a_warning_say_so() {
    let (server, repo, receiver) = start(None);
    let id = submit(&server, &repo, "result ok", &receiver.url());
    let got = receiver.wait_for(1, SOON).unwrap();
    assert_eq!(got[0].header("x-agent-signature"), None);
    assert_eq!(got[0].header("webhook-signature"), None);
    assert_eq!(got[0].json().unwrap()["filesChanged"], 0);
    let delivered = delivery_when(&server, &id, tried(1));
    assert_eq!(delivered["tries"][0]["signed"], false);
    assert!(server.output().contains("WEBHOOK_SECRET is not set"));
}

#[test]
fn a_failed_job_calls_back_with_its_error() {
    let (server, repo, receiver) = start(Some(PLAIN));
    let script = "write a.txt one\nresult execution_error It broke";
    let id = submit(&server, &repo, script, &receiver.url());
    let job = server.wait(&id).unwrap();
    let got = receiver.wait_for(1, SOON).unwrap();
    let body = callback::verify(&got[0], PLAIN).unwrap();
    assert_eq!(fields(&body), FIELDS);
    assert_eq!(body["status"], "failed");
    assert_eq!(body["error"], "It broke");
    assert_eq!(body["error"], job["error"]);
    assert_eq!(body["filesChanged"], Value::Null);
    assert_eq!(body["completedAt"], job["completedAt"]);
}

#[test]
fn cancelled_jobs_call_back_whether_they_ran_or_not() {
    let builder = Builder::new().unwrap().env("MAX_CONCURRENT_JOBS", "1");
    let builder = builder.env("WEBHOOK_SECRET", PLAIN);
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let receiver = Receiver::start().unwrap();
    let here = server.dir().join("here");
    let script = format!("mark {}\nhang", here.display());
    let running = submit(&server, &repo, &script, &receiver.url());
    reached(&here).unwrap();
    let other = with(
        body(&repo, "fix/other", "result ok"),
        json!({"osCallbackUrl": receiver.url()}),
    );
    let queued = server.submit(&other).unwrap();
    for (count, id) in [(1, &queued), (2, &running)] {
        let path = format!("/jobs/{id}/cancel");
        let answer = server.client().send(Method::POST, &path, &[], Vec::new());
        answer.unwrap().expect(200).unwrap();
        let got = receiver.wait_for(count, SOON).unwrap();
        let body = callback::verify(&got[count - 1], PLAIN).unwrap();
        assert_eq!(fields(&body), FIELDS);
        assert_eq!(body["jobId"], json!(id));
        assert_eq!(body["status"], "cancelled");
        assert_eq!(body["error"], Value::Null);
        assert!(body["completedAt"].is_string());
    }
}

#[test]
fn a_job_without_an_address_calls_nobody() {
    let (server, repo, receiver) = start(Some(PLAIN));
    let id = server.submit(&body(&repo, "fix/it", "result ok")).unwrap();
    server.wait(&id).unwrap();
    let reply = server.client().get(&format!("/jobs/{id}/deliveries"));
    assert_eq!(
        reply.unwrap().expect(200).unwrap(),
        json!({"deliveries": []})
    );
    assert!(receiver.received().is_empty());
}

fn seconds_between(first: &Request, second: &Request) -> f64 {
    second
        .at
        .duration_since(first.at)
        .unwrap_or_default()
        .as_secs_f64()
}

#[test]
fn a_refused_callback_is_sent_again_with_the_same_id_after_the_first_pause() {
    let (server, repo, receiver) = start(Some(PLAIN));
    receiver.refuse_next(1, 500);
    let id = submit(&server, &repo, "result ok", &receiver.url());
    let pending = delivery_when(&server, &id, tried(1));
    assert_eq!(pending["state"], "pending");
    assert_eq!(pending["tries"][0]["status"], 500);
    assert!(pending["dueAt"].is_string());

    let got = receiver.wait_for(2, SOON).unwrap();
    let pause = seconds_between(&got[0], &got[1]);
    assert!((3.9..9.0).contains(&pause), "sent again after {pause} s");
    assert_eq!(got[0].body, got[1].body);
    assert_eq!(got[0].header("webhook-id"), got[1].header("webhook-id"));
    let stamp = |request: &Request| -> i64 {
        let text = request.header("webhook-timestamp").unwrap();
        text.parse().unwrap()
    };
    assert!(stamp(&got[1]) > stamp(&got[0]), "the second is signed anew");
    for request in &got {
        callback::verify(request, PLAIN).unwrap();
    }
    let delivered = delivery_when(&server, &id, tried(2));
    assert_eq!(delivered["state"], "delivered");
    assert_eq!(delivered["dueAt"], Value::Null);
    assert_eq!(delivered["tries"][0]["status"], 500);
    assert_eq!(delivered["tries"][1]["status"], 204);
    assert_eq!(receiver.received().len(), 2);
}

#[test]
fn a_redirect_is_a_failure_and_nobody_follows_it() {
    let (server, repo, receiver) = start(Some(PLAIN));
    let elsewhere = Receiver::start().unwrap();
    receiver.redirect_next(&elsewhere.url());
    let id = submit(&server, &repo, "result ok", &receiver.url());
    let pending = delivery_when(&server, &id, tried(1));
    assert_eq!(pending["state"], "pending");
    assert_eq!(pending["tries"][0]["status"], 307);
    receiver.wait_for(2, SOON).unwrap();
    assert!(elsewhere.received().is_empty());
}

#[test]
fn a_receiver_that_wants_no_more_gets_no_more() {
    let (server, repo, receiver) = start(Some(PLAIN));
    receiver.refuse_next(1, 410);
    let id = submit(&server, &repo, "result ok", &receiver.url());
    let given_up = delivery_when(&server, &id, tried(1));
    assert_eq!(given_up["state"], "given_up");
    assert_eq!(given_up["dueAt"], Value::Null);
}

#[test]
fn a_receiver_that_asks_for_more_time_gets_it() {
    let (server, repo, receiver) = start(Some(PLAIN));
    receiver.delay_next(503, "8");
    submit(&server, &repo, "result ok", &receiver.url());
    let got = receiver.wait_for(2, SOON).unwrap();
    let pause = seconds_between(&got[0], &got[1]);
    assert!(pause > 7.9, "sent again after {pause} s");
}

#[test]
fn a_callback_waits_for_a_receiver_that_is_down_at_first() {
    let (server, repo, _) = start(Some(PLAIN));
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{address}/callback");
    let id = submit(&server, &repo, "result ok", &url);
    let pending = delivery_when(&server, &id, tried(1));
    assert_eq!(pending["tries"][0]["status"], Value::Null);
    assert!(pending["tries"][0]["error"].is_string());

    let listener = TcpListener::bind(address).unwrap();
    let answer = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let read = stream.read(&mut head).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let delivered = delivery_when(&server, &id, |log| log["state"] == "delivered");
    assert_eq!(delivered["tries"].as_array().unwrap().len(), 2);
    let head = answer.join().unwrap().to_lowercase();
    let named = format!("webhook-id: {}", delivered["id"].as_str().unwrap());
    assert!(head.contains(&named.to_lowercase()), "{head}");
}

#[test]
fn a_callback_under_way_when_the_server_is_killed_is_sent_again_with_the_same_id() {
    let (mut server, repo, receiver) = start(Some(PLAIN));
    receiver.answer_next(1, &Fault::Hang);
    let id = submit(&server, &repo, "result ok", &receiver.url());
    receiver.wait_for(1, SOON).unwrap();
    assert_eq!(server.job(&id).unwrap()["status"], "completed");
    server.kill().unwrap();
    server.start().unwrap();
    let got = receiver.wait_for(2, SOON).unwrap();
    assert_eq!(got[0].header("webhook-id"), got[1].header("webhook-id"));
    assert_eq!(got[0].body, got[1].body);
    callback::verify(&got[1], PLAIN).unwrap();
    let delivered = delivery_when(&server, &id, |log| log["state"] == "delivered");
    assert_eq!(delivered["id"], json!(got[1].header("webhook-id")));
}

#[test]
fn a_callback_that_waits_for_its_next_try_survives_a_restart() {
    let (mut server, repo, receiver) = start(Some(PLAIN));
    receiver.refuse_next(1, 503);
    let id = submit(&server, &repo, "result ok", &receiver.url());
    delivery_when(&server, &id, tried(1));
    server.kill().unwrap();
    server.start().unwrap();
    let got = receiver.wait_for(2, SOON).unwrap();
    let pause = seconds_between(&got[0], &got[1]);
    assert!(
        pause >= FIRST_PAUSE.as_secs_f64() - 0.1,
        "sent again after {pause} s"
    );
    let delivered = delivery_when(&server, &id, tried(2));
    assert_eq!(delivered["state"], "delivered");
}

#[test]
fn a_receiver_that_hangs_holds_up_no_other_job_and_no_other_callback() {
    let (server, repo, receiver) = start(Some(PLAIN));
    let stuck = HttpServer::start(|_| Answer::Hang).unwrap();
    submit(&server, &repo, "result ok", &format!("{}/x", stuck.url()));
    let other = with(
        body(&repo, "fix/other", "result ok"),
        json!({"osCallbackUrl": receiver.url()}),
    );
    let id = server.submit(&other).unwrap();
    receiver.wait_for(1, Duration::from_secs(15)).unwrap();
    assert_eq!(server.wait(&id).unwrap()["status"], "completed");
}

#[test]
fn private_targets_are_refused_at_submission_unless_they_are_allowed() {
    let builder = Builder::new().unwrap().without("WEBHOOK_ALLOW");
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    for target in [
        "http://127.0.0.1:9/x",
        "http://localhost/x",
        "http://127.1/x",
        "http://2130706433/x",
        "http://0x7f000001/x",
        "http://10.1.2.3/x",
        "http://192.168.1.1/x",
        "http://172.16.0.1/x",
        "http://169.254.169.254/latest/meta-data",
        "http://0.0.0.0/x",
        "http://[::1]/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://[fe80::1]/x",
        "http://[fd00::1]/x",
    ] {
        let body = with(
            body(&repo, "fix/it", "result ok"),
            json!({"osCallbackUrl": target}),
        );
        let refusal = server.client().post("/jobs", &body).unwrap();
        assert_eq!(refusal.status, 400, "{target}: {}", refusal.text());
        assert_eq!(refusal.json()["field"], "osCallbackUrl", "{target}");
    }
    let all = server.client().get("/jobs").unwrap().expect(200).unwrap();
    assert_eq!(all["total"], 0);
}

#[test]
fn an_answer_without_end_counts_by_its_status_and_is_not_waited_for() {
    let (server, repo, _) = start(Some(PLAIN));
    let endless =
        HttpServer::start(|_| Answer::Respond(Response::new(200).body(vec![b'x'; 8 << 20])))
            .unwrap();
    let id = submit(&server, &repo, "result ok", &format!("{}/x", endless.url()));
    let delivered = delivery_when(&server, &id, tried(1));
    assert_eq!(delivered["state"], "delivered");
}

/// A receiver behind TLS, and what it got.
fn behind_tls(certificate: &Certificate) -> (HttpServer, Arc<Mutex<Vec<Request>>>) {
    let received = Arc::<Mutex<Vec<Request>>>::default();
    let seen = Arc::clone(&received);
    let server = HttpServer::start_tls(certificate, move |request| {
        seen.lock().unwrap().push(request);
        Answer::Respond(Response::new(204))
    });
    (server.unwrap(), received)
}

/// The delivery of a job that calls back to `receiver`, after its first try, by a server that
/// trusts what is written in `pem`.
fn over_tls(receiver: &HttpServer, pem: Option<&str>) -> Value {
    let mut builder = Builder::new().unwrap().env("WEBHOOK_SECRET", PLAIN);
    if let Some(pem) = pem {
        let file = builder.dir().join("trusted.pem");
        std::fs::write(&file, pem).unwrap();
        builder = builder.env("SSL_CERT_FILE", file);
    }
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let url = format!("https://localhost:{}/x", receiver.address().port());
    let id = submit(&server, &repo, "result ok", &url);
    delivery_when(&server, &id, tried(1))
}

#[test]
fn a_receiver_with_a_certificate_of_its_own_is_reached_when_that_is_trusted_and_else_gets_nothing()
{
    let (own, other) = (
        Certificate::localhost().unwrap(),
        Certificate::localhost().unwrap(),
    );
    let (receiver, received) = behind_tls(&own);
    for untrusted in [None, Some(other.pem())] {
        let pending = over_tls(&receiver, untrusted);
        assert_eq!(pending["state"], "pending");
        assert_eq!(pending["tries"][0]["status"], Value::Null);
        let error = pending["tries"][0]["error"].as_str().unwrap();
        assert!(error.contains("certificate"), "{error}");
        assert!(received.lock().unwrap().is_empty());
    }
    let both = format!("{}{}", other.pem(), own.pem());
    let delivered = over_tls(&receiver, Some(&both));
    assert_eq!(delivered["state"], "delivered", "{delivered:#}");
    callback::verify(&received.lock().unwrap()[0], PLAIN).unwrap();
}

#[test]
fn a_file_to_trust_that_holds_no_certificate_is_refused_at_the_start() {
    let builder = Builder::new().unwrap();
    let empty = builder.dir().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let error = builder.env("SSL_CERT_FILE", &empty).start().unwrap_err();
    let said = format!("{error:#}");
    assert!(
        said.contains("SSL_CERT_FILE") && said.contains("no certificate in it"),
        "{said}"
    );
}

#[test]
fn deliveries_of_an_unknown_job_are_not_found() {
    let (server, _, _) = start(None);
    let path = format!("/jobs/{}/deliveries", "0".repeat(32));
    assert_eq!(server.client().get(&path).unwrap().status, 404);
    let nobody = JsonClient::new(server.url(), None);
    assert_eq!(nobody.get(&path).unwrap().status, 401);
}

#[test]
fn completed_at_is_a_time_in_utc_with_milliseconds() {
    let (server, repo, receiver) = start(Some(PLAIN));
    let before = SystemTime::now();
    submit(&server, &repo, "result ok", &receiver.url());
    let got = receiver.wait_for(1, SOON).unwrap();
    let body = got[0].json().unwrap();
    let at = body["completedAt"].as_str().unwrap();
    let shape: String = at
        .chars()
        .map(|c| if c.is_ascii_digit() { '9' } else { c })
        .collect();
    assert_eq!(shape, "9999-99-99T99:99:99.999Z");
    assert!(got[0].at >= before);
}
