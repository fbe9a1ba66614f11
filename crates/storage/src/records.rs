//! What storage takes and gives beyond the domain's own types: filters, pages, views, outbox rows.

use std::collections::HashMap;

use agent_domain::{
    Allotted, Answer, Awaited, CallbackUrl, Client, ClientId, CredentialName, CredentialNews,
    CredentialState, DeliveryId, Fence, Job, JobId, LogSeal, OnceRequest, Phase, RepoSlug,
    RunUsage, Status, Timestamp, Tokens, Usd, WorkerId,
};

/// How many jobs a client has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientCounts {
    /// Queued (parked ones too) and running.
    pub active: u64,
    /// All, ended ones too.
    pub total: u64,
}

/// How many jobs are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Running.
    pub running: u64,
    /// Ready to be claimed.
    pub ready: u64,
    /// Queued, but not before a given time.
    pub parked: u64,
}

/// Which jobs to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only these; empty means all.
    pub statuses: Vec<Status>,
    /// Only this client's.
    pub client_id: Option<ClientId>,
    /// At most so many.
    pub limit: u32,
    /// Leaving out so many.
    pub offset: u32,
    /// Only jobs older than this one, which must exist; the cursor of keyset paging.
    pub before: Option<JobId>,
}

/// A job as a list shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSummary {
    /// See [`Job::id`].
    pub id: JobId,
    /// See [`Job::client_id`].
    pub client_id: ClientId,
    /// Name of the client.
    pub client_name: String,
    /// Public state.
    pub status: Status,
    /// Phase of a running job.
    pub phase: Option<Phase>,
    /// Code of [`agent_domain::State::reason`].
    pub reason: Option<agent_domain::Reason>,
    /// Time before which a parked job is not started.
    pub not_before: Option<Timestamp>,
    /// Branch asked for.
    pub branch: String,
    /// Title asked for.
    pub title: Option<String>,
    /// Foreign id.
    pub os_feature_id: Option<String>,
    /// See [`Job::priority`].
    pub priority: agent_domain::Priority,
    /// See [`Job::started_at`].
    pub started_at: Option<Timestamp>,
    /// See [`Job::created_at`].
    pub created_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

/// A page of jobs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobPage {
    /// The jobs, newest first.
    pub jobs: Vec<JobSummary>,
    /// How many jobs fit the filter (cursor, limit and offset aside), from counters.
    pub total: u64,
}

/// What runs and what waits, in the order in which it will run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueView {
    /// Running jobs, by the time they first began.
    pub running: Vec<JobSummary>,
    /// The first ready jobs, in the order in which they would be taken if nothing else came and no
    /// client had a limit: the first has position 1.
    pub ready: Vec<JobSummary>,
    /// The first parked jobs, by the time they may start.
    pub parked: Vec<JobSummary>,
}

/// A job to be stored, with the client to create if it is not there yet.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// The job, queued.
    pub job: Job,
    /// Created in the same transaction unless a client of this repository has appeared meanwhile,
    /// which is then used instead: [`CreatedJob::client_id`] says which.
    pub create_client: Option<Client>,
}

/// What became of a [`NewJob`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreatedJob {
    /// The client it belongs to.
    pub client_id: ClientId,
    /// Its place among the ready jobs, from 1, as [`QueueView::ready`] has it.
    pub position: u64,
}

/// An ended job that may be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredJob {
    /// The job.
    pub id: JobId,
    /// Where it worked.
    pub repo: RepoSlug,
    /// Where it is among all that have ended.
    pub place: ExpiredPlace,
}

/// A place among the jobs that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiredPlace {
    pub(crate) ended_at: i64,
    pub(crate) seq: i64,
}

impl ExpiredPlace {
    /// Before all of them.
    pub const FIRST: Self = Self {
        ended_at: i64::MIN,
        seq: 0,
    };
}

/// A change of a job, to be stored only if nobody else changed the job meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The job as it is to be stored; what is stored must have the version before.
    pub job: Job,
    /// A word for the job's history.
    pub event: &'static str,
    /// What there is to say about it in the job's history.
    pub detail: Option<String>,
    /// The callback that becomes due with it.
    pub delivery: Option<NewDelivery>,
    /// What the log of the attempt is that ends with it.
    pub seal: Option<LogSeal>,
    /// What the attempt has spent that ends with it.
    pub booking: Option<Booking>,
    /// What the attempt has told of the credential it was run on.
    pub news: Option<Box<CredentialNews>>,
}

/// A credential that the settings name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCredential {
    /// Its name.
    pub name: CredentialName,
    /// See [`agent_domain::Credential::fingerprint`].
    pub fingerprint: Option<String>,
    /// Who may use it, in words that are only compared.
    pub setup: String,
}

/// What an attempt that is about to begin can count on.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// What it may spend.
    pub allotted: Allotted,
    /// How the credentials stand, those taken by the same claim included.
    pub credentials: &'a [CredentialState],
}

/// What is to be done with a ready job.
#[derive(Debug)]
pub enum Decision {
    /// This.
    Change(Box<Change>),
    /// It stays where it is.
    Pass,
    /// So do all others of its client, for now.
    PassClient,
}

/// By what spending is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageKey {
    /// The day, in UTC.
    Day,
    /// The client.
    Client,
    /// The model.
    Model,
    /// Who pays.
    Credential,
}

/// Which spending to add up. Days are those of [`agent_domain::utc_day`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageFilter {
    /// The first day.
    pub from: i64,
    /// The last day.
    pub to: i64,
    /// By what; nothing is all of it together.
    pub by: Vec<UsageKey>,
    /// Only this client's.
    pub client: Option<ClientId>,
    /// At most so many rows.
    pub limit: u32,
}

