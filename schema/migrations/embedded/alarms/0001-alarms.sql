-- Where each partition's worker stands. A commit is a compare-and-set on
-- (position, epoch), so a worker that has lost its partition can't write.
CREATE TABLE partitions (
    partition INTEGER PRIMARY KEY,
    epoch     INTEGER NOT NULL,
    position  INTEGER NOT NULL
) STRICT;

-- The whole alarm state of a partition before it applies `position`.
CREATE TABLE snapshots (
    partition INTEGER PRIMARY KEY,
    position  INTEGER NOT NULL,
    taken_at  INTEGER NOT NULL,
    bytes     BLOB NOT NULL
) STRICT;

-- Times to which the wall clock moved an idle partition, with the position that
-- it was to apply next. A replay moves its clock at the same places.
CREATE TABLE ticks (
    sequence  INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    clock     INTEGER NOT NULL
) STRICT;
CREATE INDEX ticks_partition ON ticks (partition, sequence);

-- What the directory said of a device when a partition first met it, since its
-- last snapshot. A replay meets the device with the same description.
CREATE TABLE met_devices (
    partition INTEGER NOT NULL,
    device    INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    body      TEXT NOT NULL,
    PRIMARY KEY (partition, device, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE alarms (
    sequence          INTEGER PRIMARY KEY AUTOINCREMENT,
    id                BLOB NOT NULL UNIQUE,
    tenant            INTEGER NOT NULL,
    location          INTEGER,
    device            INTEGER,
    profile           INTEGER NOT NULL,
    rule              TEXT NOT NULL,
    severity          INTEGER NOT NULL,
    active            INTEGER NOT NULL,
    acknowledged      INTEGER NOT NULL,
    raised_at         INTEGER NOT NULL,
    raised_severity   INTEGER NOT NULL,
    raised_details    TEXT NOT NULL,
    peak_at           INTEGER NOT NULL,
    peak_severity     INTEGER NOT NULL,
    peak_details      TEXT NOT NULL,
    updated_at        INTEGER NOT NULL,
    last_details      TEXT NOT NULL,
    updates           INTEGER NOT NULL,
    cleared_at        INTEGER,
    cleared_reason    TEXT,
    cleared_details   TEXT,
    acknowledged_at   INTEGER,
    acknowledged_by   TEXT,
    assigned_to       TEXT,
    shelved_until     INTEGER
) STRICT;
-- At most one uncleared alarm for (originator, rule).
CREATE UNIQUE INDEX alarms_uncleared
    ON alarms (tenant, coalesce(device, 0), profile, rule) WHERE active = 1;
CREATE INDEX alarms_tenant ON alarms (tenant, sequence);
CREATE INDEX alarms_active ON alarms (tenant, sequence) WHERE active = 1;
CREATE INDEX alarms_device ON alarms (device, sequence);

-- What happened, for ever: nothing here is changed or deleted.
CREATE TABLE events (
    sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
    id        BLOB NOT NULL UNIQUE,
    tenant    INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    location  INTEGER,
    device    INTEGER,
    alarm     BLOB,
    severity  INTEGER,
    actor     TEXT,
    body      TEXT NOT NULL
) STRICT;
CREATE INDEX events_tenant ON events (tenant, sequence);
CREATE INDEX events_alarm ON events (alarm, sequence) WHERE alarm IS NOT NULL;
CREATE INDEX events_device ON events (device, sequence) WHERE device IS NOT NULL;
CREATE TRIGGER events_stay BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER events_remain BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;

CREATE TABLE profiles (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant     INTEGER NOT NULL,
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    deleted    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX profiles_name ON profiles (tenant, name) WHERE deleted = 0;

-- Each version as it was written, so that comments and order survive.
CREATE TABLE profile_versions (
    profile    INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    source     TEXT NOT NULL,
    PRIMARY KEY (profile, version)
) STRICT, WITHOUT ROWID;

-- Commands that follow from a saved profile and are not in the journal yet;
-- written in the transaction of the profile, so that a crash forgets none.
CREATE TABLE deliveries (
    sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
    partition INTEGER NOT NULL,
    command   TEXT NOT NULL
) STRICT;
