//! A long answer: `includeMessages` of a log of 100 MB, and who else waits for it.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use agent_domain::{LogLine, LogStream, Timestamp};
use anyhow::{Result, anyhow, ensure};
use serde_json::json;

use super::http::Request;
use super::print_aim;
use super::series::Series;
use super::server::Server;
use super::table::Table;

/// Size of the answer, nearly.
const BYTES: usize = 100 * 1_000_000;
/// Text of one message.
const TEXT: usize = 4_000;
/// Answers read at the same time.
const READERS: [usize; 2] = [1, 8];
/// How long other requests are measured without a long answer.
const QUIET: Duration = Duration::from_secs(2);
/// Between two of them: enough of them for a p99, too few to be a load.
const PAUSE: Duration = Duration::from_millis(2);
/// What an answer may hold in memory at most; a hundredth would do, buffers included.
const MEMORY_AIM: f64 = 32.0;
/// Longest wait of another request while one such answer is read, in milliseconds: eight of them
/// want more processors than there may be, so their row is for information.
const WAIT_AIM: f64 = 50.0;

/// Writes the log of a job that has ended, as the agent would have: before a server seals it, since
/// what comes after the seal is not of the log.
pub(crate) fn write_log(data_dir: &Path, job: &str) -> Result<()> {
    write_messages(data_dir, job, BYTES)
}

/// Writes a log whose messages are `bytes` long.
fn write_messages(data_dir: &Path, job: &str, bytes: usize) -> Result<()> {
    let path = data_dir.join("logs").join(job).join("1.log");
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let text = "All work and no play. ".repeat(TEXT / 22);
    let message = json!({ "role": "assistant", "content": [{ "type": "text", "text": text }] });
    let event = json!({ "type": "assistant", "message": message }).to_string();
    let mut entry = Vec::new();
    let at = Timestamp::UNIX_EPOCH;
    LogLine {
        at,
        stream: LogStream::Stdout,
        partial: false,
        text: event.as_bytes(),
    }
    .write(&mut entry);
    let mut file = BufWriter::new(fs::File::create(path)?);
    for _ in 0..bytes / TEXT {
        file.write_all(&entry)?;
    }
    Ok(file.flush()?)
}

/// Reads the messages of `job`, whose log [`write_log`] wrote, with other requests going on, and
/// prints how both fared.
pub(crate) fn run(server: &Server, job: &str) -> Result<()> {
    let mut table = Table::new(&[
        "answers at a time",
        "MB each",
        "MB/s",
        "memory + MB",
        "/health p50 ms",
        "p99 ms",
        "max ms",
    ]);
    let row =
        |quiet: &Series| [quiet.median(), quiet.p99(), quiet.max()].map(|ms| format!("{ms:.2}"));
    let quiet = {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let watching = scope.spawn(|| watch_health(server, &stop));
            thread::sleep(QUIET);
            stop.store(true, Ordering::Relaxed);
            joined(watching.join())
        })?
    };
    let dashes = ["-", "-", "-"].map(str::to_owned);
    table.row("none", dashes.into_iter().chain(row(&quiet)));
    let (mut grown, mut waited) = (0.0_f64, f64::NAN);
    for readers in READERS {
        let read = read_all(server, job, readers)?;
        let cells = [
            format!("{:.1}", read.megabytes),
            format!("{:.0}", read.rate),
            format!("{:.1}", read.grown),
        ];
        table.row(
            &readers.to_string(),
            cells.into_iter().chain(row(&read.health)),
        );
        grown = grown.max(read.grown);
        if readers == 1 {
            waited = read.health.p99();
        }
    }
    table.print("includeMessages of a log of 100 MB, and GET /health meanwhile");
    print_aim(
        "memory for 100 MB answers, MB, at most 32",
        grown,
        grown <= MEMORY_AIM,
    );
    print_aim(
        "p99 of GET /health beside one such answer, ms, at most 50",
        waited,
        waited <= WAIT_AIM,
    );
    Ok(())
}

struct Read {
    megabytes: f64,
    rate: f64,
    grown: f64,
    health: Series,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes in memory are far below 2^52"
)]
fn read_all(server: &Server, job: &str, readers: usize) -> Result<Read> {
    let before = server.reset_peak()?;
    let began = Instant::now();
    let stop = AtomicBool::new(false);
    let (lengths, health) = thread::scope(|scope| {
        let watching = scope.spawn(|| watch_health(server, &stop));
        let reading: Vec<_> = (0..readers)
            .map(|_| scope.spawn(|| read_one(server, job)))
            .collect();
        let lengths = reading
            .into_iter()
            .map(|one| joined(one.join()))
            .collect::<Result<Vec<_>>>();
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok((lengths?, joined(watching.join())?))
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let total: u64 = lengths.iter().sum();
    let grown = server.peak()?.saturating_sub(before);
    Ok(Read {
        megabytes: lengths.first().map_or(0.0, |&length| length as f64 / 1e6),
        rate: total as f64 / 1e6 / seconds,
        grown: grown as f64 / 1e6,
        health,
    })
}

/// Reads one answer without keeping it, and returns its length.
fn read_one(server: &Server, job: &str) -> Result<u64> {
    let request = Request::get(format!("/jobs/{job}?includeMessages=true"));
    let mut length = 0;
    let status = server
        .connect()?
        .ask_into(&request, &mut |bytes| length += bytes.len() as u64)?;
    ensure!(status == 200, "includeMessages: status {status}");
    ensure!(
        length > BYTES as u64 / 2,
        "includeMessages: only {length} bytes"
    );
    Ok(length)
}

/// Asks for the health again and again until told to stop; times in milliseconds.
fn watch_health(server: &Server, stop: &AtomicBool) -> Result<Series> {
    let mut connection = server.connect()?;
    let request = Request::get("/health");
    let mut millis = Series::default();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        connection.ask(&request)?;
        millis.push(asked.elapsed().as_secs_f64() * 1e3);
        thread::sleep(PAUSE);
    }
    Ok(millis)
}

fn joined<T>(result: thread::Result<Result<T>>) -> Result<T> {
    result.map_err(|_| anyhow!("a thread of the bench panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_as_long_as_it_should_be_and_can_be_parsed() {
        let dir = tempfile::tempdir().unwrap();
        write_messages(dir.path(), "abc", 1_000_000).unwrap();
        let log = fs::read(dir.path().join("logs/abc/1.log")).unwrap();
        assert!((1_000_000..1_100_000).contains(&log.len()), "{}", log.len());
        let mut lines = log.trim_ascii_end().split(|byte| *byte == b'\n');
        assert!(lines.all(|line| LogLine::parse(line).is_some()));
    }
}
