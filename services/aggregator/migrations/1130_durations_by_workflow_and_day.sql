-- How long a workflow's executions of a day took. Days from before have none: a rebuild gives them theirs.
ALTER TABLE workflow_days ADD COLUMN durations bytea NOT NULL DEFAULT '';
