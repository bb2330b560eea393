-- The service's own copy of tenants, plans and sources (in the gateway: the original).
-- A larger revision replaces a smaller one; a removed value stays as a tombstone.
CREATE TABLE catalog (
    kind     text    NOT NULL,
    id       text    NOT NULL,
    revision bigint  NOT NULL,
    removed  boolean NOT NULL,
    value    bytea   NOT NULL,
    PRIMARY KEY (kind, id)
);
