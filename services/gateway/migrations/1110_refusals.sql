-- Runs that were refused, and runs that would have been where the plan only watches, by hour of UTC (hours since 1970). A row is
-- added to in the transaction that writes the verdicts: each refused run is in it once, whatever is repeated or killed.
CREATE TABLE refusals (
    tenant    text    NOT NULL,
    hour      bigint  NOT NULL,
    -- The plan only watches: the run was allowed.
    is_shadow boolean NOT NULL,
    reason    text    NOT NULL,
    -- The runs of all workflows that came after the hour's rows were used up.
    is_rest   boolean NOT NULL,
    -- Empty where the request named none.
    workflow  text    NOT NULL,
    runs      bigint  NOT NULL,
    PRIMARY KEY (tenant, hour, is_shadow, reason, is_rest, workflow)
) WITH (fillfactor = 80);
-- For the purge.
CREATE INDEX refusals_by_hour ON refusals (hour);

-- Adds runs to an hour of a tenant. What has no row yet gets one while the hour has fewer than `rows_max`; later ones share a row
-- of their reason. The caller holds the tenant's ledger. Always by the key: a statement that was planned while the table
-- was small would read all of it.
CREATE FUNCTION count_refusals(of_tenant text, of_hour bigint, rows_max bigint, shadows boolean[], reasons text[],
    workflows text[], counts bigint[])
RETURNS void LANGUAGE sql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    INSERT INTO refusals AS kept (tenant, hour, is_shadow, reason, is_rest, workflow, runs)
    SELECT of_tenant, of_hour, is_shadow, reason, NOT has_row, CASE WHEN has_row THEN workflow ELSE '' END, sum(runs)::bigint
    FROM (
        SELECT known.*, is_known OR used.rows + row_number() OVER (
                   PARTITION BY is_known ORDER BY runs DESC, is_shadow, reason, workflow) <= rows_max AS has_row
        FROM (
            SELECT asked.*, EXISTS (
                       SELECT FROM refusals
                       WHERE tenant = of_tenant AND hour = of_hour AND refusals.is_shadow = asked.is_shadow
                         AND refusals.reason = asked.reason AND NOT is_rest AND refusals.workflow = asked.workflow
                   ) AS is_known
            FROM unnest(shadows, reasons, workflows, counts) AS asked (is_shadow, reason, workflow, runs)
        ) AS known
        CROSS JOIN (
            SELECT count(*) AS rows FROM refusals WHERE tenant = of_tenant AND hour = of_hour AND NOT is_rest
        ) AS used
    ) AS placed
    GROUP BY is_shadow, reason, has_row, CASE WHEN has_row THEN workflow ELSE '' END
    ON CONFLICT (tenant, hour, is_shadow, reason, is_rest, workflow) DO UPDATE SET runs = kept.runs + excluded.runs
$$;
