-- Units of a tenant's period that a replica may spend in memory. `outstanding` are those that were handed out
-- and are neither written down as admissions nor given back. With a workflow: units of that workflow's part.
-- After a crash the row stays: its units may have been spent until `expires_at`.
CREATE TABLE leases (
    tenant      text        NOT NULL,
    workflow    text        NOT NULL DEFAULT '',
    replica     uuid        NOT NULL,
    outstanding bigint      NOT NULL CHECK (outstanding >= 0),
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant, workflow, replica)
);

-- Runs that stand against the limit, by when they were admitted: one row for each five seconds.
CREATE TABLE tallies (
    tenant text   NOT NULL,
    slot   bigint NOT NULL,
    units  bigint NOT NULL,
    PRIMARY KEY (tenant, slot)
);

INSERT INTO tallies (tenant, slot, units)
SELECT tenant, floor(extract(epoch FROM admitted_at) / 5)::bigint, count(*)
FROM admissions WHERE reserved GROUP BY 1, 2;

-- How often a workflow asks to run, and since when that looks like a loop.
CREATE TABLE workflows (
    tenant        text             NOT NULL,
    workflow      text             NOT NULL,
    minute        bigint           NOT NULL,
    asked         bigint           NOT NULL,
    usual         double precision NOT NULL,
    looping_since timestamptz,
    PRIMARY KEY (tenant, workflow)
);

-- The state of a cap on how often runs may start: the theoretical arrival time of GCRA, in nanoseconds since 1970.
CREATE TABLE caps (
    tenant     text   NOT NULL,
    workflow   text   NOT NULL DEFAULT '',
    kind       text   NOT NULL,
    arrival_ns bigint NOT NULL,
    PRIMARY KEY (tenant, workflow, kind)
);

ALTER TABLE ledgers
    -- The replica that decided last, and since when no other has; null: since the ledger began.
    ADD COLUMN decider       uuid,
    ADD COLUMN decider_since timestamptz,
    -- When the limit of the period was reached; ends a grace.
    ADD COLUMN reached_at    timestamptz,
    -- Since when metering has told nothing of the tenant; ends an open outage rule.
    ADD COLUMN blind_since   timestamptz;

UPDATE ledgers SET decider_since = now();

ALTER TABLE admissions
    -- What would have been refused, where the plan only watches.
    ADD COLUMN shadow_reason text,
    -- When a refusal may end.
    ADD COLUMN retry_at      timestamptz;

CREATE INDEX admissions_by_workflow ON admissions (tenant, workflow, admitted_at)
    WHERE workflow IS NOT NULL AND reserved;
-- Counting is done by `tallies`; the purge needs no more than the rough place of old rows.
DROP INDEX admissions_by_time;
CREATE INDEX admissions_by_time ON admissions USING brin (admitted_at);
CREATE INDEX admissions_shadowed ON admissions (tenant, admitted_at) WHERE shadow_reason IS NOT NULL;

-- One row that every change of the catalog touches, in the change's own transaction: a replica that has read it
-- knows whether its copy of the catalog is current.
CREATE TABLE catalog_version (
    version bigint NOT NULL
);
INSERT INTO catalog_version VALUES (1);

CREATE FUNCTION touch_catalog_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE catalog_version SET version = version + 1;
    RETURN NULL;
END $$;

CREATE TRIGGER catalog_changed AFTER INSERT OR UPDATE OR DELETE ON catalog
    FOR EACH STATEMENT EXECUTE FUNCTION touch_catalog_version();
