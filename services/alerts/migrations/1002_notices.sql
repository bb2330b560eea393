-- What the operator is told. A notice gathers the facts of one topic and subject until it is due; then it is sealed,
-- and never updated again: a mail that has to be sent again says the same.
CREATE TABLE notices (
    -- The key of the first fact in it.
    notice_id      text        PRIMARY KEY,
    topic          text        NOT NULL CHECK (topic IN ('gap', 'failing', 'recovered', 'loss', 'dead', 'report', 'drift')),
    -- The source, the service or the tenant.
    subject        text        NOT NULL,
    facts          bigint      NOT NULL CHECK (facts > 0),
    -- The facts in one message of their type.
    value          bytea       NOT NULL,
    first_at       timestamptz NOT NULL,
    last_at        timestamptz NOT NULL,
    due_at         timestamptz NOT NULL,
    sealed_at      timestamptz,
    -- Both are set when it is sealed.
    language       text,
    dashboard_url  text,
    -- The trace that caused it; the deliveries continue it.
    traceparent    text,
    -- Why nobody is told.
    skipped_reason text,
    CHECK ((sealed_at IS NULL) = (language IS NULL) AND (sealed_at IS NULL) = (dashboard_url IS NULL))
);

-- One notice gathers at a time; also finds it.
CREATE UNIQUE INDEX notices_open ON notices (topic, subject) WHERE sealed_at IS NULL;
CREATE INDEX notices_due ON notices (due_at) WHERE sealed_at IS NULL;
CREATE INDEX notices_sealed ON notices (topic, subject, sealed_at DESC) WHERE sealed_at IS NOT NULL;

-- Every fact that is in a notice, once.
CREATE TABLE facts (
    fact_key  text PRIMARY KEY,
    notice_id text NOT NULL REFERENCES notices ON DELETE CASCADE
);

CREATE INDEX facts_by_notice ON facts (notice_id);

-- The last sweep of each source that ended well. Its row is the lock of what is known of the source.
CREATE TABLE sweeps (
    source   text        PRIMARY KEY,
    ended_at timestamptz NOT NULL
);

-- A mail tells a crossing or a notice.
ALTER TABLE notifications ALTER COLUMN crossing_id DROP NOT NULL;
ALTER TABLE notifications ADD COLUMN notice_id text REFERENCES notices;
ALTER TABLE notifications ADD UNIQUE (notice_id, recipient);
ALTER TABLE notifications ADD CHECK (num_nonnulls(crossing_id, notice_id) = 1);
