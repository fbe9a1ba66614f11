-- A line of ready jobs for each client, and whose turn it is.

ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100);
-- For jobs of this client that say nothing themselves, and how many may run at once; null for no limit.
ALTER TABLE clients ADD COLUMN priority INTEGER NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100);
ALTER TABLE clients ADD COLUMN max_concurrent INTEGER CHECK (max_concurrent > 0);

-- From now on ready_seq is a place in the client's own line, which follows from when a job was
-- accepted, from its priority and from whether it comes back from a lost run.
UPDATE jobs
SET ready_seq = created_at
    + CASE WHEN reason = 'lost' THEN 576460752303423488 ELSE 1152921504606846976 END
WHERE ready_seq IS NOT NULL;
DROP INDEX jobs_ready;
CREATE INDEX jobs_line ON jobs (client_id, ready_seq) WHERE ready_seq IS NOT NULL;

-- Written by the program, at the end of each transaction that changes what it follows from. Client ''
-- has no jobs: its tag is the greatest that was served.
CREATE TABLE lanes (
    client_id TEXT NOT NULL PRIMARY KEY,
    -- Grows with every job that is taken.
    tag       INTEGER NOT NULL,
    -- The ready_seq and the seq of the first ready job; null for none.
    head      INTEGER,
    head_seq  INTEGER CHECK ((head_seq IS NULL) = (head IS NULL)),
    -- The smallest is next; follows from the tag and the first job.
    turn      INTEGER CHECK ((turn IS NULL) = (head IS NULL)),
    -- Whether a job can be taken: there is one, and fewer than may run at once are running.
    open      INTEGER NOT NULL CHECK (open IN (0, 1)),
    CHECK (open = 0 OR head IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX lanes_open ON lanes (turn, head, head_seq) WHERE open = 1;
CREATE INDEX lanes_waiting ON lanes (turn, head, head_seq) WHERE head IS NOT NULL;

-- Of the columns that are not counted, SQLite takes those of the row with the smallest.
INSERT INTO lanes (client_id, tag, head, head_seq, turn, open)
SELECT client_id, 0, min(ready_seq), seq, CASE WHEN min(ready_seq) < 864691128455135232 THEN -1099511627776 ELSE 0 END, 1
FROM jobs WHERE ready_seq IS NOT NULL GROUP BY client_id;
