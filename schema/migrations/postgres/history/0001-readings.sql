-- A pair of device and key. Where `escaped` is true the key holds U+0000, which
-- PostgreSQL's text can't, and stands here as the inside of a JSON string.
CREATE TABLE series (
    id      BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant  BIGINT  NOT NULL,
    device  BIGINT  NOT NULL,
    key     TEXT    NOT NULL,
    escaped BOOLEAN NOT NULL DEFAULT false,
    UNIQUE (device, key, escaped)
);
CREATE INDEX series_tenant ON series (tenant, id);

-- Exactly one of number, integer, boolean, text and json is set: the value in its
-- own type. Where `escaped` is true, text is the inside of a JSON string, and json
-- a JSON string of a value that PostgreSQL would not take as it is.
DO $$
BEGIN
    EXECUTE 'CREATE TABLE readings (
        series      BIGINT      NOT NULL,
        observed_at TIMESTAMPTZ NOT NULL,
        number      DOUBLE PRECISION,
        integer     BIGINT,
        boolean     BOOLEAN,
        escaped     BOOLEAN,
        text        TEXT,
        json        JSON,
        PRIMARY KEY (series, observed_at)
    )' || CASE WHEN EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
               THEN '' ELSE ' PARTITION BY RANGE (observed_at)' END;
END $$;

-- Readings of times that `readings` has no span for: so far ahead of the clock, so
-- long ago or so scattered that a table for each would be no use, and those that
-- TIMESTAMPTZ can't hold. Milliseconds since 1970.
CREATE TABLE odd_readings (
    series      BIGINT NOT NULL,
    observed_ms BIGINT NOT NULL,
    number      DOUBLE PRECISION,
    integer     BIGINT,
    boolean     BOOLEAN,
    escaped     BOOLEAN,
    text        TEXT,
    json        JSON,
    PRIMARY KEY (series, observed_ms)
);
CREATE INDEX odd_readings_time ON odd_readings (observed_ms);

-- The spans of time, in milliseconds since 1970, whose readings are in `readings`:
-- its partitions (readings_s with the number behind it), or with TimescaleDB those
-- that may become chunks. They never overlap.
CREATE TABLE spans (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    from_ms BIGINT NOT NULL UNIQUE,
    to_ms   BIGINT NOT NULL CHECK (to_ms > from_ms)
);

-- All records of a partition of the journal below its position are in here. A writer
-- that takes the partition over counts the epoch up, and a former one commits no more.
CREATE TABLE positions (
    partition INTEGER PRIMARY KEY,
    position  BIGINT NOT NULL,
    epoch     BIGINT NOT NULL
) WITH (fillfactor = 20);

-- For people and for Grafana.
CREATE VIEW telemetry AS
SELECT s.tenant, s.device, s.key, r.observed_at,
       coalesce(r.number, r.integer::double precision, r.boolean::integer::double precision) AS value,
       r.number, r.integer, r.boolean, r.text, r.json, r.escaped
  FROM readings r
  JOIN series s ON s.id = r.series;
