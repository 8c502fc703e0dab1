-- Versioned documents. A deleted one keeps its row without a body, so that the
-- deletion is seen by whoever asks for changes since a sequence, and so that
-- its id is never used again.
CREATE TABLE documents (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    -- The tenant that it belongs to; null for a tenant and for a token of the
    -- whole installation.
    tenant INTEGER,
    version INTEGER NOT NULL,
    -- Milliseconds since 1970, UTC.
    changed_at INTEGER NOT NULL,
    -- The place of the latest change in the order of all changes.
    sequence INTEGER NOT NULL UNIQUE,
    -- JSON; null when deleted.
    body TEXT
) STRICT;

-- What one document at most may have: a name, credentials, a token. The writer
-- checks it in memory first; this is the last line of defence.
CREATE TABLE claims (
    claim TEXT PRIMARY KEY,
    document INTEGER NOT NULL REFERENCES documents (id)
) STRICT, WITHOUT ROWID;

-- The next id to give out; ids are reserved in blocks.
CREATE TABLE next_id (
    id INTEGER NOT NULL
) STRICT;

INSERT INTO next_id (id) VALUES (1);
