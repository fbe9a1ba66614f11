//! What a worker makes of the attempts it held before a restart.

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent_domain::{
    Ending, Facts, Found, Phase, Reason, RunOptions, RunUsage, Share, Tokens, Usage, Usd,
};
use agent_runner::{Ground, Project, RunRequest};
use agent_worker::Settlement;

use crate::coordinator::Said;
use crate::place::{Place, until};

const LEASE: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(5);

fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    id.trim().to_owned()
}

/// Leaves the directory of an attempt whose supervisor was killed.
fn leave(dir: &Path, boot: &str, pid: u32, started: u64) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("lock"), "").unwrap();
    let process = format!(r#"{{"pid":{pid},"started":{started}}}"#);
    let record = format!(
        r#"{{"supervisor":{process},"boot":"{boot}","agent":{process},"mark":"none","strays":[]}}"#
    );
    fs::write(dir.join("supervisor.json"), record).unwrap();
}

/// Runs an agent to its end while no worker is there.
async fn run_alone(place: &Place, number: u8) {
    let request = RunRequest {
        job: place.job(number),
        attempt: 1,
        prompt: "end at once".into(),
        cwd: place.folder.path().into(),
        options: RunOptions::default(),
        project: Project::Trusted,
        log: place.path("logs/alone.log"),
        ground: Ground::default(),
        secrets: Vec::new(),
        credential: None,
        agent_key: None,
        resume: None,
    };
    drop(place.runner.start(request).await.unwrap());
    let exit = place.attempt_dir(number, 1).join("exit.json");
    // A supervisor that has written it holds its lock for a moment yet.
    let lock = fs::File::open(place.attempt_dir(number, 1).join("lock")).unwrap();
    until("the agent and its supervisor have ended", || {
        exit.exists() && lock.try_lock().is_ok()
    })
    .await;
}

fn settled(place: &Place) -> Vec<(u8, Found)> {
    let said = place.coordinator.said();
    let found = said.iter().rev().find_map(|said| match said {
        Said::Settled(found) => Some(found),
        _ => None,
    });
    let number = |id| (1..=20).find(|number| place.job(*number) == id).unwrap();
    let found = found.unwrap().iter();
    found
        .map(|(id, found)| (number(*id), found.clone()))
        .collect()
}

/// What a run tells that has cost so much.
fn paid(dollars: Option<f64>) -> RunUsage {
    let total = dollars.and_then(Usd::from_dollars);
    RunUsage {
        total: total.map(|total| Usage::default().with_total(total, "unknown")),
        ..RunUsage::default()
    }
}

/// Ten attempts as a crash leaves them: 1 and 2 have living agents; 3 was about to start one; 4 and
/// 5 had not come that far; 6 has ended; 7 lost its supervisor, 8 its machine; 9 was never told what
/// to start; 10 was being delivered.
async fn after_a_crash() -> Place {
    let script = "[ \"$(cat)\" = \"end at once\" ] && exit 3; touch $T/up-$$; \
                  while [ ! -e $T/go ]; do sleep 0.05; done; exit 3";
    let place = Place::new(script, LEASE);
    let worker = place.worker(2);
    for number in [1, 2] {
        place.coordinator.offer(place.assignment(number, 1));
    }
    let up = || {
        let names = fs::read_dir(place.folder.path()).unwrap().flatten();
        let is_up = |name: &str| name.starts_with("up-");
        names
            .filter(|entry| is_up(&entry.file_name().to_string_lossy()))
            .count()
    };
    until("both agents are up", || up() == 2).await;
    worker.stop(Duration::ZERO).await;
    for number in 1..=10 {
        let phase = match number {
            4 => Phase::Fetching,
            5 => Phase::Preparing,
            10 => Phase::Delivering,
            _ => Phase::Agent,
        };
        place.coordinator.holds(place.assignment(number, 1), phase);
    }
    run_alone(&place, 6).await;
    // The numbers of the dead are those of a living process by now: ours.
    let own = std::process::id();
    leave(&place.attempt_dir(7, 1), &boot_id(), own, 1);
    let paid = r#"{"type":"result","subtype":"success","is_error":false,"total_cost_usd":0.25}"#;
    // It went on after its result, so it is not over.
    let more =
        r#"{"type":"assistant","message":{"id":"m","model":"opus","usage":{"input_tokens":9}}}"#;
    let at = "2026-01-02T03:04:05.000000000Z stdout F";
    let said = format!("{at} {paid}\n{at} {more}\n");
    let log = place.assignment(7, 1).log;
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    fs::write(log, said).unwrap();
    leave(&place.attempt_dir(8, 1), "another-boot", own, own_start());
    fs::create_dir_all(place.attempt_dir(9, 1)).unwrap();
    fs::write(place.attempt_dir(9, 1).join("lock"), "").unwrap();
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_was_held_is_settled_at_once_by_what_is_found_of_it() {
    let place = after_a_crash().await;
    let worker = place.worker(1);
    let settlement = worker.settled().await.unwrap();
    let expected = Settlement {
        held: 10,
        living: 2,
        kept: 2,
        lost: 2,
        requeued: 6,
    };
    assert_eq!(settlement, expected);
    let lost = |seen: &str, usage: RunUsage| Found::Lost {
        seen: seen.into(),
        facts: Box::new(Facts {
            usage: Some(usage),
            ..Facts::default()
        }),
    };
    let mut and_more = paid(Some(0.25));
    let tokens = Tokens {
        input: 9,
        ..Tokens::default()
    };
    and_more.messages.add("opus", Share { tokens, cost: None });
    let mut found = settled(&place);
    found.sort_by_key(|(number, _)| *number);
    let found: Vec<Found> = found.into_iter().map(|(_, found)| found).collect();
    let expected = [
        Found::Kept,
        Found::Kept,
        Found::Unstarted,
        Found::Unstarted,
        Found::Unstarted,
        Found::Kept,
        lost("its supervisor was killed", and_more),
        lost("the machine went down", paid(None)),
        Found::Unstarted,
        Found::Kept,
    ];
    assert_eq!(found, expected);
    fs::write(place.path("go"), "").unwrap();
    worker.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_living_are_watched_beyond_the_slots_and_the_rest_waits_for_one() {
    let place = after_a_crash().await;
    let before = place.coordinator.said().len();
    let said = || place.coordinator.said().split_off(before);
    let worker = place.worker(1);
    until("both agents are watched", || {
        let taken = |number| said().contains(&Said::TookUp(place.job(number)));
        taken(1) && taken(2)
    })
    .await;
    let waits = [
        Said::Claimed,
        Said::TookUp(place.job(6)),
        Said::TookUp(place.job(10)),
    ];
    assert!(
        said().iter().all(|said| !waits.contains(said)),
        "{:?}",
        said()
    );
    fs::write(place.path("go"), "").unwrap();
    let ending = |number| place.coordinator.has_finished(place.job(number), 1);
    for number in [1, 2, 6, 10] {
        until("what was kept is reported", || ending(number).is_some()).await;
    }
    let six = ending(6);
    assert!(
        matches!(
            six,
            Some(Ending::Failed {
                reason: Reason::AgentFailed,
                ..
            })
        ),
        "{six:?}"
    );
    until("new work is asked for", || said().contains(&Said::Claimed)).await;
    let no_attempt = || fs::read_dir(place.path("attempts")).unwrap().count() == 0;
    until("no directory is left", no_attempt).await;
    worker.stop(GRACE).await;
}

fn own_start() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let rest = stat.rsplit_once(')').unwrap().1;
    rest.split_ascii_whitespace()
        .nth(19)
        .unwrap()
        .parse()
        .unwrap()
}
