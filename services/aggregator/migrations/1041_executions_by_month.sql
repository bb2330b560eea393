-- Executions by month, so that old ones are dropped as a whole. `month` is the first day of the UTC month in which the
-- execution stopped when it was first recorded; it never changes, because it is part of the key.
-- The key guards within a month. Across months, and after a month is dropped, the recording transaction does: it holds
-- the source's row and knows all its ids (ADR 0007).
ALTER TABLE executions RENAME TO executions_before;
ALTER TABLE executions_before RENAME CONSTRAINT executions_pkey TO executions_before_pkey;
DROP INDEX executions_by_stop;

CREATE TABLE executions (
    execution_id    bigint      NOT NULL,
    stopped_at      timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,
    started_at      timestamptz,
    -- Missing, as the tenant, while no attribution matches: an unmapped execution.
    period_start    timestamptz,
    source_number   integer     NOT NULL,
    epoch           integer     NOT NULL,
    month           date        NOT NULL,
    workflow_number integer     NOT NULL,
    tenant_number   integer,
    status          smallint    NOT NULL,
    mode            smallint    NOT NULL,
    counted         boolean     NOT NULL,
    late            boolean     NOT NULL,
    voided          boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (source_number, epoch, execution_id, month)
) PARTITION BY RANGE (month);
-- For "counted until an instant", and for what a figure is made of.
CREATE INDEX executions_by_stop ON executions (tenant_number, stopped_at) WHERE tenant_number IS NOT NULL;
CREATE INDEX executions_unmapped ON executions (source_number, workflow_number, stopped_at)
    WHERE tenant_number IS NULL;
-- The only ones that may still change; 2 is `crashed`.
CREATE INDEX executions_crashed ON executions (source_number, epoch, execution_id) WHERE status = 2;

DO $$
DECLARE
    first_day date;
BEGIN
    FOR first_day IN
        SELECT DISTINCT date_trunc('month', stopped_at AT TIME ZONE 'UTC')::date FROM executions_before
    LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF executions FOR VALUES FROM (%L) TO (%L)',
            'executions_' || to_char(first_day, 'YYYY_MM'), first_day, (first_day + interval '1 month')::date);
    END LOOP;
END
$$;
INSERT INTO executions (execution_id, stopped_at, recorded_at, started_at, period_start, source_number, epoch, month,
    workflow_number, tenant_number, status, mode, counted, late, voided)
SELECT execution_id, stopped_at, recorded_at, started_at, period_start, source_number, epoch,
    date_trunc('month', stopped_at AT TIME ZONE 'UTC')::date, number, tenant_number, status, mode, counted, late, voided
FROM executions_before JOIN workflows USING (source_number, workflow_id);
DROP TABLE executions_before;

-- Ids of executions whose month was dropped: a repeat is known for ever. `ids` is a roaring bitmap (portable format) of
-- the ids' low 16 bits, `chunk` is what remains of them.
CREATE TABLE retired_ids (
    source_number integer NOT NULL,
    epoch         integer NOT NULL,
    chunk         bigint  NOT NULL,
    ids           bytea   NOT NULL,
    PRIMARY KEY (source_number, epoch, chunk)
);
