-- The books of one tenant and period.
CREATE TABLE accounts (
    tenant_id      text        NOT NULL,
    period_start   timestamptz NOT NULL,
    period_end     timestamptz NOT NULL,
    -- What the aggregator says is billable, by its largest revision.
    billable_total bigint      NOT NULL DEFAULT 0,
    revision       bigint      NOT NULL DEFAULT 0,
    -- The sum of the quantities of all reports that were not refused.
    reported_total bigint      NOT NULL DEFAULT 0,
    next_version   integer     NOT NULL DEFAULT 1,
    closed_at      timestamptz,
    -- The tenant had no customer or meter when its period could last be reported: never report it.
    waived         boolean     NOT NULL DEFAULT false,
    -- Not looked at for sealing before this.
    next_seal_at   timestamptz NOT NULL,
    -- Next comparison with Stripe's summary; null where nothing is to be compared.
    check_at       timestamptz,
    PRIMARY KEY (tenant_id, period_start)
);
CREATE INDEX accounts_with_news ON accounts (next_seal_at) WHERE billable_total <> reported_total AND NOT waived;
CREATE INDEX accounts_to_check ON accounts (check_at) WHERE check_at IS NOT NULL;

-- One meter event each. What was sealed never changes: see the trigger below.
CREATE TABLE reports (
    identifier       text        PRIMARY KEY,
    tenant_id        text        NOT NULL,
    period_start     timestamptz NOT NULL,
    period_end       timestamptz NOT NULL,
    version          integer     NOT NULL,
    customer_id      text        NOT NULL,
    event_name       text        NOT NULL,
    quantity         bigint      NOT NULL,
    event_at         timestamptz NOT NULL,
    -- After this instant Stripe's invoice may be final.
    send_before      timestamptz NOT NULL,
    sealed_at        timestamptz NOT NULL,
    state            text        NOT NULL CHECK (state IN
        ('sealed', 'sending', 'resending', 'unknown', 'accepted', 'confirmed', 'rejected', 'late', 'stuck')),
    -- Committed before the first byte is sent; cleared only by a proof that nothing had arrived.
    first_attempt_at timestamptz,
    attempts         integer     NOT NULL DEFAULT 0,
    -- Part of the idempotency key.
    key_generation   integer     NOT NULL DEFAULT 1,
    -- The first time the receipt was found empty.
    absent_since     timestamptz,
    -- The lease under which it is being sent.
    fence            bigint,
    -- The machine's time, not the simulated one: it paces retries only.
    not_before       timestamptz NOT NULL DEFAULT now(),
    settled_at       timestamptz,
    reason           text,
    UNIQUE (tenant_id, period_start, version),
    FOREIGN KEY (tenant_id, period_start) REFERENCES accounts
);
-- One event per customer, meter and minute: so the minute's summary is a receipt (0 or the quantity).
CREATE UNIQUE INDEX reports_one_per_minute
    ON reports (customer_id, event_name, date_trunc('minute', event_at AT TIME ZONE 'UTC'))
    WHERE state NOT IN ('rejected', 'late');
CREATE INDEX reports_open ON reports (customer_id, period_start, version)
    WHERE state IN ('sealed', 'sending', 'resending', 'unknown');

CREATE FUNCTION keep_sealed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'report % is sealed', OLD.identifier USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER reports_are_sealed BEFORE UPDATE ON reports FOR EACH ROW
    WHEN ((OLD.identifier, OLD.tenant_id, OLD.period_start, OLD.period_end, OLD.version, OLD.customer_id,
           OLD.event_name, OLD.quantity, OLD.event_at, OLD.send_before, OLD.sealed_at)
          IS DISTINCT FROM
          (NEW.identifier, NEW.tenant_id, NEW.period_start, NEW.period_end, NEW.version, NEW.customer_id,
           NEW.event_name, NEW.quantity, NEW.event_at, NEW.send_before, NEW.sealed_at))
    EXECUTE FUNCTION keep_sealed();

-- One sender per customer. All instants are the machine's time: a lease is about processes, not about usage.
CREATE TABLE senders (
    customer_id text        PRIMARY KEY,
    -- Grows with every lease; a write under an old one has no effect.
    fence       bigint      NOT NULL,
    lease_until timestamptz NOT NULL
);

-- What is not sent for now, and why: `account`, or `meter:EVENT_NAME`.
CREATE TABLE pauses (
    scope     text        PRIMARY KEY,
    reason    text        NOT NULL,
    paused_at timestamptz NOT NULL,
    -- The machine's time: it paces retries only.
    retry_at  timestamptz NOT NULL
);

-- Differences that were told, so that each is told once.
CREATE TABLE drifts (
    tenant_id    text        NOT NULL,
    period_start timestamptz NOT NULL,
    customer_id  text        NOT NULL,
    event_name   text        NOT NULL,
    accepted     bigint      NOT NULL,
    stripe_total bigint      NOT NULL,
    found_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, period_start, customer_id, event_name, accepted, stripe_total)
);
