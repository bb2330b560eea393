-- Periods that an operator has ended before their time; rows are only ever added.
CREATE TABLE period_ends (
    end_id        text        PRIMARY KEY,
    tenant_number integer     NOT NULL REFERENCES tenants,
    author        text        NOT NULL,
    reason        text        NOT NULL,
    asked_at      timestamptz NOT NULL,
    -- The period as it is now, and the end of the one after it as it was then.
    period_start  timestamptz NOT NULL,
    period_end    timestamptz NOT NULL,
    next_end      timestamptz NOT NULL
);
CREATE INDEX period_ends_of_tenant ON period_ends (tenant_number, asked_at);
