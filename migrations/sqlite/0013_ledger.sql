-- What each attempt spent, by model. Rows are added and never changed or removed: they outlive their
-- jobs. Money is in billionths of a US dollar.

CREATE TABLE ledger (
    seq                   INTEGER PRIMARY KEY,
    -- When the attempt ended.
    at                    INTEGER NOT NULL,
    job_id                TEXT NOT NULL,
    client_id             TEXT NOT NULL REFERENCES clients (id),
    attempt               INTEGER NOT NULL,
    model                 TEXT NOT NULL,
    session_id            TEXT,
    credential            TEXT NOT NULL,
    -- Who says so: results of the CLI, or messages that no result accounts for.
    source                TEXT NOT NULL CHECK (source IN ('result', 'messages')),
    estimated             INTEGER NOT NULL CHECK (estimated IN (0, 1)),
    input_tokens          INTEGER NOT NULL CHECK (input_tokens >= 0),
    output_tokens         INTEGER NOT NULL CHECK (output_tokens >= 0),
    cache_read_tokens     INTEGER NOT NULL CHECK (cache_read_tokens >= 0),
    cache_creation_tokens INTEGER NOT NULL CHECK (cache_creation_tokens >= 0),
    -- Null: nobody knows.
    cost_nanos            INTEGER CHECK (cost_nanos >= 0),
    UNIQUE (job_id, attempt, model, source)
) STRICT;

-- What is known of a session, and at what rates a model was paid.
CREATE INDEX ledger_session ON ledger (session_id) WHERE session_id IS NOT NULL AND source = 'result';
CREATE INDEX ledger_rates ON ledger (model) WHERE source = 'result' AND cost_nanos > 0;

CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;
CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

-- The ledger added up by day (days since 1970 in UTC), so that no question has to go over all of it.
CREATE TABLE usage_days (
    day                   INTEGER NOT NULL,
    client_id             TEXT NOT NULL,
    credential            TEXT NOT NULL,
    model                 TEXT NOT NULL,
    input_tokens          INTEGER NOT NULL,
    output_tokens         INTEGER NOT NULL,
    cache_read_tokens     INTEGER NOT NULL,
    cache_creation_tokens INTEGER NOT NULL,
    cost_nanos            INTEGER NOT NULL,
    -- The part of it that is an estimate.
    estimated_nanos       INTEGER NOT NULL,
    -- Tokens of all kinds whose cost nobody knows.
    unpriced_tokens       INTEGER NOT NULL,
    PRIMARY KEY (day, client_id, credential, model)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_days_client ON usage_days (client_id, day);

-- The same by client alone; client '' stands for all of them together.
CREATE TABLE spent_days (
    client_id  TEXT NOT NULL,
    day        INTEGER NOT NULL,
    cost_nanos INTEGER NOT NULL,
    PRIMARY KEY (client_id, day)
) STRICT, WITHOUT ROWID;

-- What the ledger says of the job. The columns cost_usd and earlier_cost_usd are not used any more;
-- they stay, since removing a column writes every row anew.
ALTER TABLE jobs ADD COLUMN spent_nanos INTEGER;
-- What the attempt under way may spend at most, where that is limited.
ALTER TABLE jobs ADD COLUMN allotted_nanos INTEGER;

-- What was spent before there was a ledger is its opening balance, as attempt 0 of each job. The
-- present attempt of a running job is still to be booked.
UPDATE jobs
SET spent_nanos = CAST(round(1e9 * (coalesce(earlier_cost_usd, 0)
    + CASE WHEN status = 'running' THEN 0 ELSE coalesce(cost_usd, 0) END)) AS INTEGER)
WHERE earlier_cost_usd IS NOT NULL OR (cost_usd IS NOT NULL AND status <> 'running');

INSERT INTO ledger (at, job_id, client_id, attempt, model, session_id, credential, source, estimated,
    input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens, cost_nanos)
SELECT coalesce(ended_at, updated_at), id, client_id, 0, coalesce(model, 'unknown'), session_id,
    CASE WHEN own_agent_key THEN 'job' ELSE 'default' END, 'result', 0, 0, 0, 0, 0, spent_nanos
FROM jobs WHERE spent_nanos > 0 ORDER BY seq;

INSERT INTO usage_days (day, client_id, credential, model, input_tokens, output_tokens,
    cache_read_tokens, cache_creation_tokens, cost_nanos, estimated_nanos, unpriced_tokens)
SELECT at / 86400000000, client_id, credential, model, 0, 0, 0, 0, sum(cost_nanos), 0, 0
FROM ledger GROUP BY 1, 2, 3, 4;

INSERT INTO spent_days (client_id, day, cost_nanos)
SELECT client_id, day, sum(cost_nanos) FROM usage_days GROUP BY 1, 2
UNION ALL
SELECT '', day, sum(cost_nanos) FROM usage_days GROUP BY day;
