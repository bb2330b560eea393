-- Executions that a source's hook says it refused before they started. n8n before 2.40 lists them as errors; the sweep looks at
-- their data before it believes the hook (src/refusals.rs).
CREATE TABLE refusals (
    source_id    text        NOT NULL REFERENCES sources,
    execution_id bigint      NOT NULL,
    claimed_at   timestamptz NOT NULL,
    -- Whether the source's own data say so as well; missing before they were read.
    is_proven    boolean,
    PRIMARY KEY (source_id, execution_id)
);
CREATE INDEX refusals_by_age ON refusals (claimed_at);
