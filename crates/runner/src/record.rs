//! What supervisor and server tell each other through files and the spec: the written forms.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use agent_domain::{DeniedCall, LimitWindow, ResultSummary, RunEnd, RunSummary, RunUsage, Stop};
use serde::{Deserialize, Serialize};

use crate::cgroup::Groups;
use crate::limits::Limits;
use crate::sandbox::WallSpec;
use crate::{Ladder, LogLimits};

/// Everything a supervisor needs to know. It is sent through a pipe and never stored, since it
/// holds the prompt and the agent's credentials.
#[derive(Serialize, Deserialize)]
pub(crate) struct Spec<'a> {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) cwd: OsString,
    pub(crate) prompt: Cow<'a, str>,
    pub(crate) log: OsString,
    pub(crate) timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    /// What the run may cost, in billionths of a dollar.
    #[serde(default)]
    pub(crate) budget: Option<u64>,
    pub(crate) ladder: Ladder,
    /// Never to be written anywhere.
    pub(crate) secrets: Vec<Cow<'a, str>>,
    pub(crate) log_limits: LogLimits,
    /// What marks the agent's environment.
    pub(crate) mark: String,
    #[serde(default)]
    pub(crate) limits: Limits,
    /// Whether control groups are to be used where there are any.
    #[serde(default)]
    pub(crate) control_groups: bool,
    /// What is set up around the agent first.
    pub(crate) wall: Option<WallSpec>,
}

/// A process, told apart from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// In the system's own unit, since it started.
    pub(crate) started: u64,
}

/// `supervisor.json`: who supervises, and what it has started. Its presence means that the agent
/// may have been started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SupervisorRecord {
    pub(crate) supervisor: ProcessId,
    /// Which start of the machine the processes belong to.
    pub(crate) boot: String,
    pub(crate) agent: Option<ProcessId>,
    /// What marks the agent's environment.
    pub(crate) mark: String,
    /// Processes of the tree that do not carry the mark.
    pub(crate) strays: Vec<ProcessId>,
    /// Where the tree is, also before it is there.
    #[serde(default)]
    pub(crate) groups: Groups,
    /// How long the tree is being killed before it is said that this cannot be done.
    #[serde(default = "patience")]
    pub(crate) patience: Duration,
}

/// For records of supervisors that did not say.
fn patience() -> Duration {
    Ladder::default().patience
}

/// `exit.json`: how the run ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    #[serde(with = "RunEndForm")]
    pub(crate) end: RunEnd,
    /// Length of the log when the supervisor closed it.
    pub(crate) log_length: u64,
}

/// What the supervisor says on its standard output once it has done what it was told, one line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The run is under way, or has ended already because the agent could not be started.
    Ready { supervisor: u32, agent: Option<u32> },
    /// As [`Answer::Refused`], for want of room on the disk.
    DiskFull(String),
    /// Nothing was started and nothing will be.
    Refused(String),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RunEnd")]
struct RunEndForm {
    #[serde(with = "stop")]
    stop: Option<Stop>,
    exit_code: Option<i32>,
    spawn_error: Option<String>,
    #[serde(default)]
    disk_full: Option<String>,
    sandbox_error: Option<String>,
    #[serde(with = "RunSummaryForm")]
    summary: RunSummary,
    stderr_tail: String,
    // Records of supervisors from before an upgrade have none of these.
    #[serde(default)]
    out_of_memory: bool,
    #[serde(default)]
    unkillable: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RunSummary")]
struct RunSummaryForm {
    session_id: Option<String>,
    model: Option<String>,
    cli_version: Option<String>,
    assistant_error: Option<String>,
    limit_resets_at: Option<i64>,
    #[serde(default)]
    limit_kind: Option<String>,
    #[serde(default, with = "crate::windows::form")]
    windows: Vec<LimitWindow>,
    #[serde(default, with = "denied")]
    denied: Vec<DeniedCall>,
    #[serde(with = "result")]
    result: Option<ResultSummary>,
    #[serde(default, with = "crate::usage::form")]
    usage: RunUsage,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ResultSummary")]
struct ResultSummaryForm {
    subtype: String,
    is_error: bool,
    terminal_reason: Option<String>,
    stop_reason: Option<String>,
    api_error_status: Option<i64>,
    api_error: Option<String>,
    text: String,
    num_turns: Option<u64>,
    cost_usd: Option<f64>,
    #[serde(default)]
    structured_output: Option<String>,
    permission_denials: u64,
}

mod denied {
    //! Denied calls as triples: id, tool, input.

