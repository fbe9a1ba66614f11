-- The counters of jobs and of seals are written by the program, once for all that a transaction
-- changes: a trigger writes them for each row, and makes SQLite keep a journal for each statement.

DROP TRIGGER job_counts_insert;
DROP TRIGGER job_counts_update;
DROP TRIGGER job_counts_delete;
DROP TRIGGER log_seals_insert;
