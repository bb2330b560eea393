-- Numbers stand for the operator's ids in the large tables: narrow keys keep the index in memory.
CREATE TABLE tenants (
    number             integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id          text    NOT NULL UNIQUE,
    plan_id            text    NOT NULL,
    -- Grows with everything that changes what the tenant's usage says.
    revision           bigint  NOT NULL DEFAULT 1,
    -- The last revision that was published; smaller than `revision` while there is news.
    published_revision bigint  NOT NULL DEFAULT 0,
    -- End of the period that was published last; past it, the new period is news.
    period_end         timestamptz
);
CREATE INDEX tenants_with_news ON tenants (number) WHERE published_revision < revision;
CREATE INDEX tenants_by_period_end ON tenants (period_end);

CREATE TABLE sources (
    number            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id         text    NOT NULL UNIQUE,
    tenant_number     integer NOT NULL REFERENCES tenants,
    -- A paused or removed source holds no period open.
    active            boolean NOT NULL,
    -- What the collector said last.
    sweep_started_at  timestamptz,
    complete_until    timestamptz,
    published_through bigint,
    open_executions   bigint  NOT NULL DEFAULT 0,
    -- `complete_until`, once everything published before it has been counted here.
    counted_until     timestamptz,
    counted_open      bigint  NOT NULL DEFAULT 0
);
CREATE INDEX sources_of_tenant ON sources (tenant_number);

-- The truth about what has been counted. The primary key is what makes a count exact.
CREATE TABLE executions (
    source_number integer     NOT NULL,
    epoch         integer     NOT NULL,
    execution_id  bigint      NOT NULL,
    tenant_number integer     NOT NULL,
    workflow_id   text        NOT NULL,
    status        smallint    NOT NULL,
    mode          smallint    NOT NULL,
    counted       boolean     NOT NULL,
    late          boolean     NOT NULL,
    started_at    timestamptz,
    stopped_at    timestamptz NOT NULL,
    period_start  timestamptz NOT NULL,
    recorded_at   timestamptz NOT NULL,
    PRIMARY KEY (source_number, epoch, execution_id)
);
-- For "counted until an instant": only the newest executions are looked at.
CREATE INDEX executions_by_stop ON executions (tenant_number, stopped_at) WHERE counted;

-- One row per tenant and period, with the period's figures.
CREATE TABLE periods (
    tenant_number integer     NOT NULL REFERENCES tenants,
    period_start  timestamptz NOT NULL,
    period_end    timestamptz NOT NULL,
    opened_at     timestamptz NOT NULL,
    closed_at     timestamptz,
    counted       bigint      NOT NULL DEFAULT 0,
    uncounted     bigint      NOT NULL DEFAULT 0,
    success       bigint      NOT NULL DEFAULT 0,
    error         bigint      NOT NULL DEFAULT 0,
    crashed       bigint      NOT NULL DEFAULT 0,
    canceled      bigint      NOT NULL DEFAULT 0,
    duration_ms   bigint      NOT NULL DEFAULT 0,
    late          bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_number, period_start)
) WITH (fillfactor = 50);
CREATE INDEX periods_to_close ON periods (period_end) WHERE closed_at IS NULL;

CREATE TABLE workflow_usage (
    tenant_number integer     NOT NULL,
    period_start  timestamptz NOT NULL,
    source_number integer     NOT NULL,
    workflow_id   text        NOT NULL,
    workflow_name text,
    counted       bigint      NOT NULL DEFAULT 0,
    uncounted     bigint      NOT NULL DEFAULT 0,
    success       bigint      NOT NULL DEFAULT 0,
    error         bigint      NOT NULL DEFAULT 0,
    crashed       bigint      NOT NULL DEFAULT 0,
    canceled      bigint      NOT NULL DEFAULT 0,
    duration_ms   bigint      NOT NULL DEFAULT 0,
    late          bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_number, period_start, source_number, workflow_id),
    FOREIGN KEY (tenant_number, period_start) REFERENCES periods
) WITH (fillfactor = 50);

-- A threshold is armed, crossed, and armed again when the limit is raised above usage; `arming` counts that.
-- The partial key allows one standing crossing per tenant, period, rule and threshold.
CREATE TABLE crossings (
    crossing_id       uuid        PRIMARY KEY,
    tenant_number     integer     NOT NULL,
    period_start      timestamptz NOT NULL,
    rule              text        NOT NULL,
    threshold_percent integer     NOT NULL,
    arming            integer     NOT NULL,
    limit_executions  bigint      NOT NULL,
    used              bigint      NOT NULL,
    crossed_at        timestamptz NOT NULL,
    rearmed_at        timestamptz,
    UNIQUE (tenant_number, period_start, rule, threshold_percent, arming)
);
CREATE UNIQUE INDEX crossings_standing
    ON crossings (tenant_number, period_start, rule, threshold_percent) WHERE rearmed_at IS NULL;
