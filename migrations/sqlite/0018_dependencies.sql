-- Which jobs a job waits for, and how they have ended: kept here, so that they can be forgotten.
CREATE TABLE job_dependencies (
    job_seq INTEGER NOT NULL REFERENCES jobs (seq),
    on_id   TEXT NOT NULL,
    outcome TEXT CHECK (outcome IN ('completed', 'failed', 'cancelled')),
    -- Whether what the outcome means for the waiting job was seen to.
    settled INTEGER NOT NULL DEFAULT 0 CHECK (settled IN (0, 1)),
    PRIMARY KEY (job_seq, on_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX job_dependencies_open ON job_dependencies (on_id) WHERE outcome IS NULL;
-- Next to none: those whose outcome came just now.
CREATE INDEX job_dependencies_news ON job_dependencies (job_seq) WHERE outcome IS NOT NULL AND settled = 0;
