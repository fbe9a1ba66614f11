-- Who took a job last, which of its runs were lost in a row, and what there is to say about each of
-- its changes.

ALTER TABLE jobs ADD COLUMN worker TEXT;
-- A JSON array of [attempt, time in microseconds, what was seen]; null for none.
ALTER TABLE jobs ADD COLUMN lost_runs TEXT;
ALTER TABLE job_history ADD COLUMN detail TEXT;

-- Places in the line begin in the middle of the numbers from now on, so that there is room before
-- the first: a job whose run was lost has had its turn and does not wait for it again.
UPDATE jobs SET ready_seq = ready_seq + 1099511627776 WHERE ready_seq IS NOT NULL;
