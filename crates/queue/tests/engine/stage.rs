//! An engine on a store of its own, with a wall clock that only the test moves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use agent_domain::{
    Assignment, BoxFuture, BranchName, Clock, Coordinator as _, Credential, Job, JobId, JobSecrets,
    JobSpec, LeaseTerms, MirrorError, Mirrors, RepoSlug, RunOptions, RunSummary, RunUsage,
    SecretKinds, Share, Spending, Status, Timestamp, Tokens, TranscriptEvent, TranscriptReader,
    Usage, Usd, WorkerId,
};
use agent_queue::{
    Accepted, Engine, EngineConfig, EngineError, EngineParts, RandomIds, Submission, Target,
};
use agent_storage::{Store, StoreConfig};
use agent_webhook::{Sender, SenderConfig};
use tempfile::TempDir;

pub(crate) struct SetClock(AtomicI64);

impl SetClock {
    pub(crate) fn step(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

struct NoMirrors;

impl Mirrors for NoMirrors {
    fn path(&self, repo: &RepoSlug) -> PathBuf {
        PathBuf::from(format!("/repos/{repo}.git"))
    }

    fn exists(&self, _repo: &RepoSlug) -> bool {
        true
    }

    fn ensure<'a>(&'a self, _repo: &'a RepoSlug) -> BoxFuture<'a, Result<(), MirrorError>> {
        Box::pin(async { Ok(()) })
    }

    fn fetch<'a>(&'a self, _repo: &'a RepoSlug) -> BoxFuture<'a, Result<(), MirrorError>> {
        Box::pin(async { Ok(()) })
    }

    fn remove<'a>(&'a self, _repo: &'a RepoSlug) -> BoxFuture<'a, Result<bool, MirrorError>> {
        Box::pin(async { Ok(false) })
    }

    fn forget_work<'a>(
        &'a self,
        _repo: &'a RepoSlug,
        _job: JobId,
    ) -> BoxFuture<'a, Result<(), MirrorError>> {
        Box::pin(async { Ok(()) })
    }

    fn clashing_branch<'a>(
        &'a self,
        _repo: &'a RepoSlug,
        _branch: &'a BranchName,
    ) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
    }
}

struct Verbatim;

impl TranscriptReader for Verbatim {
    /// A log that holds a number says that the run has cost so many dollars.
    fn summary(&self, log: &Path) -> RunSummary {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let mut summary = RunSummary::default();
        summary.usage.total = text.trim().parse().ok().map(spent);
        summary
    }

    fn readable(&self, line: &str) -> Option<String> {
        Some(line.to_owned())
    }

    fn events(&self, _: &str) -> Option<Vec<TranscriptEvent>> {
        None
    }
}

/// What a run has used that has cost so much.
fn spent(dollars: f64) -> Usage {
    let cost = Usd::from_dollars(dollars);
    let tokens = Tokens::default();
    Usage([("m".to_owned(), Share { tokens, cost })].into())
}

/// What a run tells that has cost so much.
pub(crate) fn told(dollars: f64) -> RunUsage {
    RunUsage {
        total: Some(spent(dollars)),
        ..RunUsage::default()
    }
}

pub(crate) struct Stage {
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    pub(crate) clock: Arc<SetClock>,
    pub(crate) worker: WorkerId,
    /// What its engines are told.
    pub(crate) told: Told,
    dir: TempDir,
}

/// What the engines of a stage are told.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) terms: LeaseTerms,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) parks: bool,
    pub(crate) spending: Spending,
}

impl Stage {
    pub(crate) async fn new(lease: Duration) -> Self {
        Self::told(Told {
            terms: LeaseTerms::new(lease),
            credentials: vec![Credential::environment()],
            parks: true,
            spending: Spending::default(),
        })
        .await
    }

    /// With what the server's settings let jobs spend.
    pub(crate) async fn with_money(lease: Duration, spending: Spending) -> Self {
        Self::told(Told {
            terms: LeaseTerms::new(lease),
            credentials: vec![Credential::environment()],
            parks: true,
            spending,
        })
        .await
    }

