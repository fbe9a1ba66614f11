//! The log beside what the agents wrote.

use std::collections::HashSet;
use std::fs;

use serde_json::Value;

use super::agents::Run;

/// The lines of standard output in the log of a job, which says how long each attempt's is: a line
/// whose end was lost with its supervisor does not go on in the next attempt.
pub(super) fn stdout_of(job: &Value, log: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = log;
    let mut lines = Vec::new();
    for attempt in job["logs"].as_array().into_iter().flatten() {
        let bytes = attempt["bytes"].as_u64().unwrap_or_default();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let (one, others) = rest.split_at(bytes.min(rest.len()));
        lines.extend(stdout(one));
        rest = others;
    }
    lines.extend(stdout(rest));
    lines
}

/// The lines of standard output in the log of an attempt, pieces of a line joined.
fn stdout(log: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let mut under_way = Vec::new();
    for entry in log.split(|byte| *byte == b'\n') {
        let mut parts = entry.splitn(4, |byte| *byte == b' ');
        let (Some(_), Some(stream), Some(tag), Some(text)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if stream != b"stdout" {
            continue;
        }
        under_way.extend_from_slice(text);
        if tag == b"F" {
            lines.push(std::mem::take(&mut under_way));
        }
    }
    if !under_way.is_empty() {
        lines.push(under_way);
    }
    lines
}

/// How many of the lines are results of a run that has cost something.
pub(super) fn results<'a>(lines: impl Iterator<Item = &'a [u8]>) -> u32 {
    let is_result = |line: &&[u8]| {
        serde_json::from_slice::<Value>(line).is_ok_and(|event| {
            event["type"] == "result" && event["total_cost_usd"].as_f64() != Some(0.0)
        })
    };
    lines.filter(is_result).map(|_| 1).sum()
}

/// How many messages of the model no result accounts for: those of runs that were cut off.
pub(super) fn open_messages<'a>(lines: impl Iterator<Item = &'a [u8]>) -> u32 {
    let mut open = HashSet::new();
    let mut left = 0;
    for event in lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok()) {
        match (event["type"].as_str(), event["subtype"].as_str()) {
            (Some("assistant"), _) => {
                open.insert(event["message"]["id"].to_string());
            }
            (Some("result"), _) => open.clear(),
            (Some("system"), Some("init")) => left += open.drain().map(|_| 1).sum::<u32>(),
            _ => {}
        }
    }
    left + open.drain().map(|_| 1).sum::<u32>()
}

/// How many results a run has said, read or not, and how many messages without one.
pub(super) fn heard_of(run: &Run) -> (u32, u32) {
    let said = fs::read(&run.said).unwrap_or_default();
    let lines = || said.split(|byte| *byte == b'\n');
    (results(lines()), open_messages(lines()))
}

/// Compares a job's lines with what its runs wrote: all of it in order, of a run whose supervisor
/// was killed a part from its beginning.
pub(super) fn compare(
    lines: &[Vec<u8>],
    runs: &[&Run],
    was_cut: impl Fn(&Run) -> bool,
) -> Result<(), String> {
    let mut at = 0;
    for run in runs {
        let said =
            fs::read(&run.said).map_err(|error| format!("{}: {error}", run.said.display()))?;
        let mut wrote: Vec<&[u8]> = said.split(|byte| *byte == b'\n').collect();
        // What follows the last line feed is no line, or one that was never finished.
        let rest = wrote.pop().unwrap_or_default();
        let same = wrote
            .iter()
            .zip(&lines[at..])
            .take_while(|(wrote, line)| **wrote == line.as_slice());
        let same = same.count();
        at += same;
        let torn = wrote.get(same).copied().unwrap_or(rest);
        if let Some(line) = lines.get(at)
            && !line.is_empty()
            && torn.starts_with(line)
        {
            at += 1;
        }
        // An agent that was killed may have copied a line that it came to write no more.
        let missing = wrote.len() - same;
        let allowed = usize::from(!run.good);
        if missing > allowed && !was_cut(run) {
            return Err(format!("{missing} lines of {} are missing", run.mark));
        }
    }
    match lines.get(at) {
        None => Ok(()),
        Some(line) => Err(format!(
            "line {at} is of no run: {:.200}",
            String::from_utf8_lossy(line)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(dir: &std::path::Path, number: usize, said: &str, good: bool) -> Run {
        let path = dir.join(number.to_string());
        fs::write(&path, said).unwrap();
        Run {
            name: "a".into(),
            mark: format!("j.{number}"),
            began: 0,
            good,
            limited: false,
            twice: false,
            said: path,
        }
    }

    fn lines(text: &str) -> Vec<Vec<u8>> {
        text.lines().map(|line| line.as_bytes().to_vec()).collect()
    }

    #[test]
    fn messages_are_open_until_a_result_of_their_own_run() {
        let message = r#"{"type":"assistant","message":{"id":"ID"}}"#;
        let of = |ids: &[&str]| ids.iter().map(|id| message.replace("ID", id)).collect();
        let init = vec![r#"{"type":"system","subtype":"init"}"#.to_owned()];
        let result = vec![r#"{"type":"result"}"#.to_owned()];
        let cut: Vec<String> = of(&["a", "a", "b"]);
        let whole: Vec<String> = [of(&["c"]), result].concat();
        let both = [init.clone(), cut, init, whole].concat();
        let open = open_messages(both.iter().map(String::as_bytes));
        assert_eq!(open, 2);
    }

    #[test]
    fn pieces_are_joined_and_other_streams_left_out() {
        let log = b"t stdout P ab\nt system F x\nt stdout F c d\nt stdout F \nt stdout F \xff\n";
        assert_eq!(
            stdout(log),
            [b"abc d".to_vec(), b"".to_vec(), b"\xff".to_vec()]
        );
    }

    #[test]
    fn a_line_that_was_cut_off_ends_with_its_attempt() {
        let log = b"t stdout F a\nt stdout P b\nt stdout F a\nt stdout F c\n";
        let job = serde_json::json!({"logs": [{"attempt": 1, "bytes": 26}]});
        let lines = ["a", "b", "a", "c"].map(|line| line.as_bytes().to_vec());
        assert_eq!(stdout_of(&job, log), lines);
    }

    #[test]
    fn a_lost_a_doubled_and_a_moved_line_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let run = run(dir.path(), 1, "a\nb\nc\n", true);
        let check = |text| compare(&lines(text), &[&run], |_| false);
        assert_eq!(check("a\nb\nc"), Ok(()));
        for wrong in ["a\nb", "a\nc", "a\nb\nb\nc", "b\na\nc", "a\nb\nc\nd", ""] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn of_a_cut_run_a_part_is_enough_and_the_next_follows() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (
            run(dir.path(), 1, "a\nbb\nc\n", false),
            run(dir.path(), 2, "x\ny\n", true),
        );
        let check = |text| compare(&lines(text), &[&one, &two], |run| run.mark == "j.1");
        for right in ["a\nbb\nc\nx\ny", "a\nx\ny", "x\ny", "a\nb\nx\ny"] {
            assert_eq!(check(right), Ok(()), "{right:?}");
        }
        for wrong in ["a\nc\nx\ny", "a\nbb\nx", "a\nq\nx\ny"] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }
}
