-- Tool calls that were denied to the agent of the present attempt: a JSON list of [id, tool, input].

ALTER TABLE jobs ADD COLUMN denied TEXT;
