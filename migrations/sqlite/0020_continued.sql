-- Jobs that go on in the session of an ended job: what they go on from, as JSON, and the first job of
-- the session, so that no two of one session are unfinished at the same time.

CREATE TABLE job_continued (
    job_seq   INTEGER PRIMARY KEY REFERENCES jobs (seq),
    root      TEXT NOT NULL,
    continued TEXT NOT NULL
) STRICT;

CREATE INDEX job_continued_root ON job_continued (root);
