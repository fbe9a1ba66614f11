//! Another program that runs the engine as a library: no HTTP, one job, its log, its outcome.
//!
//! `cargo run --example embedded -- REMOTE_BASE ORG REPO PROMPT` with `claude` on the PATH. See
//! `docs/EMBEDDING.md`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_domain::{JobSecrets, JobSpec, RepoSlug, RunOptions, SecretKinds, WorkerId};
use agent_forge::{Forge, ForgeConfig};
use agent_git::{Git, GitConfig};
use agent_queue::{
    Engine, EngineConfig, EngineParts, LogRange, RandomIds, Submission, SystemClock, Target,
};
use agent_runner::{
    ClaudeTranscript, Ladder, Limits, LogLimits, Login, Program, Runner, RunnerConfig,
    agent_environment,
};
use agent_storage::{Store, StoreConfig};
use agent_webhook::{Sender, SenderConfig};
use agent_worker::{Worker, WorkerConfig, WorkerParts};
use anyhow::Context as _;

fn main() -> anyhow::Result<std::process::ExitCode> {
    // The program is its own supervisor: this must come first.
    if std::env::args().nth(1).as_deref() == Some("supervise") {
        return Ok(agent_runner::supervise(Arc::new(SystemClock)));
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run_one_job())?;
    Ok(std::process::ExitCode::SUCCESS)
}

async fn run_one_job() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [remote_base, org, repo, prompt] = args.as_slice() else {
        anyhow::bail!("usage: embedded REMOTE_BASE ORG REPO PROMPT");
    };
    let home = std::env::temp_dir().join(format!("embedded-{}", std::process::id()));
    let (engine, worker) = start(&home, remote_base).await?;

    let spec = JobSpec {
        prompt: prompt.as_str().into(),
        branch: "agent/embedded".parse()?,
        title: Some("Work of an embedded agent".to_owned()),
        os_feature_id: None,
        callback_url: None,
        base: None,
        metadata: None,
        options: RunOptions::default(),
        secrets: SecretKinds::default(),
        depends_on: Vec::new(),
    };
    let target = Target::Repo(RepoSlug::new(org, repo)?);
    let accepted = engine
        .submit(Submission {
            target,
            spec,
            priority: None,
            secrets: JobSecrets::default(),
            not_before: None,
        })
        .await?;

    let range = LogRange {
        follow: true,
        ..LogRange::default()
    };
    let mut log = engine.log(accepted.id, range).await?;
    while let Some(bytes) = log.recv().await {
        print!("{}", String::from_utf8_lossy(&bytes?));
    }
    let job = engine.job(accepted.id).await?.job;
    println!("{}: {:?}", job.state.status(), job.facts);

    worker.stop(Duration::from_secs(30)).await;
    engine.stop(Duration::from_secs(5)).await;
    std::fs::remove_dir_all(&home).context("cannot clean up")
}

async fn start(home: &Path, remote_base: &str) -> anyhow::Result<(Engine, Worker)> {
    std::fs::create_dir_all(home)?;
    let git = Git::new(GitConfig {
        repos_dir: home.join("repos"),
        worktrees_dir: home.join("worktrees"),
        remote_base: remote_base.to_owned(),
        env: std::env::vars_os().collect(),
        token: None,
        identity: None,
        timeout: Duration::from_mins(10),
    })?;
    let engine = Engine::start(EngineParts {
        config: EngineConfig::new(home.join("logs")),
        store: Store::open(StoreConfig {
            path: home.join("agent.db"),
            readers: 2,
        })?,
        mirrors: Arc::new(git.clone()),
        transcript: Arc::new(ClaudeTranscript),
        sender: Sender::new(SenderConfig::default()),
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
    })
    .await?;
    let runner = Runner::new(RunnerConfig {
        claude: "claude".into(),
        supervisor: Program {
            path: std::env::current_exe()?,
            args: vec!["supervise".into()],
        },
        environment: agent_environment(std::env::vars_os(), &[]),
        logins: Login::of_environment(),
        attempts_dir: home.join("attempts"),
        defaults: RunOptions::default(),
        ladder: Ladder::default(),
        limits: Limits::default(),
        control_groups: true,
        sandbox: None,
        secrets: Vec::new(),
        log_limits: LogLimits::default(),
    });
    let worker = Worker::start(WorkerParts {
        config: WorkerConfig {
            id: WorkerId("embedded".into()),
            slots: 1,
            parks: true,
        },
        coordinator: Arc::new(engine.clone()),
        git,
        forge: Arc::new(Forge::Plain),
        runner: Arc::new(runner),
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
    });
    Ok((engine, worker))
}

/// Shows where a GitHub remote differs; not called here.
#[expect(dead_code, reason = "part of the documentation")]
fn github(token: agent_domain::Secret) -> Forge {
    Forge::new(ForgeConfig {
        is_github: true,
        api_url: None,
        token: Some(token),
        gh: "gh".into(),
        env: Vec::new(),
    })
}
