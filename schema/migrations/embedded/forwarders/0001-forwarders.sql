-- Where each forwarder stands in each partition: all before `row` of the record
-- at `position` is dealt with, and `counts` and `devices` say what came of it.
-- Without a position it is at rest, and will begin at the journal's end.
CREATE TABLE lanes (
    forwarder INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    position  INTEGER,
    row       INTEGER NOT NULL,
    -- JSON, as the forwarders wrote it.
    counts    TEXT NOT NULL,
    -- Journal records that were deleted before the forwarder had read them.
    expired   INTEGER NOT NULL,
    PRIMARY KEY (forwarder, partition)
) STRICT, WITHOUT ROWID;

-- The last values that the platform acknowledged, a device's in one row.
CREATE TABLE devices (
    forwarder INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    device    INTEGER NOT NULL,
    last      BLOB NOT NULL,
    PRIMARY KEY (forwarder, partition, device)
) STRICT, WITHOUT ROWID;

-- Values that a platform refused, until a person sends them again or drops them.
CREATE TABLE dead_letters (
    sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
    forwarder INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    reason    TEXT NOT NULL,
    -- JSON, as the forwarders wrote it.
    value     TEXT NOT NULL
) STRICT;
CREATE INDEX dead_letters_forwarder ON dead_letters (forwarder, sequence);

-- What became of dead letters that are no more.
CREATE TABLE dead_letter_fates (
    forwarder  INTEGER PRIMARY KEY,
    resent     INTEGER NOT NULL DEFAULT 0,
    discarded  INTEGER NOT NULL DEFAULT 0,
    -- Made room for newer ones.
    overflowed INTEGER NOT NULL DEFAULT 0
) STRICT;
