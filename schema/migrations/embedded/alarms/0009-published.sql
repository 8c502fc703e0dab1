-- How far the transitions of a partition are in a topic for others, which its own
-- last record says later: all up to the event `sequence`, `last` being the last of
-- them, or where the topic began.
CREATE TABLE published (
    topic     TEXT NOT NULL,
    partition INTEGER NOT NULL,
    sequence  INTEGER NOT NULL,
    last      INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) STRICT, WITHOUT ROWID;
