//! What is told when a promise was not kept.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use super::account::Violation;
use super::book::{Book, Moment};
use super::clients;
use super::world::World;

/// Lines of a job's log that are shown.
const LOG_LINES: usize = 30;
/// Longest line that is shown, in characters.
const WIDTH: usize = 300;

/// The cycle's timeline, and everything that is known of the job.
pub(super) fn tell(world: &World, violation: &Violation) -> String {
    let mut out = String::new();
    let mut say = |title: &str, text: &str| {
        // Writing to a string does not fail.
        writeln!(out, "--- {title}\n{}", text.trim_end()).ok();
    };
    say("timeline", &timeline(&world.shared.book));
    let Some(job) = &violation.job else {
        say("server", &last_lines(&world.server.output(), LOG_LINES));
        return out;
    };
    let client = clients::client(&world.shared.url);
    for what in ["", "/history", "/deliveries"] {
        let reply = client.get(&format!("/jobs/{job}{what}"));
        let body = reply.map_or_else(|error| format!("{error:#}"), |reply| reply.text());
        say(&format!("GET /jobs/{job}{what}"), &cut_to(&body, 4 * WIDTH));
    }
    if let Ok(reply) = client.get(&format!("/jobs/{job}/log")) {
        say("end of its log", &last_lines(&reply.text(), LOG_LINES));
    }
    let ledger = fs::read_to_string(&world.shared.ledger).unwrap_or_default();
    say("account of its agents", &with(&ledger, job));
    say(
        "server",
        &last_lines(&with(&world.server.output(), job), LOG_LINES),
    );
    out
}

/// What was going on when a start of the server took long to settle every job.
pub(super) fn late(book: &Book, took: Duration, logged: &str) -> String {
    format!(
        "--- settled only after {} ms\n{}\n--- server\n{}",
        took.as_millis(),
        timeline(book),
        last_lines(logged, LOG_LINES)
    )
}

fn timeline(book: &Book) -> String {
    let line = |moment: &Moment| {
        let (at, what) = (moment.at.as_secs_f64(), &moment.what);
        cut(&format!("{at:>9.3} s  {what}"))
    };
    let lines: Vec<_> = book.moments().iter().map(line).collect();
    lines.join("\n")
}

/// The last lines of a text, none too long.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().map(cut).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Bytes as text.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn with(text: &str, word: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| line.contains(word)).collect();
    lines.join("\n")
}

fn cut(line: &str) -> String {
    cut_to(line, WIDTH)
}

fn cut_to(line: &str, width: usize) -> String {
    let mut shown: String = line.chars().take(width).collect();
    if shown.len() < line.len() {
        shown.push_str(" ...");
    }
    shown
}