/// A sum of what was spent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// The day, where it is added up by that; so the others.
    pub day: Option<i64>,
    /// The client and its name.
    pub client: Option<(ClientId, String)>,
    /// The model.
    pub model: Option<String>,
    /// Who pays.
    pub credential: Option<String>,
    /// What was used.
    pub tokens: Tokens,
    /// What it cost.
    pub cost: Usd,
    /// The part of it that is an estimate.
    pub estimated: Usd,
    /// Tokens whose cost nobody knows.
    pub unpriced_tokens: u64,
}

impl UsageRow {
    /// Both together, of whatever they are.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            tokens: self.tokens.plus(other.tokens),
            cost: self.cost.plus(other.cost),
            estimated: self.estimated.plus(other.estimated),
            unpriced_tokens: self.unpriced_tokens.saturating_add(other.unpriced_tokens),
            ..Self::default()
        }
    }
}

/// What an attempt has to be booked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking {
    /// The session, whose earlier runs may be in the figures.
    pub session_id: Option<String>,
    /// The CLI's version, which says whether they are.
    pub cli_version: Option<String>,
    /// What the run has told.
    pub usage: RunUsage,
}

/// A job with attempts that have ended and whose logs are not sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsealed {
    /// Where it stands among all of them; ask for what comes after it.
    pub place: i64,
    /// The job.
    pub job: JobId,
    /// The attempts.
    pub attempts: Vec<u32>,
}

/// A callback to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// Its id, the same on every try.
    pub id: DeliveryId,
    /// Where it goes.
    pub url: CallbackUrl,
    /// The exact bytes to send.
    pub body: String,
    /// When it is first due.
    pub due_at: Timestamp,
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// To be tried at the given time.
    Pending {
        /// When.
        due_at: Timestamp,
    },
    /// The receiver took it.
    Delivered,
    /// Every try failed, or the receiver wants no more.
    GivenUp,
}

/// A callback that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// The job it tells of.
    pub job_id: JobId,
    /// Where it goes.
    pub url: CallbackUrl,
    /// Whom it goes to: [`CallbackUrl::endpoint`] as stored.
    pub endpoint: String,
    /// The exact bytes to send.
    pub body: String,
    /// Tries made since its schedule was begun, by the job's end or by a redelivery.
    pub tries: u32,
    /// How often its schedule was begun anew.
    pub round: u32,
}

/// What a look at the outbox may find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxLook {
    /// What is due by then.
    pub now: Timestamp,
    /// At most so many callbacks in all.
    pub places: usize,
    /// At most so many of one endpoint.
    pub each: usize,
    /// At most so many of these endpoints.
    pub fewer: HashMap<String, usize>,
    /// None of these.
    pub in_flight: Vec<DeliveryId>,
}

/// What a look at the outbox found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxSeen {
    /// To be sent now, the longest due first.
    pub due: Vec<DueDelivery>,
    /// When the next one is due of the endpoints with room for more.
    pub next: Option<Timestamp>,
}

/// One try of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryTry {
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The receiver's HTTP status.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
    /// Whether it was signed.
    pub signed: bool,
}

/// A delivery with all its tries, as the delivery log shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryLog {
    /// Its id.
    pub id: DeliveryId,
    /// Where it goes.
    pub url: CallbackUrl,
    /// How it stands.
    pub state: DeliveryState,
    /// When it was created.
    pub created_at: Timestamp,
    /// Every try, oldest first.
    pub tries: Vec<DeliveryTry>,
}

/// A job with its client, as one answer needs them.
#[derive(Debug, Clone, PartialEq)]
pub struct JobWithClient {
    /// The job.
    pub job: Job,
    /// Its client, even if that is deleted by now.
    pub client: Client,
}

/// One entry of a job's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When.
    pub at: Timestamp,
    /// [`Change::event`].
    pub event: String,
    /// Public state after it.
    pub status: Status,
    /// Attempts begun by then.
    pub attempt: u32,
    /// [`Change::detail`].
    pub detail: Option<String>,
}

/// A running job in brief: who holds it, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldJob {
    /// The job.
    pub id: JobId,
    /// See [`Job::worker`].
    pub worker: Option<WorkerId>,
    /// See [`Job::attempt`].
    pub attempt: u32,
    /// See [`Job::fence`].
    pub fence: Fence,
    /// What the worker does.
    pub phase: Phase,
    /// When its lease runs out.
    pub lease_until: Timestamp,
}

/// What is to be remembered of a request that is done at most once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOnce {
    /// The request.
    pub request: OnceRequest,
    /// How far it is.
    pub progress: OnceProgress,
    /// Now.
    pub at: Timestamp,
    /// What was remembered of the same scope until then counts no more.
    pub since: Timestamp,
}

/// How far a request is that is done at most once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnceProgress {
    /// What it asks for is begun, and must be taken up again if the server dies before its answer.
    Begun {
        /// The client or job it made or changed.
        subject: String,
    },
    /// It is done.
    Answered(Answer),
}

/// What is remembered of a request that is done at most once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnceEntry {
    /// The request.
    pub request: OnceRequest,
    /// How far it is.
    pub progress: OnceProgress,
}

/// A job of whose dependencies some have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DependencyNews {
    pub(crate) place: i64,
    /// Those that have ended.
    pub(crate) ended: Vec<JobId>,
    /// The job.
    pub job: JobId,
    /// What that means for it; `None` while it has to wait for more.
    pub awaited: Option<Awaited>,
}
