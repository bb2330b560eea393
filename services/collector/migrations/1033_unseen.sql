-- Ids that a source has given and never showed: see src/unseen.rs.
ALTER TABLE sources
    -- Ranges that the next sweep settles, both ends inclusive; at most 10,000.
    ADD COLUMN unseen_firsts bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN unseen_lasts  bigint[] NOT NULL DEFAULT '{}',
    -- How many were settled since then; never more than fits.
    ADD COLUMN unseen_ids    bigint   NOT NULL DEFAULT 0,
    ADD COLUMN unseen_since  timestamptz,
    -- What the settings of the workflows said when their list was read last.
    ADD COLUMN unsaving_workflows integer NOT NULL DEFAULT 0,
    ADD COLUMN all_saved          boolean NOT NULL DEFAULT false;

-- They are in the list of workflows, which is read again.
UPDATE sources SET workflows_read_at = NULL;
