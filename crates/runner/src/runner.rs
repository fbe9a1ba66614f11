//! Starting runs and finding them again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf, absolute};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use agent_domain::{AgentKey, CredentialName, JobId, RunEnd, RunOptions, RunSummary, Secret, Usd};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use crate::attempt::{Attempt, Found, STDERR};
use crate::command_line::{command_line, going_on};
use crate::environment::{sandbox_claim, with_variables};
use crate::limits::Limits;
use crate::login::{Login, Logins};
use crate::mask::Masker;
use crate::record::{Answer, Spec};
use crate::run::{Run, summary_of};
use crate::sandbox::{Ground, Level, Sandbox, WallSpec};
use crate::{Project, RunnerError};

/// How long a supervisor may take to start the agent, on a machine with much else to do.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// Longest answer of a supervisor that is read.
const ANSWER_MAX: u64 = 64 * 1024;

/// A program and what comes first on its command line.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// Its first arguments.
    pub args: Vec<OsString>,
}

/// How long the ending of an agent waits before each next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    /// From SIGINT to SIGTERM.
    pub int_to_term: Duration,
    /// From SIGTERM to the killing of everything.
    pub term_to_kill: Duration,
    /// From the agent's own end to that of whatever still holds its output open.
    pub drain: Duration,
    /// From a result after which nothing more is said to the first step, where the agent stays; its
    /// limit on silence may be shorter. It may have something in the background, and go on after that.
    #[serde(default = "stay")]
    pub stay: Duration,
    /// From the killing of everything to the admission that it cannot be killed.
    #[serde(default = "patience")]
    pub patience: Duration,
}

fn stay() -> Duration {
    Ladder::default().stay
}

fn patience() -> Duration {
    Ladder::default().patience
}

impl Default for Ladder {
    fn default() -> Self {
        Self {
            int_to_term: Duration::from_secs(2),
            term_to_kill: Duration::from_secs(8),
            drain: Duration::from_secs(2),
            stay: Duration::from_mins(10),
            patience: Duration::from_secs(30),
        }
    }
}

/// How much of an agent's output is kept. What is left out is counted in the log; the agent goes on
/// and its outcome is read from all it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Longest line, in bytes.
    pub line: usize,
    /// Length of an attempt's log from which on only the server's own lines are added, in bytes.
    pub total: u64,
}

impl Default for LogLimits {
    /// 256 KiB a line, 1 GiB an attempt.
    fn default() -> Self {
        Self {
            line: 256 * 1024,
            total: 1024 * 1024 * 1024,
        }
    }
}

/// What a runner needs to know.
#[derive(Debug, Clone)]
pub struct RunnerConfig {
    /// The CLI: a path, or a name looked up in the PATH of `environment`.
    pub claude: PathBuf,
    /// A program whose `main` calls [`crate::supervise()`].
    pub supervisor: Program,
    /// All that the agent sees of the server's environment; see [`crate::agent_environment`].
    pub environment: Vec<(OsString, OsString)>,
    /// How the runs of each credential are logged in; their secrets are masked.
    pub logins: Logins,
    /// Holds one directory per attempt until [`Runner::forget`].
    pub attempts_dir: PathBuf,
    /// Used where neither job nor client say otherwise.
    pub defaults: RunOptions,
    /// How agents are ended.
    pub ladder: Ladder,
    /// What each run may take of the machine.
    pub limits: Limits,
    /// Whether runs get control groups of their own where there are any; without them processes
    /// are found by descent and by a mark in their environment only. See
    /// [`crate::process_control()`].
    pub control_groups: bool,
    /// What is set up around every agent; `None` is nothing.
    pub sandbox: Option<Sandbox>,
    /// Masked in everything that is written about any run; see [`Masker`].
    pub secrets: Vec<Secret>,
    /// How much of an agent's output is kept.
    pub log_limits: LogLimits,
}

/// One run to be started.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The job.
    pub job: JobId,
    /// Which attempt of it.
    pub attempt: u32,
    /// Given to the agent on its standard input.
    pub prompt: Arc<str>,
    /// The workspace.
    pub cwd: PathBuf,
    /// What job and client wish; the runner's defaults fill the rest.
    pub options: RunOptions,
    /// What of the repository's own set-up for the CLI counts.
    pub project: Project,
    /// Where the output goes; the supervisor is its only writer until the run has ended.
    pub log: PathBuf,
    /// What it needs behind a wall beside its workspace.
    pub ground: Ground,
    /// Masked like [`RunnerConfig::secrets`], in this run only.
    pub secrets: Vec<Secret>,
    /// The credential that it runs on; without one it is the only one there is.
    pub credential: Option<CredentialName>,
    /// Takes the place of the credential.
    pub agent_key: Option<AgentKey>,
    /// The session to go on in, in place of a new one; see [`Runner::has_session`].
    pub resume: Option<String>,
}

