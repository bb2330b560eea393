-- When billing of a tenant began: its customer and its plan's meter were first both known. A period that had ended
-- before is never billed.
CREATE TABLE beginnings (
    tenant_id text        PRIMARY KEY,
    begun_at  timestamptz NOT NULL
);

-- Where a tenant's usage goes, and where it went before. Both names are null where it was not billed. Of the rows
-- that a newer one has replaced, those of the last 400 days are kept.
CREATE TABLE destinations (
    tenant_id   text        NOT NULL,
    -- Grows with every change.
    number      bigint      NOT NULL,
    since       timestamptz NOT NULL,
    -- Replaced by the next row, or the tenant was removed; what it still owes goes there all the same.
    until       timestamptz,
    customer_id text,
    event_name  text,
    PRIMARY KEY (tenant_id, number),
    CHECK ((customer_id IS NULL) = (event_name IS NULL))
);
-- How many tenants share the minutes of a customer and meter.
CREATE INDEX destinations_shared ON destinations (customer_id, event_name) WHERE until IS NULL;

-- The part of an account's total that is owed to another destination than the one in force. Gone when it is sealed.
CREATE TABLE owed (
    tenant_id    text        NOT NULL,
    period_start timestamptz NOT NULL,
    -- The order in which the parts were used.
    position     bigint      NOT NULL,
    -- The account's total at the end of the part; the part begins where the one before ends.
    up_to        bigint      NOT NULL,
    customer_id  text        NOT NULL,
    event_name   text        NOT NULL,
    PRIMARY KEY (tenant_id, period_start, position),
    FOREIGN KEY (tenant_id, period_start) REFERENCES accounts
);

-- The last total that was counted in time for the invoice.
ALTER TABLE accounts ADD COLUMN in_time_total bigint NOT NULL DEFAULT 0;
-- The last destination that refused a report of this account: the one that replaces it gets what it refused.
ALTER TABLE accounts ADD COLUMN refused_customer_id text;
ALTER TABLE accounts ADD COLUMN refused_event_name text;
UPDATE accounts SET in_time_total = billable_total;

-- Who has been billed before this release goes on where the last report went.
INSERT INTO beginnings (tenant_id, begun_at) SELECT tenant_id, min(period_start) FROM reports GROUP BY tenant_id;
INSERT INTO destinations (tenant_id, number, since, customer_id, event_name)
SELECT DISTINCT ON (tenant_id) tenant_id, 1, min(period_start) OVER (PARTITION BY tenant_id), customer_id, event_name
FROM reports ORDER BY tenant_id, sealed_at DESC, version DESC;
