-- Of which document a change or a login is; by which token and from where
-- somebody acted. A tenant of 0 stands for the installation as a whole.
ALTER TABLE events ADD COLUMN document INTEGER;
ALTER TABLE events ADD COLUMN actor_token INTEGER;
ALTER TABLE events ADD COLUMN peer TEXT;
CREATE INDEX events_document ON events (document, sequence) WHERE document IS NOT NULL;
CREATE INDEX events_location ON events (location, sequence) WHERE location IS NOT NULL;
CREATE INDEX events_actor ON events (actor, sequence) WHERE actor IS NOT NULL;
CREATE INDEX events_kind ON events (kind, sequence);

-- When we learned of the raise: an operator can't acknowledge before.
ALTER TABLE alarms ADD COLUMN received_at INTEGER;
CREATE INDEX alarms_location ON alarms (location, sequence);
CREATE INDEX alarms_raised ON alarms (tenant, raised_at);
CREATE INDEX alarms_severity ON alarms (tenant, severity, sequence) WHERE active = 1;
CREATE INDEX alarms_unacknowledged ON alarms (tenant, sequence) WHERE acknowledged = 0;
-- All that the counts of open alarms need, so that they never read the table.
CREATE INDEX alarms_open
    ON alarms (tenant, location, severity, active, acknowledged, shelved_until)
    WHERE active = 1 OR acknowledged = 0;
