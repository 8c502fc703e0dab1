-- How far the directory's changes have been carried into the journal.
CREATE TABLE followers (
    name     TEXT PRIMARY KEY,
    -- Of the directory: all changes up to it are durable in the journal.
    sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A tenant's system alarms are a profile that Baken itself writes. Its name
-- keeps nobody from a profile of the same name.
ALTER TABLE profiles ADD COLUMN system INTEGER NOT NULL DEFAULT 0;
DROP INDEX profiles_name;
CREATE UNIQUE INDEX profiles_name ON profiles (tenant, name) WHERE deleted = 0 AND system = 0;
CREATE UNIQUE INDEX profiles_system ON profiles (tenant) WHERE deleted = 0 AND system = 1;
