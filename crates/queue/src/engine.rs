//! The engine's parts, and how it starts and stops.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use agent_domain::{
    AgentHealth, Cidr, Clock, Credential, Ids, LeaseTerms, Mirrors, Spending, TranscriptReader,
    Upkeep, Watermark,
};
use agent_storage::Store;
use agent_webhook::Sender;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::breaker::Endpoints;
use crate::disk::{Disk, DiskConfig};
use crate::error::EngineError;
use crate::housekeeping::EndedJobs;
use crate::leases::Leases;
use crate::once::InFlight;
use crate::readiness::Probe;
use crate::retention::Retention;
use crate::signals::Signals;
use crate::vault::Vault;

/// What the engine is told once.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Slots, as health and queue show them.
    pub max_concurrent: u32,
    /// Where attempts' logs are, `<logs_dir>/<job>/<attempt>.log`.
    pub logs_dir: PathBuf,
    /// How long leases last.
    pub lease: LeaseTerms,
    /// How long creating a client waits for its clone.
    pub clone_wait: Duration,
    /// How long cancelling a running job waits for its end.
    pub cancel_wait: Duration,
    /// Addresses callbacks may reach although private.
    pub callback_allow: Vec<Cidr>,
    /// Which volumes must have how much room for new work to be taken.
    pub disk: DiskConfig,
    /// How long ended jobs are kept.
    pub retention: Retention,
    /// What jobs may spend where nothing else is said, and all together.
    pub spending: Spending,
    /// What jobs run on that bring no key of their own.
    pub credentials: Vec<Credential>,
    /// Whether jobs wait where a usage limit is reached, instead of failing.
    pub parks: bool,
}

impl EngineConfig {
    /// The defaults, with logs below `logs_dir`, whose volume is the only one watched.
    pub fn new(logs_dir: PathBuf) -> Self {
        let disk = DiskConfig {
            volumes: vec![("data", logs_dir.clone())],
            watermark: Watermark::default(),
            reserve: 0,
        };
        Self {
            max_concurrent: 2,
            logs_dir,
            lease: LeaseTerms::DEFAULT,
            clone_wait: Duration::from_secs(30),
            cancel_wait: Duration::from_mins(1),
            callback_allow: Vec::new(),
            disk,
            retention: Retention::default(),
            spending: Spending::default(),
            credentials: vec![Credential::environment()],
            parks: true,
        }
    }
}

/// What the engine is made of.
pub struct EngineParts {
    /// Settings.
    pub config: EngineConfig,
    /// Durable state.
    pub store: Store,
    /// The clients' repositories.
    pub mirrors: Arc<dyn Mirrors>,
    /// Makes the agent's output readable.
    pub transcript: Arc<dyn TranscriptReader>,
    /// Sends callbacks.
    pub sender: Sender,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
}

/// The engine; cheap to clone, every clone is the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: EngineConfig,
    pub(crate) store: Store,
    pub(crate) mirrors: Arc<dyn Mirrors>,
    pub(crate) transcript: Arc<dyn TranscriptReader>,
    pub(crate) sender: Arc<Sender>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) signals: Signals,
    /// Wakes whoever waits for something to claim.
    pub(crate) ready: Notify,
    /// Wakes whoever sees to jobs that wait for others.
    pub(crate) dependencies: Notify,
    /// Wakes the outbox.
    pub(crate) outbox: Notify,
    /// Whom callbacks go to.
    pub(crate) endpoints: Mutex<Endpoints>,
    /// Wakes whoever seals what could not be sealed in time.
    pub(crate) unsealed: Notify,
    /// Wakes the housekeeping.
    pub(crate) house: Notify,
    /// Jobs that have ended, whose workspaces are to be looked for.
    pub(crate) ended: EndedJobs,
    /// The disk that jobs leave their work on; see [`Engine::keep_house`].
    pub(crate) upkeep: OnceLock<Arc<dyn Upkeep>>,
    /// Held while it is seen to what a job has left and noted what came of it.
    pub(crate) reclaiming: tokio::sync::Mutex<()>,
    /// When each lease was last heard of.
    pub(crate) leases: Leases,
    /// Jobs that an earlier server had begun and that are not settled yet.
    pub(crate) unsettled: AtomicUsize,
    /// Writes that were refused because their lease was not valid any more.
    pub(crate) stale_writes: AtomicU64,
    /// What is known of the CLI and its login, as last probed.
    pub(crate) agent: Mutex<AgentHealth>,
    pub(crate) disk: Disk,
    pub(crate) probe: Probe,
    /// Requests with an idempotency key that are being done.
    pub(crate) once: InFlight,
    pub(crate) vault: Vault,
    pub(crate) draining: AtomicBool,
    pub(crate) stop: CancellationToken,
    /// Background work of every kind; see [`Engine::spawn`].
    tasks: TaskTracker,
    /// The runtime the engine was started in. Callers come from runtimes of their own, which may
    /// end before the engine does.
    runtime: Handle,
}

