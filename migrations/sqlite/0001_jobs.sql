-- Clients, jobs with their history, outgoing callbacks, and the counters that answer "how many".
--
-- Times are microseconds since 1970 in UTC. Ids are 32 lower-case hex digits. Statuses, phases and
-- reasons are stored by their public codes.

CREATE TABLE clients (
    seq             INTEGER PRIMARY KEY,
    id              TEXT NOT NULL UNIQUE,
    os_client_id    TEXT,
    name            TEXT NOT NULL,
    github_org      TEXT NOT NULL,
    github_repo     TEXT NOT NULL,
    default_branch  TEXT NOT NULL,
    model           TEXT,
    permission_mode TEXT,
    timeout_us      INTEGER,
    idle_timeout_us INTEGER,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    deleted_at      INTEGER
) STRICT;

-- A deleted client gives its repository and its foreign id free; its row stays for its jobs.
CREATE UNIQUE INDEX clients_repo ON clients (github_org COLLATE NOCASE, github_repo COLLATE NOCASE)
    WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX clients_os_client_id ON clients (os_client_id)
    WHERE deleted_at IS NULL AND os_client_id IS NOT NULL;

CREATE TABLE jobs (
    -- Order of acceptance; lists and cursors go by it.
    seq                 INTEGER PRIMARY KEY,
    id                  TEXT NOT NULL UNIQUE,
    client_id           TEXT NOT NULL REFERENCES clients (id),

    branch              TEXT NOT NULL,
    title               TEXT,
    os_feature_id       TEXT,
    callback_url        TEXT,
    wanted_model        TEXT,
    permission_mode     TEXT,
    timeout_us          INTEGER,
    idle_timeout_us     INTEGER,
    retry_of            TEXT,

    version             INTEGER NOT NULL,
    attempt             INTEGER NOT NULL,
    fence               INTEGER NOT NULL,
    status              TEXT NOT NULL
        CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
    -- Place in the line of ready jobs, smallest first; null for every job that is not ready. A
    -- queued job without it is parked.
    ready_seq           INTEGER CHECK (ready_seq IS NULL OR (ready_seq > 0 AND status = 'queued')),
    not_before          INTEGER,
    reason              TEXT,
    phase               TEXT,
    lease_until         INTEGER,
    cancel_requested_at INTEGER,
    ended_at            INTEGER CHECK ((ended_at IS NULL) = (status IN ('queued', 'running'))),
    error               TEXT,

    base_commit         TEXT,
    head_commit         TEXT,
    saved_ref           TEXT,
    -- Text; bytes where the path is not UTF-8.
    worktree_path       ANY,
    exit_code           INTEGER,
    pr_number           INTEGER,
    pr_url              TEXT,
    files_changed       INTEGER,
    session_id          TEXT,
    model               TEXT,
    cli_version         TEXT,
    num_turns           INTEGER,
    cost_usd            REAL,

    created_at          INTEGER NOT NULL,
    started_at          INTEGER,
    updated_at          INTEGER NOT NULL,

    -- What the counters distinguish.
    bucket              TEXT NOT NULL GENERATED ALWAYS AS (
        CASE
            WHEN status <> 'queued' THEN status
            WHEN ready_seq IS NULL THEN 'parked'
            ELSE 'ready'
        END
    ) VIRTUAL
) STRICT;

-- Each index ends with the row's seq by itself, so a list comes out of it in order.
CREATE INDEX jobs_status ON jobs (status);
CREATE INDEX jobs_client_status ON jobs (client_id, status);
-- These three hold unfinished jobs only: their cost does not grow with history.
CREATE INDEX jobs_ready ON jobs (ready_seq) WHERE ready_seq IS NOT NULL;
CREATE INDEX jobs_parked ON jobs (not_before) WHERE status = 'queued' AND ready_seq IS NULL;
CREATE UNIQUE INDEX jobs_branch ON jobs (client_id, branch) WHERE ended_at IS NULL;

-- Apart from the jobs, so that no change of a job writes up to a mebibyte again.
CREATE TABLE job_prompts (
    job_seq INTEGER PRIMARY KEY REFERENCES jobs (seq),
    prompt  TEXT NOT NULL
) STRICT;

CREATE TABLE job_history (
    job_seq INTEGER NOT NULL REFERENCES jobs (seq),
    version INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    event   TEXT NOT NULL,
    status  TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (job_seq, version)
) STRICT, WITHOUT ROWID;

-- How many jobs are in each bucket, by client; client '' stands for all of them together. Kept by
-- the triggers below and by nothing else.
CREATE TABLE job_counts (
    client_id TEXT NOT NULL,
    bucket    TEXT NOT NULL,
    jobs      INTEGER NOT NULL CHECK (jobs >= 0),
    PRIMARY KEY (client_id, bucket)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER job_counts_insert AFTER INSERT ON jobs BEGIN
    INSERT INTO job_counts (client_id, bucket, jobs)
    VALUES (NEW.client_id, NEW.bucket, 1), ('', NEW.bucket, 1)
    ON CONFLICT (client_id, bucket) DO UPDATE SET jobs = jobs + 1;
END;

CREATE TRIGGER job_counts_update AFTER UPDATE OF status, ready_seq ON jobs
WHEN OLD.bucket <> NEW.bucket BEGIN
    UPDATE job_counts SET jobs = jobs - 1
    WHERE client_id IN (OLD.client_id, '') AND bucket = OLD.bucket;
    INSERT INTO job_counts (client_id, bucket, jobs)
    VALUES (NEW.client_id, NEW.bucket, 1), ('', NEW.bucket, 1)
    ON CONFLICT (client_id, bucket) DO UPDATE SET jobs = jobs + 1;
END;

CREATE TRIGGER job_counts_delete AFTER DELETE ON jobs BEGIN
    UPDATE job_counts SET jobs = jobs - 1
    WHERE client_id IN (OLD.client_id, '') AND bucket = OLD.bucket;
END;

CREATE TABLE deliveries (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    job_seq    INTEGER NOT NULL REFERENCES jobs (seq),
    url        TEXT NOT NULL,
    body       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'given_up')),
    due_at     INTEGER CHECK ((due_at IS NULL) = (state <> 'pending')),
    -- Tries since the schedule was last begun.
    tries      INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX deliveries_due ON deliveries (due_at) WHERE state = 'pending';
CREATE INDEX deliveries_job ON deliveries (job_seq);

CREATE TABLE delivery_tries (
    seq          INTEGER PRIMARY KEY,
    delivery_seq INTEGER NOT NULL REFERENCES deliveries (seq),
    at           INTEGER NOT NULL,
    duration_ms  INTEGER NOT NULL,
    status       INTEGER,
    error        TEXT,
    signed       INTEGER NOT NULL
) STRICT;

CREATE INDEX delivery_tries_delivery ON delivery_tries (delivery_seq);
