-- Which tenants have news, as a column: Postgres keeps no statistics of a comparison of two columns, takes a third of the tenants for
-- news, and reads the whole table in each round, with all that were removed.
ALTER TABLE tenants ADD COLUMN has_news boolean GENERATED ALWAYS AS (published_revision < revision) STORED;
DROP INDEX tenants_with_news;
CREATE INDEX tenants_with_news ON tenants (number) WHERE has_news;
