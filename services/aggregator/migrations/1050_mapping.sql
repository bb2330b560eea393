-- Unmapped executions of this source are being given to their tenants; still set after a crash, so that it begins anew.
ALTER TABLE sources ADD COLUMN mapping boolean NOT NULL DEFAULT false;
DROP INDEX sources_to_map;
CREATE INDEX sources_to_map ON sources (number) WHERE map_again OR mapping;
