-- The session of the CLI in which a parked job goes on, as JSON.

ALTER TABLE jobs ADD COLUMN resume TEXT;