impl Engine {
    /// Starts the background loops. What was running when the last server stopped is settled by
    /// the workers that held it, see [`agent_domain::Coordinator::held`].
    ///
    /// Must be called inside a tokio runtime.
    pub async fn start(parts: EngineParts) -> Result<Self, EngineError> {
        let running = parts.store.counts().await?.running;
        if running > 0 {
            tracing::info!(jobs = running, "running when the last server stopped");
        }
        parts.store.release_unpaid(parts.clock.now()).await?;
        let inner = Inner {
            disk: Disk::new(parts.config.disk.clone()),
            probe: Probe::default(),
            config: parts.config,
            store: parts.store,
            mirrors: parts.mirrors,
            transcript: parts.transcript,
            sender: Arc::new(parts.sender),
            clock: parts.clock,
            ids: parts.ids,
            signals: Signals::default(),
            ready: Notify::new(),
            dependencies: Notify::new(),
            outbox: Notify::new(),
            endpoints: Mutex::default(),
            unsealed: Notify::new(),
            house: Notify::new(),
            ended: EndedJobs::default(),
            upkeep: OnceLock::new(),
            reclaiming: tokio::sync::Mutex::default(),
            leases: Leases::default(),
            unsettled: AtomicUsize::new(usize::try_from(running).unwrap_or(usize::MAX)),
            stale_writes: AtomicU64::new(0),
            agent: Mutex::default(),
            once: InFlight::default(),
            vault: Vault::default(),
            draining: AtomicBool::new(false),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
        };
        let engine = Self {
            inner: Arc::new(inner),
        };
        engine.know_credentials().await?;
        if let Err(error) = engine.fail_without_keys().await {
            // They fail when they are claimed.
            tracing::error!(%error, "queued jobs whose keys are gone are not failed yet");
        }
        crate::loops::spawn(&engine);
        Ok(engine)
    }

    /// Takes no new work from now on; reads, reports and cancellations go on.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::SeqCst);
        self.inner.ready.notify_waiters();
    }

    /// Whether [`Engine::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::SeqCst)
    }

    /// Refuses whatever would make new work while none is taken.
    pub(crate) fn admit(&self) -> Result<(), EngineError> {
        if self.is_draining() {
            return Err(EngineError::Draining);
        }
        match self.inner.disk.shortage() {
            Some(short) => Err(EngineError::DiskLow(short)),
            None => Ok(()),
        }
    }

    /// Ends the background loops; a callback under way is given up to `grace` to end.
    pub async fn stop(&self, grace: Duration) {
        self.drain();
        self.inner.stop.cancel();
        self.inner.tasks.close();
        if tokio::time::timeout(grace, self.inner.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                "background work did not end in time; it is taken up again at the next start"
            );
        }
    }

    /// Starts work that goes on when its caller has gone; [`Engine::stop`] waits for it.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.inner.tasks.spawn_on(work, &self.inner.runtime)
    }

    /// As [`Engine::spawn`], for work that blocks its thread.
    pub(crate) fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        self.inner
            .tasks
            .spawn_blocking_on(work, &self.inner.runtime);
    }

    /// The CLI and its login, as last probed.
    pub(crate) fn agent_seen(&self) -> AgentHealth {
        let seen = self.inner.agent.lock();
        seen.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
