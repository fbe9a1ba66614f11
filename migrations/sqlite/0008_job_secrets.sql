-- Which keys of its own a job brought: that it did, never the keys, which live in memory only.
ALTER TABLE jobs ADD COLUMN own_agent_key INTEGER NOT NULL DEFAULT 0 CHECK (own_agent_key IN (0, 1));
ALTER TABLE jobs ADD COLUMN own_git_token INTEGER NOT NULL DEFAULT 0 CHECK (own_git_token IN (0, 1));

-- The jobs that cannot begin after a restart: few, and found without looking at the others.
CREATE INDEX jobs_own_keys ON jobs (seq) WHERE status = 'queued' AND own_agent_key + own_git_token > 0;
