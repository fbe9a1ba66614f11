//! Which callbacks are sent when some receivers do not answer, and when somebody asks for one again.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use agent_domain::JobId;
use agent_storage::{DeliveryLog, DeliveryState};

use crate::receiver::{Mode, Receiver};
use crate::stage::Stage;

/// Longer than an endpoint is left alone the first time, its jitter included, and the second time.
const FIRST: i64 = 40;
const SECOND: i64 = 80;
const MANY: usize = 500;

async fn stage() -> Stage {
    Stage::new(Duration::from_secs(30)).await
}

async fn log(stage: &Stage, job: JobId) -> DeliveryLog {
    stage.engine.deliveries(job).await.unwrap().remove(0)
}

async fn many(stage: &Stage, url: &str) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for number in 0..MANY {
        // Each to a path of its own: an endpoint is not a URL.
        let url = format!("{url}/{number}");
        jobs.push(stage.ended(&format!("fix/{number}"), &url).await);
    }
    jobs
}

/// Waits until so many endpoints count as failing; fails after a minute and a half.
async fn failing(stage: &Stage, count: usize) {
    let begun = Instant::now();
    while stage.engine.health().await.unwrap().failing_endpoints != count {
        assert!(begun.elapsed() < Duration::from_secs(90), "never {count}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Lets a job end that calls back to `living`, and waits until that has arrived.
async fn arrives(stage: &Stage, living: &Receiver, branch: &str) {
    let before = living.now().taken.len();
    stage.ended(branch, &living.url()).await;
    living.until(|now| now.taken.len() > before).await;
}

async fn wait_of(stage: &Stage, job: JobId) -> (usize, i64) {
    let log = log(stage, job).await;
    let DeliveryState::Pending { due_at } = log.state else {
        panic!("{log:?}");
    };
    let now = stage.engine.now();
    (log.tries.len(), due_at.as_second() - now.as_second())
}

#[tokio::test]
async fn an_endpoint_that_never_answers_delays_no_other_and_gets_everything_when_it_is_back() {
    let mut stage = stage().await;
    let (dead, living) = (Receiver::start(Mode::Hold), Receiver::start(Mode::Take));
    let jobs = many(&stage, &dead.url()).await;
    dead.until(|now| now.open == 2).await;
    arrives(&stage, &living, "one").await;
    assert_eq!(dead.now().arrivals(), 2, "the first two hang still");

    // A server that begins knows nothing of its endpoints, and has all of that due.
    stage.restart().await;
    dead.until(|now| now.arrivals() == 4).await;
    arrives(&stage, &living, "two").await;
    assert_eq!(dead.now().arrivals(), 4);

    dead.set(Mode::Close);
    failing(&stage, 1).await;
    let so_far = dead.now().arrivals();
    assert!(
        (7..=8).contains(&so_far),
        "five failures of this server: {so_far}"
    );
    let last = jobs[MANY - 1];
    let (tries, wait) = wait_of(&stage, last).await;
    assert!(tries == 0 && (24..=36).contains(&wait), "{tries}, {wait}");
    arrives(&stage, &living, "three").await;
    // The second of two tries may have been on its way.
    let so_far = dead.now().arrivals();
    assert!(so_far <= 8, "it is left alone: {so_far}");

    dead.set(Mode::Hold);
    stage.clock.step(FIRST);
    arrives(&stage, &living, "four").await;
    dead.until(|now| now.arrivals() == so_far + 1).await;
    arrives(&stage, &living, "five").await;
    assert_eq!(
        dead.now().arrivals(),
        so_far + 1,
        "one try to see how it is"
    );
    dead.set(Mode::Close);
    let begun = Instant::now();
    while wait_of(&stage, last).await.1 < 48 {
        assert!(
            begun.elapsed() < Duration::from_secs(90),
            "never left alone again"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(wait_of(&stage, last).await.0, 0, "it has used up no try");

    dead.set(Mode::Take);
    stage.clock.step(SECOND);
    arrives(&stage, &living, "six").await;
    let all = dead.until(|now| now.taken.len() == MANY).await;
    assert!(all.most <= 4, "two of each server: {}", all.most);
    failing(&stage, 0).await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_left_alone_until_it_is_back() {
    let stage = stage().await;
    let (gone, living) = (
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap(),
        Receiver::start(Mode::Take),
    );
    let jobs = many(&stage, &format!("http://{gone}/callback")).await;
    arrives(&stage, &living, "one").await;
    failing(&stage, 1).await;
    arrives(&stage, &living, "two").await;
    let mut tries = 0;
    for job in &jobs {
        tries += log(&stage, *job).await.tries.len();
    }
    assert!((5..=6).contains(&tries), "{tries}");

    let back = Receiver::on(TcpListener::bind(gone).unwrap(), Mode::Take);
    stage.clock.step(FIRST);
    arrives(&stage, &living, "three").await;
    let all = back.until(|now| now.taken.len() == MANY).await;
    assert!(all.most <= 2, "{}", all.most);
    assert_eq!(all.arrivals(), MANY, "nothing is sent twice");
}

#[tokio::test]
async fn a_redelivery_is_tried_at_once_though_its_endpoint_is_left_alone() {
    let stage = stage().await;
    let dead = Receiver::start(Mode::Close);
    let jobs = many(&stage, &dead.url()).await;
    failing(&stage, 1).await;
    let begun = Instant::now();
    // What was under way when the fifth failed is written down.
    while dead.now().open > 0 {
        assert!(begun.elapsed() < Duration::from_secs(90));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let so_far = dead.now().arrivals();
    dead.set(Mode::Hold);
    let job = jobs[MANY - 1];
    let id = log(&stage, job).await.id;
    stage.engine.redeliver_once(job, id, None).await.unwrap();
    dead.until(|now| now.arrivals() == so_far + 1).await;
    dead.set(Mode::Take);
    dead.until(|now| now.taken.contains_key(&id.to_string()))
        .await;
}

#[tokio::test]
async fn a_redelivery_asked_for_during_a_try_is_made_whatever_comes_of_the_try() {
    let stage = stage().await;
    for (branch, outcome) in [("taken", Mode::Take), ("failed", Mode::Close)] {
        let receiver = Receiver::start(Mode::Hold);
        let job = stage.ended(branch, &receiver.url()).await;
        receiver.until(|now| now.open == 1).await;
        let id = log(&stage, job).await.id;
        stage.engine.redeliver_once(job, id, None).await.unwrap();
        let during = log(&stage, job).await;
        assert!(during.tries.is_empty(), "{during:?}");
        assert_eq!(receiver.now().arrivals(), 1, "not twice at the same time");

        receiver.set(outcome);
        receiver.until(|now| now.arrivals() == 2).await;
        receiver.set(Mode::Take);
        let begun = Instant::now();
        let settled = loop {
            let log = log(&stage, job).await;
            if log.tries.len() == 2 {
                break log;
            }
            assert!(begun.elapsed() < Duration::from_secs(90), "{log:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert_eq!(receiver.now().came, [(id.to_string(), 2)].into());
        if outcome == Mode::Take {
            assert_eq!(settled.state, DeliveryState::Delivered);
        }
    }
}
