-- A source may be shared: every tenant that its executions may belong to.
CREATE TABLE source_tenants (
    source_number integer NOT NULL REFERENCES sources,
    tenant_number integer NOT NULL REFERENCES tenants,
    PRIMARY KEY (source_number, tenant_number)
);
CREATE INDEX source_tenants_by_tenant ON source_tenants (tenant_number);
INSERT INTO source_tenants SELECT number, tenant_number FROM sources;

ALTER TABLE sources
    DROP COLUMN tenant_number,
    -- Grows with every transaction that records for the source: what a process remembers of the source's ids and
    -- workflows is right only while it has seen the last one.
    ADD COLUMN version bigint NOT NULL DEFAULT 0,
    -- The source as the catalog last had it, also after it was removed: whose its executions are.
    ADD COLUMN placement bytea,
    -- Unmapped executions may match now: attributions or workflows have changed.
    ADD COLUMN map_again boolean NOT NULL DEFAULT false,
    SET (fillfactor = 50);
UPDATE sources SET placement = value FROM catalog WHERE kind = 'source' AND id = source_id AND NOT removed;
CREATE INDEX sources_to_map ON sources (number) WHERE map_again;

-- Grows with every change of the catalog: what a process remembers of it is right only while this stands.
CREATE TABLE catalog_version (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint  NOT NULL
);
INSERT INTO catalog_version (version) VALUES (0);

-- The revision changes with every batch. An index over it would make each of these changes write to all indexes.
DROP INDEX tenants_with_news;
ALTER TABLE tenants SET (fillfactor = 50);
