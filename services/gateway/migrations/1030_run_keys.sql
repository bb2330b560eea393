-- A verdict is kept under a key of 16 bytes that stands for tenant and id (`RunKey`): one index, and a short one, is all
-- that writing a run touches. Runs of a workflow are counted as they are tallied, not row by row.
CREATE TABLE keyed_admissions (
    key            uuid        NOT NULL,
    admitted_at    timestamptz NOT NULL,
    used_units     bigint,
    reserved_units bigint      NOT NULL,
    limit_units    bigint,
    resets_at      timestamptz NOT NULL,
    as_of          timestamptz,
    complete_until timestamptz,
    -- When a refusal may end.
    retry_at       timestamptz,
    allowed        boolean     NOT NULL,
    -- Whether the run stands against the limit. A refused one never does.
    reserved       boolean     NOT NULL,
    tenant         text        NOT NULL,
    reason         text        NOT NULL,
    workflow       text,
    mode           text,
    -- What would have been refused, where the plan only watches.
    shadow_reason  text
);

INSERT INTO keyed_admissions
SELECT encode(substring(sha256(convert_to(tenant, 'UTF8') || '\x00'::bytea || convert_to(id, 'UTF8')) FOR 16), 'hex')::uuid,
       admitted_at, used_units, reserved_units, limit_units, resets_at, as_of, complete_until, retry_at, allowed, reserved,
       tenant, reason, workflow, mode, shadow_reason
FROM admissions;

-- Runs of a workflow that were allowed, as `tallies` has those of the tenant.
CREATE TABLE workflow_tallies (
    tenant   text   NOT NULL,
    workflow text   NOT NULL,
    slot     bigint NOT NULL,
    replica  uuid   NOT NULL,
    units    bigint NOT NULL,
    PRIMARY KEY (tenant, workflow, slot, replica)
);

INSERT INTO workflow_tallies (tenant, workflow, slot, replica, units)
SELECT tenant, workflow, floor(extract(epoch FROM admitted_at) / 5)::bigint, '00000000-0000-0000-0000-000000000000', count(*)
FROM admissions WHERE reserved AND workflow IS NOT NULL GROUP BY 1, 2, 3;

DROP FUNCTION find_admissions;
DROP TABLE admissions;
ALTER TABLE keyed_admissions RENAME TO admissions;
ALTER TABLE admissions ADD CONSTRAINT admissions_pkey PRIMARY KEY (key);
-- For the purge, which needs no more than the rough place of old rows.
CREATE INDEX admissions_by_time ON admissions USING brin (admitted_at);
CREATE INDEX admissions_shadowed ON admissions (tenant, admitted_at) WHERE shadow_reason IS NOT NULL;

-- No plan asks how values are spread: to sample thirty thousand rows again and again would take a core from those who ask.
ALTER TABLE admissions
    ALTER COLUMN key SET STATISTICS 0,
    ALTER COLUMN admitted_at SET STATISTICS 1,
    ALTER COLUMN used_units SET STATISTICS 0,
    ALTER COLUMN reserved_units SET STATISTICS 0,
    ALTER COLUMN limit_units SET STATISTICS 0,
    ALTER COLUMN resets_at SET STATISTICS 0,
    ALTER COLUMN as_of SET STATISTICS 0,
    ALTER COLUMN complete_until SET STATISTICS 0,
    ALTER COLUMN retry_at SET STATISTICS 0,
    ALTER COLUMN allowed SET STATISTICS 0,
    ALTER COLUMN reserved SET STATISTICS 0,
    ALTER COLUMN tenant SET STATISTICS 1,
    ALTER COLUMN reason SET STATISTICS 0,
    ALTER COLUMN workflow SET STATISTICS 0,
    ALTER COLUMN mode SET STATISTICS 0,
    ALTER COLUMN shadow_reason SET STATISTICS 0;

-- The replica from whose units the runs were allowed: it writes its figure whole, as often as it likes. Nil: decided in
-- the ledger, where each decision adds its own.
ALTER TABLE tallies
    ADD COLUMN replica uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    DROP CONSTRAINT tallies_pkey,
    ADD CONSTRAINT tallies_pkey PRIMARY KEY (tenant, slot, replica);
ALTER TABLE tallies ALTER COLUMN replica DROP DEFAULT;

-- Verdicts by key, always by the index. A statement that a connection has planned while the table was small would read
-- all of it until its statistics are next renewed; a function with a setting of its own is planned at each call.
CREATE FUNCTION find_admissions(keys uuid[]) RETURNS SETOF admissions
LANGUAGE sql STABLE SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    SELECT admissions.* FROM unnest(keys) AS asked (key) JOIN admissions USING (key)
$$;
