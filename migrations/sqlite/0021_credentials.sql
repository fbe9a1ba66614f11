-- What runs are started on: how each credential stands, and which one a job's last attempt has used.

CREATE TABLE credentials (
    name             TEXT PRIMARY KEY,
    -- Grows whenever somebody has seen to it.
    epoch            INTEGER NOT NULL,
    -- Changes with its secret and tells nothing of it.
    fingerprint      TEXT,
    -- Who may use it, in words that are only compared; null once the settings name it no more.
    setup            TEXT,
    stopped_at       INTEGER,
    stopped_reason   TEXT CHECK ((stopped_reason IS NULL) = (stopped_at IS NULL)),
    stopped_error    TEXT CHECK ((stopped_error IS NULL) = (stopped_at IS NULL)),
    -- Whether the CLI itself says that nobody is logged in; then it can say the contrary, too.
    logged_out       INTEGER NOT NULL CHECK (logged_out IN (0, 1)),
    -- Both as JSON: limits that were reached, and windows with what is used of them.
    limits           TEXT,
    windows          TEXT
) STRICT;

ALTER TABLE jobs ADD COLUMN credential TEXT;
ALTER TABLE jobs ADD COLUMN credential_epoch INTEGER;
