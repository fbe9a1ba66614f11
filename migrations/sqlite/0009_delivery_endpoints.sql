-- Whom a callback goes to, so that those of one receiver can be passed over without reading them,
-- and how often its schedule was begun anew, so that a try cannot overwrite what was asked after it.

ALTER TABLE deliveries ADD COLUMN endpoint TEXT NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN round INTEGER NOT NULL DEFAULT 0;

-- Scheme, host and port: everything before the first of / ? # \ behind the scheme.
UPDATE deliveries SET endpoint = lower(substr(url, 1, instr(url, '://') + 1 + instr(
    substr(replace(replace(replace(url, '?', '/'), '#', '/'), '\', '/'), instr(url, '://') + 3) || '/', '/')));

DROP INDEX deliveries_due;
CREATE INDEX deliveries_pending ON deliveries (endpoint, due_at) WHERE state = 'pending';
