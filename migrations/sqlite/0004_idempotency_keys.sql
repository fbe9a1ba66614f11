-- What requests with an Idempotency-Key did, so that a repeat is answered and not done again.

CREATE TABLE idempotency_keys (
    -- SHA-256 of caller, method, path and key together.
    scope      BLOB NOT NULL PRIMARY KEY CHECK (length(scope) = 32),
    -- SHA-256 of query, content type and body, without the values of secrets.
    content    BLOB NOT NULL CHECK (length(content) = 32),
    -- A keyed hash of the secrets, behind the name of its key. The key is kept in memory only.
    seal       BLOB CHECK (seal IS NULL OR length(seal) = 48),
    created_at INTEGER NOT NULL,
    -- The client or job of a request that has begun and is not answered yet.
    subject    TEXT,
    status     INTEGER CHECK (status IS NULL OR subject IS NULL),
    body       TEXT CHECK ((body IS NULL) = (status IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
