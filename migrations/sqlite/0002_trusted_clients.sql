-- Whether the hooks, settings and MCP servers of a client's repository may run: not unless someone says so.
ALTER TABLE clients ADD COLUMN trusted INTEGER NOT NULL DEFAULT 0 CHECK (trusted IN (0, 1));
