//! Builds the parts, wires them, runs until told to stop, and ends them in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_api::ApiConfig;
use agent_domain::WorkerId;
use agent_forge::{Forge, ForgeConfig};
use agent_git::{Git, GitConfig};
use agent_queue::{DiskConfig, Engine, EngineConfig, EngineParts, RandomIds, SystemClock};
use agent_runner::{
    ClaudeTranscript, Ladder, Level, LogLimits, Masker, Program, Runner, RunnerConfig,
};
use agent_storage::{Store, StoreConfig};
use agent_webhook::{Sender, SenderConfig};
use agent_worker::{House, Settlement, Worker, WorkerConfig, WorkerParts};
use anyhow::Context as _;

use crate::secrets::Masked;
use crate::settings::{Config, Settings};
use crate::shutdown::Signals;
use crate::{environment, preflight, sandbox};

/// Connections to the database that read.
const READERS: u32 = 4;
/// Longest single git command; a first clone of a huge repository may take this long.
const GIT_TIMEOUT: Duration = Duration::from_mins(30);
/// What is left of a stop after the agents' grace: answers and callbacks under way.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Serves until a signal ends it.
pub(crate) fn run(settings: Settings) -> anyhow::Result<()> {
    let begun = Instant::now();
    let credentials = settings.credentials()?;
    let secrets = settings.secrets(&credentials);
    start_logging(&settings, Masker::new(&secrets.all()))?;
    let config = settings.check(credentials)?;
    preflight::require_git()?;
    preflight::warn_of_settings(&config);
    preflight::warn_of_secrets(&secrets);
    preflight::warn_of_logins(&config);
    preflight::warn_of_limits(&config.run_limits);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(config, begun));
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

fn start_logging(settings: &Settings, masker: Masker) -> anyhow::Result<()> {
    use std::io::IsTerminal as _;
    use tracing_subscriber::EnvFilter;
    // How the HTTP library starts its threads is of no use to an operator.
    let filter = format!("{},actix_server=warn", settings.log_level);
    let filter = EnvFilter::try_new(filter).context("LOG_LEVEL")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Masked {
            masker,
            inner: std::io::stderr,
        })
        .with_ansi(std::io::stderr().is_terminal());
    if settings.log_format == "json" {
        log.json().init();
    } else {
        log.init();
    }
    Ok(())
}

