-- Figures of a workflow by day are kept as long as those by hour: tenants choose their workflows, and so how many rows there are.
CREATE INDEX workflow_days_by_day ON workflow_days (day_start);
