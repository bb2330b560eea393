-- Audits that go on, one of each source at a time.
CREATE TABLE audits (
    source_id    text        PRIMARY KEY,
    audit_id     uuid        NOT NULL,
    -- The machine's time, not the simulated one.
    leased_until timestamptz NOT NULL
);