async fn serve(config: Config, begun: Instant) -> anyhow::Result<()> {
    let mut signals = Signals::install()?;
    for dir in [&config.data_dir, &config.repos_dir, &config.worktrees_dir] {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let store = Store::open(StoreConfig {
        path: config.database.clone(),
        readers: READERS,
    })
    .with_context(|| format!("cannot open the database {}", config.database.display()))?;
    // The address is taken before any job is touched: a second server stops here.
    let listener = std::net::TcpListener::bind(config.listen)
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let parts = Parts::build(&config, store.clone()).await?;
    let api = agent_api::serve(listener, parts.api(&config)).context("cannot start the API")?;
    println!("listening on http://{}", api.address());
    let worker = Worker::start(parts.worker(&config));
    let house = House::new(parts.git.clone(), parts.runner.clone());
    parts.engine.keep_house(Arc::new(house));
    let (runner, forge) = (parts.runner.clone(), parts.forge.clone());
    let (claude, credentials) = (config.claude.clone(), config.credentials.clone());
    tokio::spawn(async move {
        preflight::warn_of_programs(claude, &credentials, &runner, &forge).await;
    });
    tokio::spawn(say_settled(worker.settled(), begun));

    signals.next().await;
    tracing::info!("stopping: no new work is taken; a second signal stops at once");
    let stopping = async {
        parts.engine.drain();
        worker.stop(config.grace).await;
        api.stop(STOP_GRACE).await;
        parts.engine.stop(STOP_GRACE).await;
    };
    tokio::select! {
        () = stopping => {}
        () = signals.next() => tracing::warn!("stopped at once; what was under way is settled at the next start"),
    }
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Says how long after the start of this process every job of the last server was settled.
async fn say_settled(settled: impl Future<Output = Option<Settlement>>, begun: Instant) {
    let Some(settled) = settled.await else {
        return;
    };
    let Settlement {
        held,
        living,
        kept,
        lost,
        requeued,
    } = settled;
    let milliseconds = begun.elapsed().as_millis();
    tracing::info!(
        held,
        living,
        kept,
        lost,
        requeued,
        "settled in {milliseconds} ms"
    );
}

/// Everything that is built once.
struct Parts {
    engine: Engine,
    git: Git,
    forge: Arc<Forge>,
    runner: Arc<Runner>,
}

impl Parts {
    async fn build(config: &Config, store: Store) -> anyhow::Result<Self> {
        let git = git(config)?;
        let engine = EngineParts {
            config: EngineConfig {
                max_concurrent: config.slots,
                callback_allow: config.callback_allow.clone(),
                disk: disk(config),
                retention: config.disk.retention,
                lease: config.lease,
                spending: config.spending,
                credentials: config.credentials.without_secrets(),
                parks: config.parks,
                ..EngineConfig::new(config.data_dir.join("logs"))
            },
            store,
            mirrors: Arc::new(git.clone()),
            transcript: Arc::new(ClaudeTranscript),
            sender: Sender::new(SenderConfig {
                key: config.signing_key.clone(),
                allow: config.callback_allow.clone(),
                trust: config.callback_trust.clone(),
                ..SenderConfig::default()
            }),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
        };
        Ok(Self {
            engine: Engine::start(engine).await?,
            git,
            forge: Arc::new(forge(config)),
            runner: Arc::new(walled_runner(config).await?),
        })
    }

    fn worker(&self, config: &Config) -> WorkerParts {
        WorkerParts {
            config: WorkerConfig {
                id: WorkerId("built-in".into()),
                slots: config.slots as usize,
                parks: config.parks,
            },
            coordinator: Arc::new(self.engine.clone()),
            git: self.git.clone(),
            forge: self.forge.clone(),
            runner: self.runner.clone(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
        }
    }

    fn api(&self, config: &Config) -> ApiConfig {
        ApiConfig::new(self.engine.clone(), config.api_secret.clone())
    }
}

pub(crate) fn disk(config: &Config) -> DiskConfig {
    let mut volumes = vec![
        ("data", config.data_dir.clone()),
        ("repositories", config.repos_dir.clone()),
        ("workspaces", config.worktrees_dir.clone()),
    ];
    if let Some(folder) = config.database.parent() {
        volumes.push(("database", folder.to_owned()));
    }
    DiskConfig {
        volumes,
        watermark: config.disk.watermark,
        reserve: config.disk.reserve,
    }
}

fn git(config: &Config) -> anyhow::Result<Git> {
    let git = GitConfig {
        repos_dir: config.repos_dir.clone(),
        worktrees_dir: config.worktrees_dir.clone(),
        remote_base: config.remote_base.clone(),
        env: environment::for_git(),
        token: config.github_token.clone().filter(|_| is_github(config)),
        identity: config.identity.clone(),
        timeout: GIT_TIMEOUT,
    };
    Git::new(git).context("GIT_REMOTE_BASE")
}

fn is_github(config: &Config) -> bool {
    agent_forge::is_github(&config.remote_base, config.github_api_url.is_some())
}

pub(crate) fn forge(config: &Config) -> Forge {
    Forge::new(ForgeConfig {
        is_github: is_github(config),
        api_url: config.github_api_url.clone(),
        token: config.github_token.clone(),
        gh: config.gh.clone(),
        env: environment::for_gh(),
    })
}

/// The runner with the wall that stands around agents.
async fn walled_runner(config: &Config) -> anyhow::Result<Runner> {
    let environment = environment::for_agents(config);
    let choice = sandbox::choose(config, &environment).await?;
    preflight::warn_of_sandbox(&choice);
    runner(config, choice.level)
}

/// The runner with a wall of that level.
pub(crate) fn runner(config: &Config, level: Level) -> anyhow::Result<Runner> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    Ok(Runner::new(RunnerConfig {
        claude: config.claude.clone(),
        supervisor: Program {
            path: own,
            args: vec!["supervise".into()],
        },
        environment: environment::for_agents(config),
        logins: config.credentials.logins(),
        attempts_dir: config.data_dir.join("attempts"),
        defaults: config.run_defaults.clone(),
        ladder: Ladder::default(),
        limits: config.run_limits,
        control_groups: true,
        sandbox: Some(sandbox::at(config, level)?),
        secrets: config.secrets.clone(),
        log_limits: LogLimits::default(),
    }))
}
