-- How far the transitions of a partition are in a topic for others, which its own
-- last record says later: all up to the event `sequence`, `last` being the last of
-- them, or where the topic began.
CREATE TABLE published (
    topic     TEXT COLLATE "C" NOT NULL,
    partition BIGINT NOT NULL,
    sequence  BIGINT NOT NULL,
    last      BIGINT NOT NULL,
    PRIMARY KEY (topic, partition)
);
