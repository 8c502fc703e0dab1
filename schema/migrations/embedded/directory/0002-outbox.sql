-- Events of the changes of documents, written in the transaction of the change
-- and removed once they are in the events' own table.
CREATE TABLE outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    -- JSON.
    event TEXT NOT NULL
) STRICT;
