//! A server with everything it needs in a directory that goes with it.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_api::{Api, ApiConfig, Limits};
use agent_domain::{
    Assignment, BoxFuture, BranchName, Class, Clock, Coordinator as _, Ending, EventContent, Facts,
    JobId, LogLine, LogStream, MirrorError, Mirrors, RepoSlug, Report, Secret, Timestamp,
    TranscriptEvent, TranscriptReader, Watermark, WorkerId,
};
use agent_queue::{DiskConfig, Engine, EngineConfig, EngineParts, RandomIds, Retention};
use agent_storage::{Store, StoreConfig};
use agent_webhook::{Sender, SenderConfig};
use serde_json::Value;

use crate::exchange::{Answer, request, send_raw};

pub(crate) const TOKEN: &str = "test-secret-1234";

/// The server under test.
pub(crate) struct Stage {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    pub(crate) clock: Arc<SetClock>,
    pub(crate) mirrors: Arc<PlayedMirrors>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) api: Option<Api>,
    store: Store,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::watching(limits, Watermark::default()).await
    }

    /// A server that wants this much room on its disk.
    pub(crate) async fn watching(limits: Limits, watermark: Watermark) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self::open(dir, limits, watermark).await
    }

    /// Stops, and starts again on what is there.
    pub(crate) async fn restarted(mut self, watermark: Watermark) -> Self {
        self.stop().await;
        Self::open(self.dir, Limits::default(), watermark).await
    }

    async fn open(dir: tempfile::TempDir, limits: Limits, watermark: Watermark) -> Self {
        let path = dir.path().join("agent.db");
        let store = Store::open(StoreConfig { path, readers: 4 }).expect("a store");
        let keep = Retention::default();
        Self::on(dir, store, Arc::default(), limits, watermark, keep).await
    }

    /// Stops, and starts again so much later as a server that keeps ended jobs only so long.
    pub(crate) async fn keeping(mut self, keep: Retention, later: i64) -> Self {
        self.stop().await;
        self.clock.forward(later);
        let path = self.dir.path().join("agent.db");
        let store = Store::open(StoreConfig { path, readers: 4 }).expect("a store");
        let (limits, watermark) = (Limits::default(), Watermark::default());
        Self::on(self.dir, store, self.clock, limits, watermark, keep).await
    }

    async fn on(
        dir: tempfile::TempDir,
        store: Store,
        clock: Arc<SetClock>,
        limits: Limits,
        watermark: Watermark,
        retention: Retention,
    ) -> Self {
        let mirrors = Arc::new(PlayedMirrors::default());
        let volumes = vec![("data", dir.path().to_owned())];
        let engine = Engine::start(EngineParts {
            config: EngineConfig {
                disk: DiskConfig {
                    volumes,
                    watermark,
                    reserve: 0,
                },
                retention,
                cancel_wait: Duration::from_secs(10),
                ..EngineConfig::new(dir.path().join("logs"))
            },
            store: store.clone(),
            mirrors: Arc::<PlayedMirrors>::clone(&mirrors),
            transcript: Arc::new(Shout),
            sender: sender(),
            clock: Arc::<SetClock>::clone(&clock),
            ids: Arc::new(RandomIds),
        });
        let engine = engine.await.expect("an engine");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let config = ApiConfig {
            limits,
            workers: Some(2),
            ..ApiConfig::new(engine.clone(), Secret::new(TOKEN))
        };
        let api = agent_api::serve(listener, config).expect("served");
        let address = api.address();
        Self {
            engine,
            address,
            clock,
            mirrors,
            dir,
            api: Some(api),
            store,
        }
    }

    /// Another server on the same database, as after a crash of the first one: nothing of what it
    /// had in memory is there any more. Close it before the first one.
    pub(crate) async fn again(&self) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, clock) = (self.store.clone(), Arc::clone(&self.clock));
        let (limits, watermark) = (Limits::default(), Watermark::default());
        Self::on(dir, store, clock, limits, watermark, Retention::default()).await
    }

    /// Sends a request with the token, and a body as JSON if there is one.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send_with(method, path, &[], body).await
    }

    /// As [`Stage::send`], with further headers.
    pub(crate) async fn send_with(
        &self,
        method: &str,
        path: &str,
        further: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let token = format!("Bearer {TOKEN}");
        let mut headers = vec![("authorization", token.as_str())];
        headers.extend(further);
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        send_raw(
            self.address,
            &request(method, path, &headers, body.as_bytes()),
        )
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.send("GET", path, "").await;
        assert_eq!(
            answer.status,
            200,
            "GET {path}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        answer.json()
    }

    /// Creates the client `acme/shop` and returns its id.
    pub(crate) async fn client(&self) -> String {
        let body = r#"{"name":"Shop","githubOrg":"acme","githubRepo":"shop"}"#;
        id_of(&self.send("POST", "/clients", body).await)
    }

    /// Submits a job to `acme/shop` and returns its id.
    pub(crate) async fn job(&self, branch: &str) -> String {
        let body = serde_json::json!({
            "githubOrg": "acme", "githubRepo": "shop", "prompt": "do it", "branchName": branch,
        });
        id_of(&self.send("POST", "/jobs", &body.to_string()).await)
    }

    /// Takes the next job as a worker does.
    pub(crate) async fn claim(&self) -> Assignment {
        let worker = WorkerId("test".into());
        let claimed = self.engine.claim(&worker, 1, Duration::from_secs(5)).await;
        claimed.expect("claims").pop().expect("a job to claim")
    }

    /// Ends a job as a worker does.
    pub(crate) async fn finish(&self, assignment: &Assignment, ending: Ending, facts: Facts) {
        let report = Report { ending, facts };
        self.engine
            .finish(&assignment.lease, report)
            .await
            .expect("finishes");
    }

    /// Writes entries to the log of an attempt, as a supervisor does.
    pub(crate) fn write_log(
        &self,
        assignment: &Assignment,
        entries: &[(LogStream, &str)],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (stream, text) in entries {
            let at = self.clock.now();
            let line = LogLine {
                at,
                stream: *stream,
                partial: false,
                text: text.as_bytes(),
            };
            line.write(&mut bytes);
        }
        std::fs::create_dir_all(assignment.log.parent().expect("a parent")).expect("a directory");
        let mut file = std::fs::OpenOptions::new();
        let mut file = file
            .append(true)
            .create(true)
            .open(&assignment.log)
            .expect("a log");
        std::io::Write::write_all(&mut file, &bytes).expect("written");
        self.engine.log_grew(&assignment.lease);
        bytes
    }

    /// A number that changes whenever anybody commits to the database.
    pub(crate) fn database(&self) -> DatabaseWatch {
        let connection = rusqlite::Connection::open(self.dir.path().join("agent.db"));
        DatabaseWatch(connection.expect("the database"))
    }

    pub(crate) async fn close(mut self) {
        self.stop().await;
    }

    async fn stop(&mut self) {
        if let Some(api) = self.api.take() {
            api.stop(Duration::from_secs(5)).await;
        }
        self.engine.stop(Duration::from_secs(5)).await;
        self.store.close().await;
    }
}