/// What has become of a run since another server started it.
#[derive(Debug)]
pub enum Reconnected {
    /// It goes on.
    Living(Run),
    /// It ended in good order.
    Ended(RunEnd),
    /// Its supervisor was killed, or the machine went down. What was left of the tree has been
    /// ended as far as that can be done; the log holds what had been written until then.
    Lost(LostRun),
    /// The agent was not started, and will not be by this attempt's old supervisor.
    NeverStarted,
}

/// What is known of a run whose supervisor could not tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LostRun {
    /// What the transcript said until then.
    pub summary: RunSummary,
    /// Numbers of the processes that are left and cannot be ended.
    pub unkillable: Vec<u32>,
}

/// Runs the CLI under supervisors.
#[derive(Debug)]
pub struct Runner {
    pub(crate) config: RunnerConfig,
    masker: Masker,
    /// Whether credentials were found that cannot come or go.
    pub(crate) known_logins: Mutex<BTreeMap<CredentialName, bool>>,
}

impl Runner {
    /// Makes a runner; does nothing else.
    pub fn new(config: RunnerConfig) -> Self {
        let mut config = config;
        config.attempts_dir = full(&config.attempts_dir);
        let of_logins = config.logins.values().filter_map(Login::secret);
        config.secrets.extend(of_logins.cloned());
        let masker = Masker::new(&config.secrets);
        Self {
            config,
            masker,
            known_logins: Mutex::default(),
        }
    }

    /// Masks what is written about a run with `secrets` of its own.
    pub fn masker(&self, secrets: &[Secret]) -> Masker {
        if secrets.is_empty() {
            self.masker.clone()
        } else {
            Masker::new(self.config.secrets.iter().chain(secrets))
        }
    }

    /// Starts the agent under a new supervisor, in an attempt that was not started before.
    ///
    /// An agent that cannot be started is no error here, but a run that ends with
    /// [`RunEnd::spawn_error`]. If this is dropped before it returns, [`Runner::reconnect`] tells
    /// what has come of it.
    pub async fn start(&self, request: RunRequest) -> Result<Run, RunnerError> {
        let login = self.login(&request)?;
        let attempt = self.attempt(request.job, request.attempt);
        attempt.create()?;
        let started = self.launch(&attempt, &request, &login).await;
        // Ends what may have been started before it went wrong; if that fails too, the directory
        // stays for whoever looks next.
        if started.is_err() && attempt.look().await.is_ok() {
            attempt.remove().ok();
        }
        started
    }

    async fn launch(
        &self,
        attempt: &Attempt,
        request: &RunRequest,
        login: &Login,
    ) -> Result<Run, RunnerError> {
        let options = request.options.clone().or(&self.config.defaults);
        let mcp_config = attempt.write_mcp_config(&options)?;
        let mut child = self.spawn(attempt)?;
        let spec = self.spec(attempt, request, login, &options, mcp_config.as_deref());
        let answer = tokio::time::timeout(ANSWER_WITHIN, converse(&mut child, &spec)).await;
        let (supervisor, agent) = match answer {
            Ok(Ok(Answer::Ready { supervisor, agent })) => (supervisor, agent),
            Ok(Ok(Answer::DiskFull(error))) => return Err(RunnerError::DiskFull(error)),
            Ok(Ok(Answer::Refused(error))) => return Err(RunnerError::Supervisor(error)),
            Ok(Err(error)) => return Err(put_down(child, attempt, &error.to_string()).await),
            Err(_) => return Err(put_down(child, attempt, "it does not answer").await),
        };
        let stream = match attempt.connect().await {
            Ok(stream) => Some(stream),
            // It may be over already.
            Err(_) => match attempt.look().await? {
                Found::Living(stream, _) => Some(stream),
                Found::Ended(_) | Found::Lost(_) | Found::NeverStarted => None,
            },
        };
        let mut run = Run::new(attempt.clone(), full(&request.log), stream);
        run.supervisor_pid = Some(supervisor);
        run.agent_pid = agent;
        run.child = Some(child);
        Ok(run)
    }

    fn spawn(&self, attempt: &Attempt) -> Result<Child, RunnerError> {
        let errors = attempt
            .open_new(STDERR)
            .map_err(RunnerError::io("cannot make the supervisor's error file"))?;
        let program = &self.config.supervisor;
        Command::new(&program.path)
            .args(&program.args)
            .arg(attempt.folder())
            .env_clear()
            .current_dir(attempt.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|error| {
                RunnerError::Supervisor(format!("{}: {error}", program.path.display()))
            })
    }

