-- What finds the jobs that ended longest ago, and those that an unfinished one repeats.

CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_retries ON jobs (retry_of) WHERE retry_of IS NOT NULL AND ended_at IS NULL;