    use agent_domain::DeniedCall;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        calls: &[DeniedCall],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(calls.iter().map(|call| (&call.id, &call.tool, &call.input)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<DeniedCall>, D::Error> {
        let calls = Vec::<(String, String, Option<String>)>::deserialize(deserializer)?;
        let call = |(id, tool, input)| DeniedCall { id, tool, input };
        Ok(calls.into_iter().map(call).collect())
    }
}

mod stop {
    //! `Option<Stop>` as a word.

    use agent_domain::Stop;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(
        clippy::ref_option,
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature serde asks for"
    )]
    pub(super) fn serialize<S: Serializer>(
        stop: &Option<Stop>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let word = stop.map(|stop| match stop {
            Stop::Cancelled => "cancelled",
            Stop::TimedOut => "timed_out",
            Stop::Idle => "idle",
            Stop::Budget => "budget",
            Stop::Stayed => "stayed",
        });
        word.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Stop>, D::Error> {
        match Option::<String>::deserialize(deserializer)?.as_deref() {
            None => Ok(None),
            Some("cancelled") => Ok(Some(Stop::Cancelled)),
            Some("timed_out") => Ok(Some(Stop::TimedOut)),
            Some("idle") => Ok(Some(Stop::Idle)),
            Some("budget") => Ok(Some(Stop::Budget)),
            Some("stayed") => Ok(Some(Stop::Stayed)),
            Some(other) => Err(D::Error::custom(format!("unknown stop {other}"))),
        }
    }
}

mod result {
    //! `Option<ResultSummary>` through its form.

    use agent_domain::ResultSummary;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::ResultSummaryForm;

    #[derive(Serialize)]
    struct Given<'a>(#[serde(with = "ResultSummaryForm")] &'a ResultSummary);

    #[derive(Deserialize)]
    struct Taken(#[serde(with = "ResultSummaryForm")] ResultSummary);

    #[expect(clippy::ref_option, reason = "the signature serde asks for")]
    pub(super) fn serialize<S: Serializer>(
        result: &Option<ResultSummary>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        result.as_ref().map(Given).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ResultSummary>, D::Error> {
        Ok(Option::<Taken>::deserialize(deserializer)?.map(|Taken(result)| result))
    }
}

/// Writes `record` to `folder/name` so that a reader finds all of it or nothing, also after a
/// loss of power.
pub(crate) fn write(folder: &Path, name: &str, record: &impl Serialize) -> io::Result<()> {
    put(folder, name, record, File::sync_all)?;
    File::open(folder)?.sync_all()
}

/// Like [`write()`], for what a loss of power makes worthless anyway.
pub(crate) fn update(folder: &Path, name: &str, record: &impl Serialize) -> io::Result<()> {
    put(folder, name, record, |_| Ok(()))
}

fn put(
    folder: &Path,
    name: &str,
    record: &impl Serialize,
    sync: fn(&File) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = folder.join(unplaced(name));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    sync(&file)?;
    fs::rename(&temporary, folder.join(name))
}

fn unplaced(name: &str) -> String {
    format!("{name}.new")
}

/// Puts a record in its place whose writer died right before it could. One that is not complete
/// stays where it is. Only when the writer is known to be gone.
pub(crate) fn place<T: for<'de> Deserialize<'de>>(folder: &Path, name: &str) -> io::Result<()> {
    let temporary = unplaced(name);
    if read::<T>(folder, &temporary)?.is_none() {
        return Ok(());
    }
    fs::rename(folder.join(temporary), folder.join(name))
}

/// Reads the record at `folder/name`; `None` when there is none that can be read.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(
    folder: &Path,
    name: &str,
) -> io::Result<Option<T>> {
    match fs::read(folder.join(name)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_record_reads_back_as_written() {
        let end = RunEnd {
            stop: Some(Stop::TimedOut),
            exit_code: Some(143),
            spawn_error: None,
            disk_full: Some("full".into()),
            sandbox_error: Some("no".into()),
            summary: RunSummary {
                limit_resets_at: Some(5),
                limit_kind: Some("seven_day".into()),
                windows: vec![LimitWindow {
                    kind: "five_hour".into(),
                    used: 0.81,
                    resets_at: agent_domain::Timestamp::UNIX_EPOCH,
                }],
                usage: crate::usage::tests::full(),
                denied: vec![DeniedCall {
                    id: "t".into(),
                    tool: "Bash".into(),
                    input: None,
                }],
                result: Some(ResultSummary {
                    structured_output: Some("{}".into()),
                    subtype: "success".into(),
                    cost_usd: Some(0.1),
                    ..ResultSummary::default()
                }),
                ..RunSummary::default()
            },
            stderr_tail: "x".into(),
            out_of_memory: true,
            unkillable: vec![7],
        };
        let folder = tempfile::tempdir().unwrap();
        let stayed = RunEnd {
            stop: Some(Stop::Stayed),
            ..RunEnd::default()
        };
        for end in [end, stayed, RunEnd::default()] {
            let record = ExitRecord {
                end: end.clone(),
                log_length: 7,
            };
            write(folder.path(), "exit.json", &record).unwrap();
            let back: ExitRecord = read(folder.path(), "exit.json").unwrap().unwrap();
            assert_eq!((back.end, back.log_length), (end, 7));
        }
    }

    #[test]
    fn an_exit_record_from_before_an_upgrade_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"end":{"stop":"idle","exit_code":1,"spawn_error":null,"summary":{"session_id":null,
            "model":null,"cli_version":null,"assistant_error":null,"limit_resets_at":null,"result":null},
            "stderr_tail":""},"log_length":7}"#;
        fs::write(folder.path().join("exit.json"), text).unwrap();
        let record: ExitRecord = read(folder.path(), "exit.json").unwrap().unwrap();
        assert_eq!(record.end.stop, Some(Stop::Idle));
    }

    #[test]
    fn a_record_that_is_missing_or_torn_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            read::<ExitRecord>(folder.path(), "exit.json")
                .unwrap()
                .is_none()
        );
        fs::write(folder.path().join("exit.json"), "{\"end\":").unwrap();
        assert!(
            read::<ExitRecord>(folder.path(), "exit.json")
                .unwrap()
                .is_none()
        );
    }
}
