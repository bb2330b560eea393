-- Which tenants have news, as a column: each round asks, and would read the whole table, with all tenants that were removed. It changes
-- once when a tenant's news begins and once when it is published, not with every batch as the revision does, so an
-- index over it does not make each of those changes write to all indexes.
ALTER TABLE tenants ADD COLUMN has_news boolean GENERATED ALWAYS AS (published_revision < revision) STORED;
CREATE INDEX tenants_with_news ON tenants (number) WHERE has_news;
