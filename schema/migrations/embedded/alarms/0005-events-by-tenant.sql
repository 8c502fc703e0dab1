-- What a tenant asks for is found without reading what is of other tenants.
CREATE INDEX events_tenant_kind ON events (tenant, kind, sequence);
CREATE INDEX events_tenant_actor ON events (tenant, actor, sequence) WHERE actor IS NOT NULL;
