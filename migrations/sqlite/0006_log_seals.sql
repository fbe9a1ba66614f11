-- What the log of each attempt was when the attempt ended: its length and the checksum of that much.
CREATE TABLE log_seals (
    job_seq INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    attempt INTEGER NOT NULL CHECK (attempt > 0),
    bytes   INTEGER NOT NULL CHECK (bytes >= 0),
    sha256  BLOB NOT NULL CHECK (length(sha256) = 32),
    PRIMARY KEY (job_seq, attempt)
) STRICT, WITHOUT ROWID;

-- How many logs of a job are sealed; kept by the trigger and by nothing else.
ALTER TABLE jobs ADD COLUMN seals INTEGER NOT NULL DEFAULT 0;

CREATE TRIGGER log_seals_insert AFTER INSERT ON log_seals BEGIN
    UPDATE jobs SET seals = seals + 1 WHERE seq = NEW.job_seq;
END;

-- Holds only jobs with an attempt that has ended and whose log is not sealed: next to none.
CREATE INDEX jobs_unsealed ON jobs (seq) WHERE seals < attempt - (status = 'running');
