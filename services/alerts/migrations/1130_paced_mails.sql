-- What really happens at the limit, as the plan said when the threshold was crossed.
ALTER TABLE crossings
    ADD COLUMN shadow        boolean     NOT NULL DEFAULT false,
    ADD COLUMN grace_seconds bigint,
    ADD COLUMN overage_max   bigint,
    -- A later crossing whose mail says this one's as well, where this one's was not sent by then.
    ADD COLUMN superseded_by text,
    -- The thresholds whose mails this one says.
    ADD COLUMN folded        integer[]   NOT NULL DEFAULT '{}',
    -- When the mail may leave, where it had to wait for its day.
    ADD COLUMN release_at    timestamptz;

-- What a tenant was told lately, and in a period.
CREATE INDEX crossings_of_tenant ON crossings (tenant_id, recorded_at);

ALTER TABLE notifications DROP CONSTRAINT notifications_state_check;
ALTER TABLE notifications ADD CONSTRAINT notifications_state_check
    CHECK (state IN ('pending', 'sending', 'retrying', 'sent', 'failed', 'superseded'));
