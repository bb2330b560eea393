-- Figures of workflows are folded out of the log as the others are, with the durations beside them: recording writes
-- neither, and a fold writes one row where it wrote two.
ALTER TABLE workflow_usage ADD COLUMN durations bytea NOT NULL DEFAULT '';
UPDATE workflow_usage SET durations = took.durations FROM workflow_durations AS took
WHERE took.tenant_number = workflow_usage.tenant_number AND took.period_start = workflow_usage.period_start
  AND took.workflow_number = workflow_usage.workflow_number;
DROP TABLE workflow_durations;

-- What is logged already, or by a replica that is still of the version before, has been added to the workflows by whoever
-- logged it.
ALTER TABLE rollup_log ADD COLUMN workflows_added boolean NOT NULL DEFAULT true;

-- The executions of each partition are in a stream of their own now, whose sequence begins again. What a source said of the
-- stream before, and was not reached yet, is not believed any more: its next sweep says it anew.
UPDATE sources SET complete_until = counted_until WHERE complete_until IS DISTINCT FROM counted_until;
UPDATE sources SET published_through = 0 WHERE published_through IS NOT NULL;
