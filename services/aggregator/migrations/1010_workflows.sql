-- What is known of each workflow: its name and what its executions' tenant follows from. Numbers stand for the sources'
-- ids in the large tables.
CREATE TABLE workflows (
    number        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_number integer NOT NULL REFERENCES sources,
    workflow_id   text    NOT NULL,
    name          text,
    -- When the name was read; executions bring names too.
    named_at      timestamptz,
    project_id    text,
    tags          text[]  NOT NULL DEFAULT '{}',
    -- When project and tags were read; of two readings the later holds.
    read_at       timestamptz,
    UNIQUE (source_number, workflow_id)
);
INSERT INTO workflows (source_number, workflow_id, name)
SELECT source_number, workflow_id, max(workflow_name) FROM workflow_usage GROUP BY source_number, workflow_id;
INSERT INTO workflows (source_number, workflow_id)
SELECT DISTINCT source_number, workflow_id FROM executions ON CONFLICT DO NOTHING;

ALTER TABLE workflow_usage RENAME TO workflow_usage_by_id;
ALTER TABLE workflow_usage_by_id RENAME CONSTRAINT workflow_usage_pkey TO workflow_usage_by_id_pkey;
CREATE TABLE workflow_usage (
    tenant_number   integer     NOT NULL,
    period_start    timestamptz NOT NULL,
    workflow_number integer     NOT NULL,
    counted         bigint      NOT NULL DEFAULT 0,
    uncounted       bigint      NOT NULL DEFAULT 0,
    success         bigint      NOT NULL DEFAULT 0,
    error           bigint      NOT NULL DEFAULT 0,
    crashed         bigint      NOT NULL DEFAULT 0,
    canceled        bigint      NOT NULL DEFAULT 0,
    duration_ms     bigint      NOT NULL DEFAULT 0,
    late            bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_number, period_start, workflow_number)
) WITH (fillfactor = 50);
INSERT INTO workflow_usage
SELECT tenant_number, period_start, number, counted, uncounted, success, error, crashed, canceled, duration_ms, late
FROM workflow_usage_by_id JOIN workflows USING (source_number, workflow_id);
DROP TABLE workflow_usage_by_id;
