-- The outbox of notifications: one row for each (transition, recipient, channel)
-- that somebody is to be told of, written in the transaction of the transition.
CREATE TABLE notices (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    id         BLOB NOT NULL UNIQUE,
    tenant     INTEGER NOT NULL,
    -- The event of the transition.
    transition BLOB NOT NULL,
    alarm      BLOB NOT NULL,
    -- `user:ID` or `address:ADDRESS`.
    recipient  TEXT NOT NULL,
    channel    INTEGER NOT NULL,
    -- `told`, `escalated` or `reminder:N`.
    purpose    TEXT NOT NULL,
    -- The subscription's or offline profile's document that asks for it.
    source     INTEGER NOT NULL,
    made_at    INTEGER NOT NULL,
    -- How long it was to wait from the start; 0 for what is told at once.
    delay_ms   INTEGER NOT NULL,
    -- When it is looked at next.
    due_at     INTEGER NOT NULL,
    -- 0 waits, 1 is told by a message, 2 is dropped.
    state      INTEGER NOT NULL,
    -- Why it waits, was told or was dropped.
    reason     TEXT NOT NULL,
    decided_at INTEGER,
    message    BLOB
) STRICT;
CREATE INDEX notices_due ON notices (due_at, tenant, recipient, channel) WHERE state = 0;
CREATE INDEX notices_waiting ON notices (tenant, recipient, channel, due_at) WHERE state = 0;
CREATE INDEX notices_alarm ON notices (alarm, recipient, channel, state);
CREATE INDEX notices_message ON notices (message, sequence) WHERE message IS NOT NULL;
CREATE INDEX notices_tenant ON notices (tenant, sequence);

-- What is handed to a provider as a whole, as it was written.
CREATE TABLE messages (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    id         BLOB NOT NULL UNIQUE,
    tenant     INTEGER NOT NULL,
    recipient  TEXT NOT NULL,
    channel    INTEGER NOT NULL,
    -- Where it goes, as the recipient was reached when it was written.
    address    TEXT NOT NULL,
    kind       TEXT NOT NULL,
    -- The worst that it tells of.
    severity   INTEGER,
    notices    INTEGER NOT NULL,
    -- JSON.
    content    TEXT NOT NULL,
    made_at    INTEGER NOT NULL,
    -- 0 queued, 1 on its way, 2 sent, 3 delivered, 4 failed, 5 unknown.
    state      INTEGER NOT NULL,
    -- When it is handed over next, while it is queued.
    next_at    INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    -- How often a process ended while it was on its way.
    interrupted INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    -- The provider's last word, and its own name for the message.
    answer     TEXT NOT NULL,
    reference  TEXT,
    -- The message that somebody has sent again by hand with this one.
    copy_of    BLOB
) STRICT;
CREATE INDEX messages_queued ON messages (channel, next_at) WHERE state = 0;
CREATE INDEX messages_on_their_way ON messages (channel) WHERE state = 1;
CREATE INDEX messages_recipient ON messages (tenant, recipient, channel, made_at);
CREATE INDEX messages_tenant ON messages (tenant, sequence);
-- What a person looks for first: what is stuck, failed or unknown.
CREATE INDEX messages_state ON messages (tenant, state, sequence) WHERE state NOT IN (2, 3);
CREATE INDEX messages_reference ON messages (channel, reference) WHERE reference IS NOT NULL;

-- Each time that a message was handed over or its provider said more of it.
CREATE TABLE message_log (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    message    BLOB NOT NULL,
    at         INTEGER NOT NULL,
    outcome    TEXT NOT NULL,
    answer     TEXT NOT NULL,
    -- Who did it, where a person did.
    actor      TEXT
) STRICT;
CREATE INDEX message_log_message ON message_log (message, sequence);

-- Links that were used; each works once.
CREATE TABLE used_links (
    id         BLOB PRIMARY KEY,
    used_at    INTEGER NOT NULL,
    -- When it would not work any more in any case.
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
