-- The same as before, in another order: what a tenant has active of one rule is
-- found by it too.
DROP INDEX alarms_uncleared;
CREATE UNIQUE INDEX alarms_uncleared
    ON alarms (tenant, profile, rule, coalesce(device, 0)) WHERE active = 1;
