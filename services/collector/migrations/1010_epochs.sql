-- An execution's epoch follows from its start: see src/epochs.rs. The first epoch has no begin and no row.
CREATE TABLE epochs (
    source_id   text        NOT NULL REFERENCES sources,
    epoch       integer     NOT NULL,
    starts_from timestamptz NOT NULL,
    PRIMARY KEY (source_id, epoch)
);

ALTER TABLE sources
    -- The latest start that was ever told, raised before it is told. The next epoch begins after it.
    ADD COLUMN latest_start    timestamptz,
    -- A sweep has published and was not committed.
    ADD COLUMN unfinished      boolean NOT NULL DEFAULT false,
    -- Where a first contact goes on, as the source gave it; missing once everything was read.
    ADD COLUMN backlog         text,
    -- Rows that it has read.
    ADD COLUMN backlog_rows    bigint  NOT NULL DEFAULT 0,
    -- What stopped earlier belongs to another place and is not told.
    ADD COLUMN left_out_before timestamptz;

-- What was told before epochs were spans keeps its epoch: the last one begins with everything.
INSERT INTO epochs (source_id, epoch, starts_from)
SELECT source_id, epoch, timestamptz '0001-01-01 00:00:00+00' FROM sources WHERE epoch > 1;

UPDATE sources SET latest_start = greatest(
    swept_at,
    (SELECT max(started_at) FROM tracked_executions AS told WHERE told.source_id = sources.source_id)
);

DELETE FROM tracked_executions WHERE state = 'former';
