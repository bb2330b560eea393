-- Which calendar cuts a tenant's periods from when: periods are facts, and a changed calendar decides the next one. The
-- stretch at place 0 has held since the beginning of time. Tenants of before are written at the next start, from their
-- periods and the catalog's copy (src/calendars.rs).
CREATE TABLE calendars (
    tenant_number  integer     NOT NULL REFERENCES tenants,
    place          integer     NOT NULL,
    effective_from timestamptz,
    time_zone      text        NOT NULL,
    anchor_day     smallint    NOT NULL,
    -- The whole stretch is one period: one that was stored before the tenant's calendar was changed in the middle of it.
    one_period     boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_number, place),
    CHECK ((place = 0) = (effective_from IS NULL))
);

-- Grows with every change of the tenant's calendars: who has placed an execution by older ones sees it under the tenant's lock.
ALTER TABLE tenants ADD COLUMN calendar_version integer NOT NULL DEFAULT 0;

-- A tenant's periods that are not closed are looked for whenever its usage is published.
CREATE INDEX periods_not_closed ON periods (tenant_number) WHERE closed_at IS NULL;
