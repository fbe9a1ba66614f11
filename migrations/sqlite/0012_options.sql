-- What jobs and clients say of how the agent is run, beyond what has a column of its own: JSON, or
-- nothing where they say nothing.

CREATE TABLE job_options (
    -- Apart from the jobs, so that no change of a job writes them again.
    job_seq INTEGER PRIMARY KEY REFERENCES jobs (seq),
    options TEXT NOT NULL
) STRICT;

ALTER TABLE clients ADD COLUMN options TEXT;
