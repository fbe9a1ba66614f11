-- The agent's answer of a form that was asked for: JSON.

ALTER TABLE jobs ADD COLUMN output TEXT;
