-- The nodes that share this database, and which of them holds which router's
-- session. Times are milliseconds since 1970, UTC.

-- One life of one process. `heard_at` is this server's clock.
CREATE TABLE nodes (
    node          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          TEXT NOT NULL,
    takes_routers BOOLEAN NOT NULL,
    heard_at      BIGINT NOT NULL
);

CREATE SEQUENCE session_revision;

-- The last session of each client of a router. Without a node it has ended.
CREATE TABLE sessions (
    router       BIGINT NOT NULL,
    client_id    TEXT NOT NULL,
    node         BIGINT,
    -- The node's own number of the connection.
    number       BIGINT NOT NULL,
    connected_at BIGINT NOT NULL,
    -- The time under which it was said last that the router came or went.
    said_at      BIGINT NOT NULL,
    -- Of a session that has ended: it was said, or need not be.
    is_told      BOOLEAN NOT NULL DEFAULT TRUE,
    silent_since BIGINT,
    -- JSON, for people.
    shown        TEXT NOT NULL,
    -- Rises with every change, in the order of commits.
    revision     BIGINT NOT NULL,
    PRIMARY KEY (router, client_id)
);
CREATE INDEX sessions_revision ON sessions (revision);
CREATE INDEX sessions_untold ON sessions (said_at) WHERE node IS NULL AND NOT is_told;
CREATE INDEX sessions_node ON sessions (node);

-- What nodes have to tell one another; whoever reads takes it away.
CREATE TABLE letters (
    letter BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node   BIGINT NOT NULL,
    -- JSON.
    body   TEXT NOT NULL
);
CREATE INDEX letters_node ON letters (node, letter);