    fn spec<'a>(
        &'a self,
        attempt: &Attempt,
        request: &'a RunRequest,
        login: &Login,
        options: &RunOptions,
        mcp_config: Option<&Path>,
    ) -> Spec<'a> {
        let secrets = self.config.secrets.iter().chain(&request.secrets);
        let mut args = command_line(options, &request.project, mcp_config);
        args.extend(going_on(request.resume.as_deref()));
        Spec {
            program: self.config.claude.clone().into(),
            args,
            environment: self.environment(login, options),
            cwd: full(&request.cwd).into(),
            prompt: Cow::Borrowed(&request.prompt),
            log: full(&request.log).into(),
            timeout: options.timeout,
            idle_timeout: options.idle_timeout,
            budget: options.budget.map(Usd::nanos),
            ladder: self.config.ladder,
            secrets: secrets.map(|one| one.expose().into()).collect(),
            log_limits: self.config.log_limits,
            mark: attempt.name().to_owned(),
            limits: self.config.limits,
            control_groups: self.config.control_groups,
            wall: self.wall(&request.ground, mcp_config),
        }
    }

    /// What a run pays with: its job's own key, else a credential that there is.
    fn login(&self, request: &RunRequest) -> Result<Login, RunnerError> {
        if let Some(key) = &request.agent_key {
            return Ok(Login::Key(key.clone()));
        }
        let logins = &self.config.logins;
        let only = || logins.keys().next().filter(|_| logins.len() == 1);
        let name = request.credential.as_ref().or_else(only);
        let name = name.cloned().unwrap_or_else(CredentialName::default_one);
        let login = logins.get(&name).cloned();
        login.ok_or(RunnerError::NoCredential(name))
    }

    fn environment(&self, login: &Login, options: &RunOptions) -> Vec<(OsString, OsString)> {
        let mode = options.permission_mode.unwrap_or_default();
        let is_root = rustix::process::geteuid().is_root();
        let environment = self.config.environment.clone();
        let environment = with_variables(environment, options.env.as_ref());
        let mut environment = login.applied(environment);
        environment.extend(sandbox_claim(mode, is_root));
        environment
    }

    /// The wall around a run, which must see its file of MCP servers through it.
    fn wall(&self, ground: &Ground, mcp_config: Option<&Path>) -> Option<WallSpec> {
        let sandbox = self.config.sandbox.as_ref()?;
        let mut ground = ground.clone();
        ground.readable.extend(mcp_config.map(Path::to_owned));
        WallSpec::new(sandbox, &ground)
    }

    /// Whether agents run behind a wall, where they see nothing of a mirror but what
    /// [`RunRequest::ground`] names.
    pub fn is_walled(&self) -> bool {
        let sandbox = self.config.sandbox.as_ref();
        sandbox.is_some_and(|sandbox| sandbox.level != Level::Off)
    }

    /// Finds out what has become of a run that this or an earlier server started.
    pub async fn reconnect(
        &self,
        job: JobId,
        attempt: u32,
        log: &Path,
    ) -> Result<Reconnected, RunnerError> {
        let attempt = self.attempt(job, attempt);
        Ok(match attempt.look().await? {
            Found::NeverStarted => Reconnected::NeverStarted,
            Found::Ended(exit) => Reconnected::Ended(exit.end),
            Found::Lost(unkillable) => Reconnected::Lost(LostRun {
                summary: summary_of(full(log)).await,
                unkillable,
            }),
            Found::Living(stream, record) => {
                let mut run = Run::new(attempt, full(log), Some(stream));
                if let Some(record) = record {
                    run.supervisor_pid = u32::try_from(record.supervisor.pid).ok();
                    run.agent_pid = record.agent.and_then(|id| u32::try_from(id.pid).ok());
                }
                Reconnected::Living(run)
            }
        })
    }

    /// What a run has said that ended without a word of its supervisor's, by its log.
    pub async fn said(&self, log: &Path) -> RunSummary {
        summary_of(full(log)).await
    }

    /// Removes the directory of an attempt whose end is safely recorded elsewhere.
    pub async fn forget(&self, job: JobId, attempt: u32) -> Result<(), RunnerError> {
        let attempt = self.attempt(job, attempt);
        let removed = tokio::task::spawn_blocking(move || attempt.remove()).await;
        removed.unwrap_or_else(|error| {
            Err(RunnerError::io("cannot remove the attempt's directory")(
                error.into(),
            ))
        })
    }

    fn attempt(&self, job: JobId, attempt: u32) -> Attempt {
        Attempt::new(&self.config.attempts_dir, job, attempt)
    }
}

/// Hands a supervisor its task and takes its answer.
async fn converse(child: &mut Child, spec: &Spec<'_>) -> io::Result<Answer> {
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let mut task = serde_json::to_vec(spec)?;
    task.push(b'\n');
    // One that refuses does so without reading its task; the answer says why.
    input.write_all(&task).await.ok();
    drop(input);
    let mut line = Vec::new();
    let mut output = BufReader::new(output).take(ANSWER_MAX);
    output.read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Err(io::Error::other("it ended without an answer"));
    }
    Ok(serde_json::from_slice(&line)?)
}

/// Makes sure that a supervisor which did not answer as it should starts nothing any more.
async fn put_down(mut child: Child, attempt: &Attempt, error: &str) -> RunnerError {
    child.kill().await.ok();
    let complaint = attempt.complaint();
    RunnerError::Supervisor(if complaint.is_empty() {
        error.to_owned()
    } else {
        format!("{error}: {complaint}")
    })
}

/// The supervisor works in another directory, so names must not depend on ours.
fn full(path: &Path) -> PathBuf {
    absolute(path).unwrap_or_else(|_| path.to_owned())
}
