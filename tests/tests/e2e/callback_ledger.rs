//! The account of a receiver that fails at random, of a server that is killed again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_tests::callback;
use agent_tests::http_server::{Answer, HttpServer, Request, Response};
use agent_tests::job::{body, with};
use agent_tests::process;
use agent_tests::server::Builder;
use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const JOBS: usize = 30;
const KILLS: usize = 8;
/// How often at most the receiver fails one job's callback: then its schedule is over soon.
const FAILURES_EACH: usize = 2;
/// Two pauses of the schedule, and one of the endpoint.
const PATIENCE: Duration = Duration::from_mins(3);

/// The same numbers at every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// What came for each job, and whether it was answered with success.
type Ledger = Arc<Mutex<BTreeMap<String, Vec<(Request, bool)>>>>;

fn receiver() -> (HttpServer, Ledger) {
    let ledger = Ledger::default();
    let (book, numbers) = (Arc::clone(&ledger), Mutex::new(Numbers(7)));
    let server = HttpServer::start(move |request| {
        let told = request.json().unwrap_or_default();
        let job = told["jobId"].as_str().unwrap_or_default().to_owned();
        let mut book = book.lock().unwrap();
        let calls = book.entry(job).or_default();
        let failed = calls.iter().filter(|(_, taken)| !taken).count();
        let answer = match numbers.lock().unwrap().below(6) {
            0 => Answer::Respond(Response::new(500)),
            1 => Answer::Drop,
            2 => Answer::Respond(Response::new(503).header("retry-after", "1")),
            _ => Answer::Respond(Response::new(204)),
        };
        let fails = !matches!(&answer, Answer::Respond(response) if response.status() == 204);
        let taken = !fails || failed >= FAILURES_EACH;
        calls.push((request, taken));
        if taken {
            Answer::Respond(Response::new(204))
        } else {
            answer
        }
    });
    (server.unwrap(), ledger)
}

#[test]
fn each_ended_job_is_called_back_under_one_id_however_often_the_server_is_killed() {
    let (receiver, ledger) = receiver();
    let builder = Builder::new()
        .unwrap()
        .env("MAX_CONCURRENT_JOBS", "6")
        .env("WEBHOOK_SECRET", SECRET);
    let repo = builder.repo("acme", "app").unwrap();
    let mut server = builder.start().unwrap();
    let url = json!({"osCallbackUrl": format!("{}/x", receiver.url())});
    let jobs: BTreeSet<String> = (0..JOBS)
        .map(|number| {
            let job = body(&repo, &format!("fix/{number}"), "result ok");
            server.submit(&with(job, url.clone())).unwrap()
        })
        .collect();
    let mut numbers = Numbers(11);
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_millis(200 + numbers.below(1300)));
        server.kill().unwrap();
        server.start().unwrap();
    }

    let taken = |calls: &Vec<(Request, bool)>| calls.iter().any(|(_, taken)| *taken);
    let all = process::wait_until(PATIENCE, || {
        let book = ledger.lock().unwrap();
        jobs.iter().all(|job| book.get(job).is_some_and(taken))
    });
    let book = ledger.lock().unwrap().clone();
    let missing: Vec<_> = jobs
        .iter()
        .filter(|job| !book.get(*job).is_some_and(taken))
        .collect();
    assert!(all, "missing: {missing:?}");
    assert_eq!(book.keys().cloned().collect::<BTreeSet<_>>(), jobs);
    let mut repeated = 0;
    for (job, calls) in &book {
        let path = format!("/jobs/{job}/deliveries");
        let mut log = Value::Null;
        let settled = process::wait_until(PATIENCE, || {
            log = server.client().get(&path).unwrap().expect(200).unwrap();
            log["deliveries"][0]["state"] == "delivered"
        });
        assert!(settled, "{log:#}");
        assert_eq!(log["deliveries"].as_array().map(Vec::len), Some(1));
        let status = server.job(job).unwrap()["status"].clone();
        for (request, _) in calls {
            let told = callback::verify(request, SECRET).unwrap();
            assert_eq!(told["status"], status, "{job}");
            let id = request.header("webhook-id");
            assert_eq!(log["deliveries"][0]["id"], json!(id), "{job}");
        }
        repeated += calls.len() - 1;
    }
    assert!(repeated > 0, "the receiver failed, and was called again");
}
