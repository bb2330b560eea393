-- Who may call the API. A token itself is never kept, only its SHA-256.
CREATE TABLE tokens (
    id         uuid        PRIMARY KEY,
    kind       text        NOT NULL CHECK (kind IN ('operator', 'tenant')),
    tenant     text,
    hash       bytea       NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz,
    CHECK ((kind = 'tenant') = (tenant IS NOT NULL))
);

-- A session stands for the token it was opened with, and ends with it.
CREATE TABLE sessions (
    hash       bytea       PRIMARY KEY,
    token_hash bytea       NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- One row per tenant, locked while a run is admitted: the sum of what is admitted never races.
CREATE TABLE ledgers (
    tenant text PRIMARY KEY
);

-- Every verdict, under the caller's id, so that a repeated request gets the same answer.
CREATE TABLE admissions (
    tenant         text        NOT NULL,
    id             text        NOT NULL,
    admitted_at    timestamptz NOT NULL,
    -- Whether the run stands against the limit. A refused one never does.
    reserved       boolean     NOT NULL,
    allowed        boolean     NOT NULL,
    reason         text        NOT NULL,
    workflow       text,
    mode           text,
    used_units     bigint,
    reserved_units bigint      NOT NULL,
    limit_units    bigint,
    resets_at      timestamptz NOT NULL,
    as_of          timestamptz,
    complete_until timestamptz,
    PRIMARY KEY (tenant, id)
);

-- Counts what was admitted since an instant from the index alone; also serves the purge.
CREATE INDEX admissions_by_time ON admissions (tenant, admitted_at, reserved);

-- The final figures of each period, as their message (`PeriodClosed`), late usage applied.
CREATE TABLE closed_periods (
    tenant        text        NOT NULL,
    period_start  timestamptz NOT NULL,
    period_end    timestamptz NOT NULL,
    revision      bigint      NOT NULL,
    late_found_at timestamptz,
    value         bytea       NOT NULL,
    PRIMARY KEY (tenant, period_start)
);

-- Executions that were gone before they were seen.
CREATE TABLE gaps (
    source             text        NOT NULL,
    epoch              bigint      NOT NULL,
    first_execution_id text        NOT NULL,
    last_execution_id  text        NOT NULL,
    reason             text        NOT NULL,
    found_at           timestamptz NOT NULL,
    PRIMARY KEY (source, epoch, first_execution_id, last_execution_id)
);

CREATE INDEX gaps_by_time ON gaps (source, found_at DESC);
