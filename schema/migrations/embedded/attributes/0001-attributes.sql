-- What is known of each device by key. Scope 1 is what the device set
-- (ThingsBoard's client scope), 2 what the platform set (shared).
CREATE TABLE attributes (
    device INTEGER NOT NULL,
    scope INTEGER NOT NULL,
    key TEXT NOT NULL,
    -- JSON.
    value TEXT NOT NULL,
    -- Milliseconds since 1970, UTC.
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (device, scope, key)
) STRICT, WITHOUT ROWID;

-- The next position of each journal partition that is to be applied.
CREATE TABLE positions (
    partition INTEGER PRIMARY KEY,
    next INTEGER NOT NULL
) STRICT;

-- Shared attributes that the device has not been given yet, the latest of each
-- key. A null value is a deletion.
CREATE TABLE undelivered (
    device INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT,
    -- Rises from change to change; what was delivered is named by it.
    sequence INTEGER NOT NULL,
    PRIMARY KEY (device, key)
) STRICT, WITHOUT ROWID;
