-- What is known of each device by key. Scope 1 is what the device set
-- (ThingsBoard's client scope), 2 what the platform set (shared).
-- Keys are in the order of their bytes, as everywhere.
CREATE TABLE attributes (
    device     BIGINT NOT NULL,
    scope      BIGINT NOT NULL,
    key        TEXT COLLATE "C" NOT NULL,
    -- JSON.
    value      TEXT NOT NULL,
    -- Milliseconds since 1970, UTC.
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (device, scope, key)
);

-- The next position of each journal partition that is to be applied.
CREATE TABLE positions (
    partition BIGINT PRIMARY KEY,
    next      BIGINT NOT NULL
);

-- Shared attributes that the device has not been given yet, the latest of each
-- key. A null value is a deletion.
CREATE TABLE undelivered (
    device   BIGINT NOT NULL,
    key      TEXT COLLATE "C" NOT NULL,
    value    TEXT,
    -- Rises from change to change; what was delivered is named by it.
    sequence BIGINT NOT NULL,
    PRIMARY KEY (device, key)
);
