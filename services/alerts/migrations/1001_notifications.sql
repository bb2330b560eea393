-- What is to be told, as it was when the threshold was crossed. Never updated: a mail that has to be sent again
-- says the same.
CREATE TABLE crossings (
    crossing_id    text        PRIMARY KEY,
    tenant_id      text        NOT NULL,
    tenant_name    text        NOT NULL,
    language       text        NOT NULL,
    time_zone      text        NOT NULL,
    percent        integer     NOT NULL,
    used           bigint      NOT NULL,
    usage_limit    bigint      NOT NULL,
    limit_kind     text        NOT NULL CHECK (limit_kind IN ('hard', 'soft')),
    period_start   timestamptz NOT NULL,
    period_end     timestamptz NOT NULL,
    crossed_at     timestamptz NOT NULL,
    dashboard_url  text        NOT NULL,
    recorded_at    timestamptz NOT NULL,
    -- The trace that caused it; the deliveries continue it.
    traceparent    text,
    -- Why nobody is told.
    skipped_reason text
);

-- One mail to one recipient, and how far it has come.
CREATE TABLE notifications (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    crossing_id text        NOT NULL REFERENCES crossings,
    recipient   text        NOT NULL,
    message_id  text        NOT NULL UNIQUE,
    state       text        NOT NULL CHECK (state IN ('pending', 'sending', 'retrying', 'sent', 'failed')),
    -- Grows with every claim: also the fence against a sender whose lease has run out.
    attempts    integer     NOT NULL DEFAULT 0,
    -- pending, retrying: when it is tried. sending: when the lease ends and another may try.
    due_at      timestamptz NOT NULL,
    -- What the last attempt ran into.
    reason      text,
    sent_at     timestamptz,
    UNIQUE (crossing_id, recipient),
    CHECK ((state = 'sent') = (sent_at IS NOT NULL)),
    CHECK (state <> 'failed' OR reason IS NOT NULL)
);

CREATE INDEX notifications_due ON notifications (due_at) WHERE state IN ('pending', 'sending', 'retrying');
