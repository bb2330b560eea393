-- What an operator has changed by hand; rows are only ever added.
CREATE TABLE corrections (
    correction_id text        PRIMARY KEY,
    tenant_number integer     NOT NULL REFERENCES tenants,
    period_start  timestamptz NOT NULL,
    period_end    timestamptz NOT NULL,
    author        text        NOT NULL,
    reason        text        NOT NULL,
    corrected_at  timestamptz NOT NULL,
    -- Either one execution that counts no more ..
    source_number integer,
    epoch         integer,
    execution_id  bigint,
    -- .. or a change of the period's count.
    quantity      bigint,
    CHECK ((quantity IS NULL) = (execution_id IS NOT NULL)),
    -- An execution is voided once.
    UNIQUE (source_number, epoch, execution_id)
);
CREATE INDEX corrections_of_period ON corrections (tenant_number, period_start, corrected_at);

ALTER TABLE periods
    ADD COLUMN voided   bigint NOT NULL DEFAULT 0,
    ADD COLUMN adjusted bigint NOT NULL DEFAULT 0;
ALTER TABLE workflow_usage
    ADD COLUMN voided   bigint NOT NULL DEFAULT 0,
    ADD COLUMN adjusted bigint NOT NULL DEFAULT 0;
-- A voided execution stays what it was, and is in no figure but `voided`.
ALTER TABLE executions ADD COLUMN voided boolean NOT NULL DEFAULT false;
