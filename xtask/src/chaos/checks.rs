//! What is checked of one job without asking anybody.

use serde_json::Value;

use super::account::Breach;
use super::agents::Run;
use super::book::{Damage, Entry, Harm};
use super::kinds::{MESSAGE_PRICE, PRICE};
use super::log;

/// What a job's check looks at.
pub(super) struct Case<'a> {
    pub(super) entry: &'a Entry,
    pub(super) id: &'a str,
    pub(super) job: &'a Value,
    pub(super) runs: Vec<&'a Run>,
    pub(super) damage: &'a Damage,
}

/// No two runs at once, none repeated that was not lost.
pub(super) fn runs(case: &Case<'_>) -> Option<(Breach, String)> {
    if let Some(run) = case.runs.iter().find(|run| run.twice) {
        return Some((Breach::TwiceAtOnce, format!("{run:?}")));
    }
    for pair in case.runs.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        // A worker that cannot renew its lease, or store it, ends its agent by itself.
        let lost = first.limited
            || case.damage.supervisors.contains_key(&first.mark)
            || case.damage.has(Harm::Disk)
            || case.damage.has(Harm::Lease);
        if first.mark == second.mark || !lost {
            return Some((Breach::RunAgain, format!("{first:?}, then {second:?}")));
        }
    }
    None
}

/// A job ends once, and nothing happens to it after that but that its work is found and kept.
pub(super) fn history(history: &Value) -> Option<(Breach, String)> {
    let empty = Vec::new();
    let rows = history["history"].as_array().unwrap_or(&empty);
    let ended = |row: &Value| {
        matches!(
            row["status"].as_str(),
            Some("completed" | "failed" | "cancelled")
        )
    };
    let mut rows = rows.iter().filter(|row| row["event"] != "kept");
    let is_once = rows.clone().filter(|row| ended(row)).count() == 1;
    (!is_once || !rows.next_back().is_some_and(ended))
        .then(|| (Breach::EndedTwice, history.to_string()))
}

/// It ended as its agent did, or as an attack explains.
pub(super) fn end(case: &Case<'_>) -> Option<(Breach, String)> {
    let status = case.job["status"].as_str().unwrap_or_default();
    let reason = case.job["reason"].as_str();
    let damage = case.damage;
    let of_job = |mark: &&String| mark.split('.').next() == Some(case.id);
    let supervisors = damage.supervisors.keys().filter(of_job).count();
    let explained = match (status, reason) {
        end if end == case.entry.kind.end() => true,
        ("cancelled", _) => case.entry.cancelled,
        ("failed", Some("agent_failed")) => {
            damage.agents.iter().any(|mark| of_job(&mark)) || damage.has(Harm::Disk)
        }
        ("failed", Some("lost" | "poison")) => supervisors >= 3 || damage.has(Harm::Disk),
        ("failed", Some("git")) => {
            damage.has(Harm::Git) || damage.has(Harm::Remote) || damage.has(Harm::Disk)
        }
        ("failed", Some("delivery")) => {
            damage.has(Harm::GitHub) || damage.has(Harm::Git) || damage.has(Harm::Remote)
        }
        // An agent whose writes fail goes on without them.
        ("failed", Some("spawn" | "disk_full")) | ("completed", None) => damage.has(Harm::Disk),
        // Ended by its limit before the signal that was to end it, or the other way round.
        ("failed", Some("timed_out" | "idle")) => case.entry.kind.limits().is_some(),
        _ => false,
    };
    (!explained).then(|| {
        let wanted = case.entry.kind.end();
        (
            Breach::WrongEnd,
            format!("{status} {reason:?} instead of {wanted:?}: {}", case.job),
        )
    })
}

/// What the runs said they cost is what the job says, and what was cut off is estimated.
pub(super) fn cost(case: &Case<'_>, said: &[Vec<u8>]) -> Option<(Breach, String)> {
    let lines = || said.iter().map(Vec::as_slice);
    let logged = (log::results(lines()), log::open_messages(lines()));
    let paid =
        |(results, open): (u32, u32)| f64::from(results) * PRICE + f64::from(open) * MESSAGE_PRICE;
    // What a disk refused to take, and what was cut off with it, the supervisor may have heard all the
    // same, and what the log has of it need not be whole.
    let (least, most) = if case.damage.has(Harm::Disk) {
        let heard = case.runs.iter().map(|run| log::heard_of(run));
        let heard = heard.fold((0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1));
        let results = [logged.0, heard.0];
        let messages = log::open_messages(lines()).max(heard.1);
        let least = results.into_iter().min().unwrap_or_default();
        let most = results.into_iter().max().unwrap_or_default();
        (paid((least, 0)), paid((most, messages)))
    } else {
        (paid(logged), paid(logged))
    };
    let shown = case.job["costUsd"].as_f64().unwrap_or_default();
    // Amounts are in whole billionths.
    let fits = (least - 1e-9..=most + 1e-9).contains(&shown);
    (!fits).then(|| {
        let (results, open) = logged;
        let what = format!(
            "costUsd is {shown}, {results} results at {PRICE} and {open} messages without one are in the log"
        );
        (Breach::CostDiffers, what)
    })
}
