-- The manifest of the history: which files hold which readings, and up to
-- where in the journal they do. A file that is not named here is not there.

-- How many partitions the files were written for; one row.
CREATE TABLE layout (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    partitions  INTEGER NOT NULL,
    -- Never given out twice, so that no file name ever returns.
    next_file   INTEGER NOT NULL
) STRICT;

CREATE TABLE partitions (
    partition   INTEGER PRIMARY KEY,
    -- All records of the journal below it are in the files.
    position    INTEGER NOT NULL,
    -- Flushes so far: the number of the next one.
    flushes     INTEGER NOT NULL,
    -- The file of series and their newest values; none before the first flush.
    catalog     INTEGER,
    catalog_bytes INTEGER,
    -- Series index and block checksums of the catalog, as of a history file.
    catalog_contents BLOB
) STRICT;

CREATE TABLE files (
    id          INTEGER PRIMARY KEY,
    partition   INTEGER NOT NULL REFERENCES partitions (partition),
    -- The flushes whose readings it has. Of the same device, key and time the
    -- reading of the later flush counts.
    first_flush INTEGER NOT NULL,
    last_flush  INTEGER NOT NULL,
    -- Version of the Parquet columns.
    format      INTEGER NOT NULL,
    rows        INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    -- The earliest and latest observed_at, in milliseconds since 1970.
    min_ms      INTEGER NOT NULL,
    max_ms      INTEGER NOT NULL,
    -- The tenants whose readings it has: a JSON array of ids.
    tenants     TEXT NOT NULL
) STRICT;

-- Apart from `files`, because it is large and read only when a file is.
CREATE TABLE file_contents (
    file        INTEGER PRIMARY KEY REFERENCES files (id) ON DELETE CASCADE,
    -- Series index and block checksums, with a checksum of its own.
    contents    BLOB NOT NULL
) STRICT;
