-- Reports are the largest table: up to one each five minutes for each tenant. Those that are settled go some time after their
-- period; the account stays, with the sum of what Stripe has taken, so that nothing is ever reported a second time.
ALTER TABLE accounts
    -- What the reports that are gone had reported.
    ADD COLUMN archived_total  bigint NOT NULL DEFAULT 0,
    -- Since when its settled reports are gone: it is not compared with Stripe any more.
    ADD COLUMN reports_gone_at timestamptz;
CREATE INDEX accounts_to_archive ON accounts (period_end) WHERE closed_at IS NOT NULL AND reports_gone_at IS NULL;
CREATE INDEX drifts_by_age ON drifts (found_at);