    pub(crate) async fn told(told: Told) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.db");
        let store = Store::open(StoreConfig { path, readers: 2 }).unwrap();
        let clock = Arc::new(SetClock(AtomicI64::new(1_736_251_200)));
        let engine = engine(&dir, &store, &clock, told.clone()).await;
        Self {
            engine,
            store,
            clock,
            worker: WorkerId("w".into()),
            told,
            dir,
        }
    }

    /// Another engine on the same store, as after a restart.
    pub(crate) async fn restart(&mut self) {
        self.engine.stop(Duration::from_secs(1)).await;
        self.engine = engine(&self.dir, &self.store, &self.clock, self.told.clone()).await;
    }

    pub(crate) async fn submit(&self, branch: &str) -> JobId {
        self.submit_calling(branch, None).await
    }

    /// Submits a job that waits for others and calls back.
    pub(crate) async fn submit_after(&self, branch: &str, after: &[JobId]) -> JobId {
        self.try_submit_after(branch, after).await.unwrap()
    }

    pub(crate) async fn try_submit_after(
        &self,
        branch: &str,
        after: &[JobId],
    ) -> Result<JobId, EngineError> {
        let mut submission = submission(branch, Some("http://127.0.0.1:1/hook"));
        submission.spec.depends_on = after.to_vec();
        submission.spec.depends_on.sort_unstable();
        submission.spec.depends_on.dedup();
        let accepted = self.engine.submit(submission).await;
        accepted.map(|accepted| accepted.id)
    }

    /// Submits a job that may cost no more.
    pub(crate) async fn submit_within(&self, branch: &str, budget: Usd) -> JobId {
        let mut submission = submission(branch, None);
        submission.spec.options.budget = Some(budget);
        self.engine.submit(submission).await.unwrap().id
    }

    /// Submits a job of a repository of its own, with a budget or without.
    pub(crate) async fn submit_to(&self, repo: &str, branch: &str, budget: Option<Usd>) -> JobId {
        let mut submission = submission(branch, None);
        submission.target = Target::Repo(RepoSlug::new("acme", repo).unwrap());
        submission.spec.options.budget = budget;
        self.engine.submit(submission).await.unwrap().id
    }

    /// Submits a job that is to begin so many seconds from now.
    pub(crate) async fn submit_in(&self, branch: &str, seconds: u64) -> Accepted {
        let mut submission = submission(branch, None);
        let at = self.engine.now() + Duration::from_secs(seconds);
        submission.not_before = Some(at);
        self.engine.submit(submission).await.unwrap()
    }

    /// Submits a job and cancels it, so that its callback to `url` is due.
    pub(crate) async fn ended(&self, branch: &str, url: &str) -> JobId {
        let id = self.submit_calling(branch, Some(url)).await;
        self.engine.cancel_once(id, true, None).await.unwrap();
        id
    }

    async fn submit_calling(&self, branch: &str, url: Option<&str>) -> JobId {
        let accepted = self.engine.submit(submission(branch, url)).await;
        accepted.unwrap().id
    }

    pub(crate) async fn claim(&self, free: usize) -> Vec<Assignment> {
        let wait = Duration::from_millis(200);
        self.engine.claim(&self.worker, free, wait).await.unwrap()
    }

    /// Submits a job and claims it.
    pub(crate) async fn running(&self, branch: &str) -> Assignment {
        self.submit(branch).await;
        self.claim(1).await.remove(0)
    }

    /// Writes what a run's supervisor would have written.
    pub(crate) fn write_log(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{text}\n")).unwrap();
    }

    pub(crate) async fn job(&self, id: JobId) -> Job {
        self.store.job(id).await.unwrap().unwrap().job
    }

    pub(crate) async fn status(&self, id: JobId) -> Status {
        self.job(id).await.state.status()
    }

    pub(crate) async fn stale_writes(&self) -> u64 {
        self.engine.health().await.unwrap().stale_writes
    }

    /// Waits until so many jobs can be claimed; fails after a minute.
    pub(crate) async fn until_ready(&self, jobs: u64) {
        let begun = Instant::now();
        while self.store.counts().await.unwrap().ready < jobs {
            assert!(begun.elapsed() < Duration::from_mins(1), "never {jobs}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a job has this status; fails after a minute.
    pub(crate) async fn until(&self, id: JobId, status: Status) {
        let begun = Instant::now();
        while self.status(id).await != status {
            assert!(begun.elapsed() < Duration::from_mins(1), "never {status}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) fn submission(branch: &str, url: Option<&str>) -> Submission {
    let spec = JobSpec {
        prompt: "do it".into(),
        branch: branch.parse().unwrap(),
        title: None,
        os_feature_id: None,
        callback_url: url.map(|url| url.parse().unwrap()),
        base: None,
        metadata: None,
        options: RunOptions::default(),
        secrets: SecretKinds::default(),
        depends_on: Vec::new(),
    };
    let target = Target::Repo(RepoSlug::new("acme", "site").unwrap());
    let secrets = JobSecrets::default();
    Submission {
        target,
        spec,
        not_before: None,
        priority: None,
        secrets,
    }
}

async fn engine(dir: &TempDir, store: &Store, clock: &Arc<SetClock>, told: Told) -> Engine {
    let parts = EngineParts {
        config: EngineConfig {
            lease: told.terms,
            credentials: told.credentials,
            parks: told.parks,
            spending: told.spending,
            callback_allow: vec!["127.0.0.1".parse().unwrap()],
            ..EngineConfig::new(dir.path().join("logs"))
        },
        store: store.clone(),
        mirrors: Arc::new(NoMirrors),
        transcript: Arc::new(Verbatim),
        sender: Sender::new(SenderConfig {
            allow: vec!["127.0.0.1".parse().unwrap()],
            // Receivers end what is to end.
            total_timeout: Duration::from_mins(2),
            ..SenderConfig::default()
        }),
        clock: Arc::<SetClock>::clone(clock),
        ids: Arc::new(RandomIds),
    };
    Engine::start(parts).await.unwrap()
}
