-- Workflows as the source showed them last, and as they were published: see src/workflows.rs.
CREATE TABLE workflows (
    source_id   text        NOT NULL REFERENCES sources,
    workflow_id text        NOT NULL,
    -- Missing where the source's list did not have the workflow.
    name        text,
    -- Missing where the source has no projects.
    project_id  text,
    tags        text[]      NOT NULL DEFAULT '{}',
    -- When it was first read as it is.
    read_at     timestamptz NOT NULL,
    PRIMARY KEY (source_id, workflow_id)
);

-- When the list of workflows was read last.
ALTER TABLE sources ADD COLUMN workflows_read_at timestamptz;

-- The first sweep reads all names anew, with tags and projects.
DROP TABLE workflow_names;
