-- A short stretch of the past is found without reading all that came after it.
CREATE INDEX events_time ON events (tenant, at);
