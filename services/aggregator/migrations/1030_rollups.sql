-- What recording has done to the figures, one row per transaction. The roll-ups are made of it, many rows at a time, so
-- that recording pays for one row and not for every hour, day and workflow it touches; and a rebuild that has read the
-- executions at one instant finds here what happened since.
CREATE TABLE rollup_log (
    number    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    logged_at timestamptz NOT NULL,
    change    bytea       NOT NULL,
    -- Whether the roll-ups have it. Such rows stay while a rebuild needs them.
    folded    boolean     NOT NULL DEFAULT false,
    -- Tells whether a rebuild, which reads the executions in one snapshot, has seen what this row says.
    written_by xid8       NOT NULL DEFAULT pg_current_xact_id()
);
-- Written once and read once: compressing costs more than it saves.
ALTER TABLE rollup_log ALTER COLUMN change SET STORAGE EXTERNAL;
CREATE INDEX rollup_log_waiting ON rollup_log (number) WHERE NOT folded;

CREATE TABLE usage_hours (
    tenant_number integer     NOT NULL,
    hour_start    timestamptz NOT NULL,
    counted       bigint      NOT NULL DEFAULT 0,
    uncounted     bigint      NOT NULL DEFAULT 0,
    success       bigint      NOT NULL DEFAULT 0,
    error         bigint      NOT NULL DEFAULT 0,
    crashed       bigint      NOT NULL DEFAULT 0,
    canceled      bigint      NOT NULL DEFAULT 0,
    duration_ms   bigint      NOT NULL DEFAULT 0,
    late          bigint      NOT NULL DEFAULT 0,
    voided        bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_number, hour_start)
) WITH (fillfactor = 50);

-- Days in the time zone that the tenant had when they were recorded.
CREATE TABLE usage_days (
    tenant_number integer     NOT NULL,
    day_start     timestamptz NOT NULL,
    counted       bigint      NOT NULL DEFAULT 0,
    uncounted     bigint      NOT NULL DEFAULT 0,
    success       bigint      NOT NULL DEFAULT 0,
    error         bigint      NOT NULL DEFAULT 0,
    crashed       bigint      NOT NULL DEFAULT 0,
    canceled      bigint      NOT NULL DEFAULT 0,
    duration_ms   bigint      NOT NULL DEFAULT 0,
    late          bigint      NOT NULL DEFAULT 0,
    voided        bigint      NOT NULL DEFAULT 0,
    -- How long the counted executions took: a sketch (durations.rs).
    durations     bytea       NOT NULL,
    PRIMARY KEY (tenant_number, day_start)
) WITH (fillfactor = 50);

CREATE TABLE workflow_days (
    tenant_number   integer     NOT NULL,
    workflow_number integer     NOT NULL,
    day_start       timestamptz NOT NULL,
    counted         bigint      NOT NULL DEFAULT 0,
    uncounted       bigint      NOT NULL DEFAULT 0,
    success         bigint      NOT NULL DEFAULT 0,
    error           bigint      NOT NULL DEFAULT 0,
    crashed         bigint      NOT NULL DEFAULT 0,
    canceled        bigint      NOT NULL DEFAULT 0,
    duration_ms     bigint      NOT NULL DEFAULT 0,
    late            bigint      NOT NULL DEFAULT 0,
    voided          bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_number, workflow_number, day_start)
) WITH (fillfactor = 50);

CREATE TABLE workflow_durations (
    tenant_number   integer     NOT NULL,
    period_start    timestamptz NOT NULL,
    workflow_number integer     NOT NULL,
    durations       bytea       NOT NULL,
    PRIMARY KEY (tenant_number, period_start, workflow_number)
) WITH (fillfactor = 50);
