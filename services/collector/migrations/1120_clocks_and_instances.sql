-- What is known of a source's clock, and whether its push token is used as it is meant: see src/clock_skew.rs and src/instances.rs.
CREATE TABLE source_checks (
    source_id          text        PRIMARY KEY REFERENCES sources,
    -- How far the source's clock is ahead, by the Date of its answers and by what its hook says. Negative where it is behind.
    polled_skew_ms     bigint,
    polled_at          timestamptz,
    pushed_skew_ms     bigint,
    pushed_at          timestamptz,
    -- The one of both that holds.
    skew_ms            bigint,
    -- Missing while all is well.
    clock_wrong_since  timestamptz,
    token_shared_since timestamptz,
    doubled_since      timestamptz
);

-- The n8n instances that have pushed with a source's token; at most eight of a source, each for a day after its last push.
CREATE TABLE source_instances (
    source_id     text        NOT NULL REFERENCES sources,
    instance_id   text        NOT NULL,
    -- Anew where it has not pushed for an hour.
    first_seen_at timestamptz NOT NULL,
    -- Written at most once a minute.
    last_seen_at  timestamptz NOT NULL,
    PRIMARY KEY (source_id, instance_id)
);
CREATE INDEX source_instances_by_instance ON source_instances (instance_id);
CREATE INDEX source_instances_by_age ON source_instances (last_seen_at);
