-- One row per source: how far it is known, when it is due, and who is sweeping it.
-- A removed source keeps its row: should it come back, nothing is published twice.
CREATE TABLE sources (
    source_id         text        PRIMARY KEY,
    -- Neither paused nor removed.
    active            boolean     NOT NULL,
    -- Counts changes in the catalog, so that a change during a sweep is not forgotten at its end.
    changes           bigint      NOT NULL DEFAULT 0,
    next_sweep_at     timestamptz NOT NULL,
    -- The machine's time, not the simulated one: a jump of the clock must not break a lease.
    lease             uuid,
    leased_until      timestamptz,
    failures          integer     NOT NULL DEFAULT 0,
    failing_since     timestamptz,

    epoch             integer     NOT NULL DEFAULT 1,
    -- The newest execution id of the last sweep; missing until the first sweep has ended.
    floor             bigint,
    -- When the last sweep began.
    swept_at          timestamptz,
    complete_until    timestamptz,
    -- Where the cursor was read: another address may be another database.
    base_url          text,
    -- The executions stream's sequence that holds this source's last batch.
    published_through bigint      NOT NULL DEFAULT 0
);

CREATE INDEX sources_due ON sources (next_sweep_at) WHERE active;

-- Executions that the next sweep must know of: open ones, crashed and unreadable ones that may change,
-- and final ones near the floor or past complete_until.
CREATE TABLE tracked_executions (
    source_id    text    NOT NULL REFERENCES sources,
    execution_id bigint  NOT NULL,
    state        text    NOT NULL,
    started_at   timestamptz,
    -- For an unreadable row: when it was found.
    stopped_at   timestamptz,
    PRIMARY KEY (source_id, execution_id)
);

-- Names as the source gave them. A missing name was asked for and not given.
CREATE TABLE workflow_names (
    source_id   text        NOT NULL REFERENCES sources,
    workflow_id text        NOT NULL,
    name        text,
    asked_at    timestamptz NOT NULL,
    PRIMARY KEY (source_id, workflow_id)
);

-- Rows that have a dead letter: the next sweep that meets them writes no second one.
CREATE TABLE unreadable_rows (
    source_id text        NOT NULL REFERENCES sources,
    digest    text        NOT NULL,
    found_at  timestamptz NOT NULL,
    PRIMARY KEY (source_id, digest)
);