/// Sees whether the database changes.
pub(crate) struct DatabaseWatch(rusqlite::Connection);

impl DatabaseWatch {
    /// Differs from an earlier answer if anybody has committed since.
    pub(crate) fn version(&self) -> i64 {
        let version = self
            .0
            .query_row("PRAGMA data_version", [], |row| row.get(0));
        version.expect("a version")
    }
}

pub(crate) fn id_of(answer: &Answer) -> String {
    assert_eq!(
        answer.status,
        201,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    answer.json()["id"].as_str().expect("an id").to_owned()
}

fn sender() -> Sender {
    Sender::new(SenderConfig {
        key: None,
        allow: Vec::new(),
        trust: None,
        connect_timeout: Duration::from_secs(1),
        total_timeout: Duration::from_secs(1),
        max_response_bytes: 1024,
        user_agent: "test".into(),
    })
}

/// A clock that stands still until it is moved.
pub(crate) struct SetClock(AtomicI64);

impl Default for SetClock {
    fn default() -> Self {
        // 2025-01-07T12:00:00.123Z.
        Self(AtomicI64::new(1_736_251_200_123))
    }
}

impl SetClock {
    pub(crate) fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).expect("a time")
    }
}

struct Shout;

impl TranscriptReader for Shout {
    fn summary(&self, _: &std::path::Path) -> agent_domain::RunSummary {
        agent_domain::RunSummary::default()
    }

    fn readable(&self, line: &str) -> Option<String> {
        (line != "hidden").then(|| line.to_uppercase())
    }

    fn events(&self, line: &str) -> Option<Vec<TranscriptEvent>> {
        let content = EventContent::ToolCall {
            id: Some("call".into()),
            name: "Bash".into(),
            input: Some(line.strip_prefix("calls ")?.to_owned()),
        };
        Some(vec![TranscriptEvent {
            message_id: Some("message".into()),
            parent_call_id: None,
            content,
        }])
    }
}

/// Mirrors without git: `broken` cannot be cloned, `slow` is not before it is let go, `taken` is a
/// branch everywhere.
#[derive(Default)]
pub(crate) struct PlayedMirrors {
    present: Mutex<HashSet<String>>,
    pub(crate) slow: tokio::sync::Notify,
    /// Jobs whose saved work was let go.
    pub(crate) forgotten: Mutex<Vec<JobId>>,
}

impl Mirrors for PlayedMirrors {
    fn path(&self, repo: &RepoSlug) -> PathBuf {
        PathBuf::from(format!("/repos/{repo}.git"))
    }

    fn exists(&self, repo: &RepoSlug) -> bool {
        self.present
            .lock()
            .expect("unpoisoned")
            .contains(&repo.to_string())
    }

    fn ensure<'a>(&'a self, repo: &'a RepoSlug) -> BoxFuture<'a, Result<(), MirrorError>> {
        Box::pin(async move {
            if repo.repo() == "broken" {
                let message = "repository not found".to_owned();
                return Err(MirrorError {
                    message,
                    class: Class::NotFound,
                });
            }
            if repo.repo() == "slow" {
                self.slow.notified().await;
            }
            self.present
                .lock()
                .expect("unpoisoned")
                .insert(repo.to_string());
            Ok(())
        })
    }

    fn fetch<'a>(&'a self, repo: &'a RepoSlug) -> BoxFuture<'a, Result<(), MirrorError>> {
        self.ensure(repo)
    }

    fn remove<'a>(&'a self, repo: &'a RepoSlug) -> BoxFuture<'a, Result<bool, MirrorError>> {
        Box::pin(async move {
            Ok(self
                .present
                .lock()
                .expect("unpoisoned")
                .remove(&repo.to_string()))
        })
    }

    fn forget_work<'a>(
        &'a self,
        _repo: &'a RepoSlug,
        job: JobId,
    ) -> BoxFuture<'a, Result<(), MirrorError>> {
        Box::pin(async move {
            self.forgotten.lock().expect("unpoisoned").push(job);
            Ok(())
        })
    }

    fn clashing_branch<'a>(
        &'a self,
        _repo: &'a RepoSlug,
        branch: &'a BranchName,
    ) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move { (branch.as_str() == "taken").then(|| "taken".to_owned()) })
    }
}
