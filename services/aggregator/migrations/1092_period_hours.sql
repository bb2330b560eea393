-- Counted executions by period and hour, of periods that are open: what was counted since an instant weeks ago is a few
-- hundred of these rows, and not the executions themselves. Folded out of the log as the other figures are.
CREATE TABLE period_hours (
    tenant_number integer     NOT NULL,
    period_start  timestamptz NOT NULL,
    hour_start    timestamptz NOT NULL,
    counted       bigint      NOT NULL,
    PRIMARY KEY (tenant_number, period_start, hour_start)
) WITH (fillfactor = 50);

-- What is logged already is in the executions, from which the figures begin. Whoever writes now waits, or has committed both.
ALTER TABLE rollup_log ADD COLUMN hours_added boolean NOT NULL DEFAULT false;
UPDATE rollup_log SET hours_added = true;
INSERT INTO period_hours
SELECT tenant_number, period_start, date_trunc('hour', stopped_at, 'UTC'), count(*)
FROM executions JOIN periods USING (tenant_number, period_start)
WHERE closed_at IS NULL AND executions.counted AND NOT executions.voided
GROUP BY 1, 2, 3;

-- Crossings go some time after their period.
CREATE INDEX crossings_by_period ON crossings (period_start);
